"""What a tagger's cached scores say beyond the common tags: all tags that it predicts, and ratings.

One pass over its predictions, a block of posts at a time, as all scores of a large vocabulary
would not fit the memory.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from arena.tagger import Tagger
from arena.validate.predictions import ROWS, load, rows_of

import numpy as np

# How taggers' files name the ratings, after the prefix that some give them. The site had three
# until 2022: what is `general` or `sensitive` now was `safe`, for the most part.
RATING_PREFIXES = ("rating:", "rating_")
FOUR = {"general": "g", "sensitive": "s", "questionable": "q", "explicit": "e"}
THREE = {"safe": "gs", "questionable": "q", "explicit": "e"}


class Outputs(NamedTuple):
    """What a tagger says of posts.

    `predicted` int (posts,) counts the tags that it predicts on each post, of its whole vocabulary,
    and `right` those of them that the post carries. `further` bool (posts, tags) says where it
    predicts the tags that were asked for; those that it does not know, nowhere. `ratings` float32
    (posts, ratings) are the scores of the ratings, without a column where it has none.
    """

    predicted: np.ndarray
    right: np.ndarray
    further: np.ndarray
    ratings: np.ndarray


def rating_outputs(tagger: Tagger) -> dict[str, list[int]]:
    """The outputs of each rating that a tagger scores: by `g`, `s`, `q`, `e`, or by `gs`, `q`, `e`
    for one of the site's three old ratings. Empty where it does not score them all."""
    found: dict[str, list[int]] = {}
    for place, (tag, category) in enumerate(zip(tagger.tags, tagger.categories, strict=True)):
        if category == "rating":
            name = tag.lower()
            for prefix in RATING_PREFIXES:
                name = name.removeprefix(prefix)
            found.setdefault(name, []).append(place)
    for names in (FOUR, THREE):
        if names.keys() <= found.keys():
            return {letters: found[name] for name, letters in names.items()}
    return {}


def read(
    path: Path,
    tagger: Tagger,
    post_ids: np.ndarray,
    carried: tuple[np.ndarray, np.ndarray],
    tags: Sequence[str],
    further: Sequence[str],
) -> Outputs:
    """Read a tagger's predictions of these posts.

    `carried` are the pairs of a post and a tag of it, as rows, ascending, and places in `tags`,
    which are all that it knows and any post carries, and may be more. Where several outputs carry
    one tag, it is predicted where any of them reaches its own threshold.
    """
    predictions = load(path)["predictions"].numpy()
    rows = rows_of(path, post_ids)
    cuts = tagger.thresholds().astype(np.float32)
    is_tag = np.array([category != "rating" for category in tagger.categories])
    first: dict[str, int] = {}
    repeats: list[tuple[int, int]] = []
    for column, tag in enumerate(tagger.tags):
        if is_tag[column] and first.setdefault(tag, column) != column:
            repeats.append((first[tag], column))
    column_of = np.array([first.get(tag, -1) for tag in tags], dtype=np.int64)
    asked = np.array([first.get(tag, -1) for tag in further], dtype=np.int64)
    ratings = list(rating_outputs(tagger).values())
    found = Outputs(
        np.empty(len(rows), np.int64),
        np.empty(len(rows), np.int64),
        np.zeros((len(rows), len(further)), np.bool_),
        np.empty((len(rows), len(ratings)), np.float32),
    )
    carriers, columns = carried[0], column_of[carried[1]]
    carriers, columns = carriers[columns >= 0], columns[columns >= 0]
    for start in range(0, len(rows), ROWS):
        block = predictions[rows[start : start + ROWS]]
        some = slice(start, start + len(block))
        above = block >= cuts
        above[:, ~is_tag] = False
        for to, column in repeats:
            above[:, to] |= above[:, column]
            above[:, column] = False
        found.predicted[some] = np.count_nonzero(above, axis=1)
        pairs = slice(*np.searchsorted(carriers, [some.start, some.stop]))
        here = carriers[pairs] - start
        hit = above[here, columns[pairs]]
        found.right[some] = np.bincount(here[hit], minlength=len(block))
        found.further[some, asked >= 0] = above[:, asked[asked >= 0]]
        for place, outputs in enumerate(ratings):
            found.ratings[some, place] = block[:, outputs].max(axis=1)
    return found
