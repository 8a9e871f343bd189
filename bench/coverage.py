"""How often the bootstrap's 95% intervals hold what they are about, on simulated posts.

    python -m bench.coverage                                   20 tags, 1,000 trials
    python -m bench.coverage --tags 4000 --trials 100 --truth 200
    python -m bench.coverage --tags 1000 --posts 2000 --trials 2000 --truth 500 --quick
    python -m bench.coverage --posts 2000 --size 3 --alike 0.7     clusters of 3 near-duplicates
    python -m bench.coverage --posts 2000 --equal 3,5,9            several models that are equal

An interval is about how far the same figure would move with other posts of the same number. Every
trial draws posts anew, scores two simulated models on them with metrics.evaluate and
metrics.compare, and asks of each interval whether it holds the figure's mean over many further
samples of as many posts (--truth). Held should be 93 to 97%; with 300 trials the share itself is
uncertain by 1.3 points. `width` is the mean width of the intervals over the width that would hold
95% of the samples: 1 is right, and it is known more exactly than the share.

Tags are on 10 to 100 of the posts, as often as the published run's tags of that range are; some
tags are easy and some hard, a post is easy or hard in all its tags together, and the models err
partly alike. Scores are calibrated, so that F1 and AP come out as those of real taggers.

With --size posts come in clusters of so many. A post has each tag's truth and scores from the first
of its cluster with the chance --alike, and its own otherwise. Then the intervals of a bootstrap by
posts stand beside those of one by clusters; `deff` is the mean design effect that metrics.evaluate
gives.

--equal takes numbers of models. Each trial scores so many models of equal strength, and counts
whether any pair is called different: by each pair's own interval and by simultaneous ones.
"""

import argparse
import itertools
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any, NamedTuple

from arena.cli import progress
from arena.metrics import (
    TestSet,
    bootstrap,
    by_rating,
    compare,
    compared_design_effects,
    evaluate,
    rare,
    simultaneous,
)
from arena.metrics.figures import INTERVAL_OF_PAIRS, PRECISIONS, RECALLS, Figure, figure
from arena.metrics.formulas import f1, safe_divide
from arena.metrics.images import per_image
from arena.metrics.terms import precision_at_recall, recall_at_precision

import numpy as np
import torch
from scipy.sparse import csr_matrix

Array = np.ndarray[Any, Any]
THRESHOLD = 0.35
RATINGS = {"g": 0.5, "s": 0.3, "q": 0.12, "e": 0.08}  # The share of the posts that has each.
# On how many posts a tag is, at each tenth of the published run's tags on 10 to 100 posts: the
# least counts that the recalls of its detailed_metrics.txt are fractions of.
POSTS_A_TAG = (10, 11, 14, 17, 21, 27, 33, 43, 56, 73, 100)


class Made(NamedTuple):
    """How posts are simulated: how many, with how many tags, in clusters of `size`, each tag of a
    post the same as the first one's of its cluster with the chance `alike`."""

    posts: int
    tags: int
    size: int = 1
    alike: float = 0.0

    def clusters(self) -> Array:
        """The cluster of each post."""
        return np.arange(self.posts) // self.size


class Sample(NamedTuple):
    """The figures of one sample by name: of model a, of a minus b, and where posts come in clusters
    both once more from a bootstrap by posts. `effects`: the design effects of a, and of a - b."""

    figures: tuple[dict[str, Figure], ...]
    effects: tuple[dict[str, float | None], ...] = ()


def drawn(
    made: Made, random: np.random.Generator, better: tuple[float, ...] = (0.0, 0.2)
) -> tuple[list[Array], Array, Array]:
    """(scores of each model, truth, true tags of each post outside the models).

    A model's signal is normal with mean 0 without the tag and `strength` with it, and as much more
    as `better` says; the score is the probability of the tag given the signal.
    """
    posts, tags, size, alike = made
    places = (np.arange(tags) + 0.5) / tags
    share = np.interp(places, np.linspace(0, 1, len(POSTS_A_TAG)), POSTS_A_TAG) / posts
    strength = np.random.default_rng(0).uniform(1.5, 4, tags)  # The same in every sample.
    shape = (posts, tags)
    first = np.arange(posts) // size * size
    follows = random.random(shape, np.float32) < alike if size > 1 else None

    def clustered(values: Array) -> Array:
        return values if follows is None else np.where(follows, values[first], values)

    truth = clustered(random.random(shape, np.float32)) < share
    easy = random.normal(0, 0.4, (posts, 1))[first]
    shared = random.standard_normal(shape, np.float32)
    scores = []
    for more in better:
        signal = clustered(shared + random.standard_normal(shape, np.float32))
        signal *= np.float32(0.5**0.5)
        d = strength + more
        signal += truth * (d + easy).astype(np.float32)
        logits = signal * d.astype(np.float32) + (np.log(share / (1 - share)) - d * d / 2).astype(
            np.float32
        )
        scores.append(1 / (1 + np.exp(-logits)))
    return scores, truth, random.poisson(2, posts)


