"""Work over (posts, tags) arrays in blocks, in a pool of threads, one a core.

NumPy lets go of the interpreter while it computes, so the threads run side by side. Results come
back in order, so that a rerun adds up the same numbers the same way.
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
    """(part, work(part, scores, truth)) for each block of tags, both arrays transposed to (tags of
    the block, posts). Raises ValueError where a score is not a number.
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
    """(part, work(part, scores, truth)) for each block of posts: (posts of the block, tags)."""

    def block(part: slice) -> T:
        return work(part, np.ascontiguousarray(scores[part], np.float32), truth[part])

    return _blocks(block, len(scores), max(1, PAIRS_PER_BLOCK // max(1, scores.shape[1])))
