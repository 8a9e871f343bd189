"""Damage in what makes the pixels is found; a missing end is none where every pixel is there."""

import io
import math

from arena.trainable.judge import decode, judge
from tests.trainable.images import FRAMES, INDEXED, RGB, WIDE_RGB, encoded, png, png_chunk, rows
from tests.trainable.metadata import HEADER, IMAGE, RGB_PNG, TURNED, pixels

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile


@settings(max_examples=150, deadline=None)
@given(
    size=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    mode=st.sampled_from(["L", "RGB", "CMYK"]),
    noise=st.sampled_from([1, 20, 60]),
    options=st.fixed_dictionaries(
        {
            "quality": st.integers(1, 90),
            "progressive": st.booleans(),
            "subsampling": st.integers(0, 2),
            "restart_marker_blocks": st.sampled_from([0, 0, 1, 7]),
        }
    ),
    longest=st.sampled_from([1024, 60, 20]),
)
def test_any_sound_jpeg_is_whole(
    size: tuple[int, int], mode: str, noise: int, options: dict[str, int], longest: int
) -> None:
    levels = np.random.default_rng(0).integers(0, noise, (size[1], size[0], 3), np.uint8)
    data = encoded(Image.fromarray(levels).convert(mode), "JPEG", **options)
    image, wanted = decode(data, longest)
    plain = JpegImageFile(io.BytesIO(data))
    plain.draft(None, (math.ceil(wanted[0] * 1.35), math.ceil(wanted[1] * 1.35)))
    assert np.array_equal(np.asarray(image), np.asarray(plain))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"progressive": False}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WEBP", {"quality": 95, "exif": TURNED}),
    ],
)
def test_no_end(kind: str, options: dict[str, object]) -> None:
    whole = encoded(RGB, kind, **options)
    lacking = {"JPEG": 2, "PNG": 12, "WEBP": len(TURNED) - 6}[kind]
    for cut in range(1, lacking + 1):
        assert np.array_equal(pixels(whole[:-cut]), pixels(whole))
    for cut in range(lacking + 10, lacking + 30):
        assert judge(whole[:-cut], 1024, 80).verdict == "unreadable"


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("end", [b"", b"\xff\xd9", b"\xff\xe1\0\4ab\xff\xd9"])
def test_jpeg_cut_in_a_scan(end: bytes, *, progressive: bool) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    whole = encoded(Image.fromarray(noise), "JPEG", progressive=progressive)
    # Closed by an end marker, libjpeg takes a cut last scan of several for a whole one.
    scan = whole.rindex(b"\xff\xda") if progressive and end else len(whole) - 2
    last = 0 if progressive else 40  # Bytes of the last block, in part filled unseen.
    for cut in range(whole.index(b"\xff\xda") + 4, scan - last, 23):
        assert judge(whole[:cut] + end, 1024, 80).verdict == "unreadable"


def test_a_scan_for_each_component() -> None:
    scans = []
    for channel in RGB.split():
        grey = encoded(channel, "JPEG", quality=95)
        frame, scan = grey.index(b"\xff\xc0"), grey.index(b"\xff\xda")
        scans.append(grey[scan:-2])
    header = b"\xff\xc0\0\x11" + grey[frame + 4 : frame + 9] + b"\3R\x11\0G\x11\0B\x11\0"
    for number, component in enumerate(b"RGB"):
        scans[number] = scans[number][:5] + bytes([component]) + scans[number][6:]
    start = grey[:2] + grey[20:frame] + header + grey[frame + 13 : scan]  # Without JFIF: RGB.
    whole = start + b"".join(scans)
    plain = np.asarray(JpegImageFile(io.BytesIO(whole + b"\xff\xd9")))
    assert np.array_equal(pixels(whole + b"\xff\xd9"), plain)
    assert np.abs(pixels(whole).astype(int) - np.asarray(RGB)).mean() < 4
    for lacking in (scans[0], scans[2], scans[2][-30:]):
        assert judge(whole.replace(lacking, b""), 1024, 80).verdict == "unreadable"


CRITICAL = {
    "png": RGB_PNG,
    "png palette": encoded(INDEXED, "PNG", transparency=200),
    "png 16-bit, key": png(16, 2, (96, 64), rows(WIDE_RGB.reshape(64, -1)), (b"tRNS", bytes(6))),
}


@pytest.mark.parametrize("name", CRITICAL)
@settings(max_examples=200, deadline=None)
@given(draw=st.data())
def test_damage_in_critical_png_chunks_is_found(name: str, draw: st.DataObject) -> None:
    whole = CRITICAL[name]
    # IEND is no matter, nor are the four bytes that say its length.
    at = draw.draw(st.integers(8, len(whole) - 13))
    new = bytes([whole[at] ^ draw.draw(st.integers(1, 255))])
    judgement = judge(whole[:at] + new + whole[at + 1 :], 1024, 80)
    assert judgement.verdict == "unreadable" or b"tRNS" not in whole[:at] + new + whole[at + 1 :]


def test_two_headers_and_two_palettes() -> None:
    again = png_chunk(b"IHDR", HEADER[16:29])
    assert judge(HEADER + again + IMAGE, 1024, 80).verdict == "unreadable"
    palette = (b"PLTE", bytes(range(48)))
    assert judge(RGB_PNG[:33] + png_chunk(*palette, wrong=1) + IMAGE, 1024, 80).verdict == "ok"


def test_animations_are_told_apart_by_their_frames() -> None:
    animated = encoded(RGB, "PNG", **FRAMES)
    control = animated.index(b"acTL") + 4
    assert (
        judge(animated[:control] + b"\xff" + animated[control + 1 :], 64, 80).verdict == "animated"
    )
    assert judge(animated[: animated.index(b"fdAT") - 8], 64, 80).verdict == "animated"
