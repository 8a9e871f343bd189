"""Figures by the age of the posts: ten slices by id, of equally many posts.

A model that has been trained on posts up to some id is better on those than on what came later: a
step between two slices that other models do not have. What all models have in common, from slice to
slice, is the posts themselves, as old posts are tagged more fully and subjects come and go.

Slices of equal count, as in slices of equal width of id or date most would hold nearly no post of a
selection that was walked downwards from one id. Macro figures are over the tags that are on a post
of the slice, of which many have one or two there: they compare models on one slice, not slices with
each other. Micro figures count all pairs of a slice together and are steadier.
"""

from typing import Any

from arena.metrics import bootstrap
from arena.metrics.blocks import Array, Matrix, by_posts, in_samples, some_tags
from arena.metrics.figures import PER_TAG, Decided, TestSet, figure, per_tag
from arena.metrics.formulas import rates, thresholds
from arena.metrics.tiles import rows_of

import numpy as np

SLICES = 10


def by_age(
    test: TestSet, scores: Matrix, threshold: float | Array | Decided
) -> list[dict[str, Any]]:
    """A model's figures at its own threshold on each slice of the posts, the oldest first.

    `scores` and `threshold` as for evaluate. Each slice has `first` and `last` (ids), `posts`,
    `tags` (those on any of its posts), `macro` (precision, recall, F1, MCC and AP, over these tags)
    and `micro` (the same over all tags). Micro precision, recall and F1 have intervals where there
    are resamples: those of the test set, as far as they are of the slice. Fewer than ten posts are
    as many slices.
    """
    order = np.argsort(test.post_ids, kind="stable")
    return [
        _slice(test, scores, threshold, rows)
        for rows in np.array_split(order, min(SLICES, len(order)))
    ]


def _slice(
    test: TestSet, scores: Matrix, threshold: float | Array | Decided, rows: Array
) -> dict[str, Any]:
    given = threshold.threshold if isinstance(threshold, Decided) else threshold
    cut = thresholds(given, scores.shape[1])
    part, truth = rows_of(scores, rows), rows_of(test.truth, rows)
    predicted = None
    if isinstance(threshold, Decided):
        predicted = threshold.predicted[rows]

    tag_figures = per_tag(part, truth, cut)
    if isinstance(threshold, Decided):
        of_these = some_tags(truth, threshold.tags)
        for name, values in per_tag(threshold.predicted[rows], of_these, 0.5).items():
            if name != "ap":
                tag_figures[name][threshold.tags] = values
    there = tag_figures["support"] > 0
    macro = {name: tag_figures[name][there].mean() if there.any() else 0.0 for name in PER_TAG}

    decided = threshold.tags if isinstance(threshold, Decided) else np.zeros(0, np.intp)
    counts = _per_post(part, truth, cut, decided, predicted)
    sample = np.column_stack([np.ones(len(rows), np.uint8), test.weights[rows]])
    tp, wrong_or_right, support = in_samples(counts.T, sample).tolist()
    pairs = sample.sum(axis=0, dtype=np.float64) * truth.shape[1]
    micro = rates(tp, wrong_or_right, support, pairs)
    shown = {
        name: figure(values[0], values[1:] if name != "mcc" else None)
        for name, values in micro.items()
    }
    once = np.ones((len(rows), 1), np.uint8)
    curve = bootstrap.micro_curve(part, truth, once)
    shown["ap"] = figure(curve.read(bootstrap.micro_ap)[0])
    return {
        "first": int(test.post_ids[rows[0]]),
        "last": int(test.post_ids[rows[-1]]),
        "posts": len(rows),
        "tags": int(there.sum()),
        "macro": {name: figure(value) for name, value in macro.items()},
        "micro": shown,
    }


def _per_post(
    scores: Matrix, truth: Matrix, cut: Array, decided: Array, predicted: Array | None
) -> Array:
    """Right and all predictions and the tags of each post: float64 (posts, 3)."""

    def block(part: slice, scores: Array, truth: Array) -> Array:
        above = scores >= cut
        if predicted is not None:
            above[:, decided] = predicted[part]
        counted = (above & truth, above, truth)
        return np.stack([np.count_nonzero(each, axis=1) for each in counted], axis=1)

    return np.concatenate([found for _, found in by_posts(scores, truth, block)]).astype(float)
