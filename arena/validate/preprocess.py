"""From a resized image file to the white, square uint8 image of a model's settings.

Padding and resizing are one linear map a side, so a square is two matrix products, and the same
code serves a CPU and a GPU. A resize's matrix is zero but for a band, as an output pixel depends on
a few inputs only: a CPU multiplies the band's blocks, a GPU the whole matrix in one go.
"""

import hashlib
import io
import math
import threading
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from arena.cli import UserError
from arena.tagger import ImageSettings

import numpy as np
import torch
from PIL import Image

WHITE = 255
EXACT_TOTAL = 256  # Area weights up to this keep sums of pixels below 2^24: exact in float32.
CPU_ROWS = 32  # Of a block: 16 to 32 are fastest on CPUs with AVX2 or AVX-512.
_local = threading.local()


class Geometry(NamedTuple):
    """The part of a model's image settings that decides its square; models can share one."""

    size: int
    pad: str
    resize: str


class Preprocessed(NamedTuple):
    """One image, ready for every model that asked: (size, size, 3) uint8 RGB per geometry."""

    content: int
    squares: dict[Geometry, torch.Tensor]


def geometry(settings: ImageSettings) -> Geometry:
    """The geometry of a model's image settings."""
    return Geometry(settings.size, settings.pad, settings.resize)


def content_hash(raw: bytes) -> int:
    """The first 63 bits of a BLAKE2b hash: two different files agree once in 10^18."""
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "big") >> 1


def preprocess(path: Path, geometries: Iterable[Geometry], device: torch.device) -> Preprocessed:
    """Decode a resized image once and make the square of every geometry, on `device`.

    Raises UserError for a file that is no whole WebP image.
    """
    try:
        raw = path.read_bytes()
        with Image.open(io.BytesIO(raw), formats=["WEBP"]) as opened:
            pixels = torch.from_numpy(np.array(opened.convert("RGB")))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise UserError(
            f"{path} is no whole WebP image: delete it and run trainable.py with the same --data"
        ) from None
    if device.type == "cpu":
        return Preprocessed(content_hash(raw), squares(pixels, geometries))
    # A stream a thread, so that copies and filters run beside the network's own work.
    if not hasattr(_local, "stream"):
        _local.stream = torch.cuda.Stream(device)
    with torch.cuda.stream(_local.stream):
        on_gpu = pixels.pin_memory().to(device, non_blocking=True)
        made = squares(on_gpu, geometries)
        _local.stream.synchronize()
    return Preprocessed(content_hash(raw), made)


def normalise(images: torch.Tensor, settings: ImageSettings) -> torch.Tensor:
    """uint8 RGB (n, size, size, 3) to the float32 input of the settings, on the same device."""
    if settings.channels == "bgr":
        images = images.flip(-1)
    floats = images.to(torch.float32)
    mean, std = torch.tensor([settings.mean, settings.std], device=images.device)
    if settings.scale != 1:
        floats = floats * settings.scale
    if any(settings.mean) or set(settings.std) != {1}:
        floats = (floats - mean) / std
    if settings.layout == "nchw":
        floats = floats.permute(0, 3, 1, 2)
    return floats.contiguous()


def place(width: int, height: int, wanted: Geometry) -> tuple[int, int, int]:
    """(side, left, top): the white square's side and where the image is in it.

    The odd pixel goes right and below.
    """
    side = max(width, height, wanted.size if wanted.pad == "at_least" else 1)
    return side, (side - width) // 2, (side - height) // 2


@torch.inference_mode()
def squares(pixels: torch.Tensor, geometries: Iterable[Geometry]) -> dict[Geometry, torch.Tensor]:
    """The (size, size, 3) uint8 squares of uint8 RGB (height, width, 3), on the image's device."""
    planes = pixels.permute(2, 0, 1).to(torch.float32, memory_format=torch.contiguous_format)
    return {wanted: _square(planes, wanted) for wanted in geometries}


def _square(planes: torch.Tensor, wanted: Geometry) -> torch.Tensor:
    """Columns first. Bicubic rounds halves up and clips after each pass, as Pillow does; area
    rounds once, at the end, and halves to even, as OpenCV does."""
    height, width = planes.shape[1:]
    side, left, top = place(width, height, wanted)
    exact = wanted.resize == "bicubic" and planes.device.type == "cpu"
    if exact or side < wanted.size or _has_inexact_halves(side, wanted):
        # float64 rounds just as Pillow's integers. A rounding between the passes that is off by one
        # spreads over many pixels when enlarging, and in extreme images to two levels in one.
        planes = planes.double()
    resize = _filter(side, wanted, planes.device, planes.dtype)
    columns = (resize.outside(left, width) * WHITE).expand(3, height, -1).clone()
    for rows, under, weights in resize.blocks_under(left, width):
        columns[:, :, rows] += planes[:, :, under] @ weights.T
    if wanted.resize == "bicubic":
        columns.add_(0.5).floor_().clamp_(0, WHITE)
    white = WHITE * resize.total
    square = (resize.outside(top, height) * white)[:, None].expand(3, -1, wanted.size).clone()
    for rows, under, weights in resize.blocks_under(top, height):
        square[:, rows] += weights @ columns[:, under]
    if wanted.resize == "bicubic":
        square.add_(0.5).floor_().clamp_(0, WHITE)
    else:
        square.div_(resize.total**2).round_()
    return square.permute(1, 2, 0).to(torch.uint8, memory_format=torch.contiguous_format)


