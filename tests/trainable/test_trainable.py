"""trainable.py through its script: verdicts, what comes out, hostile files, faults and kills."""

import io
import itertools
import json
import os
import pickle
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from arena.trainable.judge import VERDICTS, judge, shrink, transparent
from tests.helpers import PATIENCE, doomed, kills, small_disk, until

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

ROOT = Path(__file__).parents[2]
KILLS = kills(12)  # Fifty take some two minutes.


def run(data: Path, *options: str, code: int = 0, **more: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "trainable.py", "--data", str(data), "--workers", "2", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=250,
        **more,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def start(data: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "trainable.py", "--data", str(data), "--workers", "2", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def make(data: Path, originals: dict[int, bytes | None]) -> Path:
    (data / "originals").mkdir(parents=True)
    with (data / "posts.jsonl").open("a") as file:
        for post, content in originals.items():
            file.write(json.dumps({"id": post, "tag_string": "solo"}) + "\n")
            if content is not None:
                (data / "originals" / str(post)).write_bytes(content)
    return data


def records(data: Path) -> dict[int, dict[str, Any]]:
    lines = (data / "trainable.jsonl").read_text().splitlines()
    return {record["id"]: record for record in map(json.loads, lines)}


def verdicts(data: Path) -> dict[int, str]:
    return {post: record["verdict"] for post, record in records(data).items()}


def results(data: Path) -> dict[str, bytes]:
    """Everything a run leaves behind."""
    found = {path.name: path.read_bytes() for path in (data / "resized").iterdir()}
    found["trainable.jsonl"] = (data / "trainable.jsonl").read_bytes()
    return found


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

    def chunk(name: bytes, content: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + crc

    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


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


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """All CASES through one run of the script: the folder and what it printed."""
    data = tmp_path_factory.mktemp("cases") / "data"
    make(data, {number: case[0] for number, case in enumerate(CASES.values(), 1)})
    return data, run(data).stdout


@pytest.mark.parametrize("name", CASES)
def test_verdict_and_look(judged: tuple[Path, str], name: str) -> None:
    number = list(CASES).index(name) + 1
    _, wanted, look = CASES[name]
    record = records(judged[0])[number]
    assert record["verdict"] == wanted, record["reason"]
    assert bool(record["reason"]) == (wanted != "ok")
    path = judged[0] / "resized" / f"{number}.webp"
    assert path.exists() == (wanted == "ok")
    if look is not None:
        content = path.read_bytes()
        assert len(content) == record["bytes"]
        difference = np.abs(shot(content) - look)
        assert difference.mean() < 5, difference.mean()


def test_counts_and_order(judged: tuple[Path, str]) -> None:
    found = [case[1] for case in CASES.values()]
    kinds = ("ok", "transparent", "animated", "unreadable", "missing")
    counts = ", ".join(f"{found.count(kind)} {kind}" for kind in kinds)
    assert judged[1] == f"{counts}; 0 already judged\n"
    assert list(records(judged[0])) == list(range(1, len(CASES) + 1))


def test_cmyk_profile_is_followed() -> None:
    # Pillow can make no CMYK profile, so this takes one of the system's.
    folders = (Path("/usr/share/color"), Path("/usr/share/ghostscript"))
    found = [path for folder in folders for path in folder.rglob("*.icc")]
    profiles = [path for path in found if path.read_bytes()[16:20] == b"CMYK"]
    if not profiles:
        # .ci/run installs one, so there this test always runs.
        pytest.skip("no CMYK colour profile on this machine")
    profile = profiles[0].read_bytes()
    wanted = ImageCms.profileToProfile(
        CMYK, io.BytesIO(profile), ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    got = shot(judge(encoded(CMYK, "JPEG", quality=95, icc_profile=profile), 1024, 80).webp)
    assert np.abs(got - np.asarray(wanted)).mean() < 4


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("value", range(1, 9))
def test_orientation(kind: str, value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    options = {"AVIF": {"speed": 10}, "PNG": {}}.get(kind, {"quality": 95})
    data = encoded(Image.fromarray(smooth(80, 40)), kind, exif=exif, **options)
    wanted = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))).astype(int)
    got = shot(judge(data, 1024, 95).webp)
    assert got.shape == wanted.shape == ((40, 80, 3) if value < 5 else (80, 40, 3))
    assert np.abs(got - wanted).mean() < 4


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0", b"Exif\0\0MM\0\x2a\xff\xff\xff\xff", b"x" * 99])
def test_damaged_exif_is_no_orientation(exif: bytes) -> None:
    for kind in ("JPEG", "PNG", "WEBP"):
        assert judge(encoded(RGB, kind, exif=exif), 1024, 80).verdict == "ok"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((1, 1), (1, 1)),
        ((1024, 700), (1024, 700)),
        ((1025, 700), (1024, 699)),
        ((1, 5000), (1, 1024)),
        ((5000, 1), (1024, 1)),
        ((9001, 3), (1024, 1)),
        ((2100, 2), (1024, 1)),
        ((3001, 2003), (1024, 683)),
        ((4501, 3003), (1024, 683)),
        ((6007, 1001), (1024, 171)),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_size_is_pillows_bicubic(size: tuple[int, int], wanted: tuple[int, int], kind: str) -> None:
    data = encoded(Image.fromarray(smooth(*size)), kind, quality=95)
    got = shot(judge(data, 1024, 95).webp)
    full = Image.open(io.BytesIO(data)).convert("RGB").resize(wanted, Image.Resampling.BICUBIC)
    assert got.shape == (wanted[1], wanted[0], 3)
    assert np.abs(got - np.asarray(full)).mean() < 3


def test_shrink_is_pillows_bicubic() -> None:
    noise = np.random.default_rng(3).integers(0, 256, (900, 1301, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    for size in ((1024, 708), (700, 484), (655, 450)):
        wanted = np.asarray(image.resize(size, Image.Resampling.BICUBIC)).astype(int)
        difference = np.abs(np.asarray(shrink(image, size)) - wanted)
        assert difference.max() <= 2
        assert difference.mean() < 0.05


@pytest.mark.parametrize("mode", ["LA", "La", "PA", "RGBA", "RGBa"])
def test_every_alpha_mode(mode: str) -> None:
    for alpha, wanted in ((255, False), (254, True), (0, True)):
        image = Image.new(mode, (3, 2), (*[0] * (len(Image.new(mode, (1, 1)).getbands()) - 1), 255))
        image.putpixel((1, 1), (*[0] * (len(image.getbands()) - 1), alpha))
        assert transparent(image) is wanted


@pytest.mark.slow
def test_max_size_and_quality(tmp_path: Path) -> None:
    data = make(tmp_path / "d", {1: encoded(RGB, "PNG")})
    run(data, "--max-size", "40", "--quality", "10")
    assert Image.open(data / "resized" / "1.webp").size == (40, 27)
    assert run(data, "--max-size", "40", "--quality", "10").stdout.endswith("1 already judged\n")
    small = (data / "resized" / "1.webp").stat().st_size
    assert run(data, "--max-size", "40").stdout.endswith("; 0 already judged\n")
    assert (data / "resized" / "1.webp").stat().st_size > small
    for bad in (("--max-size", "0"), ("--max-size", "20000"), ("--quality", "101")):
        assert run(data, *bad, code=2).stderr.count("\n") == 1


# Hostile files.


@pytest.mark.slow
def test_only_the_allowed_decoders_are_loaded() -> None:
    code = (
        "import sys, pickle, PIL.Image; from arena.trainable.judge import judge\n"
        "def no(*a, **k): raise SystemExit('Image.open was called')\n"
        "PIL.Image.open = no\n"
        "for data in pickle.load(sys.stdin.buffer): judge(data, 64, 80)\n"
        "print(*sorted(m for m in sys.modules if m.endswith('ImagePlugin')))\n"
    )
    files = pickle.dumps([case[0] for case in CASES.values() if case[0] is not None])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, input=files, capture_output=True, check=True
    )
    # TIFF's module reads EXIF data, which has TIFF's structure; GIF's counts frames; Image.save
    # imports BMP's and PPM's with the rest of the common ones.
    names = ("Avif", "Bmp", "Gif", "Jpeg", "Png", "Ppm", "Tiff", "WebP")
    allowed = {f"PIL.{name}ImagePlugin" for name in names}
    assert set(done.stdout.decode().split()) <= allowed


WHOLE = {
    name: CASES[name][0] or b""
    for name in (
        "jpeg",
        "jpeg progressive",
        "cmyk, Adobe",
        "png",
        "png 16-bit rgb",
        "png palette",
        "apng",
        "webp",
        "webp lossless",
        "webp animated",
        "avif",
        "gif animated",
    )
}


@pytest.mark.parametrize("name", WHOLE)
def test_cut_at_every_tenth_never_passes(name: str) -> None:
    whole = WHOLE[name]
    for tenth in range(10):
        assert judge(whole[: len(whole) * tenth // 10], 1024, 80).verdict != "ok"
    if name != "avif":  # Its last bytes may be ones that no pixel needs.
        assert judge(whole[:-1], 1024, 80).verdict != "ok"


@pytest.mark.parametrize("name", [name for name in WHOLE if CASES[name][1] == "ok"])
def test_flipped_bytes_of_a_header(name: str) -> None:
    whole = WHOLE[name]
    for at in range(min(len(whole), 160)):
        flipped = whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]
        assert judge(flipped, 1024, 80).verdict in VERDICTS


@pytest.mark.slow
@settings(max_examples=400)
@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_damage_of_any_kind_is_judged(name: str, draw: st.DataObject) -> None:
    damaged = bytearray(WHOLE[name])
    places = st.integers(0, len(damaged) - 1)
    for _ in range(draw.draw(st.integers(1, 6))):
        damaged[min(draw.draw(places), len(damaged) - 1)] = draw.draw(st.integers(0, 255))
    start, end = draw.draw(places), draw.draw(places)
    if draw.draw(st.booleans()):
        del damaged[start:end]
    damaged += draw.draw(st.binary(max_size=40))
    judgement = judge(mend(bytes(damaged)), 64, 80)
    assert judgement.verdict in VERDICTS
    assert bool(judgement.webp) == (judgement.verdict == "ok") == (not judgement.reason)


@settings(max_examples=200)
@given(
    st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF....WEBPVP8X"]),
    st.binary(max_size=300),
)
def test_rubbish_is_judged(start: bytes, rest: bytes) -> None:
    assert judge(start + rest, 64, 80).verdict in VERDICTS


def mend(data: bytes) -> bytes:
    """A PNG's checksums put right, so that damage gets past them."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    done, at = data[:8], 8
    while at + 12 <= len(data):
        length = struct.unpack(">I", data[at : at + 4])[0]
        if at + 12 + length > len(data):
            break
        body = data[at + 4 : at + 8 + length]
        done += data[at : at + 4] + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + length
    return done + data[at:]


def bombs() -> dict[str, bytes]:
    """Small files that claim, or are, enormous images."""
    found = {"png": png(8, 6, (60000, 60000), bytes(100))}
    jpeg = encoded(RGB, "JPEG")
    frame = jpeg.index(b"\xff\xc0") + 5
    found["jpeg"] = jpeg[:frame] + struct.pack(">HH", 65000, 65000) + jpeg[frame + 4 :]
    # Within the limit on pixels, at three coefficients of two bytes for each.
    progressive = encoded(RGB, "JPEG", progressive=True, subsampling=0)
    frame = progressive.index(b"\xff\xc2") + 5
    found["jpeg progressive"] = (
        progressive[:frame] + struct.pack(">HH", 2000, 65000) + progressive[frame + 4 :]
    )
    lossy = encoded(RGB, "WEBP")
    frame = lossy.index(b"\x9d\x01\x2a") + 3
    found["webp"] = lossy[:frame] + struct.pack("<HH", 16383, 16383) + lossy[frame + 4 :]
    animated = encoded(HOLE, "WEBP")
    frame = animated.index(b"VP8X") + 12
    found["webp canvas"] = animated[:frame] + b"\xff\xff\x00" * 2 + animated[frame + 6 :]
    black = Image.new("RGB", (11000, 11000))
    found["webp inside"] = encoded(black, "WEBP", lossless=True, method=0)
    avif = encoded(RGB, "AVIF", speed=10)
    frame = avif.index(b"ispe") + 8
    found["avif"] = avif[:frame] + struct.pack(">II", 60000, 60000) + avif[frame + 8 :]
    gif = encoded(RGB, "GIF", **FRAMES)
    found["gif"] = gif[:6] + struct.pack("<HH", 65535, 65535) + gif[10:]
    packer = zlib.compressobj(1)
    lines = b"".join(packer.compress(b"\0" + b"\xff" * 44000) for _ in range(12000))
    found["png inside"] = png(8, 6, (11000, 12000), b"").replace(
        b"".join(_chunk(b"IDAT", zlib.compress(b""))),
        b"".join(_chunk(b"IDAT", lines + packer.flush())),
    )
    return found


def _chunk(name: bytes, content: bytes) -> list[bytes]:
    crc = struct.pack(">I", zlib.crc32(name + content))
    return [struct.pack(">I", len(content)), name, content, crc]


@pytest.mark.slow
def test_bombs_stay_under_their_memory(tmp_path: Path) -> None:
    found = bombs()
    code = (
        "import sys; from arena.trainable.judge import confine, judge; confine()\n"
        "made = judge(sys.stdin.buffer.read(), 1024, 80)\n"
        "peak = open('/proc/self/status').read().split('VmHWM:')[1].split()[0]\n"
        "print(made.verdict, peak, made.reason)\n"
    )
    for name, data in found.items():
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, input=data, capture_output=True, check=True
        )
        verdict, peak = done.stdout.decode().split()[:2]
        assert int(peak) * 1024 < 1.5e9, name
        if name != "jpeg progressive":  # libjpeg makes up what such a file lacks.
            wanted = {"png inside": "ok", "gif": "animated"}.get(name, "unreadable")
            assert verdict == wanted, (name, done.stdout)


def scan_bomb() -> bytes:
    """A progressive JPEG whose scans take minutes to decode."""
    data = encoded(Image.fromarray(smooth(6000, 6000)), "JPEG", progressive=True, quality=90)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * 400 + b"\xff\xd9"


@pytest.fixture(scope="module")
def slow() -> bytes:
    return scan_bomb()


def busy(process: subprocess.Popen[str], seconds: float = 1.5) -> psutil.Process:
    """The first worker of a run that has taken so much processor time, most of it to decode."""
    found: list[psutil.Process] = []

    def look() -> bool:
        for child in psutil.Process(process.pid).children():
            with suppress(psutil.NoSuchProcess):  # Ended just now.
                if "spawn_main" in " ".join(child.cmdline()) and child.cpu_times().user > seconds:
                    found.append(child)
        return bool(found)

    until(look, process)
    return found[0]


def gone(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=PATIENCE)[1]


@pytest.mark.slow
def test_a_killed_worker_costs_one_file(tmp_path: Path, slow: bytes) -> None:
    small = encoded(RGB, "PNG")
    data = make(tmp_path / "d", {1: slow, **dict.fromkeys(range(2, 40), small)})
    process = start(data)
    busy(process).send_signal(signal.SIGKILL)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert out.startswith("38 ok, 0 transparent, 0 animated, 1 unreadable")
    assert err.count("\n") == 1
    assert "originals/1: the worker decoding it was killed by signal 9" in err
    # It was not the file's doing for certain, so it gets another chance.
    (data / "originals" / "1").write_bytes(small)
    assert run(data).stdout == (
        "39 ok, 0 transparent, 0 animated, 0 unreadable, 0 missing; 38 already judged\n"
    )


def deaf() -> None:
    """Ignore and block all that a limit on time may come as; what is started then does the same."""
    signals = (signal.SIGALRM, signal.SIGPROF, signal.SIGVTALRM, signal.SIGXCPU, signal.SIGCHLD)
    for number in signals:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)


def impatient(data: Path, **more: Any) -> subprocess.Popen[str]:
    """trainable.py that lets a file take two seconds."""
    code = "import trainable; trainable.SECONDS = 2; trainable.run(trainable.main)"
    return subprocess.Popen(
        [sys.executable, "-c", code, "--data", str(data), "--workers", "2"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **more,
    )


@pytest.mark.slow
@pytest.mark.parametrize("prepare", [None, deaf])
def test_a_file_has_its_time(
    tmp_path: Path, slow: bytes, prepare: Callable[[], None] | None
) -> None:
    data = make(tmp_path / "d", {1: slow, 2: GOOD})
    process = impatient(data, preexec_fn=prepare)
    _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (0, "")
    assert records(data)[1]["reason"] == "takes over 2 s of processor time to decode"
    assert verdicts(data) == {1: "unreadable", 2: "ok"}
    assert run(data).stdout.endswith("2 already judged\n")


@pytest.mark.slow
def test_a_stopped_run_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    large = encoded(Image.fromarray(smooth(2500, 2500)), "PNG")
    data = make(tmp_path / "d", dict.fromkeys(range(1, 30), large))
    process = impatient(data)
    busy(process, 0.5)
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    os.killpg(process.pid, signal.SIGSTOP)
    until(lambda: all(one.status() == psutil.STATUS_STOPPED for one in family), process)
    time.sleep(2.5)  # Longer than a file may take.
    os.killpg(process.pid, signal.SIGCONT)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (0, "")
    assert out.startswith("29 ok, ")


@pytest.mark.slow
def test_interrupt(tmp_path: Path, slow: bytes) -> None:
    data = make(tmp_path / "d", {1: encoded(RGB, "PNG"), 2: slow, 3: slow})
    process = start(data)
    busy(process)
    family = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert gone(family)
    assert verdicts(data) == {1: "ok"}  # It did not wait for the others, which have a minute each.
    assert sorted(results(data)) == ["1.webp", "trainable.jsonl"]


@pytest.mark.slow
def test_ctrl_c_ends_a_run_whose_workers_wait(tmp_path: Path, slow: bytes) -> None:
    # A process that is stopped waits as one does whose disk does not answer.
    data = make(tmp_path / "d", {1: slow, 2: slow})
    process = start(data)
    worker = busy(process)
    worker.suspend()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert gone([worker])
    assert results(data) == {"trainable.jsonl": b""}


@pytest.mark.slow
def test_a_killed_run_leaves_no_workers(tmp_path: Path) -> None:
    large = encoded(Image.fromarray(smooth(2500, 2500)), "PNG")
    data = make(tmp_path / "d", dict.fromkeys(range(1, 60), large))
    process = start(data)
    busy(process)
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    assert gone(family)


@pytest.mark.slow
def test_two_at_once(tmp_path: Path, slow: bytes) -> None:
    data = make(tmp_path / "d", {1: slow})
    process = start(data)
    busy(process)
    refused = run(data, code=2).stderr
    assert "is in use by trainable.py" in refused
    assert refused.count("\n") == 1
    os.killpg(process.pid, signal.SIGINT)
    process.communicate()


def varied(count: int) -> dict[int, bytes | None]:
    """Originals of every verdict."""
    kinds = [case[0] for case in CASES.values()]
    return {post: kinds[post % len(kinds)] for post in range(1, count + 1)}


@pytest.mark.slow
def test_killed_and_resumed_ends_the_same(tmp_path: Path) -> None:
    originals = varied(400)
    data = make(tmp_path / "d", originals)
    path, report = data / "trainable.jsonl", tmp_path / "steps"
    doomed("trainable", data, "--workers", 2, step=0, report=report)
    steps = int(report.read_text())
    wanted = results(data)
    dice = random.Random(0)

    def lines() -> int:
        return path.read_bytes().count(b"\n") if path.exists() else 0

    halfway = 0
    for kill in range(1, KILLS + 1):
        if kill % 4 == 1:
            shutil.rmtree(data / "resized")
            path.unlink()
        if kill % 2:
            step = dice.randint(1, steps)
            doomed("trainable", data, "--workers", 2, step=step, report=report)
        else:
            process = start(data)
            goal = dice.randint(lines(), len(originals))
            until(lambda goal=goal: lines() >= goal, process)  # type: ignore[misc]
            process.kill()
            process.communicate()
        left = lines()
        halfway += 0 < left < len(originals)
        if kill % 4 == 0 or kill == KILLS:
            assert run(data).stdout.endswith(f"; {left} already judged\n")
            assert results(data) == wanted
    assert halfway, "every kill came before or after the work"


# Faults.


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))


@pytest.mark.slow
def test_full_disk(tmp_path: Path) -> None:
    data = make(tmp_path / "d", {post: encoded(RGB, "PNG") for post in range(1, 30)})
    # The lock's file, the lines and the small images fit; the first file over the limit stops it.
    done = run(data, preexec_fn=limited, code=2)
    assert done.stderr.startswith(f"error: cannot write in {data}: ")
    assert done.stderr.count("\n") == 1
    assert (data / "trainable.jsonl").read_bytes().endswith(b"\n")
    assert not list(data.rglob(".*.tmp"))
    for path in (data / "resized").iterdir():
        shot(path.read_bytes())
    assert run(data).stdout.startswith("29 ok")


@pytest.mark.slow
@pytest.mark.parametrize("room", [0, 4096, 12288, 40960])
def test_small_disk(tmp_path: Path, room: int) -> None:
    with small_disk(tmp_path / "disk", "1m"):
        data = make(tmp_path / "disk" / "d", dict.fromkeys(range(1, 60), encoded(RGB, "PNG")))
        free = os.statvfs(data)
        filler = data / "filler"
        filler.write_bytes(bytes(max(0, free.f_bavail * free.f_bsize - room)))
        done = run(data, code=2)
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert not list(data.rglob(".*.tmp"))
        verdicts_path = data / "trainable.jsonl"
        assert not verdicts_path.exists() or verdicts_path.read_bytes()[-1:] in (b"", b"\n")
        filler.unlink()
        assert run(data).stdout.startswith("59 ok")


def test_no_folder_to_write_to(tmp_path: Path) -> None:
    data = make(tmp_path / "d", {1: encoded(RGB, "PNG")})
    (data / "resized").write_text("a file")
    assert run(data, code=2).stderr.startswith(f"error: cannot write in {data}: ")
    (data / "resized").unlink()
    (data / "trainable.jsonl").mkdir()
    assert run(data, code=2).stderr.count("\n") == 1


def test_read_only_folder(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m"):
        data = make(tmp_path / "disk" / "d", {1: encoded(RGB, "PNG")})
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "disk")], check=True)
        done = run(data, code=2)
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert "ead-only" in done.stderr


@pytest.mark.slow
def test_missing_input(tmp_path: Path) -> None:
    assert "is not a folder" in run(tmp_path / "none", code=2).stderr
    assert "posts.jsonl is missing: run download.py" in run(tmp_path, code=2).stderr
    (tmp_path / "posts.jsonl").write_text("\n")
    assert "has no post in it" in run(tmp_path, code=2).stderr
    (tmp_path / "posts.jsonl").write_text('{"id": 1}\n')
    assert "originals is missing: run download.py" in run(tmp_path, code=2).stderr
    assert not (tmp_path / "resized").exists()


def test_bad_lines_are_skipped(tmp_path: Path) -> None:
    data = make(tmp_path / "d", {1: encoded(RGB, "PNG")})
    with (data / "posts.jsonl").open("ab") as file:
        file.write(b'{"id": "../1"}\n\xff\0\n{"id": -1}\n{"id": 1}\n[]\n{"id": 2')
    done = run(data)
    assert "skipped 6 lines: line 2 " in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(records(data)) == [1]


def test_originals_that_are_no_files(tmp_path: Path) -> None:
    data = make(tmp_path / "d", dict.fromkeys(range(1, 6), None))
    (data / "originals" / "1").mkdir()
    os.mkfifo(data / "originals" / "2")
    (data / "originals" / "3").symlink_to("/dev/zero")
    (data / "originals" / "4").symlink_to("nowhere")
    for _ in range(2):  # They are told again, as the user can mend them.
        assert "originals/3: is not a file; it counts as unreadable" in run(data).stderr
        assert list(verdicts(data).values()) == ["unreadable"] * 3 + ["missing"] * 2


# Again.


def test_a_judged_file_is_not_decoded_again(tmp_path: Path) -> None:
    data = make(tmp_path / "d", varied(100))
    run(data)
    before = results(data)
    for path in (data / "originals").iterdir():
        facts = path.stat()
        path.write_bytes(bytes(facts.st_size))  # Reading one would now change its verdict.
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert run(data).stdout.endswith("; 100 already judged\n")
    assert results(data) == before


@pytest.mark.slow
def test_changes_are_judged_again(tmp_path: Path) -> None:
    whole = encoded(RGB, "PNG")
    data = make(tmp_path / "d", {**dict.fromkeys(range(1, 8), whole), 8: None})
    assert run(data).stdout.startswith("7 ok, 0 transparent, 0 animated, 0 unreadable, 1 missing")
    first = results(data)
    (data / "originals" / "1").write_bytes(encoded(HOLE, "PNG"))
    (data / "originals" / "2").unlink()
    (data / "originals" / "8").write_bytes(whole)
    (data / "resized" / "3.webp").unlink()
    (data / "resized" / "4.webp").write_bytes(b"")  # As a power cut may leave it.
    (data / "resized" / ".5.webp.tmp").write_bytes(b"half")
    with (data / "trainable.jsonl").open("ab") as file:
        file.write(b'{"id": 9, "verd')
    assert run(data).stdout == (
        "7 ok, 1 transparent, 0 animated, 0 unreadable, 0 missing; 4 already judged\n"
        "1 image is kept without an original\n"
    )
    assert list(verdicts(data).values()) == ["transparent"] + ["ok"] * 7
    left = results(data)
    assert sorted(left) == [f"{post}.webp" for post in range(2, 9)] + ["trainable.jsonl"]
    assert left["3.webp"] == left["4.webp"] == first["3.webp"]


# Without originals.

GOOD, CHANGED, BAD = (encoded(image, "PNG") for image in (RGB, GREY, HOLE))
KEPT = encoded(INDEXED.convert("RGB"), "WEBP")


def set_original(path: Path, kind: str) -> None:
    """Bring originals/<id> into a state; one link can never be read, the other not looked up."""
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    path.unlink(missing_ok=True)
    if kind == "directory":
        path.mkdir()
    elif kind == "unreadable":
        path.symlink_to("/proc/self/mem")
    elif kind == "unknown":
        path.symlink_to(path.name)
    elif kind != "gone":
        path.write_bytes({"good": GOOD, "changed": CHANGED, "bad": BAD}[kind])


def set_image(path: Path, kind: str) -> None:
    """Bring resized/<id>.webp into a state."""
    if kind == "lost":
        path.unlink(missing_ok=True)
    elif kind != "as it is":
        path.write_bytes({"other": KEPT, "cut": KEPT[:-60], "empty": b"", "no WebP": GOOD}[kind])


def images_in(data: Path) -> dict[int, bytes]:
    return {int(path.stem): path.read_bytes() for path in (data / "resized").glob("*.webp")}


def is_whole(content: bytes | None) -> bool:
    try:
        Image.open(io.BytesIO(content or b""), formats=["WEBP"]).load()
    except OSError:
        return False
    return True


def run_and_check(data: Path, originals: dict[int, str], *options: str) -> str:
    """Run over originals in these states and hold each post against what must be. What it said."""
    before = images_in(data)
    path = data / "trainable.jsonl"
    known = verdicts(data) if path.exists() else {}
    out = run(data, *options).stdout
    after, now = images_in(data), records(data)
    assert now.keys() == originals.keys()
    for post, kind in originals.items():
        record = now[post]
        if kind in ("good", "changed"):
            assert record["verdict"] == "ok" and is_whole(after.get(post)), (post, kind)
        elif kind == "bad":
            assert record["verdict"] == "transparent" and post not in after, (post, kind)
        else:
            assert after.get(post) == before.get(post), (post, kind)
            if is_whole(before.get(post)):
                assert record["verdict"] == "ok", (post, kind, record)
            elif kind == "gone":
                assert record["verdict"] == "missing", (post, kind, record)
            else:
                assert record["verdict"] in {"unreadable", known.get(post)} - {"ok"}, (post, kind)
        assert (record["verdict"] == "ok") == is_whole(after.get(post))
        assert ("size" in record) or record["reason"]
    return out


ORIGINALS = ("good", "changed", "bad", "gone", "unreadable", "unknown", "directory")
IMAGES = ("as it is", "lost", "other", "cut", "empty", "no WebP")


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--max-size", "40"), ("--quality", "10")])
def test_every_state_of_original_verdict_and_image(tmp_path: Path, options: tuple[str]) -> None:
    states = list(itertools.product(("good", "bad", "gone"), ORIGINALS, IMAGES, (True, False)))
    data = make(tmp_path / "d", dict.fromkeys(range(1, len(states) + 1), None))
    for post, (first, *_) in enumerate(states, 1):
        set_original(data / "originals" / str(post), first)
    run_and_check(data, {post: state[0] for post, state in enumerate(states, 1)})
    lines = (data / "trainable.jsonl").read_bytes().splitlines(keepends=True)
    left = []
    for post, (line, (first, then, image, judged)) in enumerate(zip(lines, states, strict=True), 1):
        if then != first:
            set_original(data / "originals" / str(post), then)
        set_image(data / "resized" / f"{post}.webp", image)
        left += [line] * judged
    (data / "trainable.jsonl").write_bytes(b"".join(left))
    originals = {post: state[1] for post, state in enumerate(states, 1)}
    run_and_check(data, originals, *options)
    settled = results(data)
    run_and_check(data, originals, *options)
    assert results(data) == settled


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_no_history_loses_an_image(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    count = 60
    data = make(tmp_path / "d", dict.fromkeys(range(1, count + 1), None))
    (data / "resized").mkdir()
    originals = dict.fromkeys(range(1, count + 1), "gone")
    for _ in range(6):
        for post in originals:
            if dice.random() < 0.6:
                originals[post] = dice.choice(ORIGINALS)
                set_original(data / "originals" / str(post), originals[post])
            if dice.random() < 0.2:
                set_image(data / "resized" / f"{post}.webp", dice.choice(IMAGES))
        path = data / "trainable.jsonl"
        if path.exists():
            lines = path.read_bytes().splitlines(keepends=True)
            path.write_bytes(b"".join(line for line in lines if dice.random() < 0.8))
        run_and_check(data, originals, "--quality", dice.choice(("80", "30")))


@pytest.mark.slow
def test_originals_may_be_emptied(tmp_path: Path) -> None:
    data = make(tmp_path / "d", {**dict.fromkeys(range(1, 9), GOOD), 9: BAD})
    run(data)
    images = images_in(data)
    set_original(data / "originals" / "1", "gone")
    assert run(data).stdout == (
        "8 ok, 1 transparent, 0 animated, 0 unreadable, 0 missing; 9 already judged\n"
        "1 image is kept without an original\n"
    )
    shutil.rmtree(data / "originals")
    nine = "8 ok, 0 transparent, 0 animated, 0 unreadable, 1 missing; "
    kept = "8 images are kept without an original"
    assert run(data).stdout == f"{nine}8 already judged\n{kept}\n"
    lines = (data / "trainable.jsonl").read_bytes()
    other = "; 8 of them had another --max-size or --quality"
    assert run(data, "--max-size", "40").stdout == f"{nine}9 already judged\n{kept}{other}\n"
    assert (data / "trainable.jsonl").read_bytes() == lines
    assert images_in(data) == images
    # Back again, they need no second decoding unless the settings are others.
    (data / "originals").mkdir()
    for post in range(1, 9):
        set_original(data / "originals" / str(post), "good")
        record = records(data)[post]
        os.utime(data / "originals" / str(post), ns=(record["mtime_ns"], record["mtime_ns"]))
    assert run(data).stdout == f"{nine}9 already judged\n"


@pytest.mark.slow
def test_a_copy_of_resized_alone_is_enough(tmp_path: Path) -> None:
    data = make(tmp_path / "d", dict.fromkeys(range(1, 6), None))
    (data / "resized").mkdir()
    (data / "originals").rmdir()
    for post in (1, 2, 3):
        set_image(data / "resized" / f"{post}.webp", "other")
    set_image(data / "resized" / "4.webp", "cut")
    done = run(data)
    assert done.stdout == (
        "3 ok, 0 transparent, 0 animated, 0 unreadable, 2 missing; 0 already judged\n"
        "3 images are kept without an original\n"
    )
    assert done.stderr.startswith(f"warning: {data}/resized/4.webp: does not decode: ")
    assert "delete it, or bring the original back" in done.stderr
    assert done.stderr.count("\n") == 1
    assert {record["reason"] for record in records(data).values() if "bytes" in record} == {
        "kept without its original"
    }
    assert sorted(images_in(data)) == [1, 2, 3, 4]
    assert run(data, "--quality", "5").stdout.endswith("; 4 already judged\n" + done.stdout[-38:])


def test_many_troubles_are_counted(tmp_path: Path) -> None:
    data = make(tmp_path / "d", dict.fromkeys(range(1, 10), None))
    for post in range(1, 10):
        set_original(data / "originals" / str(post), "unreadable")
    warnings = run(data).stderr.splitlines()
    assert len(warnings) == 4
    assert "originals/3: could not be read: Input/output error; it counts as" in "".join(warnings)
    assert warnings[3] == "warning: 6 more files had trouble: the reasons are in trainable.jsonl"


@pytest.mark.slow
def test_a_killed_worker_costs_no_image(tmp_path: Path, slow: bytes) -> None:
    data = make(tmp_path / "d", {1: GOOD, 2: GOOD})
    run(data)
    images = images_in(data)
    (data / "originals" / "1").write_bytes(slow)
    process = start(data)
    busy(process).send_signal(signal.SIGKILL)
    out, err = process.communicate(timeout=PATIENCE)
    assert out.startswith("2 ok, "), err
    assert "killed by signal 9; its resized image is kept" in err
    assert images_in(data) == images
    (data / "originals" / "1").write_bytes(BAD)
    run(data)
    assert verdicts(data) == {1: "transparent", 2: "ok"}
    assert sorted(images_in(data)) == [2]


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        b"rubbish\n",
        b'{"id":1,"verdict":"ok","size":[],"mtime_ns":{},"bytes":"x"}\n',
        b"\xff\xfe\0" * 1000 + b"\n",
    ],
)
def test_a_damaged_trainable_file_is_made_anew(tmp_path: Path, line: bytes) -> None:
    data = make(tmp_path / "d", {1: encoded(RGB, "PNG"), 2: encoded(GREY, "PNG")})
    run(data)
    before = results(data)
    (data / "trainable.jsonl").write_bytes(line)
    run(data)
    assert results(data) == before


def test_help_names_every_option() -> None:
    done = subprocess.run(
        [sys.executable, "trainable.py", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0
    for option in ("--data", "--max-size", "--quality", "--workers", "default: 1024"):
        assert option in done.stdout
