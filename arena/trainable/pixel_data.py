"""An image file reduced to what its pixels depend on, as it is handed to a decoder.

Pillow's decoders also read metadata (texts, colour profiles, thumbnails), and reject a file, or
take much memory, for damage there that leaves every pixel as it was. So they are given only the
parts that make pixels. Of the metadata two things are kept aside: EXIF, for the orientation, and a
CMYK picture's colour profile. All functions raise ValueError where parts that make pixels are cut
or have a wrong checksum; damage inside of those is left for the decoder to find.
"""

import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

PNG_CHECKED = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")
PNG_WITH_PALETTE = 3  # Colour types.
PNG_WITH_KEY = (0, 2, 3)

# The next marker: between segments, where libjpeg passes over restart markers and rubbish, and
# inside a scan, which ends at anything but a restart marker or a byte FF (written FF 00).
JPEG_SEGMENT = re.compile(rb"\xff[\x02-\xcf\xd9-\xfe]")
JPEG_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
JPEG_END = b"\xff\xd9"
ALL_COEFFICIENTS = 2**64 - 1
# libjpeg reads up to 8 bytes ahead. Given that many behind a scan, but no end marker, it decodes a
# whole scan, and waits for more where one is cut; at an end marker it would fill the gap with grey.
# They are bytes FF, as no code consists of ones alone.
READ_AHEAD = b"\xff\x00" * 8
# Where there is no end marker: what the last scan, if it is cut, goes on with.
GOINGS_ON = (bytes(range(1, 250, 4)), bytes(range(249, 1, -4)))

WEBP_PIXELS = (b"VP8X", b"ANIM", b"ANMF", b"ALPH", b"VP8 ", b"VP8L")
WEBP_HAS_EXIF = 0x08
WEBP_HAS_METADATA = 0x20 | 0x08 | 0x04  # Profile, EXIF, XMP.


@dataclass(frozen=True, slots=True)
class PixelData:
    """A file of the same pixels, and what else the look of the image depends on.

    `exif` and `profile` (ICC, of a CMYK JPEG) are empty where there is none. `variants` are files
    that show the same pixels if none is lacking: the decoder alone would not tell.
    """

    file: bytes
    exif: bytes = b""
    profile: bytes = b""
    animated: bool = False
    variants: tuple[bytes, ...] = ()


def png(data: bytes) -> PixelData:
    """The header, the image data and, where they have a meaning, palette and transparent colour.

    The frames of an animation are left out: its `animated` is set.
    """
    file = io.BytesIO()
    file.write(data[:8])
    view = memoryview(data)
    colour = -1
    exif = b""
    animated = False
    at = 8
    while at + 8 <= len(data):
        name, start = data[at + 4 : at + 8], at + 8
        end = start + int.from_bytes(data[at : at + 4])
        if name == b"IEND":
            break
        if name in PNG_CHECKED:
            needed = {b"PLTE": colour == PNG_WITH_PALETTE, b"tRNS": colour in PNG_WITH_KEY}
            if needed.get(name, True):
                if not _intact(view, at, end):
                    raise ValueError(f"{name.decode()} is cut short or has a wrong checksum")
                if name == b"IHDR":
                    if colour != -1:
                        raise ValueError("has two headers")
                    colour = data[start + 9] if end - start > 9 else -1
                file.write(view[at : end + 4])
        elif name == b"eXIf":
            exif = exif or data[start:end]
        elif name == b"acTL":
            frames = int.from_bytes(data[start : start + 4]) if end - start == 8 else 0
            animated = animated or (frames > 1 and _intact(view, at, end))
        elif name == b"fdAT":
            animated = True
        at = end + 4
    return PixelData(file.getvalue(), exif, animated=animated)


def _intact(view: memoryview, at: int, end: int) -> bool:
    """Whether a PNG chunk, whose checksum stands at `end`, is there and fits its checksum."""
    return end + 4 <= len(view) and zlib.crc32(view[at + 4 : end]) == int.from_bytes(
        view[end : end + 4]
    )


