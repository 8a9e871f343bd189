"""Download posts and their images from Danbooru, newest first, from a post ID down.

    python download.py                                     65536 posts below ID 6800000
    python download.py --start-id 9000000 --posts 10000    others
    python download.py --post-ids validation_post_ids.txt  exactly these
    python download.py --tags-only                         fresh aliases and implications

Writes posts.jsonl, originals/<id> and metadata/. Stop it whenever you like; the same command goes
on where it stopped. Posts whose file could not be had are listed in failed_posts.jsonl and tried
again by the next run. Log in, if you wish, with DANBOORU_LOGIN and DANBOORU_API_KEY.
"""

import argparse
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from arena import files, jsonl, posts
from arena.cli import Options, at_least, progress, run, say
from arena.download import danbooru
from arena.download.fetch import COUNTED, Fetcher, Original, Outcome, is_there, original
from arena.download.walk import Filter, PostFile, Walk, renewed

Json = dict[str, Any]
T = TypeVar("T")

NOT_SHOWN = "not shown by the site"


def main() -> None:
    """Fetch what is missing: aliases and implications, posts, files; then tell."""
    options = parse()
    site = danbooru.Site(
        options.url,
        danbooru.login_from_environment(options.url),
        api_interval=options.api_interval,
        tries=options.tries,
        backoff=options.backoff,
        timeout=options.timeout,
    )
    client = danbooru.Client(site, threading.Event())
    # Read before anything is asked of the site, as the file may not be there.
    wanted = set(posts.ids(options.post_ids)) if options.post_ids else None
    with files.lock(options.data, "download"):
        fetch_metadata(client, options.data.root / "metadata", again=options.tags_only)
        if not options.tags_only:
            fetch_posts(client, wanted, options)


def fetch_posts(
    client: danbooru.Client, wanted: set[int] | None, options: argparse.Namespace
) -> None:
    """Fetch the posts that are wanted, or else those of the walk, and tell what became of them."""
    post_file, outcome = PostFile(options.data.root), Outcome()
    failed = options.data.root / "failed_posts.jsonl"
    files.temporary(failed).unlink(missing_ok=True)
    try:
        if wanted is not None:
            fetch_files(client, listed_posts(client, post_file, wanted, options), outcome, options)
            outcome.failed |= dict.fromkeys(wanted - post_file.ids, NOT_SHOWN)
        else:
            keep = Filter(options.rating, options.min_age_days, time.time())
            walk = Walk(client, post_file, keep, options.start_id, options.posts)
            fetch_files(client, walked_posts(walk, options), outcome, options)
            tell_walk(walk)
        if outcome.failed:
            fetch_files(client, changed_posts(client, post_file, outcome), outcome, options)
    finally:
        if outcome.failed:
            list_failed(failed, outcome)
    if not outcome.failed:
        failed.unlink(missing_ok=True)
    tell(outcome, post_file)


def fetch_metadata(client: danbooru.Client, folder: Path, *, again: bool) -> None:
    """Fetch tag aliases and implications: those that are missing, or both `again`."""
    folder.mkdir(exist_ok=True)
    files.sweep(folder)
    for name in ("tag_aliases", "tag_implications"):
        path = folder / f"{name}000000000000.json"
        if path.exists() and not again:
            continue
        count = 0
        with files.atomic(path) as file, progress(desc=name, unit="row") as bar:
            for rows in client.all_rows(name):
                file.writelines(map(jsonl.line, rows))
                bar.update(len(rows))
                count += len(rows)
        say(f"{path}: {count} rows")


def fetch_files(
    client: danbooru.Client, found: Iterable[Json], outcome: Outcome, options: argparse.Namespace
) -> None:
    """Fetch the files of posts while they are being found."""
    folder = options.data.root / "originals"
    folder.mkdir(exist_ok=True)
    files.sweep(folder)
    with (
        progress(desc="files", unit="file", position=1, total=0) as bar,
        Fetcher(
            client.site,
            folder,
            workers=options.workers,
            most=options.max_file_size,
            stop=client.stop,
            outcome=outcome,
            bar=bar,
        ) as fetcher,
    ):
        fetcher.fetch(found)


