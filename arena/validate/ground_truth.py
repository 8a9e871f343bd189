"""Ground truth: which tags each post carries, after aliases and implications.

It is worked out for some posts at a time: all tags of ten million would not fit the memory.
"""

import hashlib
import os
import re
from array import array
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

from arena import families, jsonl, posts
from arena.cli import UserError
from arena.data_folder import DataFolder
from arena.families import NO_LINKS, Links
from arena.post_ids import PostIds
from arena.tagger import Tagger
from arena.validate import implications
from arena.validate.implications import Group
from arena.validate.post_tags import Numbers, PostTags
from danbooru_metadata import TagMappings

import numpy as np

_DAY = re.compile(r"(\d{4})-(\d{2})-(\d{2})(?=T)", re.ASCII)


@dataclass(frozen=True)
class _Chunk:
    """Some posts that follow each other and all that they carry, `rows` from 0 for the first of
    them.

    `rows` and `numbers` (pairs,) are the pairs with tags that no implication concerns, rows
    ascending; `implied` gives groups of the other tags with the rows of the posts that carry them.
    """

    posts: slice
    rows: np.ndarray
    numbers: np.ndarray
    implied: Iterator[tuple[list[int], np.ndarray]]

    def __len__(self) -> int:
        return len(range(self.posts.start, self.posts.stop))


@dataclass(frozen=True)
class GroundTruth:
    """The tags of posts with ascending ids, as numbers: places in `tags`.

    `own` has those that each post carries by itself, and `implications` what they imply.
    `categories` gives each tag's category by the posts' own fields. `ratings` (posts,) are one
    letter each, empty where a post has none. `days` int32 (posts,) are those on which the posts
    were made, as 20260131, -1 where a post does not say. `links` are the parent links of all posts
    of posts.jsonl.
    """

    post_ids: np.ndarray
    ratings: np.ndarray
    days: np.ndarray
    tags: list[str]
    categories: list[str]
    own: PostTags
    implications: list[Group]
    links: Links = NO_LINKS

    def day(self, row: int) -> str:
        """The day on which a post was made, as 2026-01-31; empty where it does not say."""
        day = int(self.days[row])
        return f"{day // 10000:04}-{day // 100 % 100:02}-{day % 100:02}" if day >= 0 else ""

    def artists(self, without: Container[str]) -> tuple[np.ndarray, np.ndarray]:
        """(row of the post, number of the tag) for each post's artists but those in `without`:
        int32 (pairs,) each."""
        named = zip(self.tags, self.categories, strict=True)
        artist = np.array([kind == "artist" and tag not in without for tag, kind in named], bool)
        found = [(np.zeros(0, np.int32),) * 2]
        for some in self.own.chunks():
            rows, numbers = self.own.pairs(some)
            pairs = artist[numbers]
            found.append((rows[pairs] + np.int32(some.start), numbers[pairs]))
        every, tags = zip(*found, strict=True)
        return np.concatenate(every), np.concatenate(tags)

    def counts(self) -> np.ndarray:
        """On how many posts each tag is: int64 (tags,)."""
        return self._counts

    @cached_property
    def _counts(self) -> np.ndarray:
        counts = np.zeros(len(self.tags), np.int64)
        for chunk in self._chunks():
            counts += np.bincount(chunk.numbers, minlength=len(counts))
            for group, carriers in chunk.implied:
                counts[group] += len(carriers)
        return counts

    def matrix(self, wanted: Sequence[str]) -> np.ndarray:
        """bool (posts, wanted): whether the post carries the tag."""
        truth = np.zeros((len(self.post_ids), len(wanted)), bool)
        pairs = self.carried(wanted)
        for some in pairs.chunks():
            rows, places = pairs.pairs(some)
            truth[some][rows, places] = True
        return truth

    def carried(self, wanted: Sequence[str]) -> PostTags:
        """Which of these tags each post carries, as places in `wanted`, in a scratch file of their
        own. For many tags, most of which are on few posts."""
        position = {tag: place for place, tag in enumerate(wanted)}
        place_of = np.array([position.get(tag, -1) for tag in self.tags], dtype=np.int32)
        found = Numbers(self.own.numbers.folder)
        lengths = np.empty(len(self.post_ids), np.int32)
        for chunk in self._chunks():
            alone = place_of[chunk.numbers]
            rows, places = [chunk.rows[alone >= 0]], [alone[alone >= 0]]
            for group, carriers in chunk.implied:
                for place in place_of[group][place_of[group] >= 0]:
                    rows.append(carriers.astype(np.int32))
                    places.append(np.full(len(carriers), place, np.int32))
            every = np.concatenate(rows)
            found.write(np.concatenate(places)[np.argsort(every, kind="stable")])
            lengths[chunk.posts] = np.bincount(every, minlength=len(chunk))
        return PostTags.of(found, lengths)

    def digest(self) -> str:
        """A hash of how many posts carry each tag: a change of tags or aliases changes it."""
        counts = dict(zip(self.tags, self.counts().tolist(), strict=True))
        text = "".join(f"{counts[tag]} {tag}\n" for tag in sorted(counts) if counts[tag])
        return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()

    def tags_per_post(self, vocabulary: set[str] | None = None) -> np.ndarray:
        """How many tags each post carries, of all or of those in `vocabulary`: int32 (posts,)."""
        counted = np.array([vocabulary is None or tag in vocabulary for tag in self.tags], bool)
        found = np.zeros(len(self.post_ids), np.int32)
        for chunk in self._chunks():
            of_chunk = np.bincount(chunk.rows[counted[chunk.numbers]], minlength=len(chunk))
            for group, carriers in chunk.implied:
                of_chunk[carriers] += np.count_nonzero(counted[group])
            found[chunk.posts] = of_chunk
        return found

    def _chunks(self) -> Iterator[_Chunk]:
        """All posts and what they carry, some at a time."""
        concerned = np.zeros(len(self.tags), bool)
        for group, _ in self.implications:
            concerned[group] = True
        for some in self.own.chunks():
            rows, numbers = self.own.pairs(some)
            here = concerned[numbers]
            given = rows[here], numbers[here], some.stop - some.start
            implied = implications.carriers(self.implications, *given)
            yield _Chunk(some, rows[~here], numbers[~here], implied)


