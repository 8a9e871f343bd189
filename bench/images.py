"""Images to measure with, which need only NumPy and Pillow."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = 60_000  # Of one file; ext4 takes up to 65,000.


def make_images(folder: Path, count: int) -> list[Path]:
    """WebP files as trainable.py leaves them: longest side 1024, drawings with some noise."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(count):
        width, height = (1024, int(rng.integers(512, 1024)))
        if number % 2:
            width, height = height, width
        blocks = Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8))
        pixels = np.asarray(blocks.resize((width, height), Image.Resampling.BICUBIC), np.int16)
        noisy = np.clip(pixels + rng.normal(0, 4, pixels.shape), 0, 255).astype(np.uint8)
        paths.append(folder / f"{number}.webp")
        Image.fromarray(noisy).save(paths[-1], "WEBP", quality=80)
    return paths


def same_file(paths: Sequence[str], content: bytes) -> None:
    """Make up to NAMES files of one content in little time and one inode: one file under many
    names. As texts: millions of Paths would take their time."""
    Path(paths[0]).write_bytes(content)
    for path in paths[1:]:
        os.link(paths[0], path)
