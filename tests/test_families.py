"""Families of posts, against a walk over the graph of their links."""

import json
from pathlib import Path

from arena import families
from arena.download.unseen import Relatives
from arena.families import Links
from arena.seen import Training

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

# Few numbers, so that families grow: also circles and posts that are their own parents.
PARENTS = st.dictionaries(st.integers(1, 25), st.integers(0, 30), max_size=25)
TRAINING = st.builds(
    Training,
    st.integers(0, 31),
    st.none() | st.tuples(st.integers(0, 15), st.integers(15, 31)),
)


def reached(post: int, parents: dict[int, int]) -> set[int]:
    """Every post to which links lead from one, up and down, one by one."""
    found, waiting = {post}, [post]
    while waiting:
        here = waiting.pop()
        beside = {child for child, parent in parents.items() if parent == here}
        beside |= {parents.get(here, 0)} - {0}
        waiting += beside - found
        found |= beside
    return found


@given(PARENTS, st.permutations(range(25)))
def test_families_are_what_links_reach(parents: dict[int, int], order: list[int]) -> None:
    ids = [post for post in np.array(order) + 1 if post in parents]
    numbers = families.families(
        np.array(ids, np.int64), np.array([parents[post] for post in ids], np.int64)
    )
    assert sorted({*numbers.tolist()}) == [*range(len({*numbers.tolist()}))]
    for one, number in zip(ids, numbers, strict=True):
        members = {post for post, other in zip(ids, numbers, strict=True) if other == number}
        assert members == reached(one, parents) & {*ids}


@given(PARENTS, TRAINING)
@example({1: 0, 2: 0, 14: 15, 16: 14, 3: 0, 15: 17, 4: 14}, Training(4, None))
def test_a_relative_that_was_seen_counts_for_all(
    parents: dict[int, int], training: Training
) -> None:
    pairs = [(child, parent) for child, parent in parents.items() if parent]
    links = Links(*np.array(pairs, np.int64).reshape(-1, 2).T)
    ids = np.arange(1, 36)
    seen = families.may_have_seen(ids, links, training.may_have_seen)
    wanted = [
        any(training.may_have_seen(each) for each in reached(int(post), parents)) for post in ids
    ]
    assert seen.tolist() == wanted
    # Once all posts have been looked at, those of the download know the same.
    relatives = Relatives([training])
    for child, parent in parents.items():
        relatives.look_at({"id": child, "parent_id": parent or None})
    assert [relatives.may_be_seen(int(post)) for post in ids] == wanted


def test_links_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "posts.jsonl"
    assert families.links(path) is families.NO_LINKS
    rows = [
        {"id": 7, "parent_id": 3, "has_children": False},
        {"id": 8, "parent_id": None},
        {"id": 9, "tag_string": '"parent_id":5 \\"parent_id\\": 5'},
        {"id": 7, "parent_id": 4},
        {"id": "6", "parent_id": 4},
        {"id": 5, "parent_id": 2**60},
        {"id": 4, "parent_id": 1.5},
        {"id": 2, "parent_id": 9, "media_asset": {"id": 11, "parent_id": 12}},
    ]
    lines = [json.dumps(row) for row in rows]
    path.write_text("\n".join([*lines, '{"id": 1, "parent_id": 2', "[3]", ""]))
    children, parents = families.links(path)
    assert dict(zip(children.tolist(), parents.tolist(), strict=True)) == {7: 3, 2: 9}


def test_a_long_chain_and_a_large_circle() -> None:
    count = 300_000
    ids = np.arange(1, count + 1)
    for top in (0, 1):  # Of the chain, whose last post leads nowhere or to the first.
        assert not families.families(ids, np.append(ids[1:], top)).any()
