"""The tags that posts carry by themselves, as numbers in a scratch file: ten million posts have
hundreds of millions."""

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from arena.metrics.scratch import ScratchFile

import numpy as np

POSTS_AT_ONCE = 1 << 16
MOST_WAITING = 1 << 18  # Numbers that are not in the file yet.
ITEM = np.dtype(np.int32).itemsize


class Numbers:
    """Whole numbers, int32, that are added one after the other and read again in pieces.

    Whatever reads or writes raises the OSError of the file system.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = ScratchFile(folder)
        self._written = 0
        self._waiting = array("i")

    def __len__(self) -> int:
        return self._written + len(self._waiting)

    def add(self, numbers: Iterable[int]) -> None:
        """Put a few numbers at the end."""
        self._waiting.extend(numbers)
        if len(self._waiting) > MOST_WAITING:
            self._flush()

    def write(self, numbers: np.ndarray) -> None:
        """Put int32 (n,) at the end."""
        self._flush()
        self._file.write(self._written * ITEM, np.ascontiguousarray(numbers, np.int32))
        self._written += len(numbers)

    def read(self, first: int, last: int) -> np.ndarray:
        """The numbers from the one at `first` to before the one at `last`: int32 (n,)."""
        self._flush()
        found = np.empty(last - first, np.int32)
        self._file.read(first * ITEM, found)
        return found

    def _flush(self) -> None:
        if waiting := self._waiting:
            self._waiting = array("i")
            self.write(np.asarray(waiting))


@dataclass(frozen=True)
class PostTags:
    """The tags of posts: those of post i are numbers[starts[i] : starts[i + 1]], each once.

    `starts` int64 (posts + 1,).
    """

    numbers: Numbers
    starts: np.ndarray

    @classmethod
    def of(cls, numbers: Numbers, lengths: np.ndarray) -> "PostTags":
        """The tags of posts that have so many each, int (posts,)."""
        starts = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=starts[1:])
        return cls(numbers, starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def chunks(self) -> Iterator[slice]:
        """All posts, as many at a time as are held in memory together."""
        for start in range(0, len(self), POSTS_AT_ONCE):
            yield slice(start, min(start + POSTS_AT_ONCE, len(self)))

    def pairs(self, some: slice) -> tuple[np.ndarray, np.ndarray]:
        """All pairs of one of some posts and a tag: rows, which ascend from 0 for the first of
        these posts, and numbers of tags; int32 (pairs,) each."""
        starts = self.starts[some.start : some.stop + 1]
        rows = np.repeat(np.arange(len(starts) - 1, dtype=np.int32), np.diff(starts))
        return rows, self.numbers.read(int(starts[0]), int(starts[-1]))

    def taken(self, places: np.ndarray) -> "PostTags":
        """The posts at these places, int (n,), each once and in this order, in a new file."""
        found = Numbers(self.numbers.folder)
        lengths = np.empty(len(places), np.int32)
        for start in range(0, len(places), POSTS_AT_ONCE):
            some = slice(start, start + POSTS_AT_ONCE)
            lengths[some] = self._copy(places[some], found)
        return PostTags.of(found, lengths)

    def _copy(self, places: np.ndarray, to: Numbers) -> np.ndarray:
        """Write the tags of the posts at these places, int (n,), one or more; how many each has."""
        ascending = np.sort(places)
        begins, ends = self.starts[ascending], self.starts[ascending + 1]
        # What lies together is read at once, whichever way round it is wanted.
        gaps = np.flatnonzero(np.diff(ascending) != 1)
        firsts, lasts = np.append(0, gaps + 1), np.append(gaps, len(ascending) - 1)
        runs = zip(begins[firsts].tolist(), ends[lasts].tolist(), strict=True)
        held = np.concatenate([self.numbers.read(*run) for run in runs])
        at = np.searchsorted(ascending, places)
        lengths = ends - begins
        first, wanted = (np.cumsum(lengths) - lengths)[at], lengths[at]
        shift = np.repeat(first - (np.cumsum(wanted) - wanted), wanted)
        to.write(held[shift + np.arange(len(held))])
        found: np.ndarray = wanted
        return found
