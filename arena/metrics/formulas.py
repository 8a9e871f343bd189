"""Counting posts: the numbers every metric is made of, and the metrics' formulas.

Throughout, scores are float32 (posts, tags), truth is bool (posts, tags), and a tag is predicted
on a post where its score is at or above the threshold, both taken as float32. Work goes through a
pool of threads, one a core, in blocks of tags or of posts (NumPy lets go of the interpreter while
it computes); results come back in order, so that a rerun adds up the same numbers the same way.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import torch

Array = np.ndarray[Any, Any]
T = TypeVar("T")

TAGS_PER_BLOCK = 64  # 256 bytes of each post's row: whole cache lines, and little to hold.
POSTS_PER_STEP = 64  # Rows turned into columns at a time: they stay in the nearest cache.
PAIRS_PER_BLOCK = 1 << 20  # (post, tag) pairs in a block of posts.


def check(scores: Array, truth: Array) -> tuple[int, int]:
    """(posts, tags). Raises ValueError when the arrays do not fit each other or hold no post."""
    if scores.ndim != 2 or scores.shape != truth.shape:
        raise ValueError(f"scores {scores.shape} and truth {truth.shape} must be (posts, tags)")
    if truth.dtype != np.bool_:
        raise ValueError(f"truth must be bool, not {truth.dtype}")
    if not len(scores):
        raise ValueError("there is no post to score")
    return scores.shape[0], scores.shape[1]


def thresholds(threshold: float | Array, tags: int) -> Array:
    """The float32 threshold of every tag (tags,), from one number or one for each tag."""
    given = np.asarray(threshold, np.float32)
    if given.shape not in ((), (tags,)) or np.isnan(given).any():
        raise ValueError(f"threshold must be a number or {tags} numbers, one for each tag")
    return np.broadcast_to(given, (tags,))


def _blocks(work: Callable[[slice], T], count: int, size: int) -> Iterator[tuple[slice, T]]:
    """(part, work(part)) for the parts of range(count), in order, worked on by all cores."""
    parts = [slice(start, min(start + size, count)) for start in range(0, count, size)]
    workers = len(os.sched_getaffinity(0))
    # One torch thread in each of ours: the pool already keeps every core busy.
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield from zip(parts, pool.map(work, parts), strict=True)


def _columns(rows: Array, part: slice, kind: type) -> Array:
    """The columns `part` of rows (posts, tags) as contiguous (tags of the part, posts)."""
    columns = np.empty((part.stop - part.start, len(rows)), kind)
    for first in range(0, len(rows), POSTS_PER_STEP):
        some = slice(first, first + POSTS_PER_STEP)
        columns[:, some] = rows[some, part].T
    return columns


def by_tags(
    scores: Array, truth: Array, work: Callable[[slice, Array, Array], T]
) -> Iterator[tuple[slice, T]]:
    """work(part, scores (tags of the part, posts), truth likewise) for every block of tags.

    Raises ValueError where a score is not a number.
    """

    def block(part: slice) -> T:
        columns = _columns(scores, part, np.float32)
        if np.isnan(columns).any():
            tag, post = np.argwhere(np.isnan(columns))[0]
            raise ValueError(f"the score of post {post}, tag {part.start + tag} is not a number")
        return work(part, columns, _columns(truth, part, np.bool_))

    return _blocks(block, scores.shape[1], TAGS_PER_BLOCK)


def by_posts(
    scores: Array, truth: Array, work: Callable[[slice, Array, Array], T]
) -> Iterator[tuple[slice, T]]:
    """work(part, scores (posts of the part, tags), truth likewise) for every block of posts."""

    def block(part: slice) -> T:
        return work(part, np.ascontiguousarray(scores[part], np.float32), truth[part])

    return _blocks(block, len(scores), max(1, PAIRS_PER_BLOCK // max(1, scores.shape[1])))


def ratio(above: Any, below: Any) -> Any:
    """above / below, and 0 where below is 0: for counts, of which the one above is 0 there too."""
    return above / np.maximum(below, 1)


def f1(tp: Any, predicted: Any, support: Any) -> Any:
    """2 TP / (predicted + support), which is 2PR / (P + R); 0 where there is nothing to find.

    van Rijsbergen, Information Retrieval, 1979, with beta = 1.
    """
    return ratio(2 * tp, predicted + support)


def mcc(tp: Any, predicted: Any, support: Any, total: Any) -> Any:
    """Matthews' correlation of prediction and truth, 0 where either is the same everywhere.

    (TP TN - FP FN) / sqrt((TP+FP)(TP+FN)(TN+FP)(TN+FN)), written with the four counts at hand.
    Matthews, Biochimica et Biophysica Acta 405, 1975.
    """
    spread = predicted * (total - predicted) * support * (total - support)
    return ratio(total * tp - predicted * support, np.sqrt(spread))


def rates(tp: Any, predicted: Any, support: Any, total: Any) -> dict[str, Any]:
    """Precision, recall, F1 and MCC from counts of posts, element by element, in float64.

    `tp` posts have the tag and are predicted to, `predicted` are predicted to, `support` have it,
    out of `total`. Precision is tp / predicted and recall tp / support; each figure is 0 where
    its denominator is (scikit-learn's zero_division=0).
    """
    tp, predicted, support = (np.asarray(given, np.float64) for given in (tp, predicted, support))
    return {
        "precision": ratio(tp, predicted),
        "recall": ratio(tp, support),
        "f1": f1(tp, predicted, support),
        "mcc": mcc(tp, predicted, support, total),
    }


def average_precision(scores: Array, truth: Array) -> float:
    """Average precision of one tag, from scores (posts,) and truth (posts,); 0 with no positive.

    The sum over thresholds of (R_k - R_{k-1}) P_k, equal scores in one step, as scikit-learn's
    average_precision_score. Recall steps up by one positive at a time, so the sum is the mean,
    over the positives, of the precision at each one's own score; posts scored below the lowest
    positive never count and are not sorted.
    """
    positives = np.sort(scores[truth])
    if not len(positives):
        return 0.0
    ranked = np.sort(scores[scores >= positives[0]])
    tp = len(positives) - np.searchsorted(positives, positives)
    predicted = len(ranked) - np.searchsorted(ranked, positives)
    return float((tp / predicted).mean())
