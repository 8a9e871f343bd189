"""From a resized image file to the square uint8 image of a model's settings, and to its input."""

import ctypes
import hashlib
import threading
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from arena.cli import UserError
from arena.tagger import First, ImageSettings
from arena.validate.resample import Canvas, Resize, plan, resample

import torch
from PIL import _webp

_local = threading.local()
MOST_PIXELS = 178_956_970  # Pillow refuses larger images too.


class Geometry(NamedTuple):
    """The part of a model's image settings that decides its square; models can share one."""

    size: int
    pad: str
    resize: str
    color: tuple[int, int, int] = (255, 255, 255)
    first: First | None = None


class Preprocessed(NamedTuple):
    """One image, ready for every model that asked: (size, size, 3) uint8 RGB per geometry.

    On a GPU the squares may be read by a stream that has waited for the event `ready`.
    """

    content: int
    size: tuple[int, int]  # Width and height.
    squares: dict[Geometry, torch.Tensor]
    ready: torch.cuda.Event | None = None


def geometry(settings: ImageSettings) -> Geometry:
    """The geometry of a model's image settings."""
    return Geometry(settings.size, settings.pad, settings.resize, settings.color, settings.first)


def content_hash(raw: bytes) -> int:
    """The first 63 bits of a BLAKE2b hash: two different files agree once in 10^18."""
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "big") >> 1


def preprocess(path: Path, geometries: Iterable[Geometry], device: torch.device) -> Preprocessed:
    """Decode a resized image once and make the square of every geometry, on `device`.

    Raises UserError for a file that is no whole WebP image.
    """
    raw = path.read_bytes()
    content = content_hash(raw)
    on_gpu = device.type == "cuda"
    try:
        size = webp_size(raw)
        # Made before the pixels are: these flush the processor's caches, and what follows them is
        # slow, with the interpreter's lock held.
        plans = {wanted: _plan(*size, wanted, on_gpu) for wanted in geometries}
        every = list(plans.values())
        pixels = decode(raw, size, device)
    except ValueError:
        raise UserError(
            f"{path} is no whole WebP image: delete it and run trainable.py with the same --data"
            f" (which needs originals/{path.stem})"
        ) from None
    if not on_gpu:
        made = resample(pixels, every)
        return Preprocessed(content, size, dict(zip(plans, made, strict=True)))
    stream = _stream(device)
    with torch.cuda.stream(stream):
        made = resample(pixels.to(device, non_blocking=True), every)
        squares = dict(zip(plans, made, strict=True))
        return Preprocessed(content, size, squares, stream.record_event())


def webp_size(raw: bytes) -> tuple[int, int]:
    """Width and height of a WebP file's picture. Raises ValueError where the file is not whole."""
    width, height = ctypes.c_int(), ctypes.c_int()
    whole = len(raw) >= 12 and int.from_bytes(raw[4:8], "little") + 8 <= len(raw)
    if not whole or not _libwebp().WebPGetInfo(
        raw, len(raw), ctypes.byref(width), ctypes.byref(height)
    ):
        raise ValueError("no whole WebP file")
    if width.value * height.value > MOST_PIXELS:
        raise ValueError("too large")
    return width.value, height.value


def decode(raw: bytes, size: tuple[int, int], device: torch.device) -> torch.Tensor:
    """The pixels of a WebP file of one picture of `size`: uint8 RGB (height, width, 3), on the CPU.

    They are decoded in place, by the library that Pillow has for it, into memory from which a copy
    to `device` waits for nothing. Pillow itself would copy them under the interpreter's lock. For
    a CPU that memory is this thread's, until it decodes the next image. Raises ValueError where the
    file is not whole.
    """
    width, height = size
    row = 3 * width
    memory = _memory(row * height, device)
    if not _libwebp().WebPDecodeRGBInto(raw, len(raw), memory.data_ptr(), len(memory), row):
        raise ValueError("pixels are missing")
    return memory.view(height, width, 3)


