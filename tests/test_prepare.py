"""Padding and resizing, in a CPU's blocks and as a GPU's whole matrices, against oracles."""

from arena import prepare
from arena.prepare import Geometry, place, squares

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


def exact_area(image: np.ndarray, side: int, left: int, top: int, size: int) -> np.ndarray:
    canvas = np.full((side, side, 3), 255.0)
    canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    edges = np.arange(size + 1) * side / size
    low = np.maximum(edges[:-1, None], np.arange(side))
    high = np.minimum(edges[1:, None], np.arange(side) + 1)
    weights = np.clip(high - low, 0, None) * size / side
    columns = np.tensordot(canvas, weights, (1, 1))
    return np.asarray(np.rint(np.tensordot(weights, columns, (1, 0)).transpose(0, 2, 1)))


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
        assert np.abs(square.astype(int) - expected).max() <= 1

    area = Geometry(size, "at_least", "area")
    side, left, top = place(width, height, area)
    expected = exact_area(pixels, side, left, top, size)
    for square in both_ways(pixels, area):
        assert square.shape == (size, size, 3)
        assert square.dtype == np.uint8
        assert np.abs(square - expected).max() <= 1


def both_ways(pixels: np.ndarray, wanted: Geometry) -> list[np.ndarray]:
    made = []
    for rows in (prepare.CPU_ROWS, wanted.size):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(prepare, "CPU_ROWS", rows)
            prepare._filter.cache_clear()
            made.append(squares(torch.from_numpy(pixels), [wanted])[wanted].numpy())
            prepare._filter.cache_clear()
    return made


def test_the_odd_pixel_goes_right_and_below() -> None:
    assert place(3, 10, Geometry(8, "at_least", "area")) == (10, 3, 0)
    assert place(3, 5, Geometry(8, "at_least", "area")) == (8, 2, 1)
    assert place(3, 5, Geometry(8, "square", "bicubic")) == (5, 1, 0)
