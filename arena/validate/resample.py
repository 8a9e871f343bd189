"""Resizing as Pillow and OpenCV do it, to the pixel, the same on a CPU and on a GPU.

Resizing is one linear map a side, so an image is resized by two matrix products. A map's matrix is
zero but for a band, as an output pixel depends on a few inputs only: it is multiplied in blocks of
rows, each with the inputs that they see. The image may lie in a larger canvas of one colour, from
which pixels are counted, so that what is outside the image is zero and costs nothing.
"""

from collections.abc import Iterator
from functools import lru_cache
from math import ceil, gcd
from typing import Any, NamedTuple

import numpy as np
import torch

Array = np.ndarray[Any, Any]

LARGEST = 255  # Of a pixel.
# Rows of a block. Small blocks multiply fewer zeros: 16 to 64 are as fast on CPUs with AVX2 or
# AVX-512. On a GPU each block costs a kernel's start and some of the interpreter's lock.
CPU_ROWS = 32
GPU_ROWS = 112
EXACT_SUM = 2**24  # float32 holds all whole numbers up to here.


class Canvas(NamedTuple):
    """A canvas (width, height) of one RGB colour, and where the image's corner is in it."""

    size: tuple[int, int]
    corner: tuple[int, int] = (0, 0)
    color: tuple[int, int, int] = (LARGEST, LARGEST, LARGEST)


@torch.inference_mode()
def resample(
    planes: torch.Tensor, canvas: Canvas, size: tuple[int, int], resize: str
) -> torch.Tensor:
    """An image (3, height, width) in a canvas, both resized to `size` (width, height): uint8.

    Pillow's filters (bicubic, bilinear, lanczos) round halves up and clip after each
    pass, as Pillow does; area rounds once, at the end, and halves to even, as OpenCV does. All sums
    are exact.
    """
    lower = canvas.size[1] - size[1]
    if resize in PILLOW and lower > max(0, 2 * (canvas.size[0] - size[0])):
        # Pillow begins with the rows where they become fewer by far.
        turned = Canvas(canvas.size[::-1], canvas.corner[::-1], canvas.color)
        return resample(planes.mT.contiguous(), turned, size[::-1], resize).mT
    on_gpu, device = planes.is_cuda, planes.device
    exact = resize == "area" and _fits_float32(canvas.size, size)
    dtype = torch.float32 if exact else torch.float64
    across, down = (
        _filter(side, wanted, resize, dtype, on_gpu)
        for side, wanted in zip(canvas.size, size, strict=True)
    )
    color = torch.zeros((3, 1, 1), dtype=dtype, device=device)
    for plane, value in zip(color, canvas.color, strict=True):
        plane.fill_(value)  # Without a copy to the GPU, which would have to be waited for.
    height, width = planes.shape[1:]
    weights = across.weights.to(device, non_blocking=True)
    outside = color * weights.sum(dim=2).flatten()[: size[0]]
    columns = outside.expand(3, height, -1).clone()
    for block, rows, under, inside in across.blocks_under(canvas.corner[0], width):
        pixels = planes[:, :, under].to(dtype).sub_(color)
        columns[:, :, rows] += pixels @ weights[block, : rows.stop - rows.start, inside].T
    if resize in PILLOW:
        columns.add_(0.5).floor_().clamp_(0, LARGEST).sub_(color)
    else:
        columns -= outside
    if down is not across:
        weights = down.weights.to(device, non_blocking=True)
    outside = color * across.total * weights.sum(dim=2).flatten()[: size[1], None]
    found = outside.expand(3, -1, size[0]).clone()
    for block, rows, under, inside in down.blocks_under(canvas.corner[1], height):
        found[:, rows] += weights[block, : rows.stop - rows.start, inside] @ columns[:, under]
    if resize in PILLOW:
        found.add_(0.5).floor_()
    else:
        found.div_(across.total * down.total).round_()
    return found.clamp_(0, LARGEST).to(torch.uint8)


