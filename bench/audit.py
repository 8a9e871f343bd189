"""How often the intervals of corrected figures hold, on simulated posts whose truth is known.

    python -m bench.audit                          all settings, 500 trials each
    python -m bench.audit --trials 100 --only judges

Every trial draws posts anew: which tags are true, which of them the site lacks, which tags it has
wrongly, and what models predict. Then 400 pairs are drawn by the design of validate.py --audit,
judged, and the figures estimated. An interval says how far a figure would move with other posts and
other judgements of the same number, so that it should hold the mean over trials of what the figure
is with all tags known, in 93 to 97% of 500 trials (the share itself is uncertain by 1 point).

`raw` and `found` are the mean over trials of a figure counted with the site's tags and of the
estimate, less the truth. `half` is the mean of half an interval's width, `held` the share of
intervals that hold the truth, and `width` the intervals' mean width over the width that would hold
95% of the estimates.

Posts are in clusters that are hard or easy, and tagged well or badly, together. A judge is right
with any pair equally often; with two judges, each judges all pairs, and `no errors` is `found` with
the judges' errors taken out, by how often the two differ.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any, NamedTuple

from arena.cli import progress
from arena.metrics import audit, sampling
from arena.metrics.bootstrap import REACH
from arena.metrics.figures import Figure
from arena.metrics.sampling import Pool

import numpy as np
import torch

Array = np.ndarray[Any, Any]
POSTS, TAGS, ASKED = 1500, 120, 400
CLUSTER = 1.5  # Posts in a cluster, on average.
WRONG = 0.03  # Of the site's tags.
SHARES = {"rare": (0.004, 0.02), "common": (0.02, 0.3)}  # Of the posts that have a tag truly.


class Setting(NamedTuple):
    """What is simulated."""

    missing: float = 0.2  # The share of true pairs that the site lacks.
    models: int = 2
    tags: str = "common"
    right: float = 1.0  # How often a judge is right.
    judges: int = 1


SETTINGS = {
    "missing": [Setting(missing=share) for share in (0.05, 0.2, 0.4)],
    "models": [Setting(models=count) for count in (5, 9)],
    "tags": [Setting(tags="rare", missing=share) for share in (0.05, 0.4)]
    + [Setting(tags="rare", models=9)],
    "judges": [Setting(right=right, judges=n) for right in (0.95, 0.9, 0.85) for n in (1, 2)],
}


class World(NamedTuple):
    """The pool of a trial, and the truth of its pairs: bool (pairs,)."""

    pool: Pool
    truth: Array
    post: Array
    tag: Array


def drawn(setting: Setting, random: np.random.Generator) -> World:
    """Posts, tags and predictions, anew."""
    posts, tags = POSTS, TAGS
    cluster = np.sort(random.integers(int(posts / CLUSTER), size=posts))
    cluster = np.unique(cluster, return_inverse=True)[1]
    clusters = int(cluster.max()) + 1
    low, high = SHARES[setting.tags]
    share = np.geomspace(low, high, tags)
    strength = np.random.default_rng(0).uniform(1.5, 3.5, tags)  # The same in every trial.
    category = np.random.default_rng(1).choice(3, tags, p=[0.8, 0.12, 0.08])
    shape = (posts, tags)
    truth = random.random(shape, np.float32) < share
    careless = np.clip(random.gamma(4, setting.missing / 4, clusters), 0, 0.95)[cluster]
    tagged = truth & (random.random(shape, np.float32) >= careless[:, None])
    tagged |= ~truth & (random.random(shape, np.float32) < WRONG * share)
    easy = random.normal(0, 0.4, clusters)[cluster][:, None]
    shared = random.standard_normal(shape, np.float32)
    predicted, highest = [], np.zeros(shape, np.float32)
    prior = np.log(share / (1 - share))
    for model in range(setting.models):
        d = strength + 0.15 * (model % 3)
        signal = np.sqrt(0.5) * (shared + random.standard_normal(shape, np.float32))
        score = 1 / (1 + np.exp(-((signal + truth * (d + easy)) * d + prior - d * d / 2)))
        predicted.append(score >= 0.35)
        np.maximum(highest, score, out=highest)
    inside = np.flatnonzero((tagged | np.any(predicted, axis=0)).ravel())
    post, tag = np.divmod(inside, tags)
    return World(
        Pool(
            cluster[post],
            category[tag],
            tagged[post, tag],
            np.stack([each[post, tag] for each in predicted], axis=1),
            (255 * highest[post, tag]).astype(np.uint8),
        ),
        truth[post, tag],
        post,
        tag,
    )


def counted(pool: Pool, truth: Array) -> dict[str, float]:
    """The figures where `truth` (pairs,) is what is true, in plain counts."""
    found = {}
    f1 = []
    for model in (0, 1):
        predicted = pool.predicted[:, model]
        right = (predicted & truth).sum()
        f1.append(2 * right / (predicted.sum() + truth.sum()))
        if model == 0:
            found["precision"] = right / predicted.sum()
            found["pooled recall"] = right / truth.sum()
    found["F1"], found["F1, a - b"] = f1[0], f1[0] - f1[1]
    found["missing"] = (truth & ~pool.tagged).sum() / truth.sum()
    found["wrong"] = (pool.tagged & ~truth).sum() / pool.tagged.sum()
    some = pool.category == 1
    found["missing, one category"] = (truth & ~pool.tagged)[some].sum() / truth[some].sum()
    return {name: float(value) for name, value in found.items()}


def estimated(found: audit.Sums) -> dict[str, Figure | None]:
    """The same, as audit.py estimates them; None where too few pairs are judged."""
    a, b = audit.model_ratios(found)[:2]
    site = audit.site(found)
    return {
        "precision": a["precision"].figure(),
        "pooled recall": a["pooled_recall"].figure(),
        "F1": a["f1"].figure(),
        "F1, a - b": audit.difference(a["f1"], b["f1"]),
        "missing": site["missing"],
        "wrong": site["wrong"],
        "missing, one category": audit.site(some)["missing"] if (some := found.of(1)) else None,
    }


class Trial(NamedTuple):
    """What a figure is truly, by the site's tags, estimated, and with the judges' errors out."""

    true: dict[str, float]
    raw: dict[str, float]
    found: dict[str, Figure | None]
    without_errors: dict[str, Figure | None] | None


def trial(setting: Setting, seed: int) -> Trial:
    """One trial."""
    random = np.random.default_rng(seed)
    world = drawn(setting, random)
    pool = world.pool
    keys = random.integers(2**63, size=TAGS, dtype=np.uint64)
    number = sampling.numbers(world.post, keys[world.tag])
    none = np.zeros(len(pool), bool)
    sample = sampling.draw(pool, number, none, none, ASKED)
    truth = world.truth[sample.pairs]
    right = random.random((setting.judges, len(truth))) < setting.right
    answers = np.where(right, truth, ~truth)
    categories = int(pool.category.max()) + 1

    found = audit.sums(pool, sample.pairs, sample.threshold, answers.mean(axis=0), categories)
    without_errors = None
    if setting.judges == 2:
        accuracy = audit.accuracy(float((answers[0] != answers[1]).mean()))
        without_errors = estimated(audit.without_errors(found, accuracy))
    return Trial(
        counted(pool, world.truth),
        counted(pool, pool.tagged),
        estimated(found),
        without_errors,
    )


def _one_thread() -> None:
    torch.set_num_threads(1)


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=500, help="of a setting (default: 500)")
    parser.add_argument("--only", choices=SETTINGS, help="(default: all)")
    parser.add_argument("--workers", type=int, default=1, help="processes (default: 1)")
    args = parser.parse_args()
    chosen = [args.only] if args.only else list(SETTINGS)
    with ProcessPoolExecutor(
        args.workers, get_context("spawn"), initializer=_one_thread
    ) as processes:
        for setting in (each for name in chosen for each in SETTINGS[name]):
            work = processes.map(partial(trial, setting), range(args.trials), chunksize=10)
            trials = list(progress(work, total=args.trials))
            print(setting)
            heads = f"{'true':>8}{'raw':>9}{'found':>9}{'half':>8}{'held':>8}{'width':>8}"
            print(f"{'':24}{heads}{'no errors':>10}")
            for name in trials[0].true:
                print(f"{name:24}{row(name, trials)}", flush=True)


def row(name: str, trials: list[Trial]) -> str:
    """A figure's line in the table."""
    true = float(np.mean([each.true[name] for each in trials]))
    raw = float(np.mean([each.raw[name] for each in trials])) - true
    values = [figure for each in trials if (figure := each.found[name])]
    if not values:
        return f"{true:8.4f}{raw:+9.4f}{'too few are judged':>20}"
    bias = float(np.mean([each["value"] for each in values])) - true
    bounds = [(each["low"], each["high"]) for each in values]
    given = [(low, high) for low, high in bounds if low is not None and high is not None]
    held = float(np.mean([low <= true <= high for low, high in given]))
    half = float(np.mean([high - low for low, high in given])) / 2
    width = half / (REACH * float(np.std([each["value"] for each in values], ddof=1)))
    without_errors = [
        figure["value"]
        for each in trials
        if each.without_errors and (figure := each.without_errors[name])
    ]
    end = f"{float(np.mean(without_errors)) - true:+10.4f}" if without_errors else f"{'-':>10}"
    return f"{true:8.4f}{raw:+9.4f}{bias:+9.4f}{half:8.4f}{held:8.1%}{width:8.2f}{end}"


if __name__ == "__main__":
    main()
