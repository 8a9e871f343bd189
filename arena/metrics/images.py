"""What a tagger gives an image: the figures of its tags, one post at a time."""

from arena.metrics.blocks import Array, Matrix, by_posts
from arena.metrics.formulas import f1

import numpy as np


def above(scores: Array, cut: Array, columns: Array, decided: Array) -> Array:
    """Where tags are predicted: bool, as scores (posts, tags), at the thresholds `cut` (tags,).

    The tags `columns` int (n,) are predicted where `decided` bool (posts, n) says so instead.
    """
    predicted: Array = scores >= cut
    predicted[:, columns] = decided
    return predicted


def per_image(
    scores: Matrix, truth: Matrix, cut: Array, columns: Array, decided: Array
) -> dict[str, Array]:
    """Each post's figures at the thresholds `cut` (tags,), float64 (posts,).

    `tags` are given to the post, `false_tags` of them wrongly; `f1` is that of the post's tags, 0
    where it has none and none is given (scikit-learn's average="samples" with zero_division=0).
    `columns` and `decided` as for `above`.
    """
    posts = len(scores)
    right, given, support = np.zeros((3, posts), np.int32)

    def block(part: slice, scores: Array, truth: Array) -> None:
        predicted = above(scores, cut, columns, decided[part])
        given[part] = np.count_nonzero(predicted, axis=1)
        right[part] = np.count_nonzero(predicted & truth, axis=1)
        support[part] = np.count_nonzero(truth, axis=1)

    for _ in by_posts(scores, truth, block):
        pass
    return {"tags": given, "false_tags": given - right, "f1": f1(right, given, support)}
