"""How often the bootstrap's 95% intervals hold what they are about, on simulated posts.

    python -m bench.coverage                                   20 tags, 1,000 trials
    python -m bench.coverage --tags 4000 --trials 100 --truth 200
    python -m bench.coverage --tags 1000 --posts 2000 --trials 2000 --truth 500 --quick

An interval is about how far the same figure would move with other posts of the same number. Every
trial draws posts anew, scores two simulated models on them with metrics.evaluate and
metrics.compare, and asks of each interval whether it holds the figure's mean over many further
samples of as many posts (--truth). Held should be 93 to 97%; with 300 trials the share itself is
uncertain by 1.3 points. `width` is the mean width of the intervals over the width that would hold
95% of the samples: 1 is right, and it is known more exactly than the share.

Tags are on 10 to 100 of the posts, as often as the published run's tags of that range are; some
tags are easy and some hard, a post is easy or hard in all its tags together, and the models err
partly alike. Scores are calibrated, so that F1 and AP come out as those of real taggers.
"""

import argparse
import itertools
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any, NamedTuple

from arena.cli import progress
from arena.metrics import TestSet, bootstrap, compare, evaluate, rare
from arena.metrics.figures import INTERVAL_OF_PAIRS, PRECISIONS, RECALLS, Figure, figure
from arena.metrics.formulas import f1, safe_divide
from arena.metrics.images import per_image
from arena.metrics.terms import precision_at_recall, recall_at_precision

import numpy as np
import torch
from scipy.sparse import csr_matrix

Array = np.ndarray[Any, Any]
THRESHOLD = 0.35
# On how many posts a tag is, at each tenth of the published run's tags on 10 to 100 posts: the
# least counts that the recalls of its detailed_metrics.txt are fractions of.
POSTS_A_TAG = (10, 11, 14, 17, 21, 27, 33, 43, 56, 73, 100)


class Sample(NamedTuple):
    """The figures of one sample by name: of model a, and of a minus b."""

    figures: tuple[dict[str, Figure], dict[str, Figure]]


def drawn(posts: int, tags: int, random: np.random.Generator) -> tuple[Array, Array, Array, Array]:
    """(scores of model a, scores of model b, truth, true tags of each post outside the models).

    A model's signal is normal with mean 0 without the tag and `strength` with it; the score is the
    probability of the tag given the signal.
    """
    places = (np.arange(tags) + 0.5) / tags
    share = np.interp(places, np.linspace(0, 1, len(POSTS_A_TAG)), POSTS_A_TAG) / posts
    strength = np.random.default_rng(0).uniform(1.5, 4, tags)  # The same in every sample.
    shape = (posts, tags)
    truth = random.random(shape, np.float32) < share
    easy = random.normal(0, 0.4, (posts, 1))
    shared = random.standard_normal(shape, np.float32)
    scores = []
    for better in (0.0, 0.2):
        signal = shared + random.standard_normal(shape, np.float32)
        signal *= np.float32(0.5**0.5)
        d = strength + better
        signal += truth * (d + easy).astype(np.float32)
        logits = signal * d.astype(np.float32) + (np.log(share / (1 - share)) - d * d / 2).astype(
            np.float32
        )
        scores.append(1 / (1 + np.exp(-logits)))
    return scores[0], scores[1], truth, random.poisson(2, posts)


def sample(posts: int, tags: int, resamples: int, seed: int) -> Sample:
    """One sample's figures, with intervals if there are resamples."""
    a, b, truth, unknown = drawn(posts, tags, np.random.default_rng(seed))
    weights = bootstrap.resamples(posts, resamples, seed)
    totals = truth.sum(axis=1) + unknown
    test = TestSet(truth, np.arange(posts), ["general"] * tags, [""] * posts, totals, weights)
    one, other = (evaluate(test, scores, THRESHOLD) for scores in (a, b))
    return Sample((_figures(one.results["overall"]), _figures(compare(one, other))))


