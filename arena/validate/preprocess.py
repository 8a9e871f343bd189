"""From a resized image file to the white, square uint8 image of a model's settings.

Padding and resizing are one linear map a side, so a square is two matrix products, and the same
code gives the same pixels on a CPU and on a GPU. A resize's matrix is zero but for a band, as an
output pixel depends on a few inputs only: it is multiplied in blocks of rows, each with the inputs
that they see. Pixels are counted from white, so that what is outside the image is zero.
"""

import hashlib
import io
import threading
from collections.abc import Iterable, Iterator
from functools import lru_cache
from math import ceil, gcd
from pathlib import Path
from typing import NamedTuple

from arena.cli import UserError
from arena.tagger import ImageSettings

import numpy as np
import torch
from PIL import Image
from PIL.WebPImagePlugin import WebPImageFile

WHITE = 255
# Rows of a block. Small blocks multiply fewer zeros: 16 to 64 are as fast on CPUs with AVX2 or
# AVX-512. On a GPU each block costs a kernel's start and some of the interpreter's lock.
CPU_ROWS = 32
GPU_ROWS = 112
EXACT_SUM = 2**24  # float32 holds all whole numbers up to here.
_local = threading.local()


class Geometry(NamedTuple):
    """The part of a model's image settings that decides its square; models can share one."""

    size: int
    pad: str
    resize: str


class Preprocessed(NamedTuple):
    """One image, ready for every model that asked: (size, size, 3) uint8 RGB per geometry.

    On a GPU the squares may be read by a stream that has waited for the event `ready`.
    """

    content: int
    squares: dict[Geometry, torch.Tensor]
    ready: torch.cuda.Event | None = None


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
    raw = path.read_bytes()
    try:
        pixels = decode(raw)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise UserError(
            f"{path} is no whole WebP image: delete it and run trainable.py with the same --data"
            f" (which needs originals/{path.stem})"
        ) from None
    if device.type == "cpu":
        on_cpu = torch.empty(pixels.shape, dtype=torch.uint8)
        on_cpu.numpy()[:] = pixels
        return Preprocessed(content_hash(raw), squares(on_cpu, geometries))
    stream = _stream(device)
    with torch.cuda.stream(stream):
        # A copy from other memory would wait for the stream.
        pinned = torch.empty(pixels.shape, dtype=torch.uint8, pin_memory=True)
        pinned.numpy()[:] = pixels
        made = squares(pinned.to(device, non_blocking=True), geometries)
        return Preprocessed(content_hash(raw), made, stream.record_event())


def decode(raw: bytes) -> np.ndarray:
    """The pixels of a WebP file's first picture: uint8 (height, width, 4), the last band unused.

    They are read where libwebp's decoder leaves them: Pillow's own way from there to an array
    copies them four times, most of it under the interpreter's lock. Raises what Pillow does.
    """
    with Image.open(io.BytesIO(raw), formats=["WEBP"]) as opened:
        assert isinstance(opened, WebPImageFile)
        data, _, _ = opened._get_next()
        return np.frombuffer(data, np.uint8).reshape(opened.height, opened.width, 4)


def _stream(device: torch.device) -> torch.cuda.Stream:
    """This thread's stream. Copies and filters run beside the network's work, and before it."""
    if not hasattr(_local, "stream"):
        _local.stream = torch.cuda.Stream(device, priority=-1)
    found: torch.cuda.Stream = _local.stream
    return found


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
    """The (size, size, 3) uint8 squares of uint8 RGB (height, width, 3), on the image's device.

    A fourth band is not looked at.
    """
    planes = (WHITE - pixels[..., :3]).permute(2, 0, 1).contiguous()
    return {wanted: _square(planes, wanted) for wanted in geometries}


