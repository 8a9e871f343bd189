"""Memory from a few to 200,000 posts: trainable.py over all of them, validate.py over a sample.

    python -m bench.load                     # 10,000, 50,000 and 200,000 posts, some minutes
    python -m bench.load --posts 1000 5000   # quicker

Each post has a small PNG of its own; trainable.py judges and shrinks every one. Then validate.py
runs the demo's two models over 512 of them, with all of posts.jsonl and resized/ to go through.
Peak memory is that of the script and its workers together, sampled.
"""

import argparse
import io
import json
import tempfile
from pathlib import Path

from arena.data_folder import DataFolder
from bench import measure
from demo.server import serve
from demo.tiny import write_mappings

import numpy as np
from PIL import Image

FIRST_ID = 6_000_000
SAMPLE = 512


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


def main() -> None:
    """Measure at each size and print the curve."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--posts", type=int, nargs="+", default=[10_000, 50_000, 200_000])
    args = options.parse_args()
    print("| Posts | trainable.py, MB | posts a second, to the first row's | validate.py, MB |")
    print("|-------|------------------|------------------------------------|-----------------|")
    first_rate = 0.0
    with tempfile.TemporaryDirectory() as name, serve(hub=measure.ROOT / "demo" / "hub") as server:
        env = {"HF_ENDPOINT": server.url, "HF_HOME": f"{name}/hub-cache"}
        for posts in args.posts:
            data = DataFolder(Path(name) / str(posts))
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


if __name__ == "__main__":
    main()
