"""Padding and resizing, in a CPU's and in a GPU's blocks, against oracles."""

import hashlib
import math

from arena.tagger import RESIZE_VERSIONS
from arena.validate import preprocess
from arena.validate.preprocess import Geometry, place, squares

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

SIDES = st.one_of(st.integers(1, 130), st.sampled_from([1, 2, 447, 448, 449, 1024]))


def pillow_square(image: Image.Image, size: int) -> np.ndarray:
    side = max(image.size)
    canvas = Image.new("RGB", (side, side), "white")
    canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return np.asarray(canvas.resize((size, size), Image.Resampling.BICUBIC), np.int64)


def exact_area(
    image: np.ndarray, side: int, left: int, top: int, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Area means in whole numbers, halves to even, and how far each mean is from a half."""
    canvas = np.full((side, side, 3), 255.0)
    canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    # In units in which pixels of both sides are whole: float64 holds every sum exactly.
    unit = math.lcm(side, size)
    start, pixel = np.arange(size)[:, None] * (unit // size), np.arange(side) * (unit // side)
    covered = np.minimum(start + unit // size, pixel + unit // side) - np.maximum(start, pixel)
    weights = np.clip(covered, 0, None).astype(np.float64)
    sums = (weights @ canvas.transpose(2, 0, 1) @ weights.T).transpose(1, 2, 0)
    whole, rest = np.divmod(sums.astype(np.int64), (unit // size) ** 2)
    from_half = 2 * rest - (unit // size) ** 2
    values = whole + ((from_half > 0) | ((from_half == 0) & (whole % 2 == 1)))
    return values, np.abs(from_half) / (2 * (unit // size) ** 2)


def area_is_exact(pixels: np.ndarray, size: int, pad: str = "at_least") -> float:
    """Check area averaging both ways, value by value; gives the share of exact halves."""
    area = Geometry(size, pad, "area")
    side, left, top = place(pixels.shape[1], pixels.shape[0], area)
    expected, from_half = exact_area(pixels, side, left, top, size)
    for square in both_ways(pixels, area):
        assert square.shape == (size, size, 3)
        assert square.dtype == np.uint8
        np.testing.assert_array_equal(square, expected)
    return float((from_half == 0).mean())


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    width=SIDES, height=SIDES, size=st.sampled_from([1, 7, 32, 100, 448]), seed=st.integers(0, 99)
)
@pytest.mark.parametrize("contrast", [False, True])
def test_both_filters_both_ways(
    contrast: bool, width: int, height: int, size: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if contrast:  # Overshoot is where filters differ first.
        pixels = np.where(pixels > 127, np.uint8(255), np.uint8(0))
    image = Image.fromarray(pixels)

    bicubic = Geometry(size, "square", "bicubic")
    expected = pillow_square(image, size)
    for square in both_ways(pixels, bicubic):
        np.testing.assert_array_equal(square, expected)

    area_is_exact(pixels, size)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(
    width=SIDES,
    height=SIDES,
    size=st.sampled_from([1, 2, 7, 16, 100, 224, 299, 300, 448]),
    pad=st.sampled_from(["at_least", "square"]),
    low=st.integers(0, 254),
    levels=st.integers(2, 4),
    seed=st.integers(0, 99),
)
def test_area_halves_go_to_even(
    width: int, height: int, size: int, pad: str, low: int, levels: int, seed: int
) -> None:
    # Few levels next to each other make many halves.
    values = np.random.default_rng(seed).integers(low, min(low + levels, 256), (height, width, 3))
    area_is_exact(values.astype(np.uint8), size, pad)


@pytest.mark.slow
@pytest.mark.parametrize("side", [512, 640, 896, 1024, 1792])
def test_area_halves_of_the_usual_sides(side: int) -> None:
    rng = np.random.default_rng(side)
    flat = rng.integers(100, 102, (side, side - 100, 3), dtype=np.uint8)
    assert area_is_exact(flat, 448) > 0.003
    rough = rng.integers(0, 256, (side - 99, side, 3), dtype=np.uint8)
    assert area_is_exact(rough, 448) > 0.003


def test_other_pixels_have_another_version() -> None:
    """What each resize gives today. Where this fails on purpose, raise RESIZE_VERSIONS as well."""
    pixels = np.random.default_rng(3).integers(0, 256, (25, 32, 3), dtype=np.uint8)
    found = {}
    for resize, number in RESIZE_VERSIONS.items():
        wanted = Geometry(56, "square", resize)
        square = squares(torch.from_numpy(pixels), [wanted])[wanted]
        found[resize, number] = hashlib.sha256(square.numpy().tobytes()).hexdigest()[:12]
    assert found == {("bicubic", 2): "3587bdea4aff", ("area", 3): "560540a2adf0"}


def both_ways(pixels: np.ndarray, wanted: Geometry) -> list[np.ndarray]:
    made = []
    for rows in (preprocess.CPU_ROWS, preprocess.GPU_ROWS):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(preprocess, "CPU_ROWS", rows)
            preprocess._filter.cache_clear()
            made.append(squares(torch.from_numpy(pixels), [wanted])[wanted].numpy())
            preprocess._filter.cache_clear()
    return made


def test_the_odd_pixel_goes_right_and_below() -> None:
    assert place(3, 10, Geometry(8, "at_least", "area")) == (10, 3, 0)
    assert place(3, 5, Geometry(8, "at_least", "area")) == (8, 2, 1)
    assert place(3, 5, Geometry(8, "square", "bicubic")) == (5, 1, 0)