def walked_posts(walk: Walk, options: argparse.Namespace) -> Iterator[Json]:
    """The posts held, then those that walking down the site adds."""
    yield from held_posts(walk.client, walk.post_file, walk.keep.has_rating, options)
    with progress(desc="posts", unit="post", total=walk.want) as bar:
        for page in walk.pages():
            bar.update(walk.held - bar.n)
            yield from page


def listed_posts(
    client: danbooru.Client, post_file: PostFile, wanted: set[int], options: argparse.Namespace
) -> Iterator[Json]:
    """The posts of a list: those held, then those that the site is asked for."""
    yield from held_posts(client, post_file, lambda post: post["id"] in wanted, options)
    missing = sorted(wanted - post_file.ids, reverse=True)
    with progress(desc="posts", unit="post", total=len(missing)) as bar:
        for batch in batches(missing):
            page = client.posts_by_id(batch)
            bar.update(len(page))
            yield from post_file.add(page)


def held_posts(
    client: danbooru.Client,
    post_file: PostFile,
    wanted: Callable[[Json], bool],
    options: argparse.Namespace,
) -> Iterator[Json]:
    """The wanted posts in posts.jsonl; those without their file as the site has them now."""

    def lacks_file(post: Json) -> bool:
        found = original(post, options.max_file_size)
        return isinstance(found, Original) and not is_there(options.data.root / "originals", found)

    held = filter(wanted, post_file.read())
    waiting = []
    for post in held:
        if lacks_file(post):
            waiting.append(post)
        else:
            yield post
        if len(waiting) == danbooru.PAGE_LIMIT:
            yield from renewed(client, post_file, waiting)
            waiting = []
    if waiting:
        yield from renewed(client, post_file, waiting)


def changed_posts(client: danbooru.Client, post_file: PostFile, outcome: Outcome) -> Iterator[Json]:
    """Posts whose file failed and that the site has changed since, as they are now."""
    lines = jsonl.lines(post_file.path, jsonl.Problems())
    failed = (post for _, post in lines if post["id"] in outcome.failed)
    for batch in batches(list(failed)):
        for old, new in zip(batch, renewed(client, post_file, batch), strict=True):
            if any(new.get(key) != old.get(key) for key in ("md5", "file_url")):
                del outcome.failed[new["id"]]
                yield new


def batches(items: list[T]) -> Iterator[list[T]]:
    """As many items at a time as the site takes in one call."""
    for first in range(0, len(items), danbooru.PAGE_LIMIT):
        yield items[first : first + danbooru.PAGE_LIMIT]


def list_failed(path: Path, outcome: Outcome) -> None:
    """Write failed_posts.jsonl: which posts have no file, and why."""
    with files.atomic(path) as file:
        for number in sorted(outcome.failed):
            file.write(jsonl.line({"id": number, "reason": outcome.failed[number]}))


def tell_walk(walk: Walk) -> None:
    """Say what the walk left out and whether it met the site's end."""
    for kind, count in walk.left_out.items():
        say(f"left out as {kind}: {count}")
    if walk.ended:
        say(f"the site has no more posts below ID {walk.start}: {walk.held} of {walk.want} found")


def tell(outcome: Outcome, post_file: PostFile) -> None:
    """The final counts, and the reasons of what failed."""
    ids = post_file.ids
    span = f", IDs {min(ids)} to {max(ids)}" if ids else ""
    say(f"{post_file.path}: {len(ids)} posts{span}")
    counts = [f"{kind} {outcome.counts[kind]}" for kind in COUNTED]
    say(", ".join([*counts, f"failed {len(outcome.failed)}"]))
    for reason, count in Counter(outcome.failed.values()).most_common():
        say(f"failed {count}: {reason}")
    missing = sorted(number for number, why in outcome.failed.items() if why == NOT_SHOWN)
    if missing:
        more = ", …" if len(missing) > 20 else ""
        say(f"{NOT_SHOWN}: {', '.join(map(str, missing[:20]))}{more}")
    if outcome.failed:
        say("failed posts are listed in failed_posts.jsonl; the same command tries them again")


