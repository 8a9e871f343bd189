"""Posts' tags in scratch files: what is written is read, in any order, and nothing is left."""

import os
from pathlib import Path

from arena.validate import post_tags, scores
from arena.validate.post_tags import Numbers, PostTags

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    posts=st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=5), min_size=1, max_size=30),
    sizes=st.tuples(st.integers(1, 9), st.integers(0, 9)),
    data=st.data(),
)
def test_posts_of_any_order_have_the_tags_that_were_added(
    tmp_path: Path, posts: list[list[int]], sizes: tuple[int, int], data: st.DataObject
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in zip(("POSTS_AT_ONCE", "MOST_WAITING"), sizes, strict=True):
            patch.setattr(post_tags, name, value)
        numbers = Numbers(tmp_path)
        for place, tags in enumerate(posts, 1):
            numbers.add(tags)
            assert len(numbers) == sum(map(len, posts[:place]))
        held = PostTags.of(numbers, np.array([len(tags) for tags in posts]))
        order = data.draw(st.permutations(range(len(posts))))
        places = order[: data.draw(st.integers(1, len(order)))]
        if data.draw(st.booleans()):  # As posts.jsonl mostly is.
            places = sorted(places, reverse=True)
        for tags_of, wanted in (
            (held, posts),
            (held.taken(np.array(places)), [posts[place] for place in places]),
        ):
            assert len(tags_of) == len(wanted)
            found: list[list[int]] = []
            for some in tags_of.chunks():
                assert some.stop - some.start <= sizes[0]
                rows, carried = tags_of.pairs(some)
                assert (np.diff(rows) >= 0).all() and rows.dtype == carried.dtype == np.int32
                found += [carried[rows == row].tolist() for row in range(some.stop - some.start)]
            assert found == wanted
    assert not list(tmp_path.iterdir())  # The file has no name, so a kill leaves nothing.


def test_a_file_is_closed_with_what_needs_it(tmp_path: Path) -> None:
    def opened() -> int:
        return sum(tmp_path in each.resolve().parents for each in Path("/proc/self/fd").iterdir())

    numbers = Numbers(tmp_path)
    numbers.add([3, 1])
    held = PostTags.of(numbers, np.array([1, 1]))
    taken = held.taken(np.array([1]))
    assert opened() == 2
    del numbers, held
    assert opened() == 1
    assert taken.pairs(slice(0, 1))[1].tolist() == [1]
    del taken
    assert not opened() and not list(tmp_path.iterdir())


def test_a_full_disk_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    numbers = Numbers(tmp_path)
    numbers.add([1])
    monkeypatch.setattr(os, "pwritev", full)
    with pytest.raises(OSError, match="No space left") as raised:
        numbers.read(0, 1)
    assert raised.value.filename == str(tmp_path)


def test_a_folder_that_is_not_there_takes_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Numbers(tmp_path / "absent")


def test_few_tags_are_taken_of_few_posts_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    carried = [[0, 2], [1], [], [2], [0], [1, 2], [2], [0, 1, 2]]
    numbers = Numbers(tmp_path)
    for tags in carried:
        numbers.add(tags)
    held = PostTags.of(numbers, np.array([len(tags) for tags in carried]))
    read, sizes = Numbers.read, []

    def counted(of: Numbers, first: int, last: int) -> np.ndarray:
        sizes.append(last - first)
        return read(of, first, last)

    monkeypatch.setattr(Numbers, "read", counted)
    monkeypatch.setattr(scores, "POSTS_AT_ONCE", 3)
    found = scores.truth(tmp_path, held, ["a", "b", "c"], ["c"])
    assert sizes == [3, 4, 4]
    assert found.rows(slice(0, 8))[:, 0].tolist() == [2 in tags for tags in carried]
