"""How large a resized image is and how good: sizes, the filter, --max-size and --quality."""

import io
from pathlib import Path

from arena.trainable.judge import judge, shrink
from tests import helpers
from tests.trainable.folder import make, run
from tests.trainable.images import RGB, encoded, shot, smooth

import numpy as np
import pytest
from PIL import Image


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


@pytest.mark.slow
def test_max_size_and_quality(tmp_path: Path) -> None:
    data = make(tmp_path / "d", {1: encoded(RGB, "PNG")})
    run(data, "--max-size", "40", "--quality", "10")
    assert Image.open(data / "resized" / "1.webp").size == (40, 27)
    assert run(data, "--max-size", "40", "--quality", "10").out.endswith("1 already judged\n")
    small = (data / "resized" / "1.webp").stat().st_size
    assert run(data, "--max-size", "40").out.endswith("; 0 already judged\n")
    assert (data / "resized" / "1.webp").stat().st_size > small
    for bad in (("--max-size", "0"), ("--max-size", "20000"), ("--quality", "101")):
        assert run(data, *bad, code=2).err.count("\n") == 1


def test_help_names_every_option() -> None:
    done = helpers.run("trainable.py", "--help")
    assert done.code == 0
    for option in ("--data", "--max-size", "--quality", "--workers", "default: 1024"):
        assert option in done.out
