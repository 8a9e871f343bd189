"""The metrics against scikit-learn in a loop, and all figures with their intervals at full size.

    python -m bench.metrics
    python -m bench.metrics --posts 8192 --tags 500

Prints the ratio of per_tag to a loop over scikit-learn's average_precision_score and its peak
memory, then the time and peak memory of evaluating several models with the bootstrap, one after
the other, and what report_posts/ takes (that alone with --only-posts). Scores are drawn to look
like a tagger's: most are close to 0, a tag is on 10 posts to half of them with the rare ones the
most numerous.
"""

import argparse
import os
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from arena.data_folder import DataFolder
from arena.metrics import Evaluation, TestSet, bootstrap, by_age, compare, evaluate, per_tag
from arena.metrics.mistakes import mistakes
from arena.metrics.tiles import Tiles
from arena.validate.by_post import Decisions
from bench import measure

import numpy as np
from sklearn.metrics import average_precision_score

Array = np.ndarray[Any, Any]
CORES = len(os.sched_getaffinity(0))


def made_up(posts: int, tags: int, seed: int) -> tuple[Array, Array]:
    """(scores, truth) of a made-up tagger; the truth is the same for every seed."""
    support = np.random.default_rng(0).exponential(1.3, tags)
    share = np.clip(10 / posts * np.exp(support), None, 0.5)
    scores = np.empty((posts, tags), np.float32)
    truth = np.empty((posts, tags), np.bool_)
    size = 1024
    for first in range(0, posts, size):
        rows = slice(first, min(first + size, posts))
        shape = (rows.stop - first, tags)
        truth[rows] = np.random.default_rng([0, first]).random(shape, np.float32) < share
        noise = np.random.default_rng([1 + seed, first]).standard_normal(shape, np.float32)
        logits = 2 * noise - 7 + np.float32(5.5) * truth[rows]
        scores[rows] = 1 / (1 + np.exp(-logits))
    return scores, truth


def evaluated(
    posts: int, tags: int, seed: int, samples: bootstrap.Samples, clusters: Array
) -> measure.Taken:
    """metrics.evaluate for one made-up tagger."""
    scores, truth = made_up(posts, tags, seed)
    ids = np.arange(posts)
    ratings = [("g", "s", "q", "e")[post % 4] for post in ids]
    totals = truth.sum(axis=1) + 5
    test = TestSet(truth, ids, ["general"] * tags, ratings, totals, samples, clusters)
    sliced = measure.call(lambda: by_age(test, scores, 0.35))
    print(
        f"by_age, ten slices: {sliced.seconds:.1f} s, {sliced.processor:.1f} s of processor ",
        end="",
    )
    print(f"time, {sliced.peak / 1e9:.2f} GB beside its inputs")
    return measure.call(lambda: evaluate(test, scores, 0.35))


def against_loop(posts: int, tags: int, compared: int, rounds: int) -> None:
    """Measure and print per_tag beside scikit-learn in a loop, in turn, `rounds` times."""
    scores, truth = made_up(posts, tags, 0)
    print(f"{posts} posts x {tags} tags, {truth.sum()} positives, {CORES} cores")
    some = np.linspace(0, tags - 1, min(compared, tags)).astype(int)
    few_scores, few_truth = scores[:, some], truth[:, some]
    looped, ours = [], []
    for _ in range(rounds):
        looped.append(
            measure.seconds(
                lambda: [
                    average_precision_score(few_truth[:, tag], few_scores[:, tag])
                    for tag in range(len(some))
                ]
            )
        )
        ours.append(measure.seconds(lambda: per_tag(few_scores, few_truth, 0.35)))
    loop, own = statistics.median(looped), statistics.median(ours)
    print(f"AP of {len(some)} tags, scikit-learn in a loop: {loop:.2f} s")
    print(f"per_tag, same tags, all its figures:    {own:.2f} s, {loop / own:.1f} times as fast")
    taken = measure.call(lambda: per_tag(scores, truth, 0.35))
    whole = loop * tags / len(some)
    print(f"per_tag, {tags} tags: {taken.seconds:.2f} s, ", end="")
    print(f"{taken.peak / 1e9:.2f} GB beside its inputs, ", end="")
    print(f"{taken.processor:.2f} s of processor time; ", end="")
    print(f"scikit-learn by its time on {len(some)}: {whole:.1f} s, ", end="")
    print(f"{whole / taken.seconds:.1f} times")


