"""Which posts are drawn together, against a search of the graph."""

import tempfile
from pathlib import Path
from typing import Any

from arena.families import Links
from arena.validate import clusters as room
from arena.validate import post_tags
from arena.validate.clusters import Clusters, clusters, joined
from arena.validate.ground_truth import GroundTruth
from arena.validate.post_tags import Numbers, PostTags
from bench import measure

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

ARTISTS = ("ann", "bob", "cat", "dan", "banned_artist")


def posts(artists: list[set[str]], parents: dict[int, int]) -> GroundTruth:
    """Posts 1, 2, … with such artists; parents also of posts that are not among them."""
    tags = ["1girl", *ARTISTS]
    rows = [[0, *sorted(tags.index(name) for name in names)] for names in artists]
    with tempfile.TemporaryDirectory() as folder:
        numbers = Numbers(Path(folder))
    for row in rows:
        numbers.add(row)
    return GroundTruth(
        post_ids=np.arange(1, len(artists) + 1),
        ratings=np.array([""] * len(artists)),
        days=np.full(len(artists), -1),
        tags=tags,
        categories=["general", *["artist"] * len(ARTISTS)],
        own=PostTags.of(numbers, np.array([len(row) for row in rows])),
        implications=[],
        links=Links(
            np.array([*parents], dtype=np.int64), np.array([*parents.values()], dtype=np.int64)
        ),
    )


def searched(nodes: list[Any], edges: list[tuple[Any, Any]]) -> list[set[Any]]:
    """The connected components, by walking along the edges from every node."""
    found = []
    for node in nodes:
        reached, waiting = {node}, [node]
        while waiting:
            here = waiting.pop()
            for a, b in edges:
                for to in (b,) if a == here else (a,) if b == here else ():
                    if to not in reached:
                        reached.add(to)
                        waiting.append(to)
        found.append(reached)
    return found


def together(found: Clusters) -> list[list[bool]]:
    number = found.of_post
    return [[bool(a == b) for b in number] for a in number]


cases = st.tuples(
    st.lists(st.sets(st.sampled_from(ARTISTS), max_size=2), min_size=1, max_size=14),
    st.dictionaries(st.integers(1, 20), st.integers(1, 20), max_size=8),
    st.sampled_from([0.01, 0.25, 0.5, 1.0]),
    st.integers(1, 14),
)


@settings(deadline=None)
@given(cases)
def test_clusters_are_those_of_a_search_of_the_graph(
    case: tuple[list[set[str]], dict[int, int], float, int],
) -> None:
    artists, parents, largest, posts_at_once = case
    ids = list(range(1, len(artists) + 1))
    relatives = [*parents.items()]
    by = [
        (i, name)
        for i, names in zip(ids, artists, strict=True)
        for name in names - {"banned_artist"}
    ]
    family = searched(ids, relatives)
    both = searched(ids, relatives + by)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "LARGEST", largest)
        patch.setattr(post_tags, "POSTS_AT_ONCE", posts_at_once)
        truth = posts(artists, parents)
        assert clusters(truth, "none").of_post.tolist() == [i - 1 for i in ids]
        assert together(clusters(truth, "family")) == [[b in f for b in ids] for f in family]
        found = clusters(truth, "artist")
    large = [
        len(b & {*ids}) > largest * len(ids) and b & {*ids} != f & {*ids}
        for b, f in zip(both, family, strict=True)
    ]
    expected = [f if cut else b for f, b, cut in zip(family, both, large, strict=True)]
    assert together(found) == [[b in e for b in ids] for e in expected]
    assert found.chained == sum(large)
    firsts = [
        number for place, number in enumerate(found.of_post) if number not in found.of_post[:place]
    ]
    assert firsts == list(range(found.groups))
    assert found.largest == max(np.bincount(found.of_post))


NODES = st.integers(0, 11)


@given(st.lists(st.tuples(NODES, NODES), max_size=20))
def test_what_links_join_has_its_lowest_node(links: list[tuple[int, int]]) -> None:
    found = joined(12, *np.array(links, np.int32).reshape(-1, 2).T)
    assert found.tolist() == [min(each) for each in searched([*range(12)], [*links])]


def test_a_long_chain_of_links_is_joined_in_little_time() -> None:
    order = np.random.default_rng(0).permutation(200_000).astype(np.int32)
    taken = measure.call(lambda: joined(len(order), order[1:], order[:-1]))
    assert isinstance(taken.result, np.ndarray) and not taken.result.any()
    assert taken.processor < 5


def test_artists_that_join_too_many_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    artists: list[set[str]] = [set() for _ in range(300)]
    artists[:3] = [{"ann"}, {"ann"}, {"ann"}]
    artists[10:14] = [{"bob"}, {"bob", "cat"}, {"cat"}, {"cat"}]
    found = clusters(posts(artists, {13: 14, 1: 2}), "artist")
    assert (found.of_post[:3] == 0).all()
    assert found.of_post[12] == found.of_post[13] != found.of_post[11]
    assert found.chained == 4 and found.largest == 3 and found.groups == 300 - 2 - 1
    assert capsys.readouterr().err == (
        "warning: for the intervals 4 of the 300 posts are drawn by family, not by artist: artists"
        " join them to groups of more than 1% of all posts\n"
    )


def test_a_family_stays_whole_however_large_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    found = clusters(posts([set() for _ in range(20)], dict.fromkeys(range(1, 9), 99)), "artist")
    assert found.largest == 8 and not found.chained
    assert not capsys.readouterr().err
