"""Keep the images a tagger can be tried on, and shrink them.

    python trainable.py
    python trainable.py --shard 0/4    one machine's part, of four

Judges the original of every post in posts.jsonl. A still image that decodes whole, has no
transparent pixel and is no GIF is written to resized/<id>.webp: RGB, upright, its longest side at
most --max-size. Every post's verdict goes to trainable.jsonl with the reason. Run it again at any
time: only files that are new, changed or lost are decoded.

A resized image is removed only when its original is there, can be read, and is not ok. Where the
original is gone, the image stays as it is and its post stays ok; --max-size and --quality change
nothing then. An image that came here without its original is checked to be whole. So originals/
may be emptied to free the disk.
"""

import argparse
import os
from collections.abc import Sequence

from arena import files, jsonl
from arena.cli import Options, UserError, progress, run, say, warn
from arena.data_folder import DataFolder
from arena.post_ids import PostIds
from arena.shard import ALL, HELP, shard
from arena.trainable.examine import Settings, check_resized, judge_originals, resized_size
from arena.trainable.judge import VERDICTS
from arena.trainable.verdicts import Verdicts, writing


def main() -> None:
    """Judge what has not been judged, then say how many posts have which verdict."""
    args = arguments()
    data: DataFolder = args.data
    with files.lock(data, "trainable"):
        post_ids = read_posts(data)
        prepare_folders(data)
        verdicts = Verdicts(data, Settings(args.max_size, args.quality), args.shard)
        to_judge = verdicts.resume(post_ids)
        judge_posts(verdicts, to_judge, args.workers)
        counts = verdicts.sort()
    posts = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS)
    say(f"{posts}; {counts.total() - len(to_judge)} already judged")
    if counts and counts["missing"] == counts.total():
        warn(f"no file of these posts is in {data.originals}: run download.py --data {data}")
    verdicts.notes.report()


def arguments() -> argparse.Namespace:
    """The command line."""
    options = Options(__doc__)
    options.number(
        "--max-size",
        low=1,
        high=16383,  # The longest side that a WebP file can have.
        default=1024,
        metavar="PIXELS",
        help="longest side of a resized image",
    )
    options.number(
        "--quality",
        low=0,
        high=100,
        default=80,
        metavar="QUALITY",
        help="WebP quality, 0 to 100",
    )
    options.value("--shard", "I/N", HELP, ALL, type=shard, shown=None)
    options.number(
        "--workers",
        low=1,
        high=1024,
        default=len(os.sched_getaffinity(0)),
        shown="one per CPU, here %(default)s",
        help="processes that decode",
    )
    return options.parse_args()


def read_posts(data: DataFolder) -> PostIds:
    """The IDs in posts.jsonl. Raises UserError where there is none."""
    problems = jsonl.Problems()
    post_ids = PostIds(record["id"] for _, record in jsonl.lines(data.posts, problems))
    problems.tell(data.posts)
    if not post_ids:
        raise UserError(
            f"{data.posts} has no post in it: run download.py first, check --data, or leave this"
            " shard out, if it has none"
        )
    return post_ids


def prepare_folders(data: DataFolder) -> None:
    """Make resized/, or remove the unfinished files that a killed run left in it.

    Raises UserError where there are neither originals nor resized images.
    """
    images = (name for name in files.names(data.resized) if name.endswith(".webp"))
    if not data.originals.is_dir() and not any(images):
        raise UserError(f"{data.originals} is missing: run download.py first, or check --data")
    with writing(data):
        data.resized.mkdir(exist_ok=True)
        files.sweep(data.resized)


def judge_posts(verdicts: Verdicts, post_ids: Sequence[int], workers: int) -> None:
    """Judge each post's original; where that is not possible, its resized image decides."""
    data = verdicts.data
    troubles: dict[int, str] = {}  # Why an original could not be judged.
    with verdicts.open(), progress(desc="images", unit="image", total=len(post_ids)) as bar:
        for original, judgement in judge_originals(
            data, post_ids, verdicts.settings, workers, troubles
        ):
            verdicts.add_judged(original, judgement)
            bar.update()
        with_image = []
        for post_id, trouble in troubles.items():
            if resized_size(data, post_id) is None:
                verdicts.add_without_image(post_id, trouble)
                bar.update()
            else:
                with_image.append(post_id)
        for post_id, image in check_resized(data, with_image, workers):
            verdicts.add_image_alone(post_id, troubles[post_id], image)
            bar.update()


if __name__ == "__main__":
    run(main)