def all_posts(posts: int, tags: int, models: int) -> None:
    """Measure and print what it takes to keep and to write what models say of each post."""
    with tempfile.TemporaryDirectory() as name:
        out = DataFolder(Path(name))
        truth = Tiles.make(out.root, posts, tags, np.bool_)
        taken, wrong = [], []
        for model in range(models):
            scores = Tiles.make(out.root, posts, tags, np.float32)
            for tiles, made in zip((scores, truth), made_up(posts, tags, model), strict=True):
                tiles.write(0, made)
            taken.append(measure.call(partial(mistakes, out.root, scores, truth, 0.35)))
            wrong.append(taken[-1].result)
        ids = 6_734_042 + np.arange(posts)
        taken.append(measure.call(lambda: Decisions.of(out.root, ids, truth, wrong)))
        decisions = taken[-1].result
        taken.append(measure.call(decisions.disagreements))
        taken.append(measure.call(lambda: decisions.write(out)))
        sizes = [path.stat().st_size for path in out.report_posts.iterdir()]
    print(f"what {models} models say of each post: ", end="")
    print(f"{sum(each.seconds for each in taken):.1f} s, ", end="")
    print(f"{sum(each.processor for each in taken):.1f} s of processor time, ", end="")
    print(f"{max(each.peak for each in taken) / 1e6:.0f} MB of memory; ", end="")
    print(f"report_posts/ {sum(sizes) / 1e6:.1f} MB in {len(sizes)} files, ", end="")
    print(f"report.html {len(taken[-1].result.records) / 1e3:.0f} kB more")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--posts", type=int, default=32768, help="(default: 32768)")
    parser.add_argument("--tags", type=int, default=3993, help="(default: 3993)")
    parser.add_argument("--models", type=int, default=2, help="(default: 2)")
    parser.add_argument("--resamples", type=int, default=200, help="(default: 200)")
    parser.add_argument("--compared", type=int, default=200, help="tags compared (default: 200)")
    parser.add_argument("--size", type=int, default=2, help="posts in a cluster (default: 2)")
    parser.add_argument("--rounds", type=int, default=5, help="(default: 5)")
    parser.add_argument("--only-posts", action="store_true", help="measure report_posts/ alone")
    args = parser.parse_args()
    if args.only_posts:
        all_posts(args.posts, args.tags, args.models)
        return
    against_loop(args.posts, args.tags, args.compared, args.rounds)
    clusters = np.arange(args.posts) // args.size
    samples = bootstrap.resamples(args.posts, args.resamples, 0, clusters)
    results: list[Evaluation] = []
    total = total_busy = 0.0
    for model in range(args.models):
        taken = evaluated(args.posts, args.tags, model, samples, clusters)
        results.append(taken.result)
        total += taken.seconds
        total_busy += taken.processor
        print(f"evaluate, model {model + 1}, {args.resamples} resamples: ", end="")
        print(f"{taken.seconds:.1f} s, {taken.processor:.1f} s of processor time, ", end="")
        print(f"{taken.peak / 1e9:.2f} GB beside its inputs")
    pairs = [(a, b) for b in range(args.models) for a in range(b)]
    total += measure.seconds(lambda: [compare(results[a], results[b]) for a, b in pairs])
    print(f"all {args.models} models and {len(pairs)} pairs: {total:.1f} s, ", end="")
    print(
        f"{total_busy:.1f} s of processor time ({total_busy / CORES:.1f} s on {CORES} free cores)"
    )
    all_posts(args.posts, args.tags, args.models)
    peak = measure.peak_here() / 1e9
    print(f"the process at its peak, scores and truth included: {peak:.2f} GB")


if __name__ == "__main__":
    main()
