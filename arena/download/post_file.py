"""posts.jsonl as it grows, and which stretches of the site's posts it already covers.

walked.jsonl has one line a page: which ids the page spanned, under which filters, and how many of
its posts were kept. A page whose posts are all still in posts.jsonl is never asked for again.
"""

import bisect
import datetime
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from arena import files, jsonl, posts
from arena.download.danbooru import Client

Json = dict[str, Any]


@dataclass(frozen=True)
class Filter:
    """Which posts a walk keeps. `ratings` is sorted letters; `min_age_days` 0 keeps all ages."""

    ratings: str
    min_age_days: int
    now: float  # Seconds since the epoch.

    def old_enough_at(self, post: Json) -> float:
        """When the post reaches the age, in seconds since the epoch; 0 without a valid date."""
        created = post.get("created_at")
        if not self.min_age_days or not isinstance(created, str):
            return 0.0
        try:
            moment = datetime.datetime.fromisoformat(created)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=datetime.UTC)
            return moment.timestamp() + self.min_age_days * 86400
        except (ValueError, OverflowError):
            return 0.0

    def has_rating(self, post: Json) -> bool:
        """Whether the post's rating is among those wanted (any, when all four are)."""
        return len(self.ratings) == len(posts.RATINGS) or post.get("rating") in [*self.ratings]


@dataclass(frozen=True)
class Page:
    """A stretch of ids, `lowest` up to but not including `below`, that has been walked.

    `kept` of its posts passed the filter; the answer may change at `until`, when the first post
    that was too young comes of age.
    """

    below: int
    lowest: int
    kept: int
    ratings: str
    min_age_days: int
    until: float | None

    def valid(self) -> bool:
        """Whether the fields read from a file are of the right types."""
        numbers = (self.below, self.lowest, self.kept, self.min_age_days)
        return (
            all(type(number) is int for number in numbers)
            and 0 < self.lowest < self.below
            and (self.until is None or isinstance(self.until, int | float))
        )


@dataclass
class PostFile:
    """posts.jsonl in a data folder, with the ids in it."""

    data: Path
    ids: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.path = self.data / "posts.jsonl"
        self.journal = self.data / "walked.jsonl"
        files.temporary(self.path).unlink(missing_ok=True)

    def read(self) -> Iterator[Json]:
        """Every post held, in the file's order; `ids` is complete when this has ended."""
        jsonl.repair(self.path)
        if not self.path.exists():
            return
        problems = jsonl.Problems()
        for _, post in jsonl.lines(self.path, problems):
            self.ids.add(post["id"])
            yield post
        problems.tell(self.path)

    def add(self, page: list[Json]) -> list[Json]:
        """Append the posts not yet held, in one write; returns them."""
        new = {post["id"]: post for post in page if post["id"] not in self.ids}
        lines = {number: jsonl.line(post) for number, post in new.items()}
        lines = {number: line for number, line in lines.items() if len(line) <= jsonl.MAX_LINE}
        _append(self.path, b"".join(lines.values()))
        self.ids.update(lines)
        return [new[number] for number in lines]

    def replace(self, changed: dict[int, Json]) -> None:
        """Put new records of posts in the place of their old ones."""
        numbers = {
            number: changed[post["id"]]
            for number, post in jsonl.lines(self.path, jsonl.Problems())
            if post["id"] in changed
        }
        with self.path.open("rb") as old, files.atomic(self.path) as new:
            for number, line in enumerate(old, 1):
                new.write(jsonl.line(numbers[number]) if number in numbers else line)

    def walked(self, keep: Filter) -> dict[int, Page]:
        """The pages that need not be asked for again under this filter, by their `below`."""
        jsonl.repair(self.journal)
        if not self.journal.exists():
            return {}
        held = sorted(self.ids)
        found = {}
        for line in self.journal.read_bytes().splitlines():
            try:
                page = Page(**json.loads(line))
            except (ValueError, TypeError, RecursionError):
                continue  # A line of no use costs one page asked for again.
            if not page.valid() or (page.until is not None and page.until <= keep.now):
                continue
            here = bisect.bisect_left(held, page.below) - bisect.bisect_left(held, page.lowest)
            same_filter = (page.ratings, page.min_age_days) == (keep.ratings, keep.min_age_days)
            if same_filter and here >= page.kept:
                found[page.below] = page
        return found

    def note(self, page: Page) -> None:
        """Add a page to the journal, after its posts."""
        _append(self.journal, jsonl.line(asdict(page)))


def renewed(client: Client, post_file: PostFile, batch: list[Json]) -> list[Json]:
    """Up to 200 held posts as the site has them now; those it no longer gives, as they were.

    Days may lie between a post's page and its file: meanwhile the site hides posts, replaces
    their files and moves them. Where the file is another, posts.jsonl gets the new record.
    """
    now = {post["id"]: post for post in client.posts_by_id([post["id"] for post in batch])}
    changed = {
        post["id"]: now[post["id"]]
        for post in batch
        if post["id"] in now and now[post["id"]].get("md5") != post.get("md5")
    }
    if changed:
        post_file.replace(changed)
    return [now.get(post["id"], post) for post in batch]


@dataclass
class Walk:
    """Going down from `start` until `want` posts are held.

    `left_out` counts the posts filtered; `ended` says that the site had no more.
    """

    client: Client
    post_file: PostFile
    keep: Filter
    start: int
    want: int
    held: int = 0
    ended: bool = False
    left_out: Counter[str] = field(default_factory=Counter)

    def pages(self) -> Iterator[list[Json]]:
        """The new posts of page after page, already in posts.jsonl."""
        walked = self.post_file.walked(self.keep)
        starts = sorted(walked)
        below = self.start
        while self.held < self.want:
            if known := walked.get(below):
                self.held += known.kept
                below = known.lowest
                continue
            rows = self.client.posts(below) if below > 1 else []
            if not rows:
                self.ended = True
                return
            # Stop where a page walked before begins, so that it can be skipped whole.
            next_start = bisect.bisect_left(starts, below) - 1
            floor = max(starts[next_start], rows[-1]["id"]) if next_start >= 0 else rows[-1]["id"]
            page, kept = self._sift([row for row in rows if row["id"] >= floor], below, floor)
            new = self.post_file.add(kept)
            self.post_file.note(page)
            self.held += page.kept
            below = page.lowest
            yield new

    def _sift(self, rows: list[Json], below: int, floor: int) -> tuple[Page, list[Json]]:
        kept: list[Json] = []
        until = None
        for row in rows:
            due = self.keep.old_enough_at(row)
            if due > self.keep.now:
                until = due if until is None else min(until, due)
                self.left_out["too young"] += 1
            elif not self.keep.has_rating(row):
                self.left_out["of another rating"] += 1
            else:
                kept.append(row)
                if self.held + len(kept) == self.want:
                    floor = row["id"]
                    break
        page = Page(below, floor, len(kept), self.keep.ratings, self.keep.min_age_days, until)
        return page, kept


def _append(path: Path, data: bytes) -> None:
    """Append whole lines, or on an error (a full disk) nothing."""
    with path.open("ab", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        try:
            written = 0
            while written < len(data):
                written += file.write(data[written:])
        except BaseException:
            file.truncate(end)
            raise