class _Filter(NamedTuple):
    """A resize of one side to `size` pixels, in blocks of `rows` of them.

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
                yield (
                    block,
                    slice(start, min(start + self.rows, self.size)),
                    slice(low - offset, high - offset),
                    slice(low - first, high - first),
                )


@lru_cache(maxsize=128)  # Nearly all images have the same longer side, and so the same canvas.
def _filter(side: int, size: int, resize: str, dtype: torch.dtype, on_gpu: bool) -> _Filter:
    """The weights of a resize from `side` to `size` pixels, in pinned memory for a GPU."""
    total = area_total(side, size) if resize == "area" else 1
    first, weights = taps(side, size, resize)
    rows = min(GPU_ROWS if on_gpu else CPU_ROWS, size)
    starts = first[::rows]
    ends = [part[-1] for part in np.split(first, range(rows, size, rows))]
    matrix = np.zeros((len(starts) * rows, int((ends - starts).max()) + weights.shape[1]))
    places = (first - starts.repeat(rows)[:size])[:, None] + np.arange(weights.shape[1])
    np.put_along_axis(matrix[:size], places, weights, axis=1)
    tensor = torch.from_numpy(matrix.reshape(len(starts), rows, -1)).to(dtype)
    return _Filter(size, total, rows, starts.tolist(), tensor.pin_memory() if on_gpu else tensor)


def _fits_float32(canvas: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether float32, which is faster, holds all sums of an area mean: they are whole numbers.

    Pillow's fractions never fit: a rounding that is off by one spreads when enlarging.
    """
    totals = [area_total(side, wanted) for side, wanted in zip(canvas, size, strict=True)]
    return LARGEST * totals[0] * totals[1] <= EXACT_SUM


def taps(side: int, size: int, resize: str) -> tuple[Array, Array]:
    """A resize from `side` to `size` pixels: first input (size,), weights (size, taps).

    Output pixel i is the sum over k of weights[i, k] times input first[i] + k.
    """
    return area_taps(side, size) if resize == "area" else pillow_taps(side, size, resize)


def area_total(side: int, size: int) -> int:
    """What area_taps' weights of an output pixel sum to: the pixel's share of the side, whole."""
    return side // gcd(side, size)


def area_taps(side: int, size: int) -> tuple[Array, Array]:
    """Area averaging as `taps` gives a resize.

    Output pixel i is the mean of the input from i*side/size to (i+1)*side/size, pixels that it
    covers in part weighted by that part; also where the side grows. The weights are whole numbers
    that sum to area_total, so that sums of pixels are exact and a half is met as a half.
    """
    whole, total = size // gcd(side, size), area_total(side, size)
    edges = np.arange(size + 1) * total
    first = edges[:-1] // whole
    index = first[:, None] + np.arange(ceil(side / size) + 1)
    covered = np.minimum(edges[1:, None], (index + 1) * whole)
    covered -= np.maximum(edges[:-1, None], index * whole)
    return first, np.clip(covered, 0, None).astype(np.float64)


def _bilinear(x: Array) -> Array:
    weights: Array = np.clip(1 - x, 0, None)
    return weights


def _bicubic(x: Array) -> Array:
    """Keys' kernel with a = -0.5."""
    a = -0.5
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    weights: Array = np.where(x < 1, near, np.where(x < 2, far, 0.0))
    return weights


def _lanczos(x: Array) -> Array:
    weights: Array = np.where(x < 3, np.sinc(x) * np.sinc(x / 3), 0.0)
    return weights


# Kernels, of the distance in pixels, and how far they reach.
PILLOW = {"bilinear": (_bilinear, 1.0), "bicubic": (_bicubic, 2.0), "lanczos": (_lanczos, 3.0)}


def pillow_taps(side: int, size: int, resize: str) -> tuple[Array, Array]:
    """One of Pillow's filters as `taps` gives a resize.

    When it shrinks, the kernel is widened by side/size. The weights are made to sum to 1, then
    rounded to Pillow's 22 binary places.
    """
    kernel, reach = PILLOW[resize]
    scale = side / size
    widened = max(scale, 1.0)
    support = reach * widened
    centre = (np.arange(size) + 0.5) * scale
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + support + 0.5).astype(np.int64), side)
    index = first[:, None] + np.arange(ceil(support) * 2 + 1)
    # In Pillow's order of operations: halves of the last place decide grey levels.
    distance = np.abs((index - centre[:, None] + 0.5) * (1 / widened))
    weights = kernel(distance) * (index < last[:, None])
    weights *= 1 / weights.cumsum(axis=1)[:, -1:]
    rounded: Array = np.trunc(weights * 2**22 + np.copysign(0.5, weights)) / 2**22
    return first, rounded
