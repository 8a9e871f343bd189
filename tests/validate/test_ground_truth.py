"""Ground truth against a closure by brute force, and along implications of any length and form."""

import json
from collections.abc import Callable
from pathlib import Path

from arena.data_folder import DataFolder
from arena.validate import post_tags
from arena.validate.ground_truth import GroundTruth, mappings, read
from bench import measure
from danbooru_metadata import TagMappings
from tests.test_metadata import Rows, write

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NAMES = ["a", "b", "c", "d", "e", "f", "g", ":<"]
TAG = st.sampled_from(NAMES)
ROWS = st.lists(st.tuples(TAG, TAG), max_size=14)


def folder(root: Path, aliases: Rows, implications: Rows, tag_strings: list[str]) -> DataFolder:
    """A data folder whose posts, from 1, have these tags."""
    data = DataFolder(root)
    data.metadata.mkdir(exist_ok=True)
    write(data.metadata, aliases, implications)
    lines = [
        json.dumps({"id": post, "rating": "g", "tag_string": text, "tag_string_artist": "a"})
        for post, text in enumerate(tag_strings, 1)
    ]
    data.posts.write_text("".join(f"{line}\n" for line in lines))
    return data


def truth(data: DataFolder, posts: int) -> GroundTruth:
    return read(data, set(range(1, posts + 1)), posts, mappings(data))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    aliases=st.lists(st.tuples(TAG, TAG), max_size=4),
    implications=ROWS,
    posts=st.lists(st.lists(TAG, max_size=5), min_size=1, max_size=40),
    vocabulary=st.sets(TAG),
)
def test_against_brute_force(
    tmp_path: Path,
    aliases: Rows,
    implications: Rows,
    posts: list[list[str]],
    vocabulary: set[str],
) -> None:
    data = folder(tmp_path, aliases, implications, [" ".join(tags) for tags in posts])
    found = truth(data, len(posts))
    known = TagMappings(data.metadata)
    wanted = [{known.get_canonical(tag) for tag in tags} for tags in posts]
    rows = {(known.get_canonical(a), known.get_canonical(c)) for a, c in implications}
    for tags in wanted:
        while more := {c for a, c in rows if a in tags} - tags:
            tags |= more
    assert found.matrix(NAMES).tolist() == [[name in tags for name in NAMES] for tags in wanted]
    counts = dict(zip(found.tags, found.counts().tolist(), strict=True))
    assert {tag: count for tag, count in counts.items() if count} == {
        tag: sum(tag in tags for tags in wanted) for tag in set().union(*wanted)
    }
    assert found.tags_per_post().tolist() == [len(tags) for tags in wanted]
    assert found.tags_per_post(vocabulary).tolist() == [len(tags & vocabulary) for tags in wanted]


@settings(
    max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    posts=st.dictionaries(st.integers(1, 60), st.lists(TAG, max_size=5), min_size=1, max_size=25),
    implications=ROWS,
    chunk=st.integers(1, 6),
    data=st.data(),
)
def test_some_posts_at_a_time_are_all_posts(
    tmp_path: Path,
    posts: dict[int, list[str]],
    implications: Rows,
    chunk: int,
    data: st.DataObject,
) -> None:
    """Lines in any order, some of them twice, and fewer posts wanted than there are."""
    source = folder(tmp_path, [], implications, [])
    order = data.draw(st.permutations([*posts]))
    if data.draw(st.booleans()):
        order.sort(reverse=True)  # As download.py walks.
    lines = [
        {
            "id": post_id,
            "rating": "gsqe?"[post_id % 5],
            "created_at": f"20{post_id:02}-01-{1 + post_id % 28:02}T00:00:00-05:00"
            if post_id % 3
            else None,
            "tag_string": " ".join(posts[post_id]),
            "tag_string_artist": "a b",
        }
        for post_id in order
    ]
    again = data.draw(st.lists(st.sampled_from(order), max_size=3))
    lines += [{"id": post_id, "tag_string": "twice"} for post_id in again]
    source.posts.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    wanted = {post_id for post_id in posts if post_id % 7}
    limit = data.draw(st.integers(1, len(posts)))
    lowest = sorted(wanted)[:limit]
    carried = [set(posts[post_id]) for post_id in lowest]
    for tags in carried:
        while more := {c for a, c in implications if a in tags} - tags:
            tags |= more
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(post_tags, "POSTS_AT_ONCE", chunk)
        patch.setattr(post_tags, "MOST_WAITING", chunk)
        found = read(source, wanted, limit, mappings(source))
        assert found.post_ids.tolist() == lowest
        assert found.ratings.tolist() == ["gsqe"[p % 5 : p % 5 + 1] for p in lowest]
        assert [found.day(row) for row in range(len(lowest))] == [
            f"20{p:02}-01-{1 + p % 28:02}" if p % 3 else "" for p in lowest
        ]
        matrix = np.array([[name in tags for name in NAMES] for tags in carried]).reshape(-1, 8)
        assert (found.matrix(NAMES) == matrix).all()
        counts = dict(zip(found.tags, found.counts().tolist(), strict=True))
        assert [counts.get(name, 0) for name in NAMES] == matrix.sum(axis=0).tolist()
        assert found.tags_per_post().tolist() == [len(tags) for tags in carried]
        known = data.draw(st.sets(TAG))
        assert found.tags_per_post(known).tolist() == [len(tags & known) for tags in carried]
        artists = {
            (int(row), found.tags[tag])
            for row, tag in zip(*found.artists(without={"b"}), strict=True)
        }
        assert artists == {(row, "a") for row, p in enumerate(lowest) if "a" in posts[p]}
        pairs = found.carried(NAMES)
        for _ in range(4):
            start = data.draw(st.integers(0, len(lowest)))
            stop = data.draw(st.integers(start, len(lowest)))
            rows, places = pairs.pairs(slice(start, stop))
            assert (np.diff(rows) >= 0).all()
            ours = np.zeros((stop - start, len(NAMES)), int)
            np.add.at(ours, (rows, places), 1)
            assert (ours == matrix[start:stop]).all()
        digest = found.digest()
    assert read(source, wanted, limit, mappings(source)).digest() == digest
    assert {path.name for path in tmp_path.iterdir()} == {"metadata", "posts.jsonl"}


