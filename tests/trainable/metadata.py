"""Files that carry every kind of metadata, in parts that a test can damage."""

import struct
import zlib
from collections.abc import Callable

from arena.trainable.judge import decode
from tests.trainable.images import RGB, encoded, png_chunk

import numpy as np
from PIL import ImageCms

Parts = list[tuple[bytes, bytes]]  # Names and contents of the parts of a file.

TURNED = b"Exif\0\0II\x2a\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta><rdf tiff:Orientation="3"/></x:xmpmeta>'
BOMB = zlib.compress(bytes(50_000_000), 9)
PHOTOSHOP = b"Photoshop 3.0\0" + b"8BIM\x03\xed\0\0\0\0\0\x10" + bytes(16)

PNG_METADATA: Parts = [
    (b"gAMA", struct.pack(">I", 45455)),
    (b"cHRM", struct.pack(">8I", *[31270] * 8)),
    (b"sRGB", b"\0"),
    (b"iCCP", b"icc\0\0" + zlib.compress(PROFILE)),
    (b"sBIT", b"\x08\x08\x08"),
    (b"bKGD", bytes(6)),
    (b"pHYs", struct.pack(">IIB", 2835, 2835, 1)),
    (b"tIME", struct.pack(">HBBBBB", 2024, 1, 1, 0, 0, 0)),
    (b"eXIf", TURNED[6:]),
    (b"acTL", struct.pack(">II", 1, 0)),
    (b"fcTL", struct.pack(">5IHHBB", 0, 96, 64, 0, 0, 1, 10, 0, 0)),
    (b"tEXt", b"Comment\0text"),
    (b"tEXt", b"transparency\0text"),
    (b"tEXt", b"exif\0text"),
    (b"zTXt", b"Comment\0\0" + zlib.compress(b"text")),
    (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP)),
    (b"prVt", b"private"),
]
JPEG_METADATA: Parts = [
    (b"\xff\xe1", TURNED),
    (b"\xff\xe1", b"http://ns.adobe.com/xap/1.0/\0" + XMP),
    (b"\xff\xe2", b"ICC_PROFILE\0\1\1" + PROFILE),
    (b"\xff\xe2", b"MPF\0II\x2a\0" + bytes(40)),
    (b"\xff\xe2", b"FPXR\0" + bytes(20)),
    (b"\xff\xec", b"Ducky" + bytes(20)),
    (b"\xff\xed", PHOTOSHOP),
    (b"\xff\xfe", b"a comment"),
]
WEBP_METADATA: Parts = [(b"ICCP", PROFILE), (b"EXIF", TURNED), (b"XMP ", XMP)]


def segment(name: bytes, content: bytes, wrong: int = 0) -> bytes:
    return name + struct.pack(">H", len(content[:65533]) + 2) + content[:65533]


def webp_chunk(name: bytes, content: bytes, wrong: int = 0) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


Writer = Callable[[bytes, bytes, int], bytes]
RGB_PNG = encoded(RGB, "PNG")
HEADER, IMAGE = RGB_PNG[:33], RGB_PNG[33:]
BARE_WEBP = encoded(RGB, "WEBP", quality=95)[12:]
CANVAS = webp_chunk(b"VP8X", bytes([0x2C, 0, 0, 0, 95, 0, 0, 63, 0, 0]))
JPEGS = [
    encoded(RGB, "JPEG", quality=95, progressive=progressive, subsampling=subsampling)
    for progressive in (False, True)
    for subsampling in (0, 2)
]
# Name: (how a part is written, its metadata, what stands before and behind them).
KINDS: dict[str, tuple[Writer, Parts, bytes, bytes]] = {
    "png": (png_chunk, PNG_METADATA, HEADER, IMAGE),
    "png, metadata last": (png_chunk, PNG_METADATA, RGB_PNG[:-12], RGB_PNG[-12:]),
    "jpeg": (segment, JPEG_METADATA, JPEGS[0][:2], JPEGS[0][2:]),
    "jpeg progressive": (segment, JPEG_METADATA, JPEGS[3][:2], JPEGS[3][2:]),
    "webp": (webp_chunk, WEBP_METADATA, b"RIFF\xff\xff\0\0WEBP" + CANVAS, BARE_WEBP),
    "webp, metadata last": (
        webp_chunk,
        WEBP_METADATA,
        b"RIFF\xff\xff\0\0WEBP" + CANVAS + BARE_WEBP,
        b"",
    ),
}


def undamaged(name: str) -> bytes:
    writer, metadata, before, behind = KINDS[name]
    return before + b"".join(writer(*part, 0) for part in metadata) + behind


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(decode(data, 1024)[0])
