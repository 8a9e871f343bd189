"""Work over (posts, tags) matrices in blocks, in a pool of threads, one a core.

NumPy lets go of the interpreter while it computes, so the threads run side by side. Results come
back in order, so that a rerun adds up the same numbers the same way. A matrix is an array, or Tiles
where it need not fit the memory; both give the same numbers.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from arena.metrics.tiles import Tiles, tags_per_block, transposed

import numpy as np
import torch

Array = np.ndarray[Any, Any]
Matrix = Array | Tiles
T = TypeVar("T")

PAIRS_PER_BLOCK = 1 << 20  # (post, tag) pairs in a block of posts.
POSTS_PER_BLOCK = 1024  # In a block of posts: of few tags there may be more to count than pairs.
# Of all tags that are worked on together, each of which takes up to 100 bytes a post; and of all
# blocks whose results may wait to be taken, each of which may have as much.
POSTS_AT_ONCE, POSTS_WAITING = 1 << 23, 1 << 20


def _blocks(
    work: Callable[[slice], T], count: int, size: int, posts: int = 1
) -> Iterator[tuple[slice, T]]:
    """(part, work(part)) for the parts of range(count), in order, worked on by all cores, or by
    fewer where each part is of so many `posts` that all together would not fit the memory."""
    workers = min(len(os.sched_getaffinity(0)), most_at_once(posts))
    waiting = min(workers, POSTS_WAITING // max(1, posts))
    ahead: deque[tuple[slice, Future[T]]] = deque()
    # One torch thread in each of ours: the pool already keeps every core busy.
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for start in range(0, count, size):
            part = slice(start, min(start + size, count))
            ahead.append((part, pool.submit(work, part)))
            if len(ahead) >= workers + waiting:  # What nobody has taken yet would fill the memory.
                part, found = ahead.popleft()
                yield part, found.result()
        while ahead:
            part, found = ahead.popleft()
            yield part, found.result()


def most_at_once(posts: int) -> int:
    """How many blocks of tags, of so many posts, are worked on at once, if there are the cores."""
    return max(1, POSTS_AT_ONCE // max(1, posts))


def _columns(matrix: Matrix, part: slice, kind: type) -> Array:
    """The columns `part` of a matrix as contiguous (tags of the part, posts)."""
    if isinstance(matrix, Tiles):
        return matrix.columns(part, kind)
    columns = np.empty((part.stop - part.start, len(matrix)), kind)
    transposed(matrix[:, part], columns)
    return columns


def rows(matrix: Matrix, part: slice) -> Array:
    """The rows of the posts `part` of a matrix: (posts of the part, tags)."""
    return matrix.rows(part) if isinstance(matrix, Tiles) else matrix[part]


def by_tags(
    scores: Matrix, truth: Matrix, work: Callable[[slice, Array, Array], T]
) -> Iterator[tuple[slice, T]]:
    """(part, work(part, scores, truth)) for each block of tags, both matrices transposed to (tags
    of the block, posts). Raises ValueError where a score is not a number.
    """

    def block(part: slice) -> T:
        columns = _columns(scores, part, np.float32)
        if np.isnan(columns).any():
            tag, post = np.argwhere(np.isnan(columns))[0]
            raise ValueError(f"the score of post {post}, tag {part.start + tag} is not a number")
        return work(part, columns, _columns(truth, part, np.bool_))

    size = scores.width if isinstance(scores, Tiles) else tags_per_block(len(scores))
    return _blocks(block, scores.shape[1], size, len(scores))


def by_posts(
    scores: Matrix, truth: Matrix, work: Callable[[slice, Array, Array], T]
) -> Iterator[tuple[slice, T]]:
    """(part, work(part, scores, truth)) for each block of posts: (posts of the block, tags)."""

    def block(part: slice) -> T:
        return work(part, np.ascontiguousarray(rows(scores, part), np.float32), rows(truth, part))

    size = min(POSTS_PER_BLOCK, PAIRS_PER_BLOCK // max(1, scores.shape[1]))
    return _blocks(block, len(scores), max(1, size))


def some_tags(matrix: Matrix, tags: Array) -> Array:
    """The columns `tags` int (n,) of a matrix: (posts, n)."""
    found = np.empty((len(matrix), len(tags)), matrix.dtype)
    for part, block in _blocks(lambda part: rows(matrix, part)[:, tags], len(matrix), 1024):
        found[part] = block
    return found
