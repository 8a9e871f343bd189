"""posts.jsonl and walked.jsonl: the posts of earlier runs, and the pages that they came from.

walked.jsonl has one line a page: from which id to which, with which filter, and how many of its
posts were kept. A page whose posts are all still in posts.jsonl is not asked for again. Where the
files of several shards are laid together, a page that each of them has walked is one of no shard.
"""

import argparse
import bisect
import datetime
import functools
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from arena import files, jsonl
from arena.data_folder import DataFolder
from arena.download import unseen
from arena.post_ids import PostIds
from arena.posts import RATINGS
from arena.seen import Training
from arena.shard import ALL, Shard

Json = dict[str, Any]


@dataclass(frozen=True)
class Filter:
    """Which posts are kept: those of a shard, of some ratings, old enough, seen by no model."""

    ratings: str  # Sorted letters, such as `gs`.
    min_age_days: int  # 0 keeps posts of every age.
    now: float  # Seconds since 1970.
    models: Sequence[Training] = ()  # A post that one of them may have seen is left out.
    shard: Shard = ALL

    @property
    def unseen_by(self) -> list[list[int]]:
        """The models in the form that walked.jsonl has, the same for the same posts."""
        return [list(numbers) for numbers in sorted({(m[0], *(m[1] or ())) for m in self.models})]

    @property
    def lowest(self) -> int:
        """No post with an id below this one is kept."""
        return unseen.lowest(self.models)

    def next_below(self, below: int) -> int:
        """`below`, or a lower id where no post between the two is kept, whatever it is."""
        return unseen.next_below(self.models, below)

    def old_enough_at(self, post: Json) -> float:
        """When the post reaches the age, in seconds since 1970; 0 where its date is not valid."""
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
        """Whether the post has one of the ratings. When all four are kept, every post passes."""
        return len(self.ratings) == len(RATINGS) or post.get("rating") in [*self.ratings]


@dataclass(frozen=True)
class Page:
    """A line of walked.jsonl: the shard's posts with lowest <= id < below have been looked at."""

    below: int
    lowest: int
    kept: int  # How many of the posts passed the filter.
    ratings: str  # The filter's, as is the age.
    min_age_days: int
    until: float | None  # When a post left out as too young is old enough, in seconds since 1970.
    unseen_by: list[list[int]] = field(default_factory=list)  # The filter's, as is the shard.
    shard: Sequence[int] = ALL

    def valid(self) -> bool:
        """Whether the fields read from a file are of the right types."""
        if not isinstance(self.shard, list | tuple) or len(self.shard) != 2:
            return False
        numbers = (self.below, self.lowest, self.kept, self.min_age_days, *self.shard)
        return (
            all(type(number) is int for number in numbers)
            and 0 < self.lowest < self.below
            and 0 <= self.shard[0] < self.shard[1]
            and (self.until is None or isinstance(self.until, int | float))
        )

    def is_of(self, keep: Filter) -> bool:
        """Whether the page was looked at with this filter, by its shard or by one of several."""
        if keep.shard not in (ALL, Shard(*self.shard)):
            return False
        mine = self.ratings, self.min_age_days, self.unseen_by
        return mine == (keep.ratings, keep.min_age_days, keep.unseen_by)


