"""Files made to do harm: cut, damaged, of other formats, enormous once decoded."""

import pickle
import struct
import zlib
from pathlib import Path

from arena.trainable.judge import VERDICTS, judge
from tests.helpers import run
from tests.trainable.cases import CASES
from tests.trainable.images import FRAMES, HOLE, RGB, encoded, png, png_chunk

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image


@pytest.mark.slow
def test_only_the_allowed_decoders_are_loaded(tmp_path: Path) -> None:
    code = (
        "import sys, pickle, PIL.Image; from arena.trainable.judge import judge\n"
        "def no(*a, **k): raise SystemExit('Image.open was called')\n"
        "PIL.Image.open = no\n"
        "for data in pickle.load(open(sys.argv[1], 'rb')): judge(data, 64, 80)\n"
        "print(*sorted(m for m in sys.modules if m.endswith('ImagePlugin')))\n"
    )
    files = tmp_path / "files"
    files.write_bytes(pickle.dumps([case[0] for case in CASES.values() if case[0] is not None]))
    done = run("-c", code, files)
    assert done.code == 0, done.err
    # TIFF's module reads EXIF data, which has TIFF's structure; GIF's counts frames; Image.save
    # imports BMP's and PPM's with the rest of the common ones.
    names = ("Avif", "Bmp", "Gif", "Jpeg", "Png", "Ppm", "Tiff", "WebP")
    allowed = {f"PIL.{name}ImagePlugin" for name in names}
    assert set(done.out.split()) <= allowed


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


@pytest.mark.parametrize("name", [name for name in WHOLE if CASES[name][1] == "ok"])
def test_flipped_bytes_of_a_header(name: str) -> None:
    whole = WHOLE[name]
    for at in range(min(len(whole), 160)):
        flipped = whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]
        assert judge(flipped, 1024, 80).verdict in VERDICTS


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
        png_chunk(b"IDAT", zlib.compress(b"")), png_chunk(b"IDAT", lines + packer.flush())
    )
    return found


@pytest.mark.slow
def test_bombs_stay_under_their_memory(tmp_path: Path) -> None:
    found = bombs()
    code = (
        "import sys; from arena.trainable.judge import confine, judge; confine()\n"
        "made = judge(open(sys.argv[1], 'rb').read(), 1024, 80)\n"
        "peak = open('/proc/self/status').read().split('VmHWM:')[1].split()[0]\n"
        "print(made.verdict, peak, made.reason)\n"
    )
    file = tmp_path / "file"
    for name, data in found.items():
        file.write_bytes(data)
        done = run("-c", code, file)
        assert done.code == 0, done.err
        verdict, peak = done.out.split()[:2]
        assert int(peak) * 1024 < 1.5e9, name
        if name != "jpeg progressive":  # libjpeg makes up what such a file lacks.
            wanted = {"png inside": "ok", "gif": "animated"}.get(name, "unreadable")
            assert verdict == wanted, (name, done.out)
