"""What a rerun of validate.py costs when every score is cached, and the memory it takes.

    python -m bench.rerun            # 32,768 posts, models of 9,083 and 5,813 tags, 4,000 in common
    python -m bench.rerun --models 4

Builds a data folder whose predictions are complete (random scores), then runs validate.py as a
user would, with the bootstrap and without, several times in turn. The floor is reading the
predictions files once.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import models as taggers
from arena.data_folder import DataFolder
from arena.validate.ground_truth import mappings
from arena.validate.predictions import Cache, Merged, image_state
from arena.validate.tensor_file import Streamed
from bench import measure
from bench.images import NAMES, same_file
from demo.tiny import make_model, write_mappings

import numpy as np
import torch

WIDTHS = (9083, 5813)
FIRST_ID = 6_734_042
ROWS = 1024  # Made at a time.
ALL = 1_000_000_000  # More posts than there are.
MOST_DRAWN = 1 << 14  # Outputs.


def make_folder(
    folder: Path, posts: int, common: int, widths: Sequence[int], parts: int = 0
) -> list[Path]:
    """A data folder with complete predictions of models of so many tags, `common` in common, in
    `parts` parts that are not yet merged, or in one file for none. Returns the models' TOML files.
    """
    rng, data = np.random.default_rng(0), DataFolder(folder)
    (folder / "resized").mkdir()
    (folder / "metadata").mkdir()
    write_mappings(folder, [], [])
    shared = [f"tag_{number}" for number in range(common)]
    # Frequencies fall as 1 / rank, as tags' do; 30 tags a post on average, each on 10 posts.
    share = np.minimum(0.6, 30 / np.log(common) / np.arange(1, common + 1)).clip(12 / posts)
    ids = FIRST_ID + np.arange(posts)
    carriers = rng.integers(0, posts, (12, common))

    def truth(start: int) -> np.ndarray:
        """The tags of the posts from a row on: bool (n, common)."""
        count = min(ROWS, posts - start)
        drawn = np.random.default_rng([0, start]).random((count, common), np.float32)
        found: np.ndarray = drawn < share
        some, tags = np.nonzero((carriers >= start) & (carriers < start + count))
        found[carriers[some, tags] - start, tags] = True
        return found

    states = np.zeros((posts, 3), np.int64)
    for start in range(0, posts, NAMES):
        some = slice(start, start + NAMES)
        paths = [f"{folder}/resized/{post_id}.webp" for post_id in ids[some].tolist()]
        same_file(paths, b"x")
        states[some, :2] = image_state(Path(paths[0]))
    with (folder / "posts.jsonl").open("w") as file:
        for start in range(0, posts, ROWS):
            for row, carried in enumerate(truth(start), start):
                text = " ".join(shared[tag] for tag in np.flatnonzero(carried))
                post = {"id": int(ids[row]), "rating": "gsqe"[row % 4], "tag_string": text}
                parent = int(ids[row]) - 1 if row % 6 == 2 else None
                more = {"parent_id": parent, "created_at": f"20{10 + row % 15}-01-01T00:00:00Z"}
                file.write(json.dumps({**post, **more, "tag_string_general": text}) + "\n")
    made = []
    for number, width in enumerate(widths):
        tags = shared + [f"only_{number}_{rest}" for rest in range(width - common)]
        path = make_model(folder, f"model_{number}", tags, card={"label": f"Model {number}"})
        tagger = taggers.tagger(str(path), data, mappings(data))

        def scores(start: int, stop: int, seed: int = number, width: int = width) -> Any:
            """Blocks of the scores of some posts. Outputs beyond a few thousand are repeated."""
            for first in range(start, stop, ROWS):
                here = truth(first)
                random = np.random.default_rng([1 + seed, first])
                drawn = random.random((len(here), min(width, MOST_DRAWN)), np.float32) ** 6
                block = np.resize(drawn, (len(here), width))
                block[:, :common] = block[:, :common] * 0.7 + 0.3 * here
                yield block[: stop - first]

        cache = Cache.of(tagger, data, "float32")
        bounds = np.linspace(0, posts, max(1, parts) + 1).astype(int) // ROWS * ROWS
        bounds[-1] = posts
        for part, (start, stop) in enumerate(pairwise(bounds.tolist())):
            to = cache.path
            if parts:
                to = data.prediction_parts(tagger.name, cache.fingerprint) / f"{part}.pt"
                to.parent.mkdir(parents=True, exist_ok=True)
            some = slice(start, stop)
            streamed = Streamed((stop - start, width), np.dtype(np.float32), scores(start, stop))
            cache.save(to, Merged(ids[some], states[some], streamed, []))
        made.append(path)
    return made


def validate(folder: Path, models: list[Path], resamples: int) -> measure.Taken:
    """One run of validate.py, which must find every score cached."""
    names = ",".join(map(str, models))
    options = ("--data", folder, "--models", names, "--bootstrap", resamples, "--posts", ALL)
    taken = measure.script("validate.py", *options)
    assert " 0 posts to run" in taken.result, taken.result
    return taken


def read(folder: Path) -> None:
    """Read the predictions files once."""
    for path in folder.glob("*_predictions.pt"):
        torch.load(path, weights_only=True)["predictions"].sum()


def main() -> None:
    """Build, measure in turn, print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--posts", type=int, default=32768)
    options.add_argument("--tags", type=int, default=4000)
    options.add_argument("--models", type=int, default=2)
    options.add_argument("--rounds", type=int, default=3)
    args = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = make_folder(
            folder, args.posts, args.tags, [WIDTHS[n % 2] for n in range(args.models)]
        )
        print(f"{args.posts} posts, {args.tags} common tags, {args.models} models, all cached")
        plain, resampled, floors = [], [], []
        for _ in range(args.rounds):
            floors.append(measure.seconds(lambda: read(folder)))
            plain.append(validate(folder, models, 0))
            resampled.append(validate(folder, models, 200))
        for label, runs in (("without intervals", plain), ("with 200 resamples", resampled)):
            ratio = statistics.median(
                run.seconds / floor for run, floor in zip(runs, floors, strict=True)
            )
            seconds = statistics.median(run.seconds for run in runs)
            peak = max(run.peak for run in runs) / 1e9
            print(
                f"{label}: {ratio:.0f} times the reading of the predictions files"
                f" ({seconds:.0f} s here), peak memory {peak:.2f} GB"
            )
        sizes = [(folder / f).stat().st_size for f in ("report.html", "metrics.json")]
        print(f"report.html {sizes[0] / 1e6:.1f} MB, metrics.json {sizes[1] / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