def _memory(size: int, device: torch.device) -> torch.Tensor:
    """Memory for `size` bytes of pixels, on the CPU: this thread's, or for a copy to a GPU new."""
    if device.type == "cuda":
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)
    # Kept, as to free so much holds the interpreter's lock.
    if not hasattr(_local, "memory") or len(_local.memory) < size:
        _local.memory = torch.empty(size, dtype=torch.uint8)
    memory: torch.Tensor = _local.memory[:size]
    return memory


@lru_cache(maxsize=1)
def _libwebp() -> ctypes.CDLL:
    """The functions of libwebp, which are found through Pillow's module that is linked to it."""
    library = ctypes.CDLL(_webp.__file__)
    sizes = [ctypes.POINTER(ctypes.c_int)] * 2
    library.WebPGetInfo.argtypes = [ctypes.c_char_p, ctypes.c_size_t, *sizes]
    library.WebPDecodeRGBInto.argtypes = [
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
    ]
    library.WebPDecodeRGBInto.restype = ctypes.c_void_p
    return library


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
    if settings.scale != 1:
        floats = floats * settings.scale
    if any(settings.mean) or set(settings.std) != {1}:
        mean, std = _constants(settings.mean, settings.std, images.device)
        floats = (floats - mean) / std
    if settings.layout == "nchw":
        floats = floats.permute(0, 3, 1, 2)
    return floats.contiguous()


@lru_cache(maxsize=64)  # Once: a copy to a GPU waits for all that the stream has to do.
def _constants(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation, float32 (3,), on a device."""
    return torch.tensor(mean, device=device), torch.tensor(std, device=device)


def fitted(width: int, height: int, first: First) -> tuple[int, int]:
    """The size of an image after a first step: as large as fits into its square, rounded down."""
    scale = min(first.size / width, first.size / height)
    return max(1, int(width * scale)), max(1, int(height * scale))


def placed(width: int, height: int, wanted: Geometry) -> Canvas:
    """The canvas of an image, after its first step if there is one, before it is resized: itself
    to be stretched, or a square with the image in its middle.

    The odd pixel of the square's colour goes right and below.
    """
    if wanted.first:
        side = wanted.first.size
        width, height = fitted(width, height, wanted.first)
    elif wanted.pad == "stretch":
        return Canvas((width, height), color=wanted.color)
    else:
        side = max(width, height, wanted.size if wanted.pad == "at_least" else 1)
    corner = ((side - width) // 2, (side - height) // 2)
    return Canvas((side, side), corner, wanted.color)


def squares(pixels: torch.Tensor, geometries: Iterable[Geometry]) -> dict[Geometry, torch.Tensor]:
    """The (size, size, 3) uint8 squares of uint8 RGB (height, width, 3), on the image's device."""
    height, width, _ = pixels.shape
    every = list(geometries)
    plans = [_plan(width, height, wanted, pixels.is_cuda) for wanted in every]
    return dict(zip(every, resample(pixels, plans), strict=True))


@lru_cache(maxsize=4096)  # Nearly all images have the same longer side.
def _plan(width: int, height: int, wanted: Geometry, on_gpu: bool) -> list[Resize]:
    """The resizes that make the square of an image."""
    steps, inside = [], (width, height)
    if wanted.first:
        inside = fitted(width, height, wanted.first)
        whole = Canvas((width, height))
        steps.append(plan((width, height), whole, inside, wanted.first.resize, on_gpu))
    canvas = placed(width, height, wanted)
    square = (wanted.size, wanted.size)
    return [*steps, plan(inside, canvas, square, wanted.resize, on_gpu)]


def padding(size: tuple[int, int], wanted: Geometry) -> tuple[int, int, int, int]:
    """Where in the square of an image of `size` the image is: left, top, right, bottom."""
    canvas = placed(*size, wanted)
    inside = fitted(*size, wanted.first) if wanted.first else size
    low = [
        corner * wanted.size // side
        for corner, side in zip(canvas.corner, canvas.size, strict=True)
    ]
    high = [
        -(-(corner + length) * wanted.size // side)
        for corner, length, side in zip(canvas.corner, inside, canvas.size, strict=True)
    ]
    return low[0], low[1], high[0], high[1]