def _square(planes: torch.Tensor, wanted: Geometry) -> torch.Tensor:
    """The square of planes (3, height, width) that count from white: columns first.

    Bicubic rounds halves up and clips after each pass, as Pillow does; area rounds once, at the
    end, and halves to even, as OpenCV does. All sums are exact, so it does so to the pixel.
    """
    height, width = planes.shape[1:]
    side, left, top = place(width, height, wanted)
    resize = _filter(side, wanted, planes.is_cuda)
    weights = resize.weights.to(planes.device, non_blocking=True)
    white = weights.sum(dim=2).flatten()[: wanted.size] * WHITE
    columns = white.expand(3, height, -1).clone()
    for block, rows, under, inside in resize.blocks_under(left, width):
        pixels = planes[:, :, under].to(weights.dtype)
        columns[:, :, rows] -= pixels @ weights[block, : rows.stop - rows.start, inside].T
    if wanted.resize == "bicubic":
        columns = WHITE - columns.add_(0.5).floor_().clamp_(0, WHITE)
    else:
        columns = white - columns
        white = white * resize.total
    square = white[:, None].expand(3, -1, wanted.size).clone()
    for block, rows, under, inside in resize.blocks_under(top, height):
        square[:, rows] -= weights[block, : rows.stop - rows.start, inside] @ columns[:, under]
    if wanted.resize == "bicubic":
        square.add_(0.5).floor_().clamp_(0, WHITE)
    else:
        square.div_(resize.total**2).round_()
    return square.permute(1, 2, 0).to(torch.uint8, memory_format=torch.contiguous_format)


class _Filter(NamedTuple):
    """A resize of one side of the white square, in blocks of `rows` output pixels.

    Block b sees the input from `first[b]` on: `weights` is (blocks, rows, inputs), on the CPU. The
    weights of an output pixel sum to `total`.
    """

    size: int
    total: int
    rows: int
    first: list[int]
    weights: torch.Tensor

    def blocks_under(self, offset: int, length: int) -> Iterator[tuple[int, slice, slice, slice]]:
        """(block, its output pixels, input pixels of an image at `offset`, where in the weights)
        of each block that sees the image."""
        for block, first in enumerate(self.first):
            low = max(first, offset)
            high = min(first + self.weights.shape[2], offset + length)
            if low < high:
                start = block * self.rows
                rows = slice(start, min(start + self.rows, self.size))
                yield (
                    block,
                    rows,
                    slice(low - offset, high - offset),
                    slice(low - first, high - first),
                )


@lru_cache(maxsize=64)  # Nearly all images have the same longer side, and so one square.
def _filter(side: int, wanted: Geometry, on_gpu: bool) -> _Filter:
    """The weights of a geometry for squares of `side` pixels, in pinned memory for a GPU."""
    first, weights = (area_taps if wanted.resize == "area" else bicubic_taps)(side, wanted.size)
    total = area_total(side, wanted.size) if wanted.resize == "area" else 1
    rows = min(GPU_ROWS if on_gpu else CPU_ROWS, wanted.size)
    starts = first[::rows]
    ends = [part[-1] for part in np.split(first, range(rows, wanted.size, rows))]
    matrix = np.zeros((len(starts) * rows, int((ends - starts).max()) + weights.shape[1]))
    taps = (first - starts.repeat(rows)[: wanted.size])[:, None] + np.arange(weights.shape[1])
    np.put_along_axis(matrix[: wanted.size], taps, weights, axis=1)
    # Whole numbers are exact in float32, which is faster, as long as their sums are small. The
    # fractions of bicubic need float64: a rounding that is off by one spreads when enlarging.
    exact = wanted.resize == "area" and WHITE * total**2 <= EXACT_SUM
    tensor = torch.from_numpy(matrix.reshape(len(starts), rows, -1)).to(
        torch.float32 if exact else torch.float64
    )
    return _Filter(
        wanted.size, total, rows, starts.tolist(), tensor.pin_memory() if on_gpu else tensor
    )


def area_total(side: int, size: int) -> int:
    """What area_taps' weights of an output pixel sum to: the pixel's share of the side, whole."""
    return side // gcd(side, size)


def area_taps(side: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Area averaging from `side` to `size` pixels: first input (size,), weights (size, taps).

    Output pixel i is the mean of the input from i*side/size to (i+1)*side/size, pixels that it
    covers in part weighted by that part. The weights are whole numbers that sum to area_total, so
    that sums of pixels are exact and a half is met as a half.
    """
    whole, total = size // gcd(side, size), area_total(side, size)
    edges = np.arange(size + 1) * total
    first = edges[:-1] // whole
    index = first[:, None] + np.arange(ceil(side / size) + 1)
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
    index = first[:, None] + np.arange(ceil(support) * 2 + 1)
    x = np.abs((index - centre[:, None] + 0.5) / widened)
    a = -0.5
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    weights = np.where(x < 1, near, np.where(x < 2, far, 0.0)) * (index < last[:, None])
    weights /= weights.sum(axis=1, keepdims=True)
    return first, np.rint(weights * 2**22) / 2**22
