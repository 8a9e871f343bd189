"""Terms on which models can be compared other than the thresholds that their authors chose.

Thresholds fitted on the posts: one for all tags, one for each category of tags, one for each tag.
What is fitted is macro F1 over the tags that share the threshold, so for one tag its own F1. Scored
on the posts that they were fitted on, thresholds look better than they are. Cross-fitted, those of
one half of the posts are scored on the other, and what is right and predicted in both halves is
added up. Lipton, Elkan and Naryanaswamy, Optimal Thresholding of Classifiers to Maximize F1
Measure, 2014, for how the best threshold of a rare tag goes astray; Fan and Lin, A Study on
Threshold Selection for Multi-label Classification, 2007, for cross-fitting and fallbacks.

Recall at a precision, and precision at a recall, are read from the curve of all (post, tag) pairs
together: one threshold for all tags. A tag's own curve would be too short: a typical tag is on 40
posts, and the largest recall at which the precision happens to reach 0.9 is a maximum over many
thresholds, which lies above what the tag's recall there really is, the more so the rarer it is.
"""

from collections.abc import Sequence
from typing import NamedTuple

from arena.metrics.blocks import Array
from arena.metrics.bootstrap import GRID, Counts
from arena.metrics.formulas import f1, safe_divide

import numpy as np

# A tag on fewer of the posts that thresholds are fitted on takes its category's threshold
# (bench/README.md has the measurements).
FEWEST = 20


class Fit(NamedTuple):
    """Thresholds of one kind, and what they give: arrays (tags,).

    `threshold` float32 is fitted on all posts, on which `tp` posts are rightly and `predicted` are
    predicted. `crossed_tp` and `crossed_predicted` count over all posts too, each half of them at
    the thresholds fitted on the other.
    """

    threshold: Array
    tp: Array
    predicted: Array
    crossed_tp: Array
    crossed_predicted: Array


def fits(counts: Counts, categories: Sequence[str], fewest: int = FEWEST) -> dict[str, Fit]:
    """The thresholds of each kind: `one` for all tags, by `category`, by `tag`.

    `one` and `category` are chosen from GRID, of equals the lowest; those of a tag are scores of
    posts that carry it, of equals the highest. A tag on fewer than `fewest` of the posts that they
    are fitted on takes the threshold that its category has there.
    """
    groups = np.unique(np.asarray(categories), return_inverse=True)[1].reshape(-1)
    found = {
        "one": _on_grid(counts, np.zeros(len(groups), np.intp)),
        "category": _on_grid(counts, groups),
    }
    halves, shared = counts.halves, _crossed(counts, groups)
    enough = counts.support[:, 0] >= fewest
    of_half = halves.support >= fewest
    category = found["category"]
    found["tag"] = Fit(
        np.where(enough, counts.best_threshold, category.threshold).astype(np.float32),
        np.where(enough, counts.best[0][:, 0], category.tp),
        np.where(enough, counts.best[1][:, 0], category.predicted),
        np.where(of_half, halves.tp, shared[0]).sum(axis=1),
        np.where(of_half, halves.predicted, shared[1]).sum(axis=1),
    )
    return found


def _on_grid(counts: Counts, groups: Array) -> Fit:
    """One threshold of GRID for each group of tags; `groups` int (tags,)."""
    halves = counts.halves
    tp, predicted = (grid.sum(axis=1) for grid in (halves.grid_tp, halves.grid_predicted))
    places = _best(tp, predicted, halves.support.sum(axis=1), groups)
    rows = np.arange(len(groups))
    crossed = (counted.sum(axis=1) for counted in _crossed(counts, groups))
    return Fit(GRID[places], tp[rows, places], predicted[rows, places], *crossed)


def _crossed(counts: Counts, groups: Array) -> tuple[Array, Array]:
    """Right and all predictions in the other half at each half's thresholds: (tags, 2) each."""
    halves, rows = counts.halves, np.arange(len(groups))
    tp, predicted = np.zeros((2, len(groups), 2))
    for here, there in ((0, 1), (1, 0)):
        places = _best(
            halves.grid_tp[:, here],
            halves.grid_predicted[:, here],
            halves.support[:, here],
            groups,
        )
        tp[:, here] = halves.grid_tp[rows, there, places]
        predicted[:, here] = halves.grid_predicted[rows, there, places]
    return tp, predicted


def _best(tp: Array, predicted: Array, support: Array, groups: Array) -> Array:
    """Where in GRID the mean F1 of a tag's group is highest: int (tags,); counts (tags, grid)."""
    each = f1(tp, predicted, support[:, None])
    places = np.empty(len(groups), np.intp)
    for group in np.unique(groups):
        inside = groups == group
        # Rounded, so that the order of adding up cannot choose between equal thresholds.
        places[inside] = each[inside].mean(axis=0).round(12).argmax()
    return places


def recall_at_precision(level: float, tp: Array, predicted: Array, coarse: bool) -> Array:
    """The largest recall at which precision is at least `level`, of each row of a MicroCurve:
    (rows,); 0 where it never is.

    Of a coarse curve, recall is read off the line between the last step that has the precision and
    the next, so that it does not move in steps.
    """
    precision = safe_divide(tp, predicted)
    reached = precision >= level
    rows, steps = np.arange(len(tp)), tp.shape[1]
    last = steps - 1 - reached[:, ::-1].argmax(axis=1)
    right = tp[rows, last]
    if coarse:
        after = np.minimum(last + 1, steps - 1)
        fall = precision[rows, last] - precision[rows, after]
        share = (precision[rows, last] - level) / np.where(fall > 0, fall, np.inf)
        right = right + share * (tp[rows, after] - right)
    return np.asarray(np.where(reached.any(axis=1), safe_divide(right, tp[:, -1]), 0.0))


def precision_at_recall(level: float, tp: Array, predicted: Array, coarse: bool) -> Array:
    """The highest precision at which recall is at least `level`, of each row of a MicroCurve:
    (rows,); 0 where there is nothing to find.

    Of a coarse curve, precision at exactly `level` is read off the line between two steps.
    """
    precision = safe_divide(tp, predicted)
    recall = safe_divide(tp, tp[:, -1:])
    reached = recall >= level
    highest = np.where(reached, precision, 0.0).max(axis=1)
    if coarse:
        rows, first = np.arange(len(tp)), reached.argmax(axis=1)
        before = np.maximum(first - 1, 0)
        gain = recall[rows, first] - recall[rows, before]
        share = (level - recall[rows, before]) / np.where(gain > 0, gain, np.inf)
        fall = precision[rows, first] - precision[rows, before]
        highest = np.maximum(highest, precision[rows, before] + share * fall)
    return np.asarray(highest)
