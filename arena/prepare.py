"""From a resized image file to the white, square uint8 image of a model's settings.

Two filters, each a separable linear map. Where the model runs on a CPU, Pillow applies the bicubic
one and NumPy the area one; on a GPU both are matrix products, as the image is there anyway.
"""

import hashlib
import io
import math
import threading
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from arena.cli import UserError
from models.card import ImageSettings

WHITE = 255
_local = threading.local()


class Geometry(NamedTuple):
    """The part of a model's image settings that decides its square; models can share one."""

    size: int
    pad: str
    resize: str


class Prepared(NamedTuple):
    """One image, ready for every model that asked: (size, size, 3) uint8 RGB per geometry."""

    content: int
    squares: dict[Geometry, torch.Tensor]


def geometry(settings: ImageSettings) -> Geometry:
    """The geometry of a model's image settings."""
    return Geometry(settings.size, settings.pad, settings.resize)


def content_hash(raw: bytes) -> int:
    """The first 63 bits of a BLAKE2b hash: two different files agree once in 10^18."""
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "big") >> 1


def prepare(path: Path, geometries: Iterable[Geometry], device: str) -> Prepared:
    """Decode a resized image once and make the square of every geometry, on `device`.

    Raises UserError for a file that is no whole WebP image.
    """
    raw = path.read_bytes()
    try:
        with Image.open(io.BytesIO(raw), formats=["WEBP"]) as opened:
            image = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(
            f"{path} is no whole WebP image ({error}): delete it and run trainable.py"
        ) from None
    if device == "cpu":
        squares = {wanted: torch.from_numpy(square_on_cpu(image, wanted)) for wanted in geometries}
    else:
        squares = _squares_on_gpu(image, geometries, device)
    return Prepared(content_hash(raw), squares)


def place(width: int, height: int, wanted: Geometry) -> tuple[int, int, int]:
    """(side, left, top): the white square's side and where the image stands in it.

    The odd pixel goes right and below.
    """
    side = max(width, height, wanted.size if wanted.pad == "at_least" else 1)
    return side, (side - width) // 2, (side - height) // 2


def square_on_cpu(image: Image.Image, wanted: Geometry) -> np.ndarray:
    """The (size, size, 3) uint8 square of an RGB image."""
    side, left, top = place(image.width, image.height, wanted)
    if wanted.resize == "bicubic" or side == wanted.size:
        canvas = Image.new("RGB", (side, side), (WHITE, WHITE, WHITE))
        canvas.paste(image, (left, top))
        return np.array(canvas.resize((wanted.size, wanted.size), Image.Resampling.BICUBIC))
    # White is added after the filter, as what the weights that fall outside the image leave:
    # the average of (pixel - white) over the image alone, plus white.
    pixels = np.asarray(image).astype(np.float32) - WHITE
    rows = _apply(pixels, side, wanted.size, top)
    both = _apply(rows.transpose(1, 0, 2), side, wanted.size, left).transpose(1, 0, 2)
    square: np.ndarray = np.rint(both + WHITE).astype(np.uint8)
    return square


def _apply(pixels: np.ndarray, side: int, size: int, offset: int) -> np.ndarray:
    """Filter the first axis of float32 `pixels`, which stand at `offset` in `side` zeros."""
    first, weights = area_taps(side, size)
    out = np.zeros((size, *pixels.shape[1:]), np.float32)
    for tap in range(weights.shape[1]):
        source = first + tap - offset
        inside = np.flatnonzero((source >= 0) & (source < len(pixels)))
        if len(inside):
            weight = weights[inside, tap].reshape(-1, *[1] * (pixels.ndim - 1))
            low, high = inside[0], inside[-1] + 1
            out[low:high] += pixels[source[low:high]] * weight
    return out


@lru_cache(maxsize=4096)
def area_taps(side: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Area averaging from `side` to `size` pixels: first input int (size,), weights (size, taps).

    Output pixel i is the mean of the input from i*side/size to (i+1)*side/size, pixels that it
    covers in part weighted by that part.
    """
    scale = side / size
    edges = np.arange(size + 1) * side / size
    first = np.floor(edges[:-1]).astype(np.int64)
    taps = math.ceil(scale) + 1
    index = first[:, None] + np.arange(taps)
    covered = np.minimum(edges[1:, None], index + 1) - np.maximum(edges[:-1, None], index)
    return first, (np.clip(covered, 0, None) / scale).astype(np.float32)


@lru_cache(maxsize=4096)
def bicubic_taps(side: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pillow's bicubic filter as area_taps gives its own: Keys' kernel with a = -0.5.

    When it shrinks, the kernel is widened by side/size and its weights are made to sum to 1.
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
    return first, (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _matrix(length: int, offset: int, side: int, wanted: Geometry) -> torch.Tensor:
    """(size, length): the filter over `side` pixels, its columns those under the image."""
    taps = area_taps if wanted.resize == "area" else bicubic_taps
    first, weights = taps(side, wanted.size)
    matrix = np.zeros((wanted.size, side + weights.shape[1]), np.float32)
    rows = np.arange(wanted.size)[:, None]
    matrix[rows, first[:, None] + np.arange(weights.shape[1])] = weights
    return torch.from_numpy(matrix[:, offset : offset + length])


def square_by_matrices(image: torch.Tensor, wanted: Geometry) -> torch.Tensor:
    """The (size, size, 3) uint8 square of uint8 RGB (height, width, 3), on the image's device.

    Rounds and clips between the two passes as Pillow does, columns first.
    """
    height, width = image.shape[:2]
    side, left, top = place(width, height, wanted)
    across = _matrix(width, left, side, wanted).to(image.device)
    down = _matrix(height, top, side, wanted).to(image.device)
    planes = image.permute(2, 0, 1).to(torch.float32) - WHITE
    columns = torch.matmul(planes, across.T)
    if wanted.resize == "bicubic":
        columns = columns.round_().clamp_(-WHITE, 0)
    both = torch.matmul(down, columns) + WHITE
    return both.round_().clamp_(0, WHITE).to(torch.uint8).permute(1, 2, 0).contiguous()


def _squares_on_gpu(
    image: Image.Image, geometries: Iterable[Geometry], device: str
) -> dict[Geometry, torch.Tensor]:
    # A stream a thread, so that copies and filters run beside the network's own work.
    with torch.cuda.stream(_stream(device)):
        pixels = torch.from_numpy(np.array(image)).pin_memory().to(device, non_blocking=True)
        squares = {wanted: square_by_matrices(pixels, wanted) for wanted in geometries}
        torch.cuda.current_stream().synchronize()
    return squares


def _stream(device: str) -> torch.cuda.Stream:
    stream = getattr(_local, "stream", None)
    if stream is None:
        stream = _local.stream = torch.cuda.Stream(device)
    return stream
