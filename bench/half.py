"""What keeping scores in half precision (`validate.py --store half`) does to figures and disk.

    python -m bench.half                                # 32,768 posts x 4,000 tags
    python -m bench.half --posts 4096 --tags 500

Writes the scores of a made-up, calibrated tagger to two predictions files, float32 and float16, in
the system's folder for temporary files (TMPDIR), and scores what is read from each. A tag's score
is exactly its probability: logits are two bell curves, for posts with the tag and without, as far
apart as a tagger's are, on tags from 10 posts up to half of them. As validate.py does, it leaves
out tags that came to fewer than 10.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

from arena.metrics import per_tag
from arena.validate import scores, tensor_file
from arena.validate.predictions import stored
from arena.validate.tensor_file import Streamed

import numpy as np

ROWS = 1024  # Made at a time.
SHIFTS = (1.5, 4.0)  # Between the bell curves, in their standard deviations.
THRESHOLD, MIN_COUNT = 0.35, 10


def made(posts: int, tags: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(scores, truth) of the posts, so many at a time: float32 and bool (n, tags)."""
    random = np.random.default_rng(0)
    share = np.clip(10 / posts * np.exp(random.exponential(1.3, tags)), None, 0.5)
    shift = random.uniform(*SHIFTS, tags)
    prior = np.log(share / (1 - share))
    for start in range(0, posts, ROWS):
        drawn = np.random.default_rng([1, start])
        shape = min(ROWS, posts - start), tags
        truth = drawn.random(shape) < share
        evidence = shift * drawn.standard_normal(shape) + shift**2 * (truth - 0.5)
        yield (1 / (1 + np.exp(-(prior + evidence)))).astype(np.float32), truth


def main() -> None:
    """Write, score, print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--posts", type=int, default=32768)
    options.add_argument("--tags", type=int, default=4000)
    args = options.parse_args()
    shape, ids = (args.posts, args.tags), np.arange(1, args.posts + 1)
    truth = np.concatenate([block for _, block in made(*shape)])
    figures, sizes = [], []
    with tempfile.TemporaryDirectory() as name:
        for half in (False, True):
            path = Path(name) / f"{half}_predictions.pt"
            blocks = (block for block, _ in made(*shape))
            about = {"post_ids": ids, "tags": [f"tag_{number}" for number in range(args.tags)]}
            held = Streamed(shape, stored(half), blocks)
            tensor_file.save(path, {"predictions": held, **about})
            sizes.append(path.stat().st_size)
            read = np.concatenate([block for _, block in scores.read(path, ids, ROWS)])
            figures.append(per_tag(read, truth, THRESHOLD))
    exact, rounded = figures
    enough = truth.sum(0) >= MIN_COUNT
    print(f"{args.posts} posts, {enough.sum()} tags on {MIN_COUNT} to {truth.sum(0).max()} of them")
    print(f"predictions: {sizes[0] / 1e6:.1f} MB in float32, {sizes[1] / 1e6:.1f} MB in half")
    print("| Figure | Mean over tags | changed by | largest change of a tag | mean change |")
    print("|--------|----------------|------------|-------------------------|-------------|")
    for key, label in {"ap": "AP", "f1": f"F1 at {THRESHOLD}"}.items():
        before, change = exact[key][enough], (rounded[key] - exact[key])[enough]
        print(
            f"| {label} | {before.mean():.4f} | {change.mean():+.1e} | {np.abs(change).max():.1e}"
            f" | {np.abs(change).mean():.1e} |"
        )


if __name__ == "__main__":
    main()