def parse() -> argparse.Namespace:
    """The command line."""
    args = Options(__doc__)
    args.add_argument(
        "--start-id",
        type=at_least(1, jsonl.MAX_ID),
        default=6800000,
        metavar="ID",
        help="walk down from below this post (default: %(default)s)",
    )
    args.add_argument(
        "--posts",
        type=at_least(1),
        default=65536,
        metavar="N",
        help="how many posts to have (default: %(default)s)",
    )
    args.add_argument(
        "--post-ids",
        type=Path,
        metavar="FILE",
        help="fetch exactly the posts of this file, one ID a line, instead of walking",
    )
    args.add_argument(
        "--rating",
        type=ratings,
        default="g,s,q,e",
        metavar="LETTERS",
        help="only posts of these ratings (default: %(default)s)",
    )
    args.add_argument(
        "--min-age-days",
        type=at_least(0, 100_000),
        default=60,
        metavar="N",
        help="leave out younger posts, which are not fully tagged yet; 0 keeps all "
        "(default: %(default)s)",
    )
    args.add_argument(
        "--max-file-size",
        type=megabytes,
        default="100",
        metavar="MB",
        help="skip files larger than this (default: %(default)s)",
    )
    args.add_argument(
        "--tags-only",
        action="store_true",
        help="only fetch tag aliases and implications afresh",
    )
    args.add_argument(
        "--url",
        type=danbooru.site_url,
        default=os.environ.get("DANBOORU_URL") or "https://danbooru.donmai.us",
        help="the site (default: DANBOORU_URL, else https://danbooru.donmai.us)",
    )
    args.add_argument(
        "--workers",
        type=at_least(1, 64),
        default=4,
        metavar="N",
        help="files fetched at once (default: %(default)s)",
    )
    args.add_argument(
        "--api-interval",
        type=seconds,
        default=1.0,
        metavar="SECONDS",
        help="between the starts of two API calls (default: %(default)s)",
    )
    args.add_argument(
        "--tries",
        type=at_least(1, 100),
        default=8,
        metavar="N",
        help="how often a failing request is made (default: %(default)s)",
    )
    args.add_argument(
        "--backoff",
        type=seconds,
        default=1.0,
        metavar="SECONDS",
        help="before the second try; doubles with each further one (default: %(default)s)",
    )
    args.add_argument(
        "--timeout",
        type=patience,
        default=30.0,
        metavar="SECONDS",
        help="how long the site may be silent (default: %(default)s)",
    )
    return args.parse_args()


def patience(text: str) -> float:
    """An argparse type: a time of a tenth of a second to a day, in seconds."""
    if (value := seconds(text)) < 0.1:
        raise ValueError
    return value


def seconds(text: str) -> float:
    """An argparse type: a time of up to a day, in seconds."""
    value = float(text)
    if not 0 <= value <= 86400 or math.isnan(value):
        raise ValueError
    return value


def megabytes(text: str) -> int:
    """An argparse type: a size given in MB, in bytes."""
    return at_least(1, 100_000)(text) * 1_000_000


def ratings(text: str) -> str:
    """An argparse type: `g,s` as sorted letters, `gs`."""
    letters = {letter.strip() for letter in text.split(",")}
    if not letters <= posts.RATINGS.keys():
        raise argparse.ArgumentTypeError(f"'{text}' is not of {','.join(posts.RATINGS)}")
    return "".join(sorted(letters))


if __name__ == "__main__":
    run(main)
