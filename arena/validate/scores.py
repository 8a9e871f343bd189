"""Scores read from predictions files, a block of posts at a time, and the ground truth beside them.

A predictions file has all outputs of a tagger, post by post, and may be larger than the memory.
Each of its bytes is read once: what scoring needs of it goes into scratch files (Tiles).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from arena.cli import UserError
from arena.metrics import Decided
from arena.metrics.tiles import Tiles
from arena.tagger import Labels
from arena.validate.ids import rows_of
from arena.validate.post_tags import POSTS_AT_ONCE, PostTags
from arena.validate.predictions import let_go, load, taken

import numpy as np

TRUTH_AT_ONCE = 1 << 22  # (post, tag) pairs.


def read(path: Path, post_ids: np.ndarray, rows: int) -> Iterator[tuple[slice, np.ndarray]]:
    """(places, scores) of so many posts at a time: which of `post_ids`, and float32 (n, outputs).

    Raises UserError where the file lacks a post, and for scores outside 0 to 1.
    """
    found = load(path)
    held = found["post_ids"].numpy()
    where = rows_of(held, post_ids)
    let_go(held)
    if lacking := np.count_nonzero(where < 0):
        raise UserError(f"{path} lacks {lacking} posts: run the same command again")
    predictions = found["predictions"].numpy()
    for start in range(0, len(where), rows):
        block = taken(predictions, where[start : start + rows])
        if not (block.min() >= 0 and block.max() <= 1):  # Nor is a NaN.
            raise UserError(
                f"{path} holds scores outside 0 to 1: move it elsewhere, or give --fresh"
            )
        yield slice(start, start + len(block)), block


@dataclass(frozen=True)
class Columns:
    """Which of a model's outputs say what of some tags.

    Where several outputs carry one tag, the highest score counts, and the tag is predicted where
    any of them reaches its own threshold. `first` int (tags,) is each tag's first output, `repeats`
    has the others of tags that have them, by place, and `apart` the places of tags whose outputs
    have different thresholds. `cuts` float32 (outputs,); `threshold` (tags,) is that of `first`.
    """

    first: np.ndarray
    repeats: dict[int, list[int]]
    apart: list[int]
    cuts: np.ndarray
    threshold: np.ndarray

    @classmethod
    def of(
        cls, labels: Labels, tags: Sequence[str], ratings: Sequence[list[int]] = ()
    ) -> "Columns":
        """The outputs of tags that the model knows, and after them `ratings`, each of which is
        given by its outputs: a rating may have a tag's name."""
        columns_of: dict[str, list[int]] = {}
        for column, (tag, category) in enumerate(zip(labels.tags, labels.categories, strict=True)):
            if category != "rating":
                columns_of.setdefault(tag, []).append(column)
        columns = [*(columns_of[tag] for tag in tags), *ratings]
        first = np.array([each[0] for each in columns], dtype=np.int64)
        cuts = labels.thresholds().astype(np.float32)
        repeats = {place: each[1:] for place, each in enumerate(columns) if len(each) > 1}
        apart = [place for place in repeats if len({*cuts[columns[place]].tolist()}) > 1]
        return cls(first, repeats, apart, cuts, labels.thresholds()[first])

    def scores(self, block: np.ndarray) -> np.ndarray:
        """Scores float32 (n, tags) from those of all outputs, (n, outputs)."""
        found = np.take(block, self.first, axis=1)
        for place, columns in self.repeats.items():
            for column in columns:
                np.maximum(found[:, place], block[:, column], out=found[:, place])
        return found

    def predicted(self, block: np.ndarray) -> np.ndarray:
        """Where the tags `apart` are predicted: bool (n, apart)."""
        found = np.empty((len(block), len(self.apart)), np.bool_)
        for number, place in enumerate(self.apart):
            outputs = [int(self.first[place]), *self.repeats[place]]
            found[:, number] = (block[:, outputs] >= self.cuts[outputs]).any(axis=1)
        return found

    def decide(self, predicted: np.ndarray) -> np.ndarray | Decided:
        """What decides on the tags: thresholds (tags,), or with them where those `apart` are
        predicted, bool (posts, apart)."""
        if not self.apart:
            return self.threshold
        return Decided(self.threshold, np.array(self.apart), predicted)


def truth(folder: Path, carried: PostTags, names: Sequence[str], wanted: Sequence[str]) -> Tiles:
    """Which of the posts carries which of the `wanted` tags, bool (posts, tags); `carried` says
    which of `names`, and so of all that any of them carries, they do."""
    position = {tag: place for place, tag in enumerate(wanted)}
    place_of = np.array([position.get(tag, -1) for tag in names], dtype=np.int64)
    posts, tags = len(carried), len(wanted)
    found = Tiles.make(folder, posts, tags, np.bool_)
    # Of few tags it is what the posts carry besides that would fill the memory.
    size = min(POSTS_AT_ONCE, max(1, TRUTH_AT_ONCE // max(1, tags)))
    for start in range(0, posts if tags else 0, size):
        block = np.zeros((min(size, posts - start), tags), np.bool_)
        rows, numbers = carried.pairs(slice(start, start + len(block)))
        column = place_of[numbers]
        inside = column >= 0
        block[rows[inside], column[inside]] = True
        found.write(start, block)
    return found