def quick_sample(posts: int, tags: int, resamples: int, seed: int) -> Sample:
    """As `sample`, but only macro F1 and recall at the own threshold, from sparse counts, and what
    needs no ranking of each tag's posts."""
    a, b, truth, _ = drawn(posts, tags, np.random.default_rng(seed))
    drawn_posts = bootstrap.resamples(posts, resamples, seed)
    weights = np.column_stack([np.ones(posts), drawn_posts])

    def counted(chosen: Array) -> Array:
        return np.asarray(csr_matrix(chosen.T.astype(float)) @ weights)

    support = counted(truth)
    found = []
    for scores in (a, b):
        predicted = scores >= np.float32(THRESHOLD)
        right, all_predicted = counted(predicted & truth), counted(predicted)
        own = f1(right, all_predicted, support)
        figures = {
            "own.macro.recall": safe_divide(right, support).mean(axis=0),
            "own.macro.f1": own.mean(axis=0),
        }
        for least in rare.MIN_COUNTS:
            if (inside := support[:, 0] >= least).any():
                figures[f"min_count.{least}.f1"] = own[inside].mean(axis=0)
        curve = bootstrap.micro_curve(scores, truth, weights.astype(np.uint8))
        for level in PRECISIONS:
            recall = curve.read(partial(recall_at_precision, level))
            figures[f"recall_at_precision.{level:.2f}"] = recall
        for level in RECALLS:
            precision = curve.read(partial(precision_at_recall, level))
            figures[f"precision_at_recall.{level:.2f}"] = precision
        none = np.empty(0, np.intp), np.empty((posts, 0), np.bool_)
        cut = np.full(tags, THRESHOLD, np.float32)
        for name, of_posts in per_image(scores, truth, cut, *none).items():
            figures[f"per_image.{name}"] = of_posts @ weights / posts
        found.append(figures)
    one, other = found
    apart = {name: one[name] - other[name] for name in one}
    both = {name: figure(values[0], values[1:]) for name, values in apart.items()}
    own = {
        name: figure(values[0], None if name.startswith(INTERVAL_OF_PAIRS) else values[1:])
        for name, values in one.items()
    }
    return Sample((own, both))


def _figures(tree: dict[str, Any], path: str = "") -> dict[str, Figure]:
    """All figures of an `overall` by their path, such as equal.macro.f1."""
    if "value" in tree:
        return {path: Figure(value=tree["value"], low=tree["low"], high=tree["high"])}
    branches = [
        _figures(tree[key], f"{path}.{key}".strip(".")) for key in tree if key != "threshold"
    ]
    return {name: found for branch in branches for name, found in branch.items()}


def _one_core(cores: Any) -> None:
    """Keep a worker to a core of its own, so that trials, not tags, run side by side."""
    os.sched_setaffinity(0, {cores.get()})
    torch.set_num_threads(1)


def main() -> None:
    """Simulate and print the share of trials in which each interval held."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tags", type=int, default=20, help="(default: 20)")
    parser.add_argument("--posts", type=int, default=5000, help="in a sample (default: 5000)")
    parser.add_argument("--trials", type=int, default=1000, help="(default: 1000)")
    parser.add_argument("--truth", type=int, default=1000, help="further samples (default: 1000)")
    parser.add_argument("--resamples", type=int, default=200, help="(default: 200)")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="only the figures that need no ranking of each tag's posts, several times as fast",
    )
    args = parser.parse_args()

    context = get_context("spawn")
    cores = context.Queue()
    for core in os.sched_getaffinity(0):
        cores.put(core)
    with ProcessPoolExecutor(
        len(os.sched_getaffinity(0)), context, initializer=_one_core, initargs=(cores,)
    ) as pool:
        draw = partial(quick_sample if args.quick else sample, args.posts, args.tags)
        seeds = range(args.truth)
        others = list(progress(pool.map(draw, itertools.repeat(0), seeds), total=args.truth))
        seeds = range(args.truth, args.truth + args.trials)
        many = itertools.repeat(args.resamples)
        trials = list(progress(pool.map(draw, many, seeds), total=args.trials))

    print(f"{args.trials} trials of {args.posts} posts x {args.tags} tags, ", end="")
    print(f"{args.resamples} resamples; the mean of {args.truth} further samples")
    print(f"{'':28} {'one model':>8} {'':15} a - b")
    print(
        f"{'figure':28} {'mean':>8} {'held':>7} {'width':>7} {'mean':>8} {'held':>7} {'width':>7}"
    )
    every = [each.figures[0].keys() for each in (*others, *trials)]
    for name in others[0].figures[0]:
        if not all(name in names for names in every):
            continue  # Of tags on many posts, of which not every sample has one.
        print(f"{name:28}", *(column(name, k, others, trials) for k in (0, 1)))


def column(name: str, which: int, others: list[Sample], trials: list[Sample]) -> str:
    """Mean, held and width of one figure, of model a (`which` 0) or of a minus b (1)."""
    values = np.array([each.figures[which][name]["value"] for each in others])
    mean, spread = values.mean(), values.std(ddof=1)
    found = [each.figures[which][name] for each in trials]
    bounds = [(each["low"], each["high"]) for each in found]
    given = [(low, high) for low, high in bounds if low is not None and high is not None]
    if not given:
        return f"{mean:8.4f} {'-':>7} {'-':>7}"
    held = np.mean([low <= mean <= high for low, high in given])
    width = np.mean([high - low for low, high in given]) / (2 * bootstrap.REACH * spread)
    return f"{mean:8.4f} {held:7.1%} {width:7.3f}"


if __name__ == "__main__":
    main()
