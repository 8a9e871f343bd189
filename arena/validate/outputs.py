"""What a model's cached scores say beyond the common tags: all tags that it predicts, and ratings.

It is taken up a block of posts at a time, as all scores of a large vocabulary would not fit the
memory.
"""

from collections.abc import Sequence
from pathlib import Path

from arena.metrics.tiles import Tiles
from arena.tagger import Labels
from arena.validate.post_tags import PostTags
from arena.validate.scores import Columns

import numpy as np

# How taggers' files name the ratings, after the prefix that some give them. The site had three
# until 2022: what is `general` or `sensitive` now was `safe`, for the most part.
RATING_PREFIXES = ("rating:", "rating_")
FOUR = {"general": "g", "sensitive": "s", "questionable": "q", "explicit": "e"}
THREE = {"safe": "gs", "questionable": "q", "explicit": "e"}
RATING_OF = {letters: name for names in (THREE, FOUR) for name, letters in names.items()}


def rating_outputs(labels: Labels) -> dict[str, list[int]]:
    """The outputs of each rating that a model scores: by `g`, `s`, `q`, `e`, or by `gs`, `q`, `e`
    for one of the site's three old ratings. Empty where it does not score them all."""
    found: dict[str, list[int]] = {}
    for place, (tag, category) in enumerate(zip(labels.tags, labels.categories, strict=True)):
        if category == "rating":
            name = tag.lower()
            for prefix in RATING_PREFIXES:
                name = name.removeprefix(prefix)
            found.setdefault(name, []).append(place)
    for names in (FOUR, THREE):
        if names.keys() <= found.keys():
            return {letters: found[name] for name, letters in names.items()}
    return {}


class Outputs:
    """What a model says of posts, from blocks of its scores that it is given.

    `predicted` int32 (posts,) counts the tags that it predicts on each post, of its whole
    vocabulary, and `right` those of them that the post carries. `further` bool (posts, tags) says
    where it predicts the tags that were asked for, and `scores` float32 (posts, tags) are those of
    tags asked for with their scores: both in scratch files. `ratings` float32 (posts, ratings) are
    the scores of the ratings, without a column where it has none.
    """

    def __init__(
        self,
        folder: Path,
        labels: Labels,
        carried: PostTags,
        tags: Sequence[str],
        further: Sequence[str],
        scored: Sequence[str],
    ) -> None:
        """`carried` says which of `tags` the posts carry: all that it knows, and maybe more. It
        knows all of `further` and `scored`. Where several outputs carry one tag, it is predicted
        where any of them reaches its own threshold. The scratch files lie in `folder`.
        """
        self._cuts = labels.thresholds().astype(np.float32)
        self._is_tag = np.array([category != "rating" for category in labels.categories])
        first: dict[str, int] = {}
        self._repeats: list[tuple[int, int]] = []
        for column, tag in enumerate(labels.tags):
            if self._is_tag[column] and first.setdefault(tag, column) != column:
                self._repeats.append((first[tag], column))
        self._carried, posts = carried, len(carried)
        self._column_of = np.array([first.get(tag, -1) for tag in tags], dtype=np.int32)
        self._further = np.array([first[tag] for tag in further], dtype=np.int64)
        self._scored = Columns.of(labels, scored)
        self._ratings = list(rating_outputs(labels).values())
        self.predicted, self.right = np.zeros((2, posts), np.int32)
        self.further = Tiles.make(folder, posts, len(further), np.bool_)
        self.scores = Tiles.make(folder, posts, len(scored), np.float32)
        self.ratings = np.empty((posts, len(self._ratings)), np.float32)

    def add(self, some: slice, block: np.ndarray) -> None:
        """Take the scores float32 (n, outputs) of the posts `some`."""
        above = block >= self._cuts
        above[:, ~self._is_tag] = False
        for to, column in self._repeats:
            above[:, to] |= above[:, column]
            above[:, column] = False
        self.predicted[some] = np.count_nonzero(above, axis=1)
        rows, numbers = self._carried.pairs(some)
        columns = self._column_of[numbers]
        rows, columns = rows[columns >= 0], columns[columns >= 0]
        self.right[some] = np.bincount(rows[above[rows, columns]], minlength=len(block))
        self.further.write(some.start, above[:, self._further])
        self.scores.write(some.start, self._scored.scores(block))
        for place, outputs in enumerate(self._ratings):
            self.ratings[some, place] = block[:, outputs].max(axis=1)
