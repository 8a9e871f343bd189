"""Where a model's tags are not a post's: the tags that it misses and those that it gives falsely.

Kept as bits, a row a post, in scratch files (Tiles), so that a block of posts of all models can be
read together, however many posts there are. Where two models' mistakes differ, so do their tags.
"""

from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

from arena.metrics.blocks import Array, Matrix, by_posts
from arena.metrics.figures import Decided
from arena.metrics.formulas import f1, thresholds
from arena.metrics.images import above
from arena.metrics.tiles import Tiles

import numpy as np

POSTS_AT_ONCE = 1024


def truth_bits(folder: Path, truth: Matrix) -> Tiles:
    """Which of the tags each post has, from bool (posts, tags): bits, uint8 (posts, tags / 8).

    Bit 7 of a row's first byte is the first tag, as np.packbits has it. The scratch file lies in
    `folder`.
    """
    return _packed(folder, truth, truth, lambda part, _, truth: truth)


def mistakes(
    folder: Path, scores: Matrix, truth: Matrix, threshold: float | Array | Decided
) -> Tiles:
    """Which of the tags a model misses or gives falsely on each post, as truth_bits has them.

    `scores`, `truth` and `threshold` as for evaluate.
    """
    decided = threshold
    if not isinstance(decided, Decided):
        nothing = np.empty((len(scores), 0), np.bool_)
        decided = Decided(np.asarray(threshold), np.empty(0, np.intp), nothing)
    cut = thresholds(decided.threshold, scores.shape[1])
    columns, predicted = decided.tags, decided.predicted

    def wrong(part: slice, scores: Array, truth: Array) -> Array:
        return above(scores, cut, columns, predicted[part]) ^ truth

    return _packed(folder, scores, truth, wrong)


def _packed(
    folder: Path, scores: Matrix, truth: Matrix, where: Callable[[slice, Array, Array], Array]
) -> Tiles:
    """`where` (posts of a block, tags) as bits."""
    posts, tags = truth.shape
    found = Tiles.make(folder, posts, -(-tags // 8), np.uint8)

    def block(part: slice, scores: Array, truth: Array) -> None:
        found.write(part.start, np.packbits(where(part, scores, truth), axis=1))

    for _ in by_posts(scores, truth, block):
        pass
    return found


def set_bits(bits: Array) -> tuple[Array, Array]:
    """The rows and the places of the bits that are set, row by row, of bits uint8 (rows, bytes)."""
    rows, octets = np.nonzero(bits)
    which, inside = np.nonzero(np.unpackbits(bits[rows, octets][:, None], axis=1))
    return rows[which], octets[which] * 8 + inside


def differences(of_models: Sequence[Array]) -> Array:
    """How many tags two models decide differently on each post, added up over all pairs of models:
    int64 (posts,), from the mistakes of each, bits (posts, bytes). 0 of one model."""
    found = np.zeros(len(of_models[0]), np.int64)
    for a, b in combinations(of_models, 2):
        found += _count(a ^ b)
    return found


def image_f1(truth: Array, wrong: Array) -> Array:
    """The F1 of a model's tags on each post, float64 (posts,), from the posts' tags and the model's
    mistakes, bits (posts, bytes); 0 where there is no tag to find and none is given."""
    support, missed = _count(truth), _count(truth & wrong)
    right = support - missed
    found: Array = f1(right, right + _count(wrong) - missed, support)
    return found


def most_different(truth: Tiles, of_models: Sequence[Tiles], most: int) -> Array:
    """The posts to look at first, in that order: up to `most` rows, int (n,).

    Of several models those with the most differences, none without any; of one model those on which
    its F1 is lowest, of the posts with a tag and a mistake. Of equals the earlier post.
    """
    keys, there = np.empty(len(truth)), np.empty(len(truth), np.bool_)
    for start in range(0, len(truth), POSTS_AT_ONCE):
        some = slice(start, min(start + POSTS_AT_ONCE, len(truth)))
        wrong = [each.rows(some) for each in of_models]
        if len(wrong) > 1:
            found = differences(wrong)
            keys[some], there[some] = -found, found > 0
        else:
            tags = truth.rows(some)
            keys[some] = image_f1(tags, wrong[0])
            there[some] = tags.any(axis=1) & wrong[0].any(axis=1)
    rows = np.flatnonzero(there)
    return rows[np.argsort(keys[rows], kind="stable")[:most]]


def _count(bits: Array) -> Array:
    counted: Array = np.bitwise_count(bits).sum(axis=1, dtype=np.int64)
    return counted
