"""A file of every kind that trainable.py may meet, and what is to become of it."""

import struct

from tests.trainable.images import (
    BITS,
    BITS_3,
    CMYK,
    FRAMES,
    GREY,
    GREY_3,
    HOLE,
    INDEXED,
    INDEXED_3,
    LEVELS,
    OPAQUE,
    PARTS,
    PICTURE,
    RGB,
    WIDE_GREY,
    WIDE_RGB,
    encoded,
    png,
    rows,
)

import numpy as np
from PIL import Image, ImageCms


def without_adobe(data: bytes) -> bytes:
    """A CMYK JPEG without Adobe's marker; then its values are ink."""
    at = data.index(b"\xff\xee")
    length = struct.unpack(">H", data[at + 2 : at + 4])[0]
    return data[:at] + data[at + 2 + length :]


def grey_png(depth: int, key: int | None) -> bytes:
    per = 8 // depth
    packed = np.zeros((64, 96 // per), np.uint8)
    levels = np.asarray(GREY) >> (8 - depth)
    for place in range(per):
        packed |= (levels[:, place::per] << (8 - depth * (place + 1))).astype(np.uint8)
    chunks = [] if key is None else [(b"tRNS", struct.pack(">H", key))]
    return png(depth, 0, (96, 64), rows(packed), *chunks)


def wide_png(key: tuple[int, int, int]) -> bytes:
    return png(16, 2, (96, 64), rows(WIDE_RGB.reshape(64, -1)), (b"tRNS", struct.pack(">3H", *key)))


def unused(levels: np.ndarray) -> int:
    return next(level for level in range(int(levels.max()) + 2) if level not in levels)


def first_wide() -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in WIDE_RGB[3, 4])
    return red, green, blue


def near_wide() -> tuple[int, int, int]:
    """Equal to a pixel in the high bytes only."""
    red, green, blue = first_wide()
    return red, green, blue ^ 1


# Name: (file, verdict, what an ok one looks like).
CASES: dict[str, tuple[bytes | None, str, np.ndarray | None]] = {
    "jpeg": (encoded(RGB, "JPEG", quality=95), "ok", PICTURE),
    "jpeg progressive": (encoded(RGB, "JPEG", quality=95, progressive=True), "ok", PICTURE),
    "jpeg grey": (encoded(GREY, "JPEG", quality=95), "ok", GREY_3),
    "jpeg 4:4:4": (encoded(RGB, "JPEG", quality=95, subsampling=0), "ok", PICTURE),
    "jpeg kept rgb": (encoded(RGB, "JPEG", quality=95, keep_rgb=True), "ok", PICTURE),
    "jpeg of several (MPO)": (encoded(RGB, "MPO", quality=95, **FRAMES), "ok", PICTURE),
    "cmyk, Adobe": (encoded(CMYK, "JPEG", quality=95), "ok", PICTURE),
    "cmyk, ink": (
        without_adobe(
            encoded(Image.fromarray(255 - np.asarray(CMYK), mode="CMYK"), "JPEG", quality=95)
        ),
        "ok",
        PICTURE,
    ),
    "cmyk, broken profile": (
        encoded(CMYK, "JPEG", quality=95, icc_profile=b"no profile"),
        "ok",
        PICTURE,
    ),
    "cmyk, RGB profile": (
        encoded(
            CMYK,
            "JPEG",
            quality=95,
            icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        ),
        "ok",
        PICTURE,
    ),
    "png": (encoded(RGB, "PNG"), "ok", PICTURE),
    "png grey": (encoded(GREY, "PNG"), "ok", GREY_3),
    "png 1 bit": (encoded(Image.fromarray(BITS), "PNG"), "ok", BITS_3),
    "png 4-bit grey": (grey_png(4, None), "ok", np.repeat(LEVELS[..., None] * 17, 3, axis=2)),
    "png 16-bit grey": (png(16, 0, (96, 64), rows(WIDE_GREY)), "ok", GREY_3),
    "png 16-bit grey, Pillow": (encoded(Image.fromarray(WIDE_GREY), "PNG"), "ok", GREY_3),
    "png 16-bit rgb": (png(16, 2, (96, 64), rows(WIDE_RGB.reshape(64, -1))), "ok", PICTURE),
    "png 16-bit rgba, opaque": (
        png(16, 6, (96, 64), rows(np.dstack([WIDE_RGB, 0 * WIDE_GREY + 65535]).reshape(64, -1))),
        "ok",
        PICTURE,
    ),
    "png 16-bit rgba": (
        png(16, 6, (96, 64), rows(np.dstack([WIDE_RGB, WIDE_GREY]).reshape(64, -1))),
        "transparent",
        None,
    ),
    "png 16-bit grey and alpha, opaque": (
        png(16, 4, (96, 64), rows(np.dstack([WIDE_GREY, 0 * WIDE_GREY + 65535]).reshape(64, -1))),
        "ok",
        GREY_3,
    ),
    "png 16-bit grey and alpha": (
        png(16, 4, (96, 64), rows(np.dstack([WIDE_GREY, WIDE_GREY]).reshape(64, -1))),
        "transparent",
        None,
    ),
    "png palette": (encoded(INDEXED, "PNG"), "ok", INDEXED_3),
    "png palette, lost": (
        png(8, 3, (96, 64), rows(np.asarray(INDEXED))),
        "unreadable",
        None,
    ),
    "png rgba, opaque": (encoded(OPAQUE, "PNG"), "ok", PICTURE),
    "png rgba, one pixel of 254": (encoded(HOLE, "PNG"), "transparent", None),
    "png grey and alpha, opaque": (encoded(OPAQUE.convert("LA"), "PNG"), "ok", GREY_3),
    "png grey and alpha": (encoded(HOLE.convert("LA"), "PNG"), "transparent", None),
    "png palette, key in use": (encoded(INDEXED, "PNG", transparency=3), "transparent", None),
    "png palette, key not in use": (encoded(INDEXED, "PNG", transparency=200), "ok", INDEXED_3),
    "png palette, alphas in use": (
        encoded(INDEXED, "PNG", transparency=bytes([255, 255, 128])),
        "transparent",
        None,
    ),
    "png palette, alphas opaque": (
        encoded(INDEXED, "PNG", transparency=b"\xff" * 16),
        "ok",
        INDEXED_3,
    ),
    "png palette, alphas not in use": (
        encoded(INDEXED, "PNG", transparency=b"\xff" * 16 + b"\x80\x70"),
        "ok",
        INDEXED_3,
    ),
    "png rgb, key in use": (
        encoded(RGB, "PNG", transparency=tuple(PICTURE[3, 4].tolist())),
        "transparent",
        None,
    ),
    "png rgb, key not in use": (encoded(RGB, "PNG", transparency=(1, 2, 3)), "ok", PICTURE),
    "png rgb, key in use by parts": (
        # Each value occurs in its channel, never the three in one pixel.
        encoded(
            Image.fromarray(PARTS),
            "PNG",
            transparency=(10, 50, 30),
        ),
        "ok",
        PARTS,
    ),
    "png grey, key in use": (
        encoded(GREY, "PNG", transparency=int(np.asarray(GREY)[0, 0])),
        "transparent",
        None,
    ),
    "png grey, key not in use": (
        encoded(GREY, "PNG", transparency=unused(np.asarray(GREY))),
        "ok",
        GREY_3,
    ),
    "png 1 bit, key in use": (
        encoded(Image.fromarray(BITS), "PNG", transparency=1),
        "transparent",
        None,
    ),
    "png 1 bit, key not in use": (
        png(1, 0, (96, 64), rows(np.zeros((64, 12), np.uint8)), (b"tRNS", b"\0\1")),
        "ok",
        np.zeros((64, 96, 3)),
    ),
    "png 2-bit grey, key in use": (grey_png(2, 2), "transparent", None),
    "png 4-bit grey, key in use": (grey_png(4, int(LEVELS[5, 5])), "transparent", None),
    "png 4-bit grey, key not in use": (
        grey_png(4, unused(LEVELS)),
        "ok",
        np.repeat(LEVELS[..., None] * 17, 3, axis=2),
    ),
    "png 16-bit grey, key in use": (
        png(16, 0, (96, 64), rows(WIDE_GREY), (b"tRNS", struct.pack(">H", WIDE_GREY[2, 2]))),
        "transparent",
        None,
    ),
    "png 16-bit grey, key not in use": (
        png(16, 0, (96, 64), rows(WIDE_GREY), (b"tRNS", struct.pack(">H", WIDE_GREY[2, 2] ^ 1))),
        "ok",
        GREY_3,
    ),
    "png 16-bit rgb, key in use": (wide_png(first_wide()), "transparent", None),
    "png 16-bit rgb, key nearly in use": (wide_png(near_wide()), "ok", PICTURE),
    "png rgb, opaque, interlaced by hand": (
        encoded(RGB, "PNG", interlace=1),
        "ok",
        PICTURE,
    ),
    "apng": (encoded(RGB, "PNG", **FRAMES), "animated", None),
    "apng with a default image": (
        encoded(RGB, "PNG", default_image=True, **FRAMES),
        "animated",
        None,
    ),
    "apng of one frame": (encoded(RGB, "PNG", save_all=True), "ok", PICTURE),
    "webp": (encoded(RGB, "WEBP", quality=95), "ok", PICTURE),
    "webp lossless": (encoded(RGB, "WEBP", lossless=True), "ok", PICTURE),
    "webp rgba, opaque": (encoded(OPAQUE, "WEBP", lossless=True), "ok", PICTURE),
    "webp rgba": (encoded(HOLE, "WEBP", lossless=True), "transparent", None),
    "webp animated": (encoded(RGB, "WEBP", **FRAMES), "animated", None),
    "avif": (encoded(RGB, "AVIF", quality=95, speed=10), "ok", PICTURE),
    "avif rgba": (encoded(HOLE, "AVIF", quality=100, speed=10), "transparent", None),
    "avif animated": (encoded(RGB, "AVIF", speed=10, **FRAMES), "animated", None),
    "gif": (encoded(RGB, "GIF"), "unreadable", None),
    "gif animated": (encoded(RGB, "GIF", **FRAMES), "animated", None),
    "empty": (b"", "unreadable", None),
    "text": (b"<html>404 Not Found</html>", "unreadable", None),
    "no file": (None, "missing", None),
    "jpeg, more behind": (encoded(RGB, "JPEG", quality=95) + b"PK\3\4" * 99, "ok", PICTURE),
    "png, more behind": (encoded(RGB, "PNG") + b"PK\3\4" * 99, "ok", PICTURE),
    "webp, more behind": (encoded(RGB, "WEBP", quality=95) + b"PK\3\4" * 99, "ok", PICTURE),
}
for kind in ("EPS", "TIFF", "BMP", "PPM", "ICO", "TGA", "PCX", "SGI", "JPEG2000", "PDF", "DDS"):
    CASES[f"{kind} named .jpg"] = (encoded(RGB, kind), "unreadable", None)
CASES["PSD named .jpg"] = (b"8BPS\0\1" + bytes(2000), "unreadable", None)


def varied(count: int) -> dict[int, bytes | None]:
    """Originals of every verdict."""
    kinds = [case[0] for case in CASES.values()]
    return {post: kinds[post % len(kinds)] for post in range(1, count + 1)}