def _has_inexact_halves(side: int, wanted: Geometry) -> bool:
    """Whether an area mean can be a half that float32 misses: a sum over an odd square never is."""
    total = area_total(side, wanted.size)
    return wanted.resize == "area" and total % 2 == 0 and total > EXACT_TOTAL


class _Filter(NamedTuple):
    """A resize of one side of the white square: its matrix (size, side), as `running` sums along
    the side (size, side + 1) and as `blocks` of rows: (rows, their first input pixel, weights).
    Each row of the matrix sums to `total`."""

    total: int
    running: torch.Tensor
    blocks: list[tuple[slice, int, torch.Tensor]]

    def outside(self, offset: int, length: int) -> torch.Tensor:
        """What each output pixel weighs of the white outside an image at `offset`: (size,)."""
        outside: torch.Tensor = (
            self.running[:, -1] - self.running[:, offset + length] + self.running[:, offset]
        )
        return outside

    def blocks_under(self, offset: int, length: int) -> Iterator[tuple[slice, slice, torch.Tensor]]:
        """(output pixels, input pixels of the image, weights) of each block that sees the image."""
        for rows, first, weights in self.blocks:
            low = max(first, offset)
            high = min(first + weights.shape[1], offset + length)
            if low < high:
                yield (
                    rows,
                    slice(low - offset, high - offset),
                    weights[:, low - first : high - first],
                )


@lru_cache(maxsize=64)  # Nearly all images have the same longer side, and so one square.
def _filter(side: int, wanted: Geometry, device: torch.device, dtype: torch.dtype) -> _Filter:
    first, weights = (area_taps if wanted.resize == "area" else bicubic_taps)(side, wanted.size)
    total = area_total(side, wanted.size) if wanted.resize == "area" else 1
    matrix = np.zeros((wanted.size, side + weights.shape[1]))
    taps = first[:, None] + np.arange(weights.shape[1])
    np.put_along_axis(matrix, taps, weights, axis=1)
    matrix = matrix[:, :side]  # Weights beyond the last pixel are zeros.
    running = np.concatenate([np.zeros((wanted.size, 1)), matrix.cumsum(axis=1)], axis=1)
    step = CPU_ROWS if device.type == "cpu" else wanted.size
    blocks = []
    for start in range(0, wanted.size, step):
        block = matrix[start : start + step]
        used = np.flatnonzero(block.any(axis=0))
        inside = torch.from_numpy(block[:, used[0] : used[-1] + 1]).to(device, dtype)
        blocks.append((slice(start, start + len(block)), int(used[0]), inside))
    return _Filter(total, torch.from_numpy(running).to(device, dtype), blocks)


def area_total(side: int, size: int) -> int:
    """What area_taps' weights of an output pixel sum to: the pixel's share of the side, whole."""
    return side // math.gcd(side, size)


def area_taps(side: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Area averaging from `side` to `size` pixels: first input (size,), weights (size, taps).

    Output pixel i is the mean of the input from i*side/size to (i+1)*side/size, pixels that it
    covers in part weighted by that part. The weights are whole numbers that sum to area_total, so
    that sums of pixels are exact and a half is met as a half.
    """
    whole, total = size // math.gcd(side, size), area_total(side, size)
    edges = np.arange(size + 1) * total
    first = edges[:-1] // whole
    index = first[:, None] + np.arange(math.ceil(side / size) + 1)
    covered = np.minimum(edges[1:, None], (index + 1) * whole)
    covered -= np.maximum(edges[:-1, None], index * whole)
    return first, np.clip(covered, 0, None).astype(np.float64)


def bicubic_taps(side: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pillow's bicubic filter as area_taps gives its own: Keys' kernel with a = -0.5.

    When it shrinks, the kernel is widened by side/size. The weights are made to sum to 1, then
    rounded to Pillow's 22 binary places.
    """
    scale = side / size
    widened = max(scale, 1.0)
    support = 2.0 * widened
    centre = (np.arange(size) + 0.5) * scale
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + support + 0.5).astype(np.int64), side)
    index = first[:, None] + np.arange(math.ceil(support) * 2 + 1)
    x = np.abs((index - centre[:, None] + 0.5) / widened)
    a = -0.5
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    weights = np.where(x < 1, near, np.where(x < 2, far, 0.0)) * (index < last[:, None])
    weights /= weights.sum(axis=1, keepdims=True)
    return first, np.rint(weights * 2**22) / 2**22
