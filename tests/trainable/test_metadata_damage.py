"""Whole is about pixels: damage in metadata changes none, whatever it is and wherever."""

import struct
import time
import tracemalloc

from arena.trainable.judge import decode, judge
from arena.trainable.pixel_data import orientation
from tests.trainable.images import CMYK, PICTURE, RGB, encoded, png_chunk, shot
from tests.trainable.metadata import (
    BOMB,
    HEADER,
    IMAGE,
    JPEG_METADATA,
    JPEGS,
    KINDS,
    PNG_METADATA,
    TURNED,
    XMP,
    Writer,
    pixels,
    undamaged,
)

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

pytestmark = pytest.mark.slow


def damaged(draw: st.DrawFn, writer: Writer, name: bytes, content: bytes) -> bytes:
    """A part with damage of one of many kinds."""
    kinds = ["sum", "twice", "gone", "cut"]
    if name != b"acTL":  # With a right checksum it is taken at its word.
        kinds += ["bytes", "random", "bomb", "long"]
    kind = draw(st.sampled_from(kinds))
    at = draw(st.integers(0, len(content)))
    if kind == "sum":
        return writer(name, content, draw(st.integers(1, 2**32 - 1)))
    if kind == "cut":
        return writer(name, content[:at], 0)
    if kind == "bytes":  # Also of lengths inside of it.
        new = draw(st.binary(min_size=1, max_size=8))
        return writer(name, content[:at] + new + content[at + len(new) :], 0)
    if kind == "random":
        return writer(name, draw(st.binary(max_size=200)), draw(st.integers(0, 1)))
    if kind == "bomb":
        start = content[: content.rfind(b"\0") + 1] if at % 2 else b"k\0\0"
        return writer(name, start + BOMB, 0)
    if kind == "long":
        return writer(name, content + bytes(70_000), 0)
    return writer(name, content, 0) * (2 if kind == "twice" else 0)


@st.composite
def files(draw: st.DrawFn, name: str) -> tuple[bytes, bool]:
    """A file whose metadata is damaged and in any order, and whether its EXIF data is sound."""
    writer, metadata, before, behind = KINDS[name]
    order = draw(st.permutations(range(len(metadata))))
    hit = draw(st.sets(st.sampled_from(order), min_size=1, max_size=3))
    parts = [
        damaged(draw, writer, *metadata[i]) if i in hit else writer(*metadata[i], 0) for i in order
    ]
    sound = not any(TURNED[6:] in metadata[i][1] for i in hit)
    return before + b"".join(parts) + behind, sound


@pytest.mark.parametrize("name", KINDS)
def test_undamaged(name: str) -> None:
    """The orientation is EXIF's, not XMP's."""
    judgement = judge(undamaged(name), 1024, 95)
    assert judgement.verdict == "ok", judgement.reason
    turned = np.asarray(RGB.transpose(Image.Transpose.ROTATE_270)).astype(int)
    assert np.abs(shot(judgement.webp) - turned).mean() < 4


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=150, deadline=None)
@given(draw=st.data())
def test_damage_in_metadata_changes_no_pixel(name: str, draw: st.DataObject) -> None:
    data, exif_is_sound = draw.draw(files(name))
    image, _ = decode(data, 1024)
    assert np.array_equal(np.asarray(image), pixels(undamaged(name)))
    assert orientation(image.info["exif"]) == 6 or not exif_is_sound


@pytest.mark.parametrize("part", range(len(PNG_METADATA)))
def test_every_png_chunk_may_have_a_wrong_checksum(part: int) -> None:
    data = HEADER + png_chunk(*PNG_METADATA[part], wrong=1) + IMAGE
    assert np.array_equal(pixels(data), PICTURE)


@pytest.mark.parametrize(
    ("length", "data"),
    [
        (length, JPEGS[0][:2] + name + struct.pack(">H", length) + content + JPEGS[0][2:])
        for name, content in JPEG_METADATA
        if b"\xff" not in content  # Which would look like another marker.
        for length in (0, 1, 2, 7)
    ],
)
def test_a_segment_longer_than_it_says(length: int, data: bytes) -> None:
    """As libjpeg does, go on at the next marker."""
    assert np.array_equal(pixels(data), pixels(JPEGS[0]))


