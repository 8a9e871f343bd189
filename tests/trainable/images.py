"""Pictures of many kinds and the files they are saved as, some put together by hand."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, ImageOps


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def smooth(width: int = 96, height: int = 64, seed: int = 0) -> np.ndarray:
    """A soft picture, so that what WebP loses stays small beside any mistake."""
    corners = np.random.default_rng(seed).integers(30, 226, (3, 3, 3), dtype=np.uint8)
    image = Image.fromarray(corners).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image)


def shot(data: bytes) -> np.ndarray:
    """What a WebP file shows, after a check that it is one."""
    image = Image.open(io.BytesIO(data))
    assert (image.format, image.mode) == ("WEBP", "RGB")
    return np.asarray(image).astype(int)


def png(
    depth: int, colour: int, size: tuple[int, int], rows: bytes, *chunks: tuple[bytes, bytes]
) -> bytes:
    """A PNG file put together by hand: Pillow writes few of the kinds there are."""
    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)


def png_chunk(name: bytes, content: bytes, wrong: int = 0) -> bytes:
    """A chunk of a PNG file; `wrong` bits of its checksum are flipped."""
    crc = zlib.crc32(name + content) ^ wrong
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc)


def rows(pixels: np.ndarray) -> bytes:
    """Unfiltered PNG rows, big-endian."""
    return b"".join(b"\0" + row.astype(pixels.dtype.newbyteorder(">")).tobytes() for row in pixels)


PICTURE = smooth()
RGB = Image.fromarray(PICTURE)
GREY = RGB.convert("L")
GREY_3 = np.repeat(np.asarray(GREY)[..., None], 3, axis=2)
WIDE_GREY = np.asarray(GREY).astype(np.uint16) * 257
WIDE_RGB = PICTURE.astype(np.uint16) * 257
OPAQUE = RGB.copy()
OPAQUE.putalpha(255)
HOLE = OPAQUE.copy()
HOLE.putpixel((5, 7), (9, 9, 9, 254))
INDEXED = RGB.quantize(16, dither=Image.Dither.NONE)
INDEXED_3 = np.asarray(INDEXED.convert("RGB"))
CMYK = Image.fromarray(np.dstack([255 - PICTURE, np.zeros((64, 96), np.uint8)]), mode="CMYK")
FRAMES: dict[str, Any] = {"save_all": True, "append_images": [ImageOps.mirror(RGB)]}
BITS = np.asarray(GREY) > 128
BITS_3 = np.repeat(BITS[..., None], 3, axis=2) * 255
PARTS = np.array([[[10, 20, 30], [40, 50, 60]]], np.uint8).repeat(32, axis=1).repeat(64, axis=0)
LEVELS = np.asarray(GREY) >> 4  # 4-bit grey.

GOOD, CHANGED, BAD = (encoded(image, "PNG") for image in (RGB, GREY, HOLE))
KEPT = encoded(INDEXED.convert("RGB"), "WEBP")
