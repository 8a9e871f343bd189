"""PostIds against Python's own sets."""

import tracemalloc

from arena.jsonl import MAX_ID
from arena.post_ids import PostIds

from hypothesis import given
from hypothesis import strategies as st

IDS = st.sets(st.integers(1, 3000) | st.integers(1, MAX_ID))


@given(IDS, IDS)
def test_they_are_sets(one: set[int], other: set[int]) -> None:
    a, b = PostIds(one), PostIds(other)
    for found, expected in [
        (a, one),
        (a & b, one & other),
        (a | b, one | other),
        (a - b, one - other),
    ]:
        assert list(found) == sorted(expected)
        assert len(found) == len(expected)
        assert bool(found) == bool(expected)
        assert all((post_id in found) == (post_id in expected) for post_id in one | other)
    for post_id in other:
        a.add(post_id)
    assert list(a) == sorted(one | other)
    assert list(b) == sorted(other)


def test_ids_of_a_site_take_less_than_a_byte_each() -> None:
    tracemalloc.start()
    try:
        ids = PostIds(range(6_000_000, 6_200_000))
        assert tracemalloc.get_traced_memory()[0] < 200_000
    finally:
        tracemalloc.stop()
    assert len(ids) == 200_000
