"""Memory by the number of posts: where all is yet to do, and where all is done.

    python -m bench.load                                    # half an hour
    python -m bench.load --posts --finished 1000000 10000000    # the long curve alone: hours, 25 GB

First, each post has a small PNG of its own; trainable.py judges and shrinks every one, and
validate.py runs the demo's two models over 512 of them. Peak memory is that of the script and its
workers together, sampled.

Then (`--finished`) all files are there and all verdicts are ok: posts.jsonl has 35 tags a post
of a million, most of them rare, and an artist; each file is one of a few under many names (hard
links). download.py finds every post and file and asks for nothing, trainable.py every verdict. Of
validate.py it is all that it does but scores: which posts, the ground truth of the 32,768 lowest,
or of all, and what is made of that. Peak memory is that of the largest process.
"""

import argparse
import hashlib
import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from arena.data_folder import DataFolder
from bench import measure
from bench.images import NAMES, same_file
from demo.server import serve
from demo.tiny import write_mappings

import numpy as np
from PIL import Image

FIRST_ID = 6_000_000
SAMPLE = 512
CHOSEN = 32_768
PAGE = 200  # Posts that the site gives at a time.
TAGS = 35  # A post.
VOCABULARY = 1_000_000
ARTISTS = 50_000
DRAWN = 200_000  # Posts whose tags are drawn; the others have theirs again.
CONTENT, WEBP = b"original", b"resized"
MD5 = hashlib.md5(CONTENT).hexdigest()
# What validate.py makes of `limit` posts of a data folder before and beside the scores: what they
# carry, of the commonest tags post by post, and which belong together.
READ = """
import sys
from dataclasses import replace
from pathlib import Path
import validate
from arena import families
from arena.data_folder import DataFolder
from arena.validate import ground_truth, scores
from arena.validate.clusters import clusters
import numpy as np
data, limit = DataFolder(Path(sys.argv[1])), int(sys.argv[2])
mappings = ground_truth.mappings(data)
usable = ground_truth.usable_posts(data)
links = families.links(data.posts)
truth = replace(ground_truth.read(data, usable, limit, mappings), links=links)
kept = usable, truth.tags_per_post(), clusters(truth, "artist")
known = [truth.tags[tag] for tag in np.argsort(-truth.counts())[:10_000]]
carried = truth.carried(known)
tiles = scores.truth(data.root, carried, known, known[:64])
truth.digest()
print(len(truth.post_ids), "posts")
"""


def make_folder(data: DataFolder, posts: int) -> None:
    """posts.jsonl, originals/ and metadata/ of `posts` posts with the demo's common tags."""
    rng = np.random.default_rng(0)
    tags = ["no_humans", "heart", "star_(symbol)", "border", "greyscale", "polka_dot", "striped"]
    data.originals.mkdir(parents=True)
    data.metadata.mkdir()
    write_mappings(data.root, [], [])
    with data.posts.open("w") as file:
        for post_id in range(FIRST_ID, FIRST_ID + posts):
            text = " ".join(tag for tag in tags if rng.random() < 0.3)
            post = {"id": post_id, "rating": "g", "tag_string": text, "tag_string_general": text}
            # As long as the real ones, 2 to 3 kB.
            file.write(json.dumps({**post, "source": "x" * 2000}) + "\n")
            colours = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
            png = io.BytesIO()
            colours.save(png, "PNG", compress_level=1)
            data.original(post_id).write_bytes(png.getvalue())