def test_set(truth: Array, unknown: Array, clusters: Array, resamples: int, seed: int) -> TestSet:
    """The simulated posts to score on, with a bootstrap by `clusters`."""
    posts, tags = truth.shape
    samples = bootstrap.resamples(posts, resamples, seed, clusters)
    ids, totals = np.arange(posts), truth.sum(axis=1) + unknown
    # Of a cluster's posts each has the rating of the first, as those of a family mostly do.
    random = np.random.default_rng([1, seed])
    ratings = random.choice([*RATINGS], posts, p=[*RATINGS.values()])[clusters]
    return TestSet(truth, ids, ["general"] * tags, ratings, totals, samples, clusters)


def sample(made: Made, resamples: int, seed: int) -> Sample:
    """One sample's figures, with intervals if there are resamples."""
    scores, truth, unknown = drawn(made, np.random.default_rng(seed))
    units = [made.clusters()]
    if made.size > 1 and resamples:
        units.append(np.arange(made.posts))
    found: list[dict[str, Figure]] = []
    effects: list[dict[str, float | None]] = []
    for clusters in units:
        test = test_set(truth, unknown, clusters, resamples, seed)
        one, other = (evaluate(test, each, THRESHOLD) for each in scores)
        rated = {
            f"rating.{rating}.{name}": group["micro"][name]
            for rating, group in by_rating(test, scores[0], THRESHOLD).items()
            for name in ("precision", "recall", "f1")
        }
        found.append({**_figures(one.results["overall"]), **rated})
        of_pair = dict.fromkeys(rated, Figure(value=0.0, low=None, high=None))
        found.append({**_figures(compare(one, other)), **of_pair})
        effects += [one.results["design_effect"], compared_design_effects(test, one, other)]
    return Sample(tuple(found), tuple(effects[:2]))


def quick_sample(made: Made, resamples: int, seed: int) -> Sample:
    """As `sample`, but only macro F1 and recall at the own threshold, from sparse counts, and what
    needs no ranking of each tag's posts; no design effects."""
    models, truth, _ = drawn(made, np.random.default_rng(seed))
    samples = bootstrap.resamples(made.posts, resamples, seed)
    weights = samples.weights.astype(float)  # Each post is a unit.

    def counted(chosen: Array) -> Array:
        return np.asarray(csr_matrix(chosen.T.astype(float)) @ weights)

    support = counted(truth)
    found = []
    for scores in models:
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
        curve = bootstrap.micro_curve(scores, truth, samples)
        for level in PRECISIONS:
            recall = curve.read(partial(recall_at_precision, level))
            figures[f"recall_at_precision.{level:.2f}"] = recall
        for level in RECALLS:
            precision = curve.read(partial(precision_at_recall, level))
            figures[f"precision_at_recall.{level:.2f}"] = precision
        none = np.empty(0, np.intp), np.empty((made.posts, 0), np.bool_)
        cut = np.full(made.tags, THRESHOLD, np.float32)
        for name, of_posts in per_image(scores, truth, cut, *none).items():
            figures[f"per_image.{name}"] = of_posts @ weights / weights.sum(axis=0)
        found.append(figures)
    one, other = found
    apart = {name: one[name] - other[name] for name in one}
    of_one = {
        name: figure(values[0], None if name.startswith(INTERVAL_OF_PAIRS) else values[1:])
        for name, values in one.items()
    }
    return Sample((of_one, {name: figure(values[0], values[1:]) for name, values in apart.items()}))


