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
from pathlib import Path

import models as taggers
from arena.data_folder import DataFolder
from arena.validate.ground_truth import mappings
from arena.validate.predictions import Batch, Cache, image_state
from bench import measure
from demo.tiny import make_model, write_mappings

import numpy as np
import torch

WIDTHS = (9083, 5813)
FIRST_ID = 6_734_042


def make_folder(folder: Path, posts: int, common: int, models: int) -> list[Path]:
    """A data folder with complete predictions. Returns the models' TOML files."""
    rng, data = np.random.default_rng(0), DataFolder(folder)
    (folder / "resized").mkdir()
    (folder / "metadata").mkdir()
    write_mappings(folder, [], [])
    shared = [f"tag_{number}" for number in range(common)]
    # Frequencies fall as 1 / rank, as tags' do; 30 tags a post on average, each on 10 posts.
    share = np.minimum(0.6, 30 / np.log(common) / np.arange(1, common + 1)).clip(12 / posts)
    ids = FIRST_ID + np.arange(posts)
    truth = rng.random((posts, common), np.float32) < share
    truth[rng.integers(0, posts, (12, common)), np.arange(common)] = True
    states = np.empty((posts, 3), np.int64)
    with (folder / "posts.jsonl").open("w") as file:
        for row, post_id in enumerate(ids.tolist()):
            image = folder / "resized" / f"{post_id}.webp"
            image.write_bytes(b"x")
            states[row] = (*image_state(image), 0)
            text = " ".join(shared[tag] for tag in np.flatnonzero(truth[row]))
            post = {"id": post_id, "rating": "g", "tag_string": text, "tag_string_general": text}
            file.write(json.dumps(post) + "\n")
    made = []
    for number in range(models):
        width = WIDTHS[number % 2]
        tags = shared + [f"only_{number}_{rest}" for rest in range(width - common)]
        path = make_model(folder, f"model_{number}", tags, card={"label": f"Model {number}"})
        tagger = taggers.tagger(str(path), data, mappings(data))
        scores = rng.random((posts, width), np.float32) ** 6
        scores[:, :common] = scores[:, :common] * 0.7 + 0.3 * truth
        cache = Cache.of(tagger, data, "float32")
        cache.save(cache.path, Batch(ids, states, scores, []))
        made.append(path)
    return made


def validate(folder: Path, models: list[Path], resamples: int) -> measure.Taken:
    """One run of validate.py, which must find every score cached."""
    names = ",".join(map(str, models))
    options = ("--data", folder, "--models", names, "--bootstrap", resamples)
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
        models = make_folder(folder, args.posts, args.tags, args.models)
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
