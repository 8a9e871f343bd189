"""Resizing as Pillow and OpenCV do it, to the pixel, the same on a CPU and on a GPU.

Resizing is one linear map a side, so an image is resized by two matrix products. A map's matrix is
zero but for a band, as an output pixel depends on a few inputs only: it is multiplied in blocks of
rows, each with the inputs that they see, all blocks in one call. The image may lie in a larger
canvas of one colour: blocks that see nothing else are not multiplied.
"""

from functools import lru_cache
from math import ceil, gcd
from typing import Any, NamedTuple

import numpy as np
import torch

Array = np.ndarray[Any, Any]

LARGEST = 255  # Of a pixel.
# Rows of a block. Small blocks multiply fewer zeros: 16 to 64 are as fast on CPUs with AVX2 or
# AVX-512.
CPU_ROWS = 32
GPU_ROWS = 112
EXACT_SUM = 2**24  # float32 holds all whole numbers up to here.


class Canvas(NamedTuple):
    """A canvas (width, height) of one RGB colour, and where the image's corner is in it."""

    size: tuple[int, int]
    corner: tuple[int, int] = (0, 0)
    color: tuple[int, int, int] = (LARGEST, LARGEST, LARGEST)


class Pass(NamedTuple):
    """A resize of one side of a canvas of one colour with an image in it, by the blocks that see
    the image. Tensors are on the CPU.

    Their input is `padded` pixels, the image from `inside` on and else `color`, (3, 1); block b
    sees it from `b * step` on. Their output is the pixels from `seen` on of `pixels`; the others
    have their `values`, (3, pixels).
    """

    step: int
    weights: torch.Tensor
    padded: int
    inside: int
    color: torch.Tensor
    pixels: int
    seen: int
    values: torch.Tensor


class Resize(NamedTuple):
    """A resize of an image in a canvas to (width, height), of which both are one kind of number.

    `total` is what sums are of a grey level, or 0 to round and clip as Pillow does.
    """

    across: Pass
    down: Pass
    turned: bool  # Whether the image is to be turned before, and back afterwards.
    width: int
    height: int
    total: int


def plan(
    image: tuple[int, int], canvas: Canvas, size: tuple[int, int], resize: str, on_gpu: bool
) -> Resize:
    """How to resize an image of a size (width, height) in a canvas, both to `size`."""
    lower = canvas.size[1] - size[1]
    # Pillow begins with the rows where they become fewer by far.
    turned = resize in PILLOW and lower > max(0, 2 * (canvas.size[0] - size[0]))
    if turned:
        canvas = Canvas(canvas.size[::-1], canvas.corner[::-1], canvas.color)
        image, size = image[::-1], size[::-1]
    exact = resize == "area" and _fits_float32(canvas.size, size)
    kind = (resize, torch.float32 if exact else torch.float64, canvas.color, on_gpu)
    totals = [
        area_total(side, wanted) if resize == "area" else 1
        for side, wanted in zip(canvas.size, size, strict=True)
    ]
    across = _pass(canvas.size[0], size[0], canvas.corner[0], image[0], 1, *kind)
    down = _pass(canvas.size[1], size[1], canvas.corner[1], image[1], totals[0], *kind)
    total = 0 if resize in PILLOW else totals[0] * totals[1]
    return Resize(across, down, turned, *size, total)


@torch.inference_mode()
def resample(pixels: torch.Tensor, plans: list[list[Resize]]) -> list[torch.Tensor]:
    """An image, resized in each of several ways, each one resize after another.

    All are uint8 (height, width, 3). Pillow's filters (bicubic, bilinear, lanczos) round halves up
    and clip after each pass, as Pillow does; area rounds once, at the end, and halves to even, as
    OpenCV does. All sums are exact.
    """
    found: list[torch.Tensor] = []
    for plan in plans:
        image = pixels
        for each in plan:
            image = _resized(image, each)
        found.append(image)
    return found