def equal_trial(made: Made, models: int, resamples: int, seed: int) -> list[bool]:
    """Whether any pair of equal models is called different: by F1 and by AP, each by the pairs' own
    intervals and by simultaneous ones."""
    scores, truth, unknown = drawn(made, np.random.default_rng(seed), (0.0,) * models)
    test = test_set(truth, unknown, made.clusters(), resamples, seed)
    found = [evaluate(test, each, THRESHOLD) for each in scores]
    called = []
    for path in (("own", "macro", "f1"), ("ap", "macro")):
        own = [
            figure(a.values[path] - b.values[path], a.resamples[path] - b.resamples[path])
            for a, b in itertools.combinations(found, 2)
        ]
        for intervals in (own, simultaneous(found, path)):
            bounds = [(each["low"] or 0.0, each["high"] or 0.0) for each in intervals]
            called.append(any(low > 0 or high < 0 for low, high in bounds))
    return called


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
        help="only the figures that need no ranking of each tag's posts, several times as fast; of"
        " single posts",
    )
    parser.add_argument("--size", type=int, default=1, help="posts in a cluster (default: 1)")
    parser.add_argument(
        "--alike", type=float, default=0.7, help="chance to follow the first (default: 0.7)"
    )
    parser.add_argument("--equal", help="numbers of equal models, such as 3,5,9")
    args = parser.parse_args()
    if args.quick and args.size > 1:
        parser.error("--quick is of single posts: leave out --size")
    made = Made(args.posts, args.tags, args.size, args.alike)

    context = get_context("spawn")
    cores = context.Queue()
    for core in os.sched_getaffinity(0):
        cores.put(core)
    with ProcessPoolExecutor(
        len(os.sched_getaffinity(0)), context, initializer=_one_core, initargs=(cores,)
    ) as pool:
        if args.equal:
            print(f"{args.trials} trials of {args.posts} posts x {args.tags} tags, ", end="")
            print(f"clusters of {args.size}, {args.resamples} resamples")
            print("trials in which some pair of equal models is called different")
            heads = ("models", "F1, each its own", "simultaneous", "AP, each its own")
            print("".join(f"{head:>18}" for head in (*heads, "simultaneous")))
            for models in map(int, args.equal.split(",")):
                trial = partial(equal_trial, made, models, args.resamples)
                called = list(progress(pool.map(trial, range(args.trials)), total=args.trials))
                shares = np.mean(called, axis=0)
                print(f"{models:18}", *(f"{share:17.1%}" for share in shares))
            return
        draw = partial(quick_sample if args.quick else sample, made)
        seeds = range(args.truth)
        others = list(progress(pool.map(draw, itertools.repeat(0), seeds), total=args.truth))
        seeds = range(args.truth, args.truth + args.trials)
        many = itertools.repeat(args.resamples)
        trials = list(progress(pool.map(draw, many, seeds), total=args.trials))

    print(f"{args.trials} trials of {args.posts} posts x {args.tags} tags, ", end="")
    print(f"{args.resamples} resamples; the mean of {args.truth} further samples")
    kinds = ["one model", "a - b"]
    if args.size > 1:
        print(f"clusters of {args.size} posts, alike {args.alike}")
        kinds += ["one, by post", "a - b, by post"]
    print(f"{'':28}", *(f"{kind:^24}" for kind in kinds))
    print(f"{'figure':28}", *(f"{'mean':>8} {'held':>7} {'width':>7}" for _ in kinds))
    every = [each.figures[0].keys() for each in (*others, *trials)]
    for name in others[0].figures[0]:
        if not all(name in names for names in every):
            continue  # Of tags on many posts, of which not every sample has one.
        print(f"{name:28}", *(column(name, k, others, trials) for k in range(len(kinds))))
    if args.size > 1:
        for place, kind in enumerate(kinds[:2]):
            found = {
                name: [e for each in trials if (e := each.effects[place][name]) is not None]
                for name in trials[0].effects[place]
            }
            shown = ", ".join(f"{name} {np.mean(each):.2f}" for name, each in found.items())
            print(f"deff, {kind}: {shown}")


def column(name: str, which: int, others: list[Sample], trials: list[Sample]) -> str:
    """Mean, held and width of one figure, of model a (`which` 0) or of a minus b (1), or those
    by posts (2 and 3)."""
    values = np.array([each.figures[which % 2][name]["value"] for each in others])
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