def jpeg(data: bytes) -> PixelData:
    """Everything but application segments and comments; of those, what tells the colour space."""
    file = io.BytesIO()
    file.write(data[:2])
    exif: list[bytes] = []
    profile: dict[int, bytes] = {}
    frame, header = 0, b""  # The frame's marker and what it says.
    got: dict[int, int] = {}  # By component: which coefficients have come with all their bits.
    in_one_scan = ended = False
    for marker, at, end, scan_end in _jpeg_segments(data):
        content = data[at + 4 : end]
        if marker == JPEG_END[1]:
            ended = True
        elif marker == 0xE1 and content.startswith(b"Exif\0\0"):
            exif.append(content[6:] if exif else content)
        elif marker == 0xE2 and content.startswith(b"ICC_PROFILE\0") and len(content) > 14:
            profile.setdefault(content[12], content[13:])
        elif in_one_scan or _without_effect(marker, content, started=bool(got)):
            continue
        elif end > len(data):
            raise ValueError("is cut short")
        else:
            file.write(data[at:scan_end])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame, header = marker, content
        elif marker == 0xDA:
            _note_scan(got, frame == 0xC2, content)
            in_one_scan = frame in (0xC0, 0xC1) and content[:1] == header[5:6]
    # Each part of a profile has its number, from 1, and before its content how many there are.
    count = min(profile.values())[0] if profile else 0
    cmyk = header[5:6] == b"\4" and sorted(profile) == list(range(1, count + 1))
    joined = b"".join(profile[number][1:] for number in sorted(profile)) if cmyk else b""
    variants: tuple[bytes, ...] = ()
    end_marker = b"" if in_one_scan else JPEG_END
    if frame not in (0xC0, 0xC1, 0xC2):  # None of the Huffman codes, to which the rest applies.
        end_marker = JPEG_END if ended else b""
    elif any(got.get(component) != ALL_COEFFICIENTS for component in header[6::3]):
        raise ValueError("lacks some of its scans")
    elif not ended:
        variants = tuple(file.getvalue() + more + end_marker for more in GOINGS_ON)
    file.write(READ_AHEAD if in_one_scan else end_marker)
    return PixelData(file.getvalue(), b"".join(exif), joined, variants=variants)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Each segment up to the end marker: its marker, where it begins, where it and its scan end.

    The file may end before the segment does.
    """
    at = 2
    while found := JPEG_SEGMENT.search(data, at):
        start, marker = found.start(), data[found.start() + 1]
        at = end = start + 2
        if marker != JPEG_END[1]:
            at = end = end + max(2, int.from_bytes(data[end : end + 2]))
        if marker == 0xDA:
            after = JPEG_SCAN_END.search(data, end)
            # The file may end in the middle of the end marker.
            at = after.start() if after else max(end, len(data.rstrip(b"\xff")))
        yield marker, start, end, at
        if marker == JPEG_END[1]:
            return


def _without_effect(marker: int, content: bytes, *, started: bool) -> bool:
    """Whether libjpeg passes over a segment: it looks for JFIF's and Adobe's before any scan."""
    if marker == 0xE0 and content.startswith(b"JFIF\0") and len(content) >= 14:
        return started
    if marker == 0xEE and content.startswith(b"Adobe") and len(content) >= 12:
        return started
    return 0xE0 <= marker <= 0xEF or marker == 0xFE


def _note_scan(got: dict[int, int], progressive: bool, header: bytes) -> None:
    """Note the coefficients that are complete after this scan."""
    count = header[0] if header else 0
    first, last, bits = header[1 + 2 * count :][:3].ljust(3, b"\0")
    coefficients = ALL_COEFFICIENTS
    if progressive:
        complete = bits % 16 == 0 and first <= last < 64
        coefficients = 2 ** (last + 1) - 2**first if complete else 0
    for component in header[1 : 1 + 2 * count : 2]:
        got[component] = got.get(component, 0) | coefficients


def webp(data: bytes) -> PixelData:
    """The chunks of the image or of the frames, and a header that tells of no others.

    The file's own size, in its first bytes, is not relied on.
    """
    body = io.BytesIO()
    exif = b""
    flags = 0
    at = 12
    while at + 8 <= len(data):
        name, start = data[at : at + 4], at + 8
        length = int.from_bytes(data[at + 4 : start], "little")
        end = start + length
        if name in WEBP_PIXELS:
            if end > len(data):
                raise ValueError("is cut short")
            chunk = bytearray(data[at:end])
            if name == b"VP8X" and length:
                flags = chunk[8]
                chunk[8] &= ~WEBP_HAS_METADATA
            body.write(chunk + b"\0" * (length % 2))
        elif name == b"EXIF" and flags & WEBP_HAS_EXIF:
            exif = exif or data[start:end]
        at = end + length % 2
    content = body.getvalue()
    size = (len(content) + 4).to_bytes(4, "little")
    return PixelData(b"RIFF" + size + b"WEBP" + content, exif)


def avif(data: bytes) -> PixelData:
    """The file with its EXIF and XMP items renamed, so that the decoder passes over them.

    Its orientation is no matter of EXIF, but of properties of the image, which the decoder reads.
    """
    changed = bytearray(data)
    for start, end in _boxes(data, 0, len(data), b"meta"):
        for table, table_end in _boxes(data, start + 4, end, b"iinf"):
            entries = table + (6 if data[table : table + 1] == b"\0" else 8)
            for entry, _ in _boxes(data, entries, table_end, b"infe"):
                kind = entry + (8 if data[entry : entry + 1] == b"\2" else 10)
                if data[kind : kind + 4] in (b"Exif", b"mime"):
                    changed[kind : kind + 4] = b"skip"
    return PixelData(bytes(changed))


def _boxes(data: bytes, at: int, end: int, name: bytes) -> Iterator[tuple[int, int]]:
    """Where the contents of the boxes of this name begin and end."""
    while at + 8 <= end:
        size, start = int.from_bytes(data[at : at + 4]), at + 8
        if size == 1:
            size, start = int.from_bytes(data[start : start + 8]), at + 16
        after = end if size == 0 else at + size
        if not start <= after <= end:
            return
        if data[at + 4 : at + 8] == name:
            yield start, after
        at = after


def orientation(exif: bytes) -> int:
    """The EXIF orientation, 1 (upright) where there is none or the EXIF data is damaged.

    Looks at nothing else in it: the values of other tags may overlap, and add up to any size.
    """
    tiff = re.sub(rb"^(Exif\0\0){1,2}", b"", exif)
    order: Literal["little", "big"] = "little" if tiff[:2] == b"II" else "big"
    if tiff[:4] not in (b"II\x2a\0", b"II\0\x2a", b"MM\0\x2a", b"MM\x2a\0"):
        return 1

    def number(at: int, size: int) -> int:
        return int.from_bytes(tiff[at : at + size], order)

    first = number(4, 4) + 2
    for entry in range(first, first + 12 * number(first - 2, 2), 12):
        if entry + 12 > len(tiff):
            break
        size = {3: 2, 4: 4}.get(number(entry + 2, 2), 0)
        if number(entry, 2) == 0x0112 and 0 < size * number(entry + 4, 4) <= 4:
            return number(entry + 8, size)
    return 1