def tails(count: int) -> list[str]:
    """What the lines of so many posts end in: all but the ids."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        # As on the site, a tag's frequency falls as 1 / rank.
        drawn = (VOCABULARY ** rng.random(TAGS)).astype(int)
        text = " ".join(f"tag_number_{tag}" for tag in drawn)
        post = {
            "created_at": f"20{10 + number % 15}-10-{10 + number % 20}T00:00:00.000-04:00",
            "rating": "gsqe"[number % 4],
            "md5": MD5,
            "file_ext": "png",
            "file_size": len(CONTENT),
            "file_url": f"https://site.example/original/{MD5}.png",
            "tag_string": f"{text} artist_{number % ARTISTS}",
            "tag_string_general": text,
            "tag_string_artist": f"artist_{number % ARTISTS}",
        }
        found.append(json.dumps(post)[1:] + "\n")
    return found


def make_finished(data: DataFolder, posts: int) -> None:
    """A data folder in which all of `posts` posts have been fetched and found ok."""
    for folder in (data.originals, data.resized, data.metadata):
        folder.mkdir(parents=True)
    write_mappings(data.root, [], [])
    ends = tails(min(posts, DRAWN))
    with data.posts.open("w") as lines:
        for post_id in range(posts, 0, -1):  # As the walk goes.
            parent = post_id - 1 if post_id % 6 == 2 else "null"
            lines.write(f'{{"id": {post_id}, "parent_id": {parent}, {ends[post_id % len(ends)]}')
    with data.walked.open("w") as walked:
        for below in range(posts + 1, 1, -PAGE):
            lowest = max(1, below - PAGE)
            page = {"below": below, "lowest": lowest, "kept": below - lowest, "until": None}
            walked.write(json.dumps({**page, "ratings": "egqs", "min_age_days": 60}) + "\n")
    for folder, end, content in ((data.originals, "", CONTENT), (data.resized, ".webp", WEBP)):
        for first in range(1, posts + 1, NAMES):
            numbers = range(first, min(posts + 1, first + NAMES))
            same_file([f"{folder}/{post_id}{end}" for post_id in numbers], content)
    with data.verdicts.open("w") as verdicts:
        for post_id in range(1, posts + 1):
            if post_id % NAMES == 1:
                about = {
                    "size": len(CONTENT),
                    "mtime_ns": data.original(post_id).stat().st_mtime_ns,
                    "md5": MD5,
                    "max_size": 1024,
                    "quality": 80,
                    "bytes": len(WEBP),
                }
                end = json.dumps({"verdict": "ok", "reason": "", **about})[1:]
            verdicts.write(f'{{"id": {post_id}, {end}\n')


def unfinished_rows(folder: Path, sizes: Sequence[int]) -> None:
    """Measure where all is yet to do, and print the curve."""
    print("| Posts | trainable.py, MB | posts a second, to the first row's | validate.py, MB |")
    print("|-------|------------------|------------------------------------|-----------------|")
    first_rate = 0.0
    with serve(hub=measure.ROOT / "demo" / "hub") as server:
        env = {"HF_ENDPOINT": server.url, "HF_HOME": f"{folder}/hub-cache"}
        for posts in sizes:
            data = DataFolder(folder / str(posts))
            make_folder(data, posts)
            trainable = measure.script("trainable.py", "--data", data, env=env, workers=True)
            measure.script("export_sw.py", "--data", data, env=env)
            sample = ("--posts", SAMPLE, "--bootstrap", 0)
            command = ("validate.py", "--data", data, *sample)
            validate = measure.script(*command, env=env, workers=True)
            rate = posts / trainable.seconds
            first_rate = first_rate or rate
            print(
                f"| {posts} | {trainable.peak / 1e6:.0f} | {rate / first_rate:.2f}"
                f" | {validate.peak / 1e6:.0f} |",
                flush=True,
            )


def finished_rows(folder: Path, sizes: Sequence[int]) -> None:
    """Measure where all is done, print the curve, and the bytes a post from first to last."""
    steps = ("download.py", "trainable.py", f"validate.py, {CHOSEN:,} posts", "all posts")
    print("| Posts |" + "".join(f" {step}, GB (s) |" for step in steps))
    print("|-------|" + "".join(f"{'-' * (len(step) + 10)}|" for step in steps))
    peaks: list[list[float]] = []
    for posts in sizes:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            data = DataFolder(Path(name))
            make_finished(data, posts)
            walk = ("--start-id", posts + 1, "--posts", posts, "--url", "http://127.0.0.1:9")
            commands = {
                ("download.py", "--data", data, *walk): f"already there {posts},",
                ("trainable.py", "--data", data): f"{posts} already judged",
                ("-c", READ, data, CHOSEN): f"{min(posts, CHOSEN)} posts",
                ("-c", READ, data, posts): f"{posts} posts",
            }
            print(f"| {posts:,} |", end="", flush=True)
            peaks.append([])
            for command, told in commands.items():
                taken = measure.script(*command)
                assert told in taken.result, taken.result
                peaks[-1].append(taken.peak)
                print(f" {taken.peak / 1e9:.2f} ({taken.seconds:.0f}) |", end="", flush=True)
            print()
    if len(sizes) > 1:
        more = sizes[-1] - sizes[0]
        slopes = [(last - first) / more for first, last in zip(peaks[0], peaks[-1], strict=True)]
        print("| bytes a post |" + "".join(f" {slope:.0f} |" for slope in slopes))


def main() -> None:
    """Measure at each size and print the curves."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--posts", type=int, nargs="*", default=[10_000, 50_000, 200_000])
    options.add_argument("--finished", type=int, nargs="*", default=[200_000, 1_000_000])
    args = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if args.posts:
            unfinished_rows(Path(name), args.posts)
        if args.finished:
            finished_rows(Path(name), args.finished)


if __name__ == "__main__":
    main()
