"""validate.py's own share of inference: decoding and preparing images, the networks left out.

    python -m bench.predict

Ours decodes each image once for both models and makes both squares from the same pixels. The plain
way decodes and prepares each image once per model with Pillow and NumPy: pad, resize (Pillow's
bicubic for JoyTag; for SmilingWolf the area filter as two NumPy matrix products), normalise. Both
run in the same number of threads, in turn, and both end on the networks' float32 batches. The floor
is decoding alone.
"""

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from arena.validate.preprocess import geometry, normalise, placed, preprocess
from arena.validate.resample import area_taps, area_total
from bench import measure
from bench.images import make_images
from models import card as cards

import numpy as np
import torch
from PIL import Image
from threadpoolctl import threadpool_limits

NAMES = ("wd-v1-4-vit-tagger-v2", "joytag")


def plain(path: Path, model: cards.ModelCard) -> np.ndarray:
    """One image for one model, float32 (1, 3, size, size) or (1, size, size, 3)."""
    settings = model.image
    image = Image.open(path).convert("RGB")
    whole = placed(image.width, image.height, geometry(settings))
    canvas, side = Image.new("RGB", whole.size, "white"), whole.size[0]
    canvas.paste(image, whole.corner)
    size = settings.size
    if settings.resize == "bicubic":
        square = np.asarray(canvas.resize((size, size), Image.Resampling.BICUBIC), np.float32)
    else:
        first, weights = area_taps(side, size)
        matrix = np.zeros((size, side + weights.shape[1]), np.float32)
        np.put_along_axis(matrix, first[:, None] + np.arange(weights.shape[1]), weights, axis=1)
        matrix = matrix[:, :side] / np.float32(area_total(side, size))
        rows = (matrix @ np.asarray(canvas, np.float32).reshape(side, -1)).reshape(size, side, 3)
        square = np.rint((rows.transpose(2, 0, 1) @ matrix.T).transpose(1, 2, 0))
    if settings.channels == "bgr":
        square = square[:, :, ::-1]
    square = (square * settings.scale - settings.mean) / settings.std
    if settings.layout == "nchw":
        square = square.transpose(2, 0, 1)
    return np.ascontiguousarray(square, np.float32)[None]


def rate(work: Callable[[Path], object], paths: list[Path], workers: int) -> float:
    """Images a second of `work` over all paths in `workers` threads."""
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))

    def all_paths() -> None:
        for _ in pool.map(work, paths):
            pass

    with pool, threadpool_limits(1):
        return len(paths) / measure.seconds(all_paths)


def main() -> None:
    """Measure in turn, several times, and print medians of the ratios."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--images", type=int, default=64)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    args = options.parse_args()
    both = [cards.card(name) for name in NAMES]

    def once_per_model(path: Path) -> list[np.ndarray]:
        return [plain(path, model) for model in both]

    def ours(path: Path) -> list[torch.Tensor]:
        prepared = preprocess(path, [geometry(model.image) for model in both], torch.device("cpu"))
        return [
            normalise(prepared.squares[geometry(model.image)][None], model.image) for model in both
        ]

    def decode(path: Path) -> object:
        return Image.open(path).convert("RGB")

    with tempfile.TemporaryDirectory() as folder:
        paths = make_images(Path(folder), args.images)
        for path in paths[:4]:
            for mine, theirs in zip(ours(path), once_per_model(path), strict=True):
                assert np.abs(mine.numpy() - theirs).max() < 1.01, "the two ways do not agree"
        rates = [
            [rate(work, paths, args.workers) for work in (once_per_model, ours, decode)]
            for _ in range(args.rounds)
        ]
    speedup = statistics.median(mine / theirs for theirs, mine, _ in rates)
    share = statistics.median(mine / floor for _, mine, floor in rates)
    print(
        f"{args.images} images, {args.workers} threads, two models, median of {args.rounds} rounds"
    )
    print(f"ours / once per model with Pillow and NumPy: {speedup:.2f} times the images a second")
    print(f"ours / decoding alone: {share:.2f}")


if __name__ == "__main__":
    main()
