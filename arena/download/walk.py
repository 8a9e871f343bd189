"""The posts whose files a run needs: from posts.jsonl, down the site, or of a list of ids.

Every function here gives the posts one by one, each as soon as it is known, so that files are
fetched while the site is still being asked for more posts.
"""

import argparse
import bisect
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from arena import jsonl
from arena.cli import at_least, progress, say
from arena.download.danbooru import PAGE_LIMIT, Client
from arena.download.fetch import RemoteFile, is_fetched, remote_file
from arena.download.post_file import Filter, Page, PostFile
from arena.download.unseen import Relatives
from arena.post_ids import PostIds

Json = dict[str, Any]
T = TypeVar("T")

NEWEST = "newest"  # In place of an id to start from.


def start_id(text: str) -> int | str:
    """An argparse type: a post's id, or `newest`."""
    try:
        return NEWEST if text == NEWEST else at_least(1, jsonl.MAX_ID)(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, nor '{NEWEST}'") from None


def newest_start(client: Client, keep: Filter) -> int:
    """The id to walk down from for the newest posts that are old enough; 1 where there are none.

    It halves the ids, which rise with the dates, so that no page of too young posts is asked for.
    Raises UserError when the site kept failing.
    """
    newest = client.newest_post()
    old, start = 0, newest["id"] + 1 if newest else 1
    if newest and keep.old_enough_at(newest) <= keep.now:
        old = newest["id"]
    while start - old > PAGE_LIMIT:
        middle = (old + start) // 2
        post = client.newest_post(middle)
        if post and keep.old_enough_at(post) > keep.now:
            start = post["id"]
        else:
            old = middle
    say(f"walking down from ID {start}")
    return int(start)


@dataclass
class Walk:
    """Going down the site from below the id `start` until `wanted` posts are in posts.jsonl.

    `count` is the number of posts so far, `left_out` the number that the filter left out for each
    reason; `ended` says why there were no more posts, if it came to that.
    """

    client: Client
    post_file: PostFile
    keep: Filter
    start: int
    wanted: int
    count: int = 0
    ended: str = ""
    left_out: Counter[str] = field(default_factory=Counter)
    relatives: Relatives = field(init=False)

    def __post_init__(self) -> None:
        self.relatives = Relatives(self.keep.models)

    def wants(self, post: Json) -> bool:
        """Whether a post of posts.jsonl is kept, as far as it and those before it tell."""
        self.relatives.look_at(post)
        if not self.keep.shard.has(post["id"]) or not self.keep.has_rating(post):
            return False
        return not self.relatives.may_be_seen(post["id"])

    def pages(self) -> Iterator[list[Json]]:
        """The new posts of page after page, already in posts.jsonl.

        Raises UserError when the site kept failing.
        """
        walked = self.post_file.walked_pages(self.keep)
        starts = sorted(walked)
        below = self.start
        while self.count < self.wanted:
            below = self.keep.next_below(below)
            if known := walked.get(below):
                self.count += known.kept
                below = known.lowest
                continue
            rows = self.client.posts(below) if below > self.keep.lowest else []
            if not rows:
                self.ended = self._why(below)
                return
            # Stop where a page walked before begins, so that all of it can be skipped.
            next_start = bisect.bisect_left(starts, below) - 1
            lowest = max(starts[next_start], rows[-1]["id"]) if next_start >= 0 else rows[-1]["id"]
            page, kept = self._filter([row for row in rows if row["id"] >= lowest], below, lowest)
            new = self.post_file.add(kept)
            self.post_file.add_walked(page)
            self.count += page.kept
            below = page.lowest
            yield new

    def _filter(self, rows: list[Json], below: int, lowest: int) -> tuple[Page, list[Json]]:
        """The posts to keep and the page they make, which ends early once there are enough."""
        kept: list[Json] = []
        until = None
        for row in rows:
            self.relatives.look_at(row)
        for row in rows:
            if not self.keep.shard.has(row["id"]):
                continue
            due = self.keep.old_enough_at(row)
            if self.relatives.may_be_seen(row["id"]):
                self.left_out["perhaps seen by a model"] += 1
            elif due > self.keep.now:
                until = due if until is None else min(until, due)
                self.left_out["too young"] += 1
            elif not self.keep.has_rating(row):
                self.left_out["of another rating"] += 1
            else:
                kept.append(row)
                if self.count + len(kept) == self.wanted:
                    lowest = row["id"]
                    break
        keep = self.keep
        settings = keep.ratings, keep.min_age_days, until, keep.unseen_by, keep.shard
        return Page(below, lowest, len(kept), *settings), kept

    def _why(self, below: int) -> str:
        """Why there are no more posts below an id."""
        lowest = self.keep.lowest
        if lowest == 1 or below > lowest:
            return f"the site has no more posts below ID {self.start}"
        higher = " (give a higher --start-id, or newest)" if self.start <= lowest else ""
        return f"every post below ID {lowest} may have been seen by a model{higher}"

    def say_end(self) -> None:
        """Say how many posts were left out, and why there were too few, if there were."""
        for reason, count in self.left_out.items():
            say(f"left out as {reason}: {count}")
        if self.ended:
            say(f"{self.ended}: {self.count} of {self.wanted} found")


def walked_posts(walk: Walk, max_bytes: int) -> Iterator[Json]:
    """The posts in posts.jsonl that the filter wants of any age, then those that the walk adds."""
    yield from saved_posts(walk.client, walk.post_file, walk.wants, max_bytes)
    with progress(desc="posts", unit="post", total=walk.wanted) as bar:
        for page in walk.pages():
            bar.update(walk.count - bar.n)
            yield from page


def listed_posts(
    client: Client, post_file: PostFile, ids: PostIds, max_bytes: int
) -> Iterator[Json]:
    """The posts of these ids: those in posts.jsonl, then those that the site shows."""
    yield from saved_posts(client, post_file, lambda post: post["id"] in ids, max_bytes)
    missing = sorted(ids - post_file.ids, reverse=True)
    with progress(desc="posts", unit="post", total=len(missing)) as bar:
        for batch in batches(missing):
            page = client.posts_by_id(batch)
            bar.update(len(page))
            yield from post_file.add(page)


def saved_posts(
    client: Client, post_file: PostFile, wanted: Callable[[Json], bool], max_bytes: int
) -> Iterator[Json]:
    """The posts in posts.jsonl for which `wanted` is true.

    A post whose file has yet to be fetched comes as the site shows it now. That is not asked of
    the site where the file has more than `max_bytes`, as it will not be fetched.
    """

    def lacks_file(post: Json) -> bool:
        remote = remote_file(post, max_bytes)
        return isinstance(remote, RemoteFile) and not is_fetched(remote, post_file.data)

    waiting = []
    for post in filter(wanted, post_file.read()):
        if lacks_file(post):
            waiting.append(post)
        else:
            yield post
        if len(waiting) == PAGE_LIMIT:
            yield from renewed(client, post_file, waiting)
            waiting = []
    if waiting:
        yield from renewed(client, post_file, waiting)


def changed_posts(client: Client, post_file: PostFile, failed: dict[int, str]) -> Iterator[Json]:
    """The posts whose file failed and has since changed on the site, as they are now.

    `failed` has the reason for each id; the posts that are given here are removed from it.
    """
    lines = jsonl.lines(post_file.data.posts, jsonl.Problems())
    posts = [post for _, post in lines if post["id"] in failed]
    for batch in batches(posts):
        for old, new in zip(batch, renewed(client, post_file, batch), strict=True):
            if any(new.get(key) != old.get(key) for key in ("md5", "file_url")):
                del failed[new["id"]]
                yield new


def renewed(client: Client, post_file: PostFile, posts: list[Json]) -> list[Json]:
    """Up to 200 posts as the site shows them now; those that it no longer shows, unchanged.

    Days may pass between the page of a post and its file: meanwhile the site hides posts, replaces
    their files and moves them. Where a post has another file, posts.jsonl gets the new record.
    """
    now = {post["id"]: post for post in client.posts_by_id([post["id"] for post in posts])}
    changed = {
        post["id"]: now[post["id"]]
        for post in posts
        if post["id"] in now and now[post["id"]].get("md5") != post.get("md5")
    }
    if changed:
        post_file.replace(changed)
    return [now.get(post["id"], post) for post in posts]


def batches(items: list[T]) -> Iterator[list[T]]:
    """The items in lists of up to 200, as many as the site takes in one call."""
    for first in range(0, len(items), PAGE_LIMIT):
        yield items[first : first + PAGE_LIMIT]