def _resized(pixels: torch.Tensor, plan: Resize) -> torch.Tensor:
    """The two passes over an image."""
    if plan.turned:
        pixels = pixels.transpose(0, 1)
    device, rows_in, columns_in = pixels.device, pixels.size(0), pixels.size(1)
    across, down = plan.across, plan.down
    weights = across.weights.to(device, non_blocking=True)
    color = across.color.to(device, non_blocking=True)

    blocks, rows, taps = weights.size(0), weights.size(1), weights.size(2)
    lines, last = 3 * rows_in, across.inside + columns_in
    source = torch.empty([rows_in, 3, across.padded], dtype=weights.dtype, device=device)
    source[:, :, across.inside : last].copy_(pixels.permute(0, 2, 1))
    _fill(source, 2, across.inside, last, color)
    columns = torch.empty([down.padded, 3, across.pixels], dtype=weights.dtype, device=device)
    made = columns[down.inside : down.inside + rows_in]
    torch.bmm(
        source.as_strided([blocks, lines, taps], [across.step, across.padded, 1]),
        weights.mT,
        out=made.as_strided(
            [blocks, lines, rows],
            [rows, across.pixels, 1],
            made.storage_offset() + across.seen,
        ),
    )
    seen_end = across.seen + blocks * rows
    if blocks * rows < across.pixels:
        values = across.values.to(device, non_blocking=True)
        made[:, :, : across.seen].copy_(values[:, : across.seen])
        made[:, :, seen_end:].copy_(values[:, seen_end:])
    if plan.total == 0:
        made.add_(0.5).floor_().clamp_(0, 255)

    weights = down.weights.to(device, non_blocking=True)
    color = down.color.to(device, non_blocking=True)
    _fill(columns, 0, down.inside, down.inside + rows_in, color)
    blocks, rows, taps = weights.size(0), weights.size(1), weights.size(2)
    line = 3 * across.pixels
    found = torch.empty([down.pixels, 3, across.pixels], dtype=weights.dtype, device=device)
    seen_end = down.seen + blocks * rows
    torch.bmm(
        weights,
        columns.as_strided([blocks, taps, line], [down.step * line, line, 1]),
        out=found[down.seen : seen_end].view([blocks, rows, line]),
    )
    if blocks * rows < down.pixels:
        values = down.values.to(device, non_blocking=True).mT.unsqueeze(2)
        found[: down.seen].copy_(values[: down.seen])
        found[seen_end:].copy_(values[seen_end:])
    if plan.total == 0:
        found.add_(0.5)  # uint8 cuts off the rest.
    else:
        found.div_(plan.total).round_()
    image = found.clamp_(0, 255)[: plan.height, :, : plan.width].to(torch.uint8)
    order = [2, 0, 1] if plan.turned else [0, 2, 1]
    return image.permute(order).contiguous()


def _fill(canvas: torch.Tensor, side: int, first: int, last: int, color: torch.Tensor) -> None:
    """Paint what a canvas has along a side before `first` and from `last` on."""
    if first:
        canvas.narrow(side, 0, first).copy_(color)
    if last < canvas.size(side):
        canvas.narrow(side, last, canvas.size(side) - last).copy_(color)


class _Filter(NamedTuple):
    """A resize of one side, in blocks of rows of output pixels.

    Block b sees the input from `first + b * step` on, which can be outside of it: `weights` is
    (blocks, rows, inputs), on the CPU; the last block's rows can be more than there are pixels.
    """

    first: int
    step: int
    weights: torch.Tensor


@lru_cache(maxsize=128)  # Nearly all images have the same longer side, and so the same canvas.
def _filter(side: int, size: int, resize: str, dtype: torch.dtype, on_gpu: bool) -> _Filter:
    """The weights of a resize from `side` to `size` pixels, in pinned memory for a GPU."""
    first, weights = taps(side, size, resize)
    rows = min(GPU_ROWS if on_gpu else CPU_ROWS, size)
    starts = first[::rows]
    ends = np.array([part[-1] for part in np.split(first, range(rows, size, rows))])
    ends += weights.shape[1]
    # At equal distances one product can do all blocks.
    step = int(starts[-1] - starts[0]) // max(1, len(starts) - 1)
    steps = np.arange(len(starts)) * step
    begin = int((starts - steps).min())
    matrix = np.zeros((len(starts) * rows, int((ends - steps).max()) - begin))
    places = (first - (steps + begin).repeat(rows)[:size])[:, None] + np.arange(weights.shape[1])
    np.put_along_axis(matrix[:size], places, weights, axis=1)
    tensor = torch.from_numpy(matrix.reshape(len(starts), rows, -1)).to(dtype)
    return _Filter(begin, step, tensor.pin_memory() if on_gpu else tensor)


@lru_cache(maxsize=4096)  # One for each shorter side.
def _pass(
    side: int,
    size: int,
    offset: int,
    length: int,
    unit: int,
    resize: str,
    dtype: torch.dtype,
    color: tuple[int, int, int],
    on_gpu: bool,
) -> Pass:
    """The resize of a side on which an image of `length` begins at `offset`.

    Pixels, the colour's too, are in units of which `unit` are a grey level.
    """
    first, step, weights = _filter(side, size, resize, dtype, on_gpu)
    blocks, rows, inputs = weights.shape
    starts = [first + block * step for block in range(blocks)]
    sees = [b for b, at in enumerate(starts) if at < offset + length and offset < at + inputs]
    low, high = sees[0], sees[-1] + 1
    start, padded = starts[low], starts[high - 1] + inputs - starts[low]
    canvas = torch.tensor(color, dtype=dtype)[:, None] * unit
    values = canvas * weights.sum(dim=2).flatten()
    if on_gpu:
        canvas, values = canvas.pin_memory(), values.pin_memory()
    return Pass(
        step,
        weights[low:high],
        padded,
        offset - start,
        canvas,
        blocks * rows,
        low * rows,
        values,
    )


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