def mappings(data: DataFolder) -> TagMappings:
    """The aliases and implications that download.py left in metadata/. Raises UserError."""
    try:
        return TagMappings(data.metadata)
    except FileNotFoundError as error:
        path = Path(error.filename)
        if path not in (data.tag_rows("tag_aliases"), data.tag_rows("tag_implications")):
            raise UserError(
                f"{path} is missing, which the danbooru-metadata library asks for: an empty file"
                " will do"
            ) from None
        command = "download.py --tags-only" if data.posts.exists() else "download.py"
        raise UserError(f"{path} is missing: run {command} --data {data}") from None
    except ValueError as error:
        remedy = f"correct it, or run download.py --tags-only --data {data}"
        raise UserError(f"{error}: {remedy}") from None


def usable_posts(data: DataFolder) -> PostIds:
    """The ids of the posts with a resized image. Raises UserError without the folder of them."""
    if not data.resized.is_dir():
        raise UserError(f"{data.resized} is missing: run trainable.py --data {data}")
    found = PostIds()
    with os.scandir(data.resized) as entries:  # It knows a file from a pipe without asking.
        for entry in entries:
            stem = entry.name.removesuffix(".webp")
            number = jsonl.post_id(int(stem)) if stem.isascii() and stem.isdigit() else None
            if number is not None and stem != entry.name and entry.is_file():
                found.add(number)
    return found


class _Kept:
    """The posts that have been read so far, in arrays: there may be ten million."""

    def __init__(self, folder: Path) -> None:
        self.ids, self.lengths, self.days = array("q"), array("i"), array("i")
        self.ratings = array("b")  # 0 for none.
        self.numbers = Numbers(folder)

    def add(self, post_id: int, rating: str, day: int, tags: Iterable[int]) -> None:
        """Add a post with the numbers of its tags."""
        before = len(self.numbers)
        self.ids.append(post_id)
        self.ratings.append(ord(rating) if rating else 0)
        self.days.append(day)
        self.numbers.add(tags)
        self.lengths.append(len(self.numbers) - before)

    def own(self) -> PostTags:
        """The tags of the posts."""
        return PostTags.of(self.numbers, np.asarray(self.lengths))

    def lowest(self, limit: int) -> None:
        """Go on with the posts with the `limit` lowest ids only, ascending."""
        order = np.argsort(np.asarray(self.ids))[:limit].astype(np.int32)
        self.numbers = self.own().taken(order).numbers
        self.ids, self.lengths = _taken(self.ids, order), _taken(self.lengths, order)
        self.ratings, self.days = _taken(self.ratings, order), _taken(self.days, order)


