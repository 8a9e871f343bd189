"""Download posts and their images from Danbooru, newest first, from a post ID down.

    python download.py                                       65536 posts below ID 6800000
    python download.py --start-id newest --posts 10000       others
    python download.py --unseen-by joytag,wd-vit-tagger-v3   that these two have not seen
    python download.py --post-ids validation_post_ids.txt    exactly these
    python download.py --shard 0/4                           one machine's part, of four
    python download.py --tags-only                           fresh aliases and implications
    python download.py --from-folder DIR                     your own images and captions, no site

Writes posts.jsonl, originals/<id> and metadata/. Stop it whenever you like; the same command goes
on where it stopped. Posts whose file could not be had are listed in failed_posts.jsonl and tried
again by the next run. Log in, if you wish, with DANBOORU_LOGIN and DANBOORU_API_KEY.
"""

import argparse
import functools
import os
import threading
import time

from arena import files, posts
from arena.cli import Options, names, run, say, seconds
from arena.download.danbooru import Client
from arena.download.fetch import NOT_SHOWN, Outcome, fetch_files
from arena.download.metadata import fetch_metadata
from arena.download.own_images import take_folder
from arena.download.post_file import Filter, PostFile, ratings
from arena.download.site import Site, login_from_environment, site_url, user_agent
from arena.download.walk import (
    NEWEST,
    Walk,
    changed_posts,
    listed_posts,
    newest_start,
    start_id,
    walked_posts,
)
from arena.post_ids import PostIds
from arena.seen import Training
from arena.shard import ALL, HELP, shard


def main() -> None:
    """Fetch what is missing: tag aliases and implications, posts, files."""
    args = arguments()
    if args.from_folder:
        take_folder(args.from_folder, args.data, args.max_file_size * 1_000_000)
        return
    site = Site(
        args.url,
        login_from_environment(args.url),
        args.user_agent,
        api_interval=args.api_interval,
        tries=args.tries,
        backoff=args.backoff,
        timeout=args.timeout,
    )
    client = Client(site, threading.Event())
    # Read before anything is asked of the site, as a file may be missing.
    listed = PostIds(filter(args.shard.has, posts.ids(args.post_ids))) if args.post_ids else None
    seen = training(args.unseen_by)
    keep = Filter(args.rating, args.min_age_days, time.time(), seen, args.shard)
    with files.lock(args.data, "download"):
        fetch_metadata(client, args.data, again=args.tags_only)
        if not args.tags_only:
            fetch_posts(client, listed, keep, args)


def training(chosen: list[str] | None) -> list[Training]:
    """What the models of these names may have been trained on."""
    if not chosen:
        return []
    import models  # Here, as it imports torch, which takes seconds.

    return models.training(chosen)


def fetch_posts(
    client: Client, listed: PostIds | None, keep: Filter, args: argparse.Namespace
) -> None:
    """Fetch the listed posts, or else those of the walk, with their files; then say the counts."""
    post_file, outcome = PostFile(args.data), Outcome()
    max_bytes = args.max_file_size * 1_000_000
    fetch = functools.partial(
        fetch_files, client, args.data, outcome=outcome, workers=args.workers, max_bytes=max_bytes
    )
    files.temporary(args.data.failed_posts).unlink(missing_ok=True)
    try:
        if listed is not None:
            fetch(listed_posts(client, post_file, listed, max_bytes))
            outcome.failed |= dict.fromkeys(listed - post_file.ids, NOT_SHOWN)
        else:
            start = newest_start(client, keep) if args.start_id == NEWEST else args.start_id
            walk = Walk(client, post_file, keep, start, args.posts)
            fetch(walked_posts(walk, max_bytes))
            walk.say_end()
        if outcome.failed:
            fetch(changed_posts(client, post_file, outcome.failed))
    finally:
        if outcome.failed:
            outcome.save_failed(args.data.failed_posts)
    if not outcome.failed:
        args.data.failed_posts.unlink(missing_ok=True)
    args.data.posts.touch()  # Of a shard that has no post, too.
    say(post_file.summary())
    outcome.say_counts()
    outcome.check_any()


def arguments() -> argparse.Namespace:
    """The command line."""
    options = Options(__doc__)
    start = "walk down from below this ID, or newest (default: 6800000; newest with --unseen-by)"
    options.value("--start-id", "ID", start, type=start_id)
    options.number("--posts", 1, 65536, "how many posts to have, of the shard if there is one")
    options.path("--post-ids", "FILE", "fetch exactly these posts, one ID a line, without a walk")
    options.value("--shard", "I/N", HELP, ALL, type=shard, shown=None)
    unseen = "only posts that none of these models may have been trained on (default: any)"
    options.value("--unseen-by", "A,B", unseen, type=names)
    options.value("--rating", "LETTERS", "only posts of these ratings", "g,s,q,e", type=ratings)
    young = "leave out younger posts, which are not fully tagged yet; 0 keeps all"
    options.number("--min-age-days", 0, 60, young, high=100_000)
    larger = "skip files larger than this"
    options.number("--max-file-size", 1, 100, larger, high=100_000, metavar="MB")
    own = "take images with captions (name.txt or name.json beside them) instead of a site's posts"
    options.path("--from-folder", "DIR", own)
    options.flag("--tags-only", "only fetch tag aliases and implications afresh")
    url = os.environ.get("DANBOORU_URL") or posts.DANBOORU
    shown = f"DANBOORU_URL, else {posts.DANBOORU}"
    options.value("--url", "URL", "the site", url, type=site_url, shown=shown)
    options.value(
        "--user-agent",
        "TEXT",
        "what to call this program to the site",
        os.environ.get("DANBOORU_USER_AGENT", ""),
        type=user_agent,
        shown="DANBOORU_USER_AGENT, else the arena's name and yours",
    )
    options.number("--workers", 1, 4, "files fetched at once", high=64)
    options.value("--api-interval", "SECONDS", "between starts of API calls", 1.0, type=seconds())
    options.number("--tries", 1, 8, "how often a failing request is made", high=100)
    options.value(
        "--backoff", "SECONDS", "before the second try, then doubled", 1.0, type=seconds()
    )
    options.value("--timeout", "SECONDS", "longest silence of the site", 30.0, type=seconds(0.1))
    args = options.parse_args()
    chosen = args.post_ids or args.unseen_by or args.start_id or args.shard != ALL
    if args.from_folder and (chosen or args.tags_only):
        options.error("--from-folder asks no site: leave out what says which posts to fetch")
    if args.unseen_by and args.post_ids:
        options.error("--post-ids names the posts to fetch: give either it or --unseen-by")
    args.start_id = args.start_id or (NEWEST if args.unseen_by else 6800000)
    return args


if __name__ == "__main__":
    run(main)
