"""Which pairs an audit draws: numbers that stay, allocation, probabilities that are true."""

import hashlib
from typing import Any

from arena.metrics import sampling
from arena.metrics.sampling import Pool

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

Array = np.ndarray[Any, Any]


def pool_of(pairs: int, models: int, seed: int) -> Pool:
    """Random pairs, each tagged or predicted."""
    random = np.random.default_rng(seed)
    tagged = random.random(pairs) < 0.4
    predicted = random.random((pairs, models)) < random.uniform(0.1, 0.6, models)
    tagged |= ~predicted.any(axis=1)
    return Pool(
        random.integers(pairs // 3 + 1, size=pairs),
        random.choice(5, pairs, p=[0.7, 0.1, 0.1, 0.05, 0.05]),
        tagged,
        predicted,
        random.integers(256, size=pairs).astype(np.uint8),
    )


def test_a_pair_keeps_its_number() -> None:
    """SplitMix64 in plain Python, from the tag's BLAKE2 hash."""
    key = int.from_bytes(hashlib.blake2b(b"0 1girl", digest_size=8).digest(), "little")
    assert sampling.tag_key("1girl", 0) == key != sampling.tag_key("1girl", 1)
    whole = 2**64
    for post in (1, 7_000_001, 2**53):
        x = (key + post * 0x9E3779B97F4A7C15) % whole
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) % whole
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) % whole
        x ^= x >> 31
        found = sampling.numbers(np.array([post]), np.array([key], np.uint64))
        assert found.tolist() == [(x >> 11) / 2**53]


def test_numbers_are_spread_evenly_over_posts_and_over_tags() -> None:
    posts = np.arange(6_000_000, 6_020_000)
    one_tag = sampling.numbers(posts, np.full(len(posts), sampling.tag_key("hat", 0), np.uint64))
    keys = np.array([sampling.tag_key(f"tag_{n}", 0) for n in range(20_000)], np.uint64)
    one_post = sampling.numbers(np.full(len(keys), 6_000_000), keys)
    for numbers in (one_tag, one_post):
        counts = np.bincount((numbers * 20).astype(int), minlength=20)
        # Chi squared with 19 degrees of freedom is below 50 but once in 8,000 times.
        assert ((counts - 1000) ** 2 / 1000).sum() < 50
        assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.03


@given(
    st.lists(
        st.tuples(st.integers(1, 60), st.floats(0.1, 100), st.integers(0, 5)),
        min_size=1,
        max_size=8,
    ),
    st.integers(1, 200),
)
def test_allocation(strata: list[tuple[int, float, int]], size: int) -> None:
    pairs, weights, wanted = (np.array(column) for column in zip(*strata, strict=True))
    floor = np.minimum(wanted, pairs)
    if size < floor.sum():
        with pytest.raises(ValueError, match="fewer"):
            sampling.allocate(weights, pairs, floor, size)
        return
    found = sampling.allocate(weights, pairs, floor, size)
    assert found.sum() == min(size, pairs.sum())
    assert (floor <= found).all() and (found <= pairs).all()
    # Between strata that could give less and more, shares differ by less than a pair of each.
    for more in np.flatnonzero(found > floor):
        for less in np.flatnonzero(found < pairs):
            assert (found[more] - 1) / weights[more] <= (found[less] + 1) / weights[less] + 1e-6


@settings(deadline=None, max_examples=40)
@given(st.integers(30, 400), st.integers(1, 4), st.integers(30, 120), st.integers(0, 2**32))
def test_what_is_drawn(pairs: int, models: int, size: int, seed: int) -> None:
    pool = pool_of(pairs, models, seed)
    number = np.random.default_rng(seed).random(pairs)
    none = np.zeros(pairs, bool)
    try:
        found = sampling.draw(pool, number, none, none, size)
    except ValueError:
        assert size < len(np.unique(pool.cells()))
        return
    assert len(found.pairs) == min(size, pairs) == found.new.sum()
    assert sum(stratum.pairs for stratum in found.strata) == pairs
    assert sum(stratum.drawn for stratum in found.strata) == len(found.pairs)
    assert all(stratum.drawn for stratum in found.strata)
    assert (number[found.pairs] < found.threshold).all()
    for stratum in found.strata:
        # By its own description: who predicts these pairs, whether they are tagged.
        count = pool.predicted.sum(axis=1)
        who = {"none": count == 0, "one": count == 1, "all": (count == models) & (models > 1)}
        who["several"] = (count > 1) & (count < models)
        inside = who[stratum.predicted_by] & (pool.tagged == stratum.tagged)
        if stratum.model is not None:
            inside &= pool.predicted[:, stratum.model]
        if stratum.categories:
            inside &= np.isin(pool.category, stratum.categories)
        if stratum.score == "any" and stratum.categories == []:
            ranked = np.sort(number[inside])
            assert len(ranked) == stratum.pairs
            whole = stratum.drawn == stratum.pairs
            assert stratum.threshold == (1.0 if whole else ranked[stratum.drawn])


@pytest.mark.slow
def test_two_designs_together_are_unbiased_and_ask_nothing_twice() -> None:
    """The second has a further model. A sum of 1 / (highest threshold) has the number of pairs of
    the pool as its mean, over many sets of numbers, and so has any part of the pool."""
    later = pool_of(400, 3, 1)
    first = later.tagged | later.predicted[:, :2].any(axis=1)
    earlier = Pool(
        later.cluster[first],
        later.category[first],
        later.tagged[first],
        later.predicted[first, :2],
        later.score[first],
    )
    parts = {"all": np.ones(400, bool), "tagged": later.tagged, "third": later.predicted[:, 2]}
    sums: dict[str, list[float]] = {name: [] for name in parts}
    random = np.random.default_rng(2)
    for _ in range(120):
        number = random.random(400)
        none = np.zeros(first.sum(), bool)
        one = sampling.draw(earlier, number[first], none, none, 60)
        reached = np.zeros(400)
        reached[np.flatnonzero(first)[one.pairs]] = one.threshold
        two = sampling.draw(later, number, reached > 0, first, 40)
        assert 40 <= two.new.sum() <= 43
        assert not (reached[two.pairs[two.new]] > 0).any()
        reached[two.pairs] = np.maximum(reached[two.pairs], two.threshold)
        for name, part in parts.items():
            sums[name].append((1 / reached[(reached > 0) & part]).sum())
    for name, part in parts.items():
        error = np.std(sums[name]) / len(sums[name]) ** 0.5
        assert abs(np.mean(sums[name]) - part.sum()) < 4 * error


def test_pairs_outside_the_pool_and_samples_that_are_too_small_are_refused() -> None:
    pool = pool_of(100, 2, 0)
    nobody = np.zeros((100, 2), bool)
    with pytest.raises(ValueError, match="neither"):
        Pool(pool.cluster, pool.category, pool.tagged, nobody, pool.score)
    with pytest.raises(ValueError, match="do not fit"):
        Pool(pool.cluster[:3], pool.category, pool.tagged, pool.predicted, pool.score)
    none = np.zeros(100, bool)
    with pytest.raises(ValueError, match="fewer"):
        sampling.draw(pool, np.random.default_rng(0).random(100), none, none, 3)