def _taken(values: "array[int]", places: np.ndarray) -> "array[int]":
    """The values at these places."""
    return array(values.typecode, np.asarray(values)[places].tobytes())


def read(
    data: DataFolder,
    wanted: Container[int],
    limit: int,
    tag_mappings: TagMappings,
    categories: Mapping[str, str] | None = None,
    scratch: Path | None = None,
) -> GroundTruth:
    """The ground truth of posts of posts.jsonl: the `limit` lowest ids of those in `wanted`.

    `categories` has those of tags of which the posts do not say it. Scratch files lie in the folder
    `scratch`, by default in the data folder. Lines that are no post are skipped with a warning.
    Raises UserError without the file.
    """
    path = data.posts
    problems = jsonl.Problems()
    number_of: dict[str, int] = {}
    votes = array("i")  # Of the posts' own fields: a number for each tag and category.
    kept = _Kept(scratch or data.root)

    def index(tag: str) -> int:
        number = number_of.setdefault(tag_mappings.get_canonical(tag), len(number_of))
        if len(votes) == number * len(posts.CATEGORIES):
            votes.extend([0] * len(posts.CATEGORIES))
        return number

    for line, post in jsonl.lines(path, problems):
        if post["id"] not in wanted:
            continue
        tags = post.get("tag_string")
        if not isinstance(tags, str):
            problems.add(line, "has no text tag_string")
            continue
        own = {tag: index(tag) for tag in tags.split()}
        kept.add(post["id"], _rating(post), _day(post), sorted({*own.values()}))
        # So that memory depends on the limit, not on the file.
        if len(kept.ids) > 2 * limit + 1000:
            kept.lowest(limit)
        for place, category in enumerate(posts.CATEGORIES):
            named = post.get(f"tag_string_{category}")
            for tag in named.split() if isinstance(named, str) else ():
                number = own[tag] if tag in own else index(tag)
                votes[number * len(posts.CATEGORIES) + place] += 1
    problems.tell(path)
    kept.lowest(limit)
    by_tag = np.asarray(votes).reshape(-1, len(posts.CATEGORIES))
    told = [
        posts.CATEGORIES[place] if votes_of[place] else ""
        for votes_of, place in zip(by_tag, by_tag.argmax(axis=1), strict=True)
    ]
    groups = implications.groups(number_of, tag_mappings.direct_implications)
    return GroundTruth(
        post_ids=np.asarray(kept.ids),
        ratings=np.asarray(kept.ratings).view("S1").astype("U1"),
        days=np.asarray(kept.days),
        tags=list(number_of),
        # A tag that only an implication brings is in no post's fields, nor are those of captions.
        categories=[
            category or (categories or {}).get(tag, "general")
            for tag, category in zip_longest(number_of, told, fillvalue="")
        ],
        own=kept.own(),
        implications=groups,
    )


def may_have_seen(tagger: Tagger, truth: GroundTruth) -> np.ndarray | None:
    """Whether a tagger may have been trained on each post, or on one of its family, bool (posts,);
    None where that is not known. Of one's own images it is none."""
    if tagger.last_post_id is None and truth.post_ids[0] < posts.OWN:
        return None
    return families.may_have_seen(truth.post_ids, truth.links, tagger.may_have_seen)


def _day(post: dict[str, Any]) -> int:
    """The day of a post's `created_at`, 2026-01-31T12:00:00.000-05:00, in the site's own time, as
    20260131; -1 where it does not say."""
    created = post.get("created_at")
    found = _DAY.match(created) if isinstance(created, str) else None
    return int("".join(found.groups())) if found else -1


def _rating(post: dict[str, Any]) -> str:
    rating = post.get("rating")
    return rating if isinstance(rating, str) and rating in posts.RATINGS else ""
