"""Verdict and look of every kind of file: formats, colours, transparency, orientation."""

import io
from pathlib import Path

from arena.trainable.judge import judge, transparent
from tests.trainable.cases import CASES
from tests.trainable.folder import make, records, run
from tests.trainable.images import CMYK, RGB, encoded, shot, smooth

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """All CASES through one run of the script: the folder and what it printed."""
    data = tmp_path_factory.mktemp("cases") / "data"
    make(data, {number: case[0] for number, case in enumerate(CASES.values(), 1)})
    return data, run(data).out


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


@pytest.mark.parametrize("mode", ["LA", "La", "PA", "RGBA", "RGBa"])
def test_every_alpha_mode(mode: str) -> None:
    for alpha, wanted in ((255, False), (254, True), (0, True)):
        image = Image.new(mode, (3, 2), (*[0] * (len(Image.new(mode, (1, 1)).getbands()) - 1), 255))
        image.putpixel((1, 1), (*[0] * (len(image.getbands()) - 1), alpha))
        assert transparent(image) is wanted
