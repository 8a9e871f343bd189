"""Padding and resizing, in a CPU's and in a GPU's blocks, against Pillow, OpenCV and exact sums."""

import hashlib
import math

from arena.tagger import RESIZE_VERSIONS, First
from arena.validate import preprocess, resample
from arena.validate.preprocess import Geometry, placed, squares

import cv2
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

SIDES = st.one_of(st.integers(1, 130), st.sampled_from([1, 2, 447, 448, 449, 1024]))


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
    (side, _), (left, top), _ = placed(pixels.shape[1], pixels.shape[0], area)
    expected, from_half = exact_area(pixels, side, left, top, size)
    for square in both_ways(pixels, area):
        assert square.shape == (size, size, 3)
        assert square.dtype == np.uint8
        np.testing.assert_array_equal(square, expected)
    return float((from_half == 0).mean())


def pillow(image: Image.Image, wanted: Geometry) -> Image.Image:
    """The canvas of a geometry by Pillow's own steps, still to be resized."""
    if wanted.first:
        side = wanted.first.size
        scale = min(side / image.width, side / image.height)
        fitted = max(1, int(image.width * scale)), max(1, int(image.height * scale))
        image = image.resize(fitted, Image.Resampling[wanted.first.resize.upper()])
        side_of_canvas = side
    elif wanted.pad == "stretch":
        return image
    else:
        least = wanted.size if wanted.pad == "at_least" else 1
        side_of_canvas = max(image.width, image.height, least)
    canvas = Image.new("RGB", (side_of_canvas, side_of_canvas), wanted.color)
    corner = (side_of_canvas - image.width) // 2, (side_of_canvas - image.height) // 2
    canvas.paste(image, corner)
    return canvas


PILLOW = st.sampled_from(["bicubic", "bilinear", "lanczos"])
PADS = st.sampled_from(["square", "at_least", "stretch"])
COLORS = st.sampled_from([(255, 255, 255), (0, 0, 0), (124, 116, 104), (1, 254, 30)])
FIRSTS = st.one_of(st.none(), st.builds(First, st.sampled_from([1, 9, 33, 100, 512]), PILLOW))
TO = st.sampled_from([1, 7, 32, 100, 448])


@st.composite
def images(draw: st.DrawFn) -> np.ndarray:
    """Any pixels; of hard contrast too, as overshoot is where filters differ first."""
    width, height = draw(SIDES), draw(SIDES)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if draw(st.booleans()):
        pixels = np.where(pixels > 127, np.uint8(255), np.uint8(0))
    return pixels


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(images(), st.builds(Geometry, TO, PADS, PILLOW, COLORS, FIRSTS))
def test_pillows_filters_to_the_pixel(pixels: np.ndarray, wanted: Geometry) -> None:
    canvas = pillow(Image.fromarray(pixels), wanted)
    size = (wanted.size, wanted.size)
    expected = np.asarray(canvas.resize(size, Image.Resampling[wanted.resize.upper()]))
    for square in both_ways(pixels, wanted):
        np.testing.assert_array_equal(square, expected)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(images(), st.builds(Geometry, TO, PADS, st.just("area"), COLORS, FIRSTS))
def test_area_is_opencvs(pixels: np.ndarray, wanted: Geometry) -> None:
    canvas = np.asarray(pillow(Image.fromarray(pixels), wanted))
    expected = cv2.resize(canvas, (wanted.size, wanted.size), interpolation=cv2.INTER_AREA)
    # Where both sides grow, OpenCV's own arithmetic is of 11 binary places, and off by a level;
    # where only one does, it is no area mean.
    grows = min(canvas.shape[:2]) < wanted.size
    assume(not grows or max(canvas.shape[:2]) < wanted.size)
    for square in both_ways(pixels, wanted):
        assert np.abs(square.astype(int) - expected).max() <= (2 if grows else 1)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(images(), TO)
def test_area_to_the_pixel(pixels: np.ndarray, size: int) -> None:
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
    assert found == {
        ("bicubic", 2): "3587bdea4aff",
        ("bilinear", 1): "5aa06cffdad1",
        ("lanczos", 1): "9683437309d5",
        ("area", 3): "560540a2adf0",
    }


def forget() -> None:
    """Everything that depends on the rows of a block."""
    for cached in (resample._filter, resample._pass, preprocess._plan):
        cached.cache_clear()


def both_ways(pixels: np.ndarray, wanted: Geometry) -> list[np.ndarray]:
    made = []
    for rows in (resample.CPU_ROWS, resample.GPU_ROWS):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(resample, "CPU_ROWS", rows)
            forget()
            made.append(squares(torch.from_numpy(pixels), [wanted])[wanted].numpy())
            forget()
    return made


def test_the_odd_pixel_goes_right_and_below() -> None:
    assert placed(3, 10, Geometry(8, "at_least", "area"))[:2] == ((10, 10), (3, 0))
    assert placed(3, 5, Geometry(8, "at_least", "area"))[:2] == ((8, 8), (2, 1))
    assert placed(3, 5, Geometry(8, "square", "bicubic"))[:2] == ((5, 5), (1, 0))
    assert placed(3, 5, Geometry(8, "stretch", "bicubic"))[:2] == ((3, 5), (0, 0))
