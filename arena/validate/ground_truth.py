"""Ground truth: which tags each post carries, after aliases and implications.

What implications add is never written out for all posts, as along one long chain of them it grows
with the square of the tags. It is worked out tag by tag wherever it is needed.
"""

import hashlib
import os
import re
import sys
from array import array
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from arena import families, jsonl, posts
from arena.cli import UserError
from arena.data_folder import DataFolder
from arena.families import NO_LINKS, Links
from arena.post_ids import PostIds
from arena.tagger import Tagger
from danbooru_metadata import TagMappings

import numpy as np


@dataclass(frozen=True)
class GroundTruth:
    """The tags of posts with ascending ids, as rows of indices into `tags`.

    Post i has by itself tags[index] for index in `indices[starts[i] : starts[i + 1]]`, each once;
    `indices` are int32, as there may be hundreds of millions.
    Of `implications`, each is a group of tags that imply each other (mostly it is one tag), and the
    other tags that they imply directly; a group comes before those that it implies. `categories`
    gives each tag's category by the posts' own fields. `days` are those on which the posts were
    made, as 2026-01-31, empty where a post does not say. `links` are the parent links of all posts
    of posts.jsonl.
    """

    post_ids: np.ndarray
    ratings: list[str]
    days: list[str]
    tags: list[str]
    categories: list[str]
    indices: np.ndarray
    starts: np.ndarray
    implications: list[tuple[list[int], list[int]]]
    links: Links = NO_LINKS

    def artists(self, without: Container[str]) -> tuple[np.ndarray, np.ndarray]:
        """(row of the post, index of the tag) for each post's artists but those in `without`."""
        named = zip(self.tags, self.categories, strict=True)
        artist = np.array([kind == "artist" and tag not in without for tag, kind in named], bool)
        pairs = np.flatnonzero(artist[self.indices])
        return self._rows()[pairs], self.indices[pairs]

    def counts(self) -> np.ndarray:
        """On how many posts each tag is: int64 (tags,)."""
        counts = np.bincount(self.indices, minlength=len(self.tags))
        for group, carriers in self._carriers():
            counts[group] = len(carriers)
        return counts

    def matrix(self, wanted: Sequence[str]) -> np.ndarray:
        """bool (posts, wanted): whether the post carries the tag."""
        position = {tag: place for place, tag in enumerate(wanted)}
        column = np.array([position.get(tag, -1) for tag in self.tags], dtype=np.int64)
        columns = column[self.indices]
        truth = np.zeros((len(self.post_ids), len(wanted)), bool)
        truth[self._rows()[columns >= 0], columns[columns >= 0]] = True
        for group, carriers in self._carriers():
            for place in column[group]:
                if place >= 0:
                    truth[carriers, place] = True
        return truth

    def pairs(self, wanted: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The rows and the places in `wanted` of all pairs of a post and a tag of it, rows
        ascending: int32 (pairs,) each. For many tags, most of which are on few posts."""
        position = {tag: place for place, tag in enumerate(wanted)}
        column = np.array([position.get(tag, -1) for tag in self.tags], dtype=np.int32)
        alone = column.copy()
        for group, _ in self.implications:
            alone[group] = -1
        direct = alone[self.indices] >= 0
        rows, places = [self._rows()[direct]], [alone[self.indices[direct]]]
        for group, carriers in self._carriers():
            for place in column[group][column[group] >= 0]:
                rows.append(carriers.astype(np.int32))
                places.append(np.full(len(carriers), place, np.int32))
        all_rows = np.concatenate(rows)
        order = np.argsort(all_rows, kind="stable")
        return all_rows[order], np.concatenate(places)[order]

    def digest(self) -> str:
        """A hash of how many posts carry each tag: a change of tags or aliases changes it."""
        counts = dict(zip(self.tags, self.counts().tolist(), strict=True))
        text = "".join(f"{counts[tag]} {tag}\n" for tag in sorted(counts) if counts[tag])
        return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()

    def tags_per_post(self, vocabulary: set[str] | None = None) -> np.ndarray:
        """How many tags each post carries, of all or of those in `vocabulary`: int64 (posts,)."""
        counted = np.array([vocabulary is None or tag in vocabulary for tag in self.tags], np.int64)
        alone = counted.copy()
        for group, _ in self.implications:
            alone[group] = 0
        running = np.concatenate([[0], np.cumsum(alone[self.indices])])
        found: np.ndarray = running[self.starts[1:]] - running[self.starts[:-1]]
        for group, carriers in self._carriers():
            found[carriers] += counted[group].sum()
        return found

    def _rows(self) -> np.ndarray:
        return np.repeat(np.arange(len(self.post_ids), dtype=np.int32), np.diff(self.starts))

    def _carriers(self) -> Iterator[tuple[list[int], np.ndarray]]:
        """Each group of `implications` with the rows of the posts that carry its tags, ascending.

        The rows are let go as soon as those of all implied tags have been worked out.
        """
        concerned = np.zeros(len(self.tags), bool)
        for group, _ in self.implications:
            concerned[group] = True
        pairs = np.flatnonzero(concerned[self.indices])
        pairs = pairs[np.argsort(self.indices[pairs], kind="stable")]
        rows = self._rows()[pairs]
        bounds = np.searchsorted(self.indices[pairs], np.arange(len(self.tags) + 1)).tolist()
        arriving: dict[int, list[np.ndarray]] = {}
        for group, implied in self.implications:
            parts = [rows[bounds[tag] : bounds[tag + 1]] for tag in group]
            for tag in group:
                parts += arriving.pop(tag, [])
            carriers = _union(parts, len(self.post_ids))
            for tag in implied:
                arriving.setdefault(tag, []).append(carriers)
            yield group, carriers


def _union(parts: list[np.ndarray], posts: int) -> np.ndarray:
    """The rows, of so many posts, that are in any of the parts: ascending, each once."""
    parts = list({id(part): part for part in parts if len(part)}.values())
    if len(parts) < 2:
        return parts[0] if parts else np.zeros(0, np.int64)
    if sum(map(len, parts)) < posts / 16:  # Then sorting is faster than a look at every post.
        return np.unique(np.concatenate(parts))
    found = np.zeros(posts, bool)
    for part in parts:
        found[part] = True
    return np.flatnonzero(found)


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

    def __init__(self) -> None:
        self.ids, self.lengths, self.indices = array("q"), array("i"), array("i")
        self.ratings: list[str] = []
        self.days: list[str] = []

    def add(self, post_id: int, rating: str, day: str, tags: Iterable[int]) -> None:
        """Add a post with the numbers of its tags."""
        before = len(self.indices)
        self.ids.append(post_id)
        self.ratings.append(rating)
        self.days.append(sys.intern(day))
        self.indices.extend(tags)
        self.lengths.append(len(self.indices) - before)

    def lowest(self, limit: int) -> "_Kept":
        """The posts with the `limit` lowest ids, ascending."""
        found, stops = _Kept(), np.cumsum(np.asarray(self.lengths), dtype=np.int64)
        for place in np.argsort(np.asarray(self.ids))[:limit]:
            tags = self.indices[stops[place] - self.lengths[place] : stops[place]]
            found.add(self.ids[place], self.ratings[place], self.days[place], tags)
        return found


def read(
    data: DataFolder,
    wanted: Container[int],
    limit: int,
    tag_mappings: TagMappings,
    categories: Mapping[str, str] | None = None,
) -> GroundTruth:
    """The ground truth of posts of posts.jsonl: the `limit` lowest ids of those in `wanted`.

    `categories` has those of tags of which the posts do not say it. Lines that are no post are
    skipped with a warning. Raises UserError without the file.
    """
    path = data.posts
    problems = jsonl.Problems()
    number_of: dict[str, int] = {}
    votes = array("i")  # Of the posts' own fields: a number for each tag and category.
    kept = _Kept()

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
            kept = kept.lowest(limit)
        for place, category in enumerate(posts.CATEGORIES):
            named = post.get(f"tag_string_{category}")
            for tag in named.split() if isinstance(named, str) else ():
                number = own[tag] if tag in own else index(tag)
                votes[number * len(posts.CATEGORIES) + place] += 1
    problems.tell(path)
    kept = kept.lowest(limit)
    by_tag = np.asarray(votes).reshape(-1, len(posts.CATEGORIES))
    told = [
        posts.CATEGORIES[place] if votes_of[place] else ""
        for votes_of, place in zip(by_tag, by_tag.argmax(axis=1), strict=True)
    ]
    implications = _implications(number_of, tag_mappings.direct_implications)
    return GroundTruth(
        post_ids=np.array(kept.ids, np.int64),
        ratings=kept.ratings,
        days=kept.days,
        tags=list(number_of),
        # A tag that only an implication brings is in no post's fields, nor are those of captions.
        categories=[
            category or (categories or {}).get(tag, "general")
            for tag, category in zip_longest(number_of, told, fillvalue="")
        ],
        indices=np.asarray(kept.indices),
        starts=np.concatenate([[0], np.cumsum(np.asarray(kept.lengths), dtype=np.int64)]),
        implications=implications,
    )


def _implications(
    number_of: dict[str, int], direct: Mapping[str, set[str]]
) -> list[tuple[list[int], list[int]]]:
    """What GroundTruth.implications says. Tags that are only implied get a number of their own."""
    edges: dict[int, list[int]] = {}
    tags = list(number_of)
    while tags:
        tag = tags.pop()
        for implied in sorted(direct.get(tag, ())):
            if implied not in number_of:
                number_of[implied] = len(number_of)
                tags.append(implied)
            edges.setdefault(number_of[tag], []).append(number_of[implied])
    groups = _groups(edges)
    group_of = {tag: place for place, group in enumerate(groups) for tag in group}
    return [
        (
            group,
            [to for tag in group for to in edges.get(tag, ()) if group_of[to] != group_of[tag]],
        )
        for group in groups
    ]


def _groups(edges: Mapping[int, list[int]]) -> list[list[int]]:
    """A graph's strongly connected components, each before those it leads to (Kosaraju)."""
    seen: set[int] = set()
    finished: list[int] = []
    for root in edges:
        stack = [root]
        while stack:
            node = stack.pop()
            if node < 0:  # All that it leads to is finished.
                finished.append(~node)
            elif node not in seen:
                seen.add(node)
                stack.append(~node)
                stack += edges.get(node, [])
    sources: dict[int, list[int]] = {}
    for node, targets in edges.items():
        for target in targets:
            sources.setdefault(target, []).append(node)
    groups: list[list[int]] = []
    for root in reversed(finished):
        group: list[int] = []
        stack = [root]
        while stack:
            node = stack.pop()
            if node in seen:  # Not yet in a group.
                seen.remove(node)
                group.append(node)
                stack += sources.get(node, [])
        if group:
            groups.append(group)
    return groups


def may_have_seen(tagger: Tagger, truth: GroundTruth) -> np.ndarray | None:
    """Whether a tagger may have been trained on each post, or on one of its family, bool (posts,);
    None where that is not known. Of one's own images it is none."""
    if tagger.last_post_id is None and truth.post_ids[0] < posts.OWN:
        return None
    return families.may_have_seen(truth.post_ids, truth.links, tagger.may_have_seen)


def _day(post: dict[str, Any]) -> str:
    """The day of a post's `created_at`, 2026-01-31T12:00:00.000-05:00, in the site's own time."""
    created = post.get("created_at")
    found = re.match(r"\d{4}-\d{2}-\d{2}(?=T)", created) if isinstance(created, str) else None
    return found[0] if found else ""


def _rating(post: dict[str, Any]) -> str:
    rating = post.get("rating")
    return rating if isinstance(rating, str) and rating in posts.RATINGS else ""
