"""A (posts, tags) matrix in a scratch file, larger than the memory if need be.

It is written a block of posts at a time and read both ways, a block of tags or a block of posts at
a time, so it lies in tiles: bands of posts, each cut into blocks of tags. Reading either way takes
few, long pieces.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from arena.metrics.scratch import ScratchFile

import numpy as np

TAGS_PER_BLOCK = 64  # 256 bytes of each post's row: whole cache lines, and little to hold.
POSTS_PER_STEP = 64  # Rows turned into columns at a time: they stay in the nearest cache.
PAIRS_AT_ONCE = 1 << 24  # In a block of tags, from two tags on: beyond, fewer tags are in one.
PAIRS_PER_TILE = 1 << 18


def tags_per_block(posts: int) -> int:
    """How many tags of so many posts are held in memory together."""
    return max(1, min(TAGS_PER_BLOCK, PAIRS_AT_ONCE // max(1, posts)))


def transposed(rows: np.ndarray, out: np.ndarray) -> None:
    """Copy rows (posts, tags) into `out` (tags, posts), whose type may be another."""
    for first in range(0, len(rows), POSTS_PER_STEP):
        some = slice(first, first + POSTS_PER_STEP)
        out[:, some] = rows[some].T


@dataclass(frozen=True)
class Tiles:
    """The posts from number `first` to before `last` of a matrix of `posts` posts in a file.

    What has not been written is 0. Whatever reads or writes raises the OSError of the file system.
    """

    file: ScratchFile
    posts: int
    tags: int
    dtype: np.dtype[Any]
    first: int
    last: int

    @classmethod
    def make(cls, folder: Path, posts: int, tags: int, kind: type) -> "Tiles":
        """A matrix of zeros in a new file in a folder, which nobody else sees."""
        dtype = np.dtype(kind)
        file = ScratchFile(folder, posts * tags * dtype.itemsize)
        return cls(file, posts, tags, dtype, 0, posts)

    @property
    def shape(self) -> tuple[int, int]:
        """(posts, tags)."""
        return self.last - self.first, self.tags

    def __len__(self) -> int:
        return self.last - self.first

    @property
    def width(self) -> int:
        """The tags of a tile: what blocks of tags are read fastest in."""
        return tags_per_block(self.posts)

    def between(self, first: int, last: int) -> "Tiles":
        """The posts from number `first` of these to before `last`, in the same file."""
        return replace(self, first=self.first + first, last=self.first + last)

    def write(self, start: int, rows: np.ndarray) -> None:
        """Put rows (n, tags) in the place of the posts from number `start` on."""
        for some, band in self._bands(self.first + start, self.first + start + len(rows)):
            part = rows[some.start - self.first - start : some.stop - self.first - start]
            for tags in self._tag_blocks():
                tile = np.ascontiguousarray(part[:, tags], self.dtype)
                self.file.write(self._offset(some.start, band, tags), tile)

    def columns(self, tags: slice, kind: type) -> np.ndarray:
        """The scores of a block of `width` tags (fewer are in the last) as (tags, posts)."""
        found = np.empty((tags.stop - tags.start, len(self)), kind)
        tall = PAIRS_PER_TILE // self.width
        buffer = np.empty((tall, tags.stop - tags.start), self.dtype)
        for some, band in self._bands(self.first, self.last):
            tile = buffer[: some.stop - some.start]
            self.file.read(self._offset(some.start, band, tags), tile)
            transposed(tile, found[:, some.start - self.first : some.stop - self.first])
        return found

    def rows(self, posts: slice) -> np.ndarray:
        """The rows of some posts: (n, tags)."""
        found = np.empty((posts.stop - posts.start, self.tags), self.dtype)
        start = self.first + posts.start
        for some, band in self._bands(start, self.first + posts.stop):
            for tags in self._tag_blocks():
                tile = np.empty((some.stop - some.start, tags.stop - tags.start), self.dtype)
                self.file.read(self._offset(some.start, band, tags), tile)
                found[some.start - start : some.stop - start, tags] = tile
        return found

    def _tag_blocks(self) -> Iterator[slice]:
        for start in range(0, self.tags, self.width):
            yield slice(start, min(start + self.width, self.tags))

    def _bands(self, start: int, stop: int) -> Iterator[tuple[slice, slice]]:
        """The bands that posts of the file are in: (those of the posts in it, the whole band)."""
        tall = PAIRS_PER_TILE // self.width
        for top in range(start // tall * tall, stop, tall):
            end = min(top + tall, self.posts)
            yield slice(max(start, top), min(stop, end)), slice(top, end)

    def _offset(self, post: int, band: slice, tags: slice) -> int:
        """Where in the file the row of a post is in its tile."""
        before = band.start * self.tags + (band.stop - band.start) * tags.start
        inside = (post - band.start) * (tags.stop - tags.start)
        offset: int = (before + inside) * self.dtype.itemsize
        return offset


def rows_of(matrix: "np.ndarray | Tiles", posts: Sequence[int] | np.ndarray) -> Any:
    """The matrix of some posts: a view where they follow each other. Tiles have no other."""
    if len(posts) and (np.diff(posts) == 1).all():
        first, last = int(posts[0]), int(posts[-1]) + 1
        return matrix.between(first, last) if isinstance(matrix, Tiles) else matrix[first:last]
    if isinstance(matrix, Tiles):
        raise ValueError("of a matrix in a file only posts that follow each other can be taken")
    return matrix[posts]
