"""What to expect at 32,768, 1 million and 10 million posts: computed from slopes measured here.

    python -m bench.scale

Two models of 9,083 and 5,813 tags, 4,000 in common; the networks' own time is left out (see
bench.gpu), and so is memory, which is no line (see bench.memory). Preparing is measured per image,
scoring at two sizes, through which a line is drawn; both in hours of one core, as what else runs on
the machine hardly changes these. Disk is that of the bench's images and of the form of the
predictions. How long a download takes is for the line and the site to say: assumed are originals of
2.5 MB, as Danbooru's are, and 100 Mbit/s.
"""

import argparse
import functools
import tempfile
from pathlib import Path

from arena.validate.preprocess import geometry, preprocess
from bench import measure
from bench.images import make_images
from bench.predict import NAMES, rate
from bench.rerun import WIDTHS, make_folder, validate
from models import card as cards

import torch

SCALES = (32_768, 1_000_000, 10_000_000)
ORIGINAL, LINE = 2.5e6, 12.5e6  # Bytes of a file, and in a second.


def line(low: tuple[int, float], high: tuple[int, float], at: int) -> float:
    """The value at `at` on the line through two points."""
    slope = (high[1] - low[1]) / (high[0] - low[0])
    return low[1] + slope * (at - low[0])


def main() -> None:
    """Measure the slopes and print the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--posts", type=int, nargs=2, default=[4096, 16384])
    options.add_argument("--tags", type=int, default=4000)
    options.add_argument("--workers", type=int, default=2)
    args = options.parse_args()
    wanted = [geometry(cards.card(name).image) for name in NAMES]
    with tempfile.TemporaryDirectory() as name:
        paths = make_images(Path(name), 48)
        webp = sum(path.stat().st_size for path in paths) / len(paths)
        work = functools.partial(preprocess, geometries=wanted, device=torch.device("cpu"))
        taken = measure.call(lambda: rate(work, paths, args.workers))
        prepared = taken.processor / len(paths)
    measured: dict[int, list[measure.Taken]] = {0: [], 200: []}
    for posts in args.posts:
        with tempfile.TemporaryDirectory() as name:
            models = make_folder(Path(name), posts, args.tags, WIDTHS)
            for resamples, runs in measured.items():
                runs.append(validate(Path(name), models, resamples))
    print(f"Computed from {args.posts[0]} and {args.posts[1]} posts:\n")
    columns = ["Posts", "Download", "originals/", "Preparing images", "resized/", "Predictions"]
    columns += ["Scoring", "with intervals"]
    print(f"| {' | '.join(columns)} |")
    print("|" + "|".join("-" * (len(column) + 2) for column in columns) + "|")
    low, high = args.posts
    for at in SCALES:
        plain, resampled = (
            line((low, runs[0].processor), (high, runs[1].processor), at)
            for runs in measured.values()
        )
        print(
            f"| {at:,} | {at * ORIGINAL / LINE / 3600:,.1f} h | {at * ORIGINAL / 1e9:,.0f} GB"
            f" | {at * prepared / 3600:.1f} core h | {at * webp / 1e9:.0f} GB"
            f" | {at * 4 * sum(WIDTHS) / 1e9:.1f} GB | {plain / 3600:.2f} core h"
            f" | {resampled / 3600:.2f} core h |"
        )


if __name__ == "__main__":
    main()
