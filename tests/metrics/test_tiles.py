"""Matrices in scratch files: what is written is read, and figures are those of arrays."""

import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from arena.metrics import Decided, TestSet, bootstrap, by_age, evaluate, tiles
from arena.metrics.scratch import ScratchFile
from arena.metrics.tiles import Tiles

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

Array = np.ndarray


def held(folder: Path, matrix: Array, step: int) -> Tiles:
    """A matrix written `step` posts at a time."""
    posts, tags = matrix.shape
    made = Tiles.make(folder, posts, tags, matrix.dtype.type)
    for start in range(0, len(matrix), step):
        made.write(start, matrix[start : start + step])
    return made


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    shape=st.tuples(st.integers(1, 60), st.integers(0, 20)),
    sizes=st.tuples(st.integers(1, 7), st.integers(1, 40), st.integers(1, 9)),
    step=st.integers(1, 70),
    data=st.data(),
)
def test_all_that_is_written_is_read(
    tmp_path: Path,
    shape: tuple[int, int],
    sizes: tuple[int, int, int],
    step: int,
    data: st.DataObject,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in zip(
            ("TAGS_PER_BLOCK", "PAIRS_PER_TILE", "POSTS_PER_STEP"), sizes, strict=True
        ):
            patch.setattr(tiles, name, value if name != "PAIRS_PER_TILE" else value + 6)
        matrix = np.random.default_rng(0).random(shape, np.float32)
        made = held(tmp_path, matrix, step)
        first = data.draw(st.integers(0, shape[0] - 1))
        last = data.draw(st.integers(first + 1, shape[0]))
        part = made.between(first, last)
        inner = data.draw(st.integers(0, last - first))
        np.testing.assert_array_equal(
            part.rows(slice(inner, last - first)), matrix[first:last][inner:]
        )
        for start in range(0, shape[1], made.width):
            tags = slice(start, min(start + made.width, shape[1]))
            np.testing.assert_array_equal(
                part.columns(tags, np.float32), matrix[first:last, tags].T
            )
    assert not list(tmp_path.iterdir())  # The file has no name, so a kill leaves nothing.


@pytest.mark.parametrize("decided", [False, True])
def test_figures_are_those_of_arrays_bit_for_bit(tmp_path: Path, decided: bool) -> None:
    random = np.random.default_rng(1)
    truth = random.random((400, 131)) < 0.1
    noise = random.random(truth.shape, np.float32)
    scores = (0.4 * truth + 0.6 * noise).astype(np.float32)
    samples = bootstrap.resamples(400, 100, 0)
    tags = np.array([3, 70, 130])
    by_outputs = Decided(np.full(131, 0.5), tags, scores[:, tags] > 0.6)
    threshold = by_outputs if decided else 0.5
    whole = TestSet.plain(truth, samples)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "PAIRS_PER_TILE", 1 << 13)  # Several bands of posts.
        in_files = held(tmp_path, scores, 37), held(tmp_path, truth, 64)
        totals = truth.sum(axis=1)
        tiled = TestSet(
            in_files[1], whole.post_ids, whole.categories, whole.ratings, totals, samples,
            whole.clusters,
        )  # fmt: skip
        found = evaluate(tiled, in_files[0], threshold)
        ages = by_age(tiled, in_files[0], threshold)
    expected = evaluate(whole, scores, threshold)
    assert json.dumps(found.results) == json.dumps(expected.results)
    assert json.dumps(ages) == json.dumps(by_age(whole, scores, threshold))
    for path, values in expected.resamples.items():
        np.testing.assert_array_equal(found.resamples[path], values)


def test_a_full_disk_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    made = Tiles.make(tmp_path, 2, 3, np.float32)
    monkeypatch.setattr(os, "pwritev", full)
    with pytest.raises(OSError, match="No space left") as raised:
        made.write(0, np.zeros((2, 3), np.float32))
    assert raised.value.filename == str(tmp_path)


@contextmanager
def small_files() -> Iterator[None]:
    """Let no file be larger than a kilobyte."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_that_cannot_be_made_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file") as raised:
        ScratchFile(tmp_path / "gone")
    assert raised.value.filename == str(tmp_path / "gone")
    with small_files(), pytest.raises(OSError, match="File too large") as raised:
        ScratchFile(tmp_path, 2000)
    assert raised.value.filename == str(tmp_path)
