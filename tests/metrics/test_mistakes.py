"""What models miss and give falsely, as bits in scratch files, against bool arrays."""

from itertools import combinations
from pathlib import Path

from arena.metrics import Decided, mistakes, tiles
from arena.metrics.mistakes import differences, image_f1, most_different, set_bits, truth_bits

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


def read(rows: np.ndarray, tags: int) -> np.ndarray:
    """Bits as bool (posts, tags)."""
    found: np.ndarray = np.unpackbits(rows, axis=1, count=tags).astype(np.bool_)
    assert rows.shape == (len(found), -(-tags // 8))
    assert np.unpackbits(rows, axis=1).sum() == found.sum()  # Nothing beyond the last tag.
    return found


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    posts=st.integers(1, 50),
    tags=st.integers(1, 30),
    models=st.integers(1, 4),
    sizes=st.tuples(st.integers(1, 9), st.integers(7, 40), st.integers(1, 60)),
    seed=st.integers(0, 2**32),
)
def test_they_are_those_of_arrays(
    tmp_path: Path, posts: int, tags: int, models: int, sizes: tuple[int, int, int], seed: int
) -> None:
    random = np.random.default_rng(seed)
    truth = random.random((posts, tags)) < random.choice([0, 0.2, 0.6])
    scores = random.integers(0, 5, (models, posts, tags)).astype(np.float32) / 4
    cuts = random.integers(0, 6, (models, tags)).astype(np.float32) / 4
    predicted = scores >= cuts[:, None]
    columns = np.flatnonzero(random.random(tags) < 0.3)  # Of the first model, decided otherwise.
    predicted[0][:, columns] = random.random((posts, len(columns))) < 0.5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "TAGS_PER_BLOCK", sizes[0])
        patch.setattr(tiles, "PAIRS_PER_TILE", sizes[1] + 9)
        patch.setattr(mistakes, "POSTS_AT_ONCE", sizes[2])
        patch.setattr("arena.metrics.blocks.PAIRS_PER_BLOCK", 100)
        thresholds = [Decided(cuts[0], columns, predicted[0][:, columns]), *cuts[1:]]
        bits = truth_bits(tmp_path, truth)
        wrong = [
            mistakes.mistakes(tmp_path, *each)
            for each in zip(scores, [truth] * models, thresholds, strict=True)
        ]
        chosen = most_different(bits, wrong, 7)
        rows_of_bits, *rows_of_wrong = (each.rows(slice(0, posts)) for each in (bits, *wrong))
    np.testing.assert_array_equal(read(rows_of_bits, tags), truth)
    for of_model, given_tags in zip(rows_of_wrong, predicted, strict=True):
        np.testing.assert_array_equal(read(of_model, tags), given_tags ^ truth)
    rows, places = set_bits(rows_of_wrong[-1])
    np.testing.assert_array_equal(np.argwhere(predicted[-1] ^ truth), np.stack([rows, places], 1))
    apart = [
        sum(int((a[p] != b[p]).sum()) for a, b in combinations(predicted, 2)) for p in range(posts)
    ]
    np.testing.assert_array_equal(differences(rows_of_wrong), apart)
    right, wrongs = (predicted & truth).sum(axis=2), (predicted != truth).sum(axis=2)
    reached = 2 * right / np.maximum(1, 2 * right + wrongs)
    for of_model, expected in zip(rows_of_wrong, reached, strict=True):
        found = image_f1(rows_of_bits, of_model)
        np.testing.assert_allclose(found, expected, atol=1e-12)
    if models > 1:
        order = sorted((p for p in range(posts) if apart[p]), key=lambda p: (-apart[p], p))
    else:
        worse = [p for p in range(posts) if truth[p].any() and (truth[p] != predicted[0][p]).any()]
        order = sorted(worse, key=lambda p: (round(reached[0][p], 12), p))
    assert chosen.tolist() == order[:7]
    assert not list(tmp_path.iterdir())
