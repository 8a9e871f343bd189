"""What thresholds fitted on the posts are worth: for rare tags, and where posts are much alike.

    python -m bench.thresholds

Posts are those of bench.coverage: tags on 10 to 100 of 5,000, some easy and some hard, calibrated
scores. To have something to fit, each tag's logits are moved by an amount of its own (--shift is
its standard deviation), as taggers are badly calibrated tag by tag. Macro F1 over tags:

`cross-fit` is what metrics.json calls so: thresholds of one half of the posts, scored on the other.
`new posts` scores the thresholds of all the posts, as thresholds.csv has them, on as many posts
drawn anew, so it is what a user of them gets. The first table has one threshold, one a category
(the easier and the harder tags) and one a tag; the latter with the category's for tags on fewer
than 0, 5, … of the posts that are fitted on. The second table has posts in clusters of three that
carry the same tags and nearly the same scores, with a half for each post in turn, so that siblings
are on both sides, and for each cluster in turn. There, `new posts` are scored with two thresholds
a tag as well, each from one half and for a half of the new posts: what an honest cross-fit expects.
"""

import argparse
from typing import Any

from arena.metrics import bootstrap, terms
from arena.metrics.formulas import f1, thresholds
from bench.coverage import Made, drawn

import numpy as np

Array = np.ndarray[Any, Any]
FEWEST = (0, 5, 10, 20, 40)
SIBLINGS = 3


def posts_of(posts: int, tags: int, shift: float, seed: int) -> tuple[Array, Array]:
    """(scores, truth) of one tagger whose tags are badly calibrated, always in the same way."""
    (scores, _), truth, _ = drawn(Made(posts, tags), np.random.default_rng(seed))
    moved = np.random.default_rng(1).normal(0, shift, tags).astype(np.float32)
    return moved_by(scores, moved), truth


def moved_by(scores: Array, moved: Array) -> Array:
    """Scores whose logits are moved."""
    scores = np.clip(scores, 1e-7, 1 - 1e-7)
    logits = np.log(scores) - np.log1p(-scores) + moved
    return np.asarray(1 / (1 + np.exp(-logits)), np.float32)


def macro_f1(tp: Array, predicted: Array, support: Array) -> float:
    """The mean of the tags' F1, from counts (tags,)."""
    return float(f1(tp, predicted, support).mean())


def on(scores: Array, truth: Array, threshold: Array) -> float:
    """Macro F1 at a threshold for each tag."""
    predicted = scores >= threshold
    counted = (each.sum(axis=0) for each in (predicted & truth, predicted, truth))
    return macro_f1(*counted)


def counts_of(scores: Array, truth: Array, half: Array) -> bootstrap.Counts:
    """What is counted without resamples."""
    once = bootstrap.no_resamples(len(scores))
    return bootstrap.count(scores, truth, thresholds(0.5, scores.shape[1]), once, half)


def rare_tags(posts: int, tags: int, shift: float, seed: int) -> dict[str, tuple[float, float]]:
    """(cross-fit, new posts) of each kind of thresholds."""
    strength = np.random.default_rng(0).uniform(1.5, 4, tags)  # As bench.coverage draws it.
    categories = [("hard", "easy")[int(each > 2.75)] for each in strength]
    scores, truth = posts_of(posts, tags, shift, seed)
    new_scores, new_truth = posts_of(posts, tags, shift, seed + 1_000_000)
    counts = counts_of(scores, truth, bootstrap.halves(np.arange(posts)))
    found: dict[str, tuple[float, float]] = {}
    for fewest in FEWEST:
        fits = terms.fits(counts, categories, fewest)
        names = {"one": "one", "category": "category", "tag": f"tag, {fewest} posts or more"}
        for kind, fit in fits.items():
            support = counts.support[:, 0]
            crossed = macro_f1(fit.crossed_tp, fit.crossed_predicted, support)
            found[names[kind]] = crossed, on(new_scores, new_truth, fit.threshold)
    return found


def siblings(posts: int, tags: int, shift: float, seed: int) -> dict[str, float]:
    """Cross-fit macro F1 at a threshold a tag, with siblings apart and together, and what the
    thresholds of each half of the clusters give on new posts."""
    alone = posts // SIBLINGS
    random = np.random.default_rng([2, seed])

    def grown(scores: Array, truth: Array) -> tuple[Array, Array]:
        scores, truth = (np.repeat(each, SIBLINGS, axis=0) for each in (scores, truth))
        nearly = random.normal(0, 0.2, scores.shape).astype(np.float32)
        return moved_by(scores, nearly), truth

    scores, truth = grown(*posts_of(alone, tags, shift, seed))
    number = np.arange(len(scores))
    by_post, by_cluster = number % 2, number // SIBLINGS % 2
    categories, found = ["general"] * tags, {}
    for name, half in (("each post in turn", by_post), ("each cluster in turn", by_cluster)):
        counts = counts_of(scores, truth, half)
        fit = terms.fits(counts, categories)["tag"]
        found[name] = macro_f1(fit.crossed_tp, fit.crossed_predicted, counts.support[:, 0])
    new_scores, new_truth = grown(*posts_of(alone, tags, shift, seed + 1_000_000))
    predicted = np.empty_like(new_truth)
    for side in (0, 1):
        some = by_cluster == side
        fitted = terms.fits(counts_of(scores[some], truth[some], number[some] % 2), categories)
        predicted[~some] = new_scores[~some] >= fitted["tag"].threshold
    counted = (each.sum(axis=0) for each in (predicted & new_truth, predicted, new_truth))
    found["new posts"] = macro_f1(*counted)
    return found


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--posts", type=int, default=5000, help="(default: 5000)")
    parser.add_argument("--tags", type=int, default=300, help="(default: 300)")
    parser.add_argument("--trials", type=int, default=10, help="(default: 10)")
    parser.add_argument("--shift", type=float, nargs="+", default=[0, 0.5, 1], help="(0 0.5 1)")
    args = parser.parse_args()
    for shift in args.shift:
        trials = [rare_tags(args.posts, args.tags, shift, seed) for seed in range(args.trials)]
        print(f"shift {shift}: {'':20} cross-fit  new posts")
        for name in trials[0]:
            crossed, new = np.mean([trial[name] for trial in trials], axis=0)
            print(f"{name:30} {crossed:9.4f} {new:10.4f}")
    for shift in args.shift:
        several = [siblings(args.posts, args.tags, shift, seed) for seed in range(args.trials)]
        means = {name: np.mean([trial[name] for trial in several]) for name in several[0]}
        print(f"siblings, shift {shift}: ", end="")
        print(", ".join(f"{name} {value:.4f}" for name, value in means.items()))


if __name__ == "__main__":
    main()
