"""Peak memory of merging and scoring predictions that are larger than it.

    python -m bench.memory                                      # 32,768 posts x 100,000 outputs
    python -m bench.memory --posts 50000 200000 --outputs 4000
    python -m bench.memory --posts 1000000 10000000 --outputs 24 --tags 24    # hours

Builds data folders with synthetic predictions in parts, in the system's folder for temporary files
(TMPDIR), and runs validate.py twice: the first run merges the parts and scores, the second scores.
Memory does not depend on how busy the machine is.
"""

import argparse
import tempfile
from pathlib import Path

from bench.rerun import make_folder, validate

PARTS = 3


def main() -> None:
    """Build, measure, print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--posts", type=int, nargs="+", default=[32768])
    options.add_argument("--outputs", type=int, default=100_000)
    options.add_argument("--tags", type=int, default=4000)
    options.add_argument("--models", type=int, default=1)
    options.add_argument("--resamples", type=int, default=200)
    args = options.parse_args()
    print("| Posts | Outputs | Common tags | Predictions | Merging and scoring | Scoring |")
    print("|-------|---------|-------------|-------------|---------------------|---------|")
    peaks = []
    for posts in args.posts:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            models = make_folder(folder, posts, args.tags, [args.outputs] * args.models, PARTS)
            first = validate(folder, models, 0).peak / 1e9
            peaks.append(validate(folder, models, args.resamples).peak / 1e9)
            size = sum(path.stat().st_size for path in folder.glob("*_predictions.pt")) / 1e9
            print(
                f"| {posts:,} | {args.outputs:,} | {args.tags:,} | {size:.1f} GB | {first:.2f} GB"
                f" | {peaks[-1]:.2f} GB |",
                flush=True,
            )
    if len(peaks) > 1:
        slope = (peaks[-1] - peaks[0]) / (args.posts[-1] - args.posts[0])
        print(f"From the first to the last, with resamples: {slope * 1e9:.0f} bytes a post")


if __name__ == "__main__":
    main()
