"""What each model says of each post, as the page reads it: records of posts, and files of them.

A page that is opened from a disk can load scripts but no other files, so a file of records is a
script. Its name has a hash of what is in it: a page never takes the records of another run.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from arena.metrics.mistakes import set_bits
from arena.report.packing import packed

import numpy as np

Array = np.ndarray[Any, Any]

NAME = re.compile(r"\d+-[0-9a-f]{16}\.js")


class Script(NamedTuple):
    """A file of records: the first of its posts, its name, and its text."""

    first: int
    name: str
    text: str


class ByPost(NamedTuple):
    """What the page has of posts: the `records` of some, packed, and of the files of all posts, by
    rising id, the first post and the name of each."""

    records: str
    files: list[tuple[int, str]]


def records(post_ids: Array, truth: Array, mistakes: Sequence[Array]) -> str:
    """The records of some posts, packed: `post_ids` int64 (posts,), rising; the tags of each post
    and each model's mistakes as bits, uint8 (posts, bytes).

    A record is the id less that of the post before, then the list of the post's tags and that of
    each model's mistakes. A list is its length, then its numbers, each less the one before.
    """
    lists = [set_bits(bits) for bits in (truth, *mistakes)]
    counts = [np.bincount(rows, minlength=len(post_ids)) for rows, _ in lists]
    lengths = np.stack([np.ones(len(post_ids), np.int64), *(count + 1 for count in counts)], axis=1)
    starts = (np.cumsum(lengths) - lengths.ravel()).reshape(lengths.shape)
    numbers = np.empty(int(lengths.sum()), np.int64)
    numbers[starts[:, 0]] = np.diff(post_ids, prepend=0)
    for start, count, (rows, tags) in zip(starts[:, 1:].T, counts, lists, strict=True):
        numbers[start] = count
        nth = np.arange(len(rows)) - np.repeat(np.cumsum(count) - count, count)
        steps = np.where(nth > 0, np.diff(tags, prepend=0), tags)
        numbers[start[rows] + 1 + nth] = steps
    return packed(numbers)


def script(first: int, text: str) -> Script:
    """The file of some posts' records, of which `first` is the lowest id."""
    name = f"{first}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.js"
    return Script(first, name, f'reportPosts("{name}","{text}");\n')