@pytest.mark.parametrize("name", KINDS)
def test_bombs_take_no_memory_and_no_time(name: str) -> None:
    writer, metadata, before, behind = KINDS[name]
    bombs = [
        writer(part, content[: content.rfind(b"\0") + 1] + BOMB, 0) for part, content in metadata
    ]
    data = before + b"".join(bombs * 20) + behind
    tracemalloc.start()
    began = time.process_time()
    decode(data, 1024)
    assert time.process_time() - began < 1
    assert tracemalloc.get_traced_memory()[1] < 3 * len(data) + 1e6
    tracemalloc.stop()


def test_exif_bombs() -> None:
    """Tags that each claim all the data as their value."""
    count = 65_000
    entries = b"".join(struct.pack("<HHII", tag, 7, 2**20, 8) for tag in range(count))
    exif = b"II\x2a\0\x08\0\0\0" + struct.pack("<H", count) + entries + bytes(2**20)
    began = time.process_time()
    assert judge(HEADER + png_chunk(b"eXIf", exif) + IMAGE, 1024, 80).verdict == "ok"
    assert time.process_time() - began < 1


@pytest.mark.parametrize("kind", ["EXIF", "XMP"])
def test_avif(kind: str) -> None:
    """Libavif itself rejects a file for such items."""
    exif = Image.Exif()
    exif[0x0112], exif[0x0131] = 6, "a program"
    whole = encoded(RGB, "AVIF", speed=10, exif=exif.tobytes(), xmp=XMP, quality=95)
    start = b"MM\0\x2a" if kind == "EXIF" else XMP
    at = whole.index(start)
    for length in (1, 4, 20):
        data = whole[:at] + b"\xff" * length + whole[at + length :]
        assert np.array_equal(pixels(data), pixels(whole))
        assert orientation(decode(data, 1024)[0].info["exif"]) == 6
    assert judge(whole.replace(b"av01", b"av02"), 1024, 80).verdict == "unreadable"


def test_cmyk_profile_in_parts() -> None:
    whole = encoded(CMYK, "JPEG", quality=95, icc_profile=bytes(100_000))
    assert decode(whole, 1024)[0].info["icc_profile"] == bytes(100_000)
    at = whole.index(b"ICC_PROFILE\0") - 4
    end = at + 2 + int.from_bytes(whole[at + 2 : at + 4])
    assert not decode(whole[:at] + whole[end:], 1024)[0].info["icc_profile"]
    twice = decode(whole[:end] + whole[at:], 1024)[0]
    assert twice.info["icc_profile"] == bytes(100_000)


TIFF_HEADS = st.sampled_from([b"II\x2a\0", b"MM\0\x2a", b"MM\x2a\0", b"II\0\x2a", b"", b"xx\0\0"])


@settings(max_examples=300, deadline=None)
@given(
    head=TIFF_HEADS,
    little=st.booleans(),
    entries=st.lists(
        st.tuples(
            st.sampled_from([0x0112, 0x0100, 0x0101]),
            st.sampled_from([3, 3, 4, 2, 9]),
            st.sampled_from([1, 1, 2, 0]),
            st.integers(0, 10),
        ),
        max_size=3,
        unique_by=lambda entry: entry[0],
    ),
    claimed=st.integers(0, 4),
    cut=st.integers(0, 30),
)
def test_orientation_is_pillows(
    head: bytes,
    little: bool,
    entries: list[tuple[int, int, int, int]],
    claimed: int,
    cut: int,
) -> None:
    order = "<" if head[:2] == b"II" else ">"
    body = struct.pack(order + "IH", 8, claimed)
    for tag, kind, count, value in entries:
        body += struct.pack(order + "HHI", tag, kind, count)
        body += struct.pack(order + ("HH" if kind == 3 else "I"), *([value] + [0] * (kind == 3)))
    tiff = head + body + bytes(4)
    exif = b"Exif\0\0" * little + tiff[: len(tiff) - cut]
    loaded = Image.Exif()
    try:
        loaded.load(exif)
        wanted = loaded.get(0x0112)
    except Exception:  # Pillow raises all sorts on damaged data; an image is upright then.
        wanted = None
    wanted = wanted if isinstance(wanted, int) else 1
    odd = any(kind == 9 or (kind == 4 and count == 2) for _, kind, count, _ in entries)
    assert orientation(exif) == wanted or odd