def chain(length: int) -> Rows:
    return [(f"t{number}", f"t{number + 1}") for number in range(length - 1)]


def cycle(length: int) -> Rows:
    return [*chain(length), (f"t{length - 1}", "t0")]


def fan_out(length: int) -> Rows:
    return [("t0", f"t{number}") for number in range(1, length)]


def fan_in(length: int) -> Rows:
    return [(f"t{number}", "t0") for number in range(1, length)]


def layers(length: int) -> Rows:
    """Every tag of one layer implies every tag of the next."""
    wide = round((length / 4) ** 0.5)
    return [
        (f"t{layer * wide + a}", f"t{(layer + 1) * wide + b}")
        for layer in range(4)
        for a in range(wide)
        for b in range(wide)
    ]


FORMS = [chain, cycle, fan_out, fan_in, layers]


def all_figures(data: DataFolder, posts: int) -> GroundTruth:
    """The ground truth after everything has been asked of it, in little time and memory."""

    def ask() -> GroundTruth:
        found = truth(data, posts)
        found.counts()
        found.tags_per_post()
        found.tags_per_post({"t5"})
        found.matrix(found.tags[:100])
        return found

    taken = measure.call(ask)
    assert taken.processor < 60
    assert taken.peak < 250e6
    assert isinstance(taken.result, GroundTruth)
    return taken.result


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_eight_thousand_tags_on_one_post(tmp_path: Path, form: Callable[[int], Rows]) -> None:
    tags = " ".join(f"t{number}" for number in range(8000))
    found = all_figures(folder(tmp_path, [], form(8000), [tags]), 1)
    assert found.tags_per_post().tolist() == [8000]
    assert found.counts().tolist() == [1] * 8000 + [0] * (len(found.tags) - 8000)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_eight_thousand_posts_of_one_tag_each(tmp_path: Path, form: Callable[[int], Rows]) -> None:
    posts = [f"t{number}" for number in range(8000)]
    found = all_figures(folder(tmp_path, [], form(8000), posts), 8000)
    known, few = mappings(DataFolder(tmp_path)), np.arange(0, 8000, 797)
    wanted = [1 + len(known.get_implications(posts[post])) for post in few]
    assert found.tags_per_post()[few].tolist() == wanted


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_two_hundred_thousand_rows(tmp_path: Path, form: Callable[[int], Rows]) -> None:
    rows = form(200_000)
    posts = [f"t{number}" for number in range(0, 200_000, 1000)]
    data = folder(tmp_path, [], rows, posts)
    found = all_figures(data, len(posts))
    reached = {"chain": 200_000, "cycle": 200_000, "fan_out": 200_000, "fan_in": 1}
    assert found.tags_per_post()[0] == reached.get(form.__name__, 1 + 4 * 224)
    known = mappings(data)
    assert len(known.get_implications("t0")) == found.tags_per_post()[0] - 1
    asked = [f"t{number}" for number in range(0, 200_000, 20_000)]
    taken = measure.call(lambda: [len(known.get_implications(tag)) for tag in asked])
    assert taken.processor < 30
    assert taken.peak < 50e6


def test_the_lowest_posts_of_a_file_in_any_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    posts = {
        int(post_id): {
            "id": int(post_id),
            "rating": "gsqe"[post_id % 4],
            "created_at": f"2024-01-{1 + post_id % 28:02}T00:00:00.000-05:00",
            "tag_string": " ".join(f"t{tag}" for tag in sorted(set(rng.integers(0, 40, 6)))),
        }
        for post_id in rng.permutation(np.arange(5000, 8000))
    }
    data = folder(tmp_path, [], [], [])
    data.posts.write_text("".join(f"{json.dumps(post)}\n" for post in posts.values()))
    wanted = {post_id for post_id in posts if post_id % 3}
    found = read(data, wanted, 100, mappings(data))  # The rest is let go several times on the way.
    lowest = sorted(wanted)[:100]
    assert found.post_ids.tolist() == lowest
    assert found.ratings.tolist() == [posts[post_id]["rating"] for post_id in lowest]
    for row, post_id in enumerate(lowest):
        assert found.day(row) == str(posts[post_id]["created_at"])[:10]
        _, own = found.own.pairs(slice(row, row + 1))
        assert {found.tags[tag] for tag in own} == set(str(posts[post_id]["tag_string"]).split())


def test_a_tags_category_is_what_most_posts_say(tmp_path: Path) -> None:
    data = folder(tmp_path, [("old", "new")], [("new", "implied")], [])
    fields = [{"general": "x new"}, {"artist": "x"}, {"artist": "x", "character": "old"}]
    fields += [{"character": "old"}, {}]
    rows = [
        {"id": post, "tag_string": "x old y z"}
        | {f"tag_string_{category}": tags for category, tags in field.items()}
        for post, field in enumerate(fields, 1)
    ]
    data.posts.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    given = {"y": "copyright", "x": "meta"}
    found = read(data, {1, 2, 3, 4, 5}, 5, mappings(data), given)
    assert dict(zip(found.tags, found.categories, strict=True)) == {
        "x": "artist",
        "new": "character",
        "implied": "general",
        "y": "copyright",
        "z": "general",
    }