@dataclass
class PostFile:
    """posts.jsonl and walked.jsonl of a data folder. `ids` are those of the posts read or added."""

    data: DataFolder
    ids: PostIds = field(default_factory=PostIds)

    def __post_init__(self) -> None:
        files.temporary(self.data.posts).unlink(missing_ok=True)

    def read(self) -> Iterator[Json]:
        """Every post, in the file's order. `ids` is complete only when the last has been taken."""
        jsonl.repair(self.data.posts)
        if not self.data.posts.exists():
            return
        problems = jsonl.Problems()
        for _, post in jsonl.lines(self.data.posts, problems):
            self.ids.add(post["id"])
            yield post
        problems.tell(self.data.posts)

    def add(self, page: list[Json]) -> list[Json]:
        """Append the posts that are new, all or (on an OSError) none, and return them.

        A post whose line would be too long to be read again is left out.
        """
        new = {post["id"]: post for post in page if post["id"] not in self.ids}
        lines = {number: jsonl.line(post) for number, post in new.items()}
        lines = {number: line for number, line in lines.items() if len(line) <= jsonl.MAX_LINE}
        with self.data.posts.open("ab", buffering=0) as file:
            jsonl.append(file, b"".join(lines.values()))
        for number in lines:
            self.ids.add(number)
        return [new[number] for number in lines]

    def replace(self, changed: dict[int, Json]) -> None:
        """Write new records, given by post id, over the old ones of the same posts."""
        records = {
            number: changed[post["id"]]
            for number, post in jsonl.lines(self.data.posts, jsonl.Problems())
            if post["id"] in changed
        }
        with self.data.posts.open("rb") as old, files.atomic(self.data.posts) as new:
            for number, line in enumerate(old, 1):
                new.write(jsonl.line(records[number]) if number in records else line)

    def walked_pages(self, keep: Filter) -> dict[int, Page]:
        """The pages that need not be asked for again with this filter, by their `below`."""
        jsonl.repair(self.data.walked)
        if not self.data.walked.exists():
            return {}
        ids = array("q", self.ids)
        pages = {}
        parts: dict[Shard, list[Page]] = {}
        for line in self.data.walked.read_bytes().splitlines():
            try:
                page = Page(**jsonl.loads(line))
            except (ValueError, TypeError, RecursionError):
                continue  # One page is then asked for again.
            if not page.valid() or (page.until is not None and page.until <= keep.now):
                continue
            if not page.is_of(keep):
                continue
            shard = Shard(*page.shard)
            here = ids[bisect.bisect_left(ids, page.lowest) : bisect.bisect_left(ids, page.below)]
            count = sum(map(shard.has, here))
            if count < page.kept:
                continue
            if shard == keep.shard:
                pages[page.below] = page
            elif count == page.kept:  # Else nothing tells which of the posts it kept.
                parts.setdefault(shard, []).append(page)
        for of, there in Counter(shard.of for shard in parts).items():
            if there < of:
                continue
            shards = [parts[Shard(number, of)] for number in range(of)]
            for page in functools.reduce(_joined, shards):
                kept = bisect.bisect_left(ids, page.below) - bisect.bisect_left(ids, page.lowest)
                pages.setdefault(page.below, replace(page, kept=kept, shard=ALL))
        return pages

    def summary(self) -> str:
        """How many posts there are, and from which id to which."""
        ids = array("q", self.ids)
        span = f", IDs {ids[0]} to {ids[-1]}" if ids else ""
        return f"{self.data.posts}: {len(ids)} posts{span}"

    def add_walked(self, page: Page) -> None:
        """Append a page to walked.jsonl. Its posts must be in posts.jsonl by then."""
        with self.data.walked.open("ab", buffering=0) as file:
            jsonl.append(file, jsonl.line(asdict(page)))


def _joined(one: list[Page], other: list[Page]) -> list[Page]:
    """What both of two shards have walked, however they cut it into pages; `kept` and `shard` are
    one's."""
    one, other = (sorted(pages, key=lambda page: -page.below) for pages in (one, other))
    found, i, j = [], 0, 0
    while i < len(one) and j < len(other):
        a, b = one[i], other[j]
        below, lowest = min(a.below, b.below), max(a.lowest, b.lowest)
        if lowest < below:
            due = [page.until for page in (a, b) if page.until is not None]
            found.append(replace(a, below=below, lowest=lowest, until=min(due, default=None)))
        i, j = i + (a.lowest == lowest), j + (b.lowest == lowest)
    return found


def ratings(text: str) -> str:
    """An argparse type: a list such as `s,g` as sorted letters, `gs`."""
    letters = {letter.strip() for letter in text.split(",")}
    if not letters <= RATINGS.keys():
        raise argparse.ArgumentTypeError(f"'{text}' is not of {','.join(RATINGS)}")
    return "".join(sorted(letters))
