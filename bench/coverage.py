"""How often the bootstrap's 95% intervals hold the true value, on simulated posts.

    python -m bench.coverage
    python -m bench.coverage --trials 100

Every trial draws posts anew, scores two simulated models on them with metrics.evaluate and
metrics.compare, and asks of each interval whether it holds the figure of the population, which
comes from a sample so large (--population) that its own error does not matter. Tags are on 5 to
40% of the posts, a post's tags are easy or hard together, and the models err partly alike. An
interval should hold the truth in 93 to 97% of the trials; with 500 trials the share itself is
uncertain by about 2 points.
"""

import argparse
from typing import Any

from arena import bootstrap, metrics
from arena.cli import progress

import numpy as np

Array = np.ndarray[Any, Any]
THRESHOLD = 0.4
FIGURES = (
    "macro_precision",
    "macro_recall",
    "macro_f1",
    "macro_mcc",
    "micro_precision",
    "micro_recall",
    "micro_f1",
    "micro_mcc",
    "equal_macro_f1",
    "best_macro_f1",
    "per_tag_best_macro_f1",
    "cross_fit_macro_f1",
    "macro_ap",
    "micro_ap",
    "coverage",
    "calibration_error",
)


def drawn(
    posts: int, tags: int, share: list[float], random: np.random.Generator
) -> tuple[Array, Array, Array, Array]:
    """(scores of model a, scores of model b, truth, true tags of each post outside the models)."""
    shape = (posts, tags)
    truth = random.random(shape, np.float32) < np.geomspace(share[0], share[1], tags)
    easy = random.standard_normal((posts, 1), np.float32)
    shared = random.standard_normal(shape, np.float32)
    scores = []
    for strength in (3.2, 3.5):
        noise = shared + random.standard_normal(shape, np.float32)
        logits = truth * (strength + 0.5 * easy) - 2.2 + noise
        scores.append((1 / (1 + np.exp(-logits))).astype(np.float32))
    return scores[0], scores[1], truth, random.poisson(2, posts)


def scored(
    scores: Array, truth: Array, unknown: Array, weights: Array | None
) -> tuple[dict[str, Any], dict[str, Array]]:
    """metrics.evaluate of simulated posts."""
    posts, tags = truth.shape
    known = truth.sum(axis=1)
    categories, ratings = ["general"] * tags, ["g"] * posts
    total = known + unknown
    return metrics.evaluate(
        scores, truth, THRESHOLD, categories, ratings, known, total, np.arange(posts), weights
    )


def holds(interval: tuple[Any, Any], value: float) -> bool:
    """Whether the interval (low, high) holds the value."""
    low, high = interval
    return bool(low <= value <= high)


def main() -> None:
    """Simulate and print the share of trials in which each interval held the truth."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=500, help="(default: 500)")
    parser.add_argument("--posts", type=int, default=2000, help="in a trial (default: 2000)")
    parser.add_argument("--tags", type=int, default=20, help="(default: 20)")
    parser.add_argument("--resamples", type=int, default=200, help="(default: 200)")
    parser.add_argument("--population", type=int, default=2_000_000, help="(default: 2000000)")
    parser.add_argument(
        "--share",
        type=float,
        nargs=2,
        default=[0.05, 0.4],
        help="of the posts that the rarest and the commonest tag are on (default: 0.05 0.4)",
    )
    args = parser.parse_args()

    a, b, truth, unknown = drawn(args.population, args.tags, args.share, np.random.default_rng(0))
    true_a = metrics.flat(scored(a, truth, unknown, None)[0]["overall"])
    true_b = metrics.flat(scored(b, truth, unknown, None)[0]["overall"])
    held = {(what, name): 0 for what in ("value", "difference") for name in FIGURES}
    mean = dict.fromkeys(FIGURES, 0.0)
    for trial in progress(range(1, args.trials + 1)):
        a, b, truth, unknown = drawn(
            args.posts, args.tags, args.share, np.random.default_rng(trial)
        )
        weights = bootstrap.resamples(args.posts, args.resamples, trial)
        entry_a, table_a = scored(a, truth, unknown, weights)
        entry_b, table_b = scored(b, truth, unknown, weights)
        pair = metrics.compare("a", entry_a, table_a, "b", entry_b, table_b)["differences"]
        values = metrics.flat(entry_a["overall"])
        for name in FIGURES:
            held["value", name] += holds(
                bootstrap.interval(table_a[name], values[name]), true_a[name]
            )
            bounds = (pair[name]["low"], pair[name]["high"])
            held["difference", name] += holds(bounds, true_a[name] - true_b[name])
            mean[name] += values[name] / args.trials

    print(f"{args.trials} trials of {args.posts} posts x {args.tags} tags, ", end="")
    print(f"{args.resamples} resamples; the truth from {args.population} posts")
    print(f"{'figure':24} {'truth':>8} {'mean':>8} {'held':>7} {'held of a - b':>14}")
    for name in FIGURES:
        one, two = (held[what, name] / args.trials for what in ("value", "difference"))
        print(f"{name:24} {true_a[name]:8.4f} {mean[name]:8.4f} {one:7.1%} {two:14.1%}")


if __name__ == "__main__":
    main()
