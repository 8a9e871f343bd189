"""How often the bootstrap's 95% intervals hold what they are about, on simulated posts.

    python -m bench.coverage                      20 tags, 1,000 trials
    python -m bench.coverage --tags 4000 --trials 100

An interval is about how far the same figure would move with other posts of the same number. Every
trial draws posts anew, scores two simulated models on them with metrics.evaluate and
metrics.compare, and asks of each interval whether it holds the figure's mean over many further
samples of as many posts (--truth). Held should be 93 to 97%; with 300 trials the share itself is
uncertain by 1.3 points. `spread` is the mean half width over what it should be, 1.96 standard
deviations of the figure over the samples: 1 is right, and it is known more exactly than the share.

Tags are on 10 to 100 of the posts, as often as the published run's tags of that range are, some
tags are easy and some hard, a post is easy or hard in all its tags together, the models err partly
alike, and scores are calibrated, so that F1 and AP come out as those of real taggers.
"""

import argparse
from typing import Any

from arena import bootstrap, metrics
from arena.cli import progress

import numpy as np

Array = np.ndarray[Any, Any]
THRESHOLD = 0.35
# Tenths of the posts a tag is on, among tags on 10 to 100 posts of the published run: counts that
# the recalls of its detailed_metrics.txt are fractions of.
POSTS_A_TAG = (10, 11, 14, 17, 21, 27, 33, 43, 56, 73, 100)


def drawn(posts: int, tags: int, random: np.random.Generator) -> tuple[Array, Array, Array, Array]:
    """(scores of model a, scores of model b, truth, true tags of each post outside the models).

    A model's signal is normal with mean 0 without the tag and `strength` with it; the score is the
    probability of the tag given the signal.
    """
    places = (np.arange(tags) + 0.5) / tags
    share = np.interp(places, np.linspace(0, 1, len(POSTS_A_TAG)), POSTS_A_TAG) / posts
    # The same for every sample: tags of any frequency are easy or hard.
    strength = np.random.default_rng(0).uniform(1.5, 4, tags)
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
        logits = signal * np.float32(d) + np.float32(np.log(share / (1 - share)) - d * d / 2)
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


def figures(
    posts: int, tags: int, resamples: int, seed: int
) -> tuple[dict[str, float], dict[str, float], dict[str, Array], dict[str, Array]]:
    """One sample's figures and their resamples: of model a, and of a minus b."""
    a, b, truth, unknown = drawn(posts, tags, np.random.default_rng(seed))
    weights = bootstrap.resamples(posts, resamples, seed) if resamples else None
    entry_a, table_a = scored(a, truth, unknown, weights)
    entry_b, table_b = scored(b, truth, unknown, weights)
    value_a, value_b = metrics.flat(entry_a["overall"]), metrics.flat(entry_b["overall"])
    difference = {name: value_a[name] - value_b[name] for name in value_a}
    return value_a, difference, table_a, {name: table_a[name] - table_b[name] for name in table_a}


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
    args = parser.parse_args()

    samples: list[tuple[dict[str, float], dict[str, float]]] = []
    for seed in progress(range(args.truth), desc="truth"):
        samples.append(figures(args.posts, args.tags, 0, args.trials + seed)[:2])
    truth = [
        {name: np.mean([s[k][name] for s in samples]) for name in samples[0][k]} for k in (0, 1)
    ]
    sd = [{name: np.std([s[k][name] for s in samples]) for name in samples[0][k]} for k in (0, 1)]
    held = [dict.fromkeys(truth[0], 0) for _ in range(2)]
    width = [dict.fromkeys(truth[0], 0.0) for _ in range(2)]
    shift = [dict.fromkeys(truth[0], 0.0) for _ in range(2)]
    for trial in progress(range(args.trials), desc="trials"):
        value_a, difference, table_a, table = figures(args.posts, args.tags, args.resamples, trial)
        for k, (values, resampled) in enumerate(((value_a, table_a), (difference, table))):
            for name in truth[k]:
                spread = 1.96 * resampled[name].std(ddof=1)
                held[k][name] += abs(values[name] - truth[k][name]) <= spread
                width[k][name] += spread / args.trials
                shift[k][name] += (resampled[name].mean() - values[name]) / args.trials
    print(f"{args.trials} trials of {args.posts} posts x {args.tags} tags, {args.resamples} res")
    for name in truth[0]:
        cells = "".join(
            f"{held[k][name] / args.trials:7.1%} {width[k][name] / max(1.96 * sd[k][name], 1e-12):6.3f} {shift[k][name] / max(sd[k][name], 1e-12):6.2f}  "
            for k in (0, 1)
        )
        print(f"{name:28} {truth[0][name]:8.4f} {truth[1][name]:8.4f} {cells}")


if __name__ == "__main__":
    main()
