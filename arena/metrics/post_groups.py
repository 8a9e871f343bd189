"""Figures on some of the posts: by their age, in ten slices by id, and by their rating.

A model that has been trained on posts up to some id is better on those than on what came later: a
step between two slices that other models do not have. What all models have in common, from slice to
slice, is the posts themselves, as old posts are tagged more fully and subjects come and go.

Slices of equal count, as in slices of equal width of id or date most would hold nearly no post of a
selection that was walked downwards from one id. Macro figures are over the tags that are on a post
of the group, of which many have one or two there: they compare models on one group, not groups with
each other, and have no interval, as with other posts they would be over other tags. Micro figures
count all pairs of a group together and are steadier.
"""

from collections.abc import Sequence
from typing import Any

from arena.metrics import bootstrap
from arena.metrics.blocks import Array, Matrix, by_posts, by_tags
from arena.metrics.figures import PER_TAG, Decided, TestSet, above, figure
from arena.metrics.formulas import average_precision, rates, thresholds
from arena.metrics.tiles import rows_of

import numpy as np

SLICES = 10
Rows = slice | Array  # Some of the posts, by their numbers.


def by_age(
    test: TestSet, scores: Matrix, threshold: float | Array | Decided
) -> list[dict[str, Any]]:
    """A model's figures at its own threshold on each slice of the posts, the oldest first.

    `scores` and `threshold` as for evaluate. Each slice has `first` and `last` (ids), and what
    `on_groups` gives; micro figures have `ap` too. Fewer than ten posts are as many slices.
    """
    order = np.argsort(test.post_ids, kind="stable")
    slices = np.array_split(order, min(SLICES, len(order)))
    found = on_groups(test, scores, threshold, slices)
    for each, rows in zip(found, slices, strict=True):
        each["first"], each["last"] = test.post_ids[rows[[0, -1]]].tolist()
        part, truth = rows_of(scores, rows), rows_of(test.truth, rows)
        curve = bootstrap.micro_curve(part, truth, bootstrap.no_resamples(len(rows)))
        each["micro"]["ap"] = figure(curve.read(bootstrap.micro_ap)[0])
    return found


def by_rating(
    test: TestSet, scores: Matrix, threshold: float | Array | Decided
) -> dict[str, dict[str, Any]]:
    """What `on_groups` gives on the posts of each rating that any of them has."""
    ratings = np.asarray(test.ratings)
    names = sorted({*np.unique(ratings).tolist()} - {""})
    groups = [np.flatnonzero(ratings == name) for name in names]
    return dict(zip(names, on_groups(test, scores, threshold, groups), strict=True))


def on_groups(
    test: TestSet, scores: Matrix, threshold: float | Array | Decided, groups: Sequence[Array]
) -> list[dict[str, Any]]:
    """A model's figures at its own threshold on each group of posts, given by their numbers.

    `scores` and `threshold` as for evaluate. Each has `posts`, `tags` (those on any of them),
    `macro` (precision, recall, F1, MCC and AP, over these tags) and `micro` (all but AP, over all
    tags). Micro precision, recall and F1 have intervals where there are resamples: those of the
    test set, as far as they are of the group.
    """
    decided = threshold if isinstance(threshold, Decided) else None
    given = threshold.threshold if isinstance(threshold, Decided) else threshold
    posts, tags = scores.shape
    cut = thresholds(given, tags)
    counts, ap = np.zeros((len(groups), 3, tags), np.int64), np.zeros((len(groups), tags))
    of_posts = np.zeros((3, posts), np.int32)
    in_groups = _slices(groups)

    def tags_block(part: slice, scores: Array, truth: Array) -> None:
        predicted = above(part, scores, cut, decided)
        for place, rows in enumerate(in_groups):
            here, given = truth[:, rows], predicted[:, rows]
            for row, each in enumerate((here & given, given, here)):
                counts[place, row, part] = np.count_nonzero(each, axis=1)
            ranked = zip(scores[:, rows], here, strict=True)
            ap[place, part] = [average_precision(*tag) for tag in ranked]

    def posts_block(part: slice, scores: Array, truth: Array) -> None:
        predicted = scores >= cut
        if decided is not None:
            predicted[:, decided.tags] = decided.predicted[part]
        for row, each in enumerate((predicted & truth, predicted, truth)):
            of_posts[row, part] = np.count_nonzero(each, axis=1)

    for work, through in ((tags_block, by_tags), (posts_block, by_posts)):
        for _ in through(scores, test.truth, work):
            pass

    found = []
    for rows, counted, of_tags in zip(groups, counts, ap, strict=True):
        tp, predicted, support = counted
        each = {**rates(tp, predicted, support, len(rows)), "ap": of_tags}
        there = support > 0
        macro = {name: each[name][there].mean() if there.any() else 0.0 for name in PER_TAG}
        drawn = test.samples.of(rows)
        all_tp, all_predicted, carried = drawn.sums(of_posts[:, rows])
        micro = rates(all_tp, all_predicted, carried, drawn.sums(np.ones(len(rows))) * tags)
        found.append(
            {
                "posts": len(rows),
                "tags": int(there.sum()),
                "macro": {name: figure(value) for name, value in macro.items()},
                "micro": {
                    name: figure(values[0], values[1:] if name != "mcc" else None)
                    for name, values in micro.items()
                },
            }
        )
    return found


def _slices(groups: Sequence[Array]) -> list[Rows]:
    """The groups, as slices where their posts follow each other, which are read without a copy."""
    return [
        slice(int(rows[0]), int(rows[-1]) + 1) if (np.diff(rows) == 1).all() else rows
        for rows in groups
    ]
