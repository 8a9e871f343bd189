"""danbooru_metadata against a brute-force closure, and on data that is out to break it."""

import json
import time
from pathlib import Path

from bench import measure
from danbooru_metadata import TagMappings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

Rows = list[tuple[str, str]]


def write(folder: Path, aliases: Rows, implications: Rows, status: str = "active") -> None:
    for name, rows in (("aliases", aliases), ("implications", implications)):
        (folder / f"tag_{name}000000000000.json").write_text(
            "".join(
                json.dumps({"antecedent_name": a, "consequent_name": c, "status": status}) + "\n"
                for a, c in rows
            )
        )


TAG = st.sampled_from([":<", ">_<", "</3", "\\m/", "a", "b", "c", "ü", "d e"])
ROWS = st.lists(st.tuples(TAG, TAG), max_size=14)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(aliases=ROWS, implications=ROWS)
def test_against_brute_force(tmp_path: Path, aliases: Rows, implications: Rows) -> None:
    write(tmp_path, aliases, implications)
    mappings = TagMappings(tmp_path)
    first: dict[str, str] = {}
    for a, c in aliases:
        first.setdefault(a, c)

    def canonical(tag: str) -> str:
        walk = [tag]
        while walk[-1] in first and first[walk[-1]] not in walk:
            walk.append(first[walk[-1]])
        if walk[-1] in first:  # A cycle: all its tags are one tag.
            return min(walk[walk.index(first[walk[-1]]) :])
        return walk[-1]

    edges = {(canonical(a), canonical(c)) for a, c in implications}
    direct = mappings.direct_implications.items()
    assert {(tag, implied) for tag, every in direct for implied in every} == edges
    while more := {(a, d) for a, b in edges for c, d in edges if b == c} - edges:
        edges |= more
    for tag in {tag for row in aliases + implications for tag in row} | {"unheard_of"}:
        assert mappings.get_canonical(tag) == canonical(tag)
        assert mappings.get_implications(tag) == {d for a, d in edges if a == canonical(tag) != d}


def test_only_active_rows_count(tmp_path: Path) -> None:
    write(tmp_path, [("a", "b")], [("a", "c")], status="deleted")
    mappings = TagMappings(tmp_path)
    assert mappings.get_canonical("a") == "a"
    assert mappings.get_implications("a") == frozenset()
    assert (mappings.blacklist, mappings.deprecations) == (set(), set())


def test_the_optional_lists(tmp_path: Path) -> None:
    write(tmp_path, [], [])
    (tmp_path / "tag_blacklist.txt").write_text("tagme\n\n:<\n")
    (tmp_path / "tag_deprecations.txt").write_text("old\n")
    mappings = TagMappings(tmp_path)
    assert (mappings.blacklist, mappings.deprecations) == ({"tagme", ":<"}, {"old"})


@pytest.mark.parametrize("line", ["{", "[]", "null", '{"antecedent_name": "a"}', "[" * 99999])
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    write(tmp_path, [("a", "b")], [])
    with (tmp_path / "tag_aliases000000000000.json").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=r"tag_aliases000000000000\.json line 2"):
        TagMappings(tmp_path)


@pytest.mark.slow
def test_closures_are_not_kept(tmp_path: Path) -> None:
    write(tmp_path, [], [(f"i{i}", f"i{i + 1}") for i in range(8000)])
    mappings = TagMappings(tmp_path)
    asked = [f"i{i}" for i in range(0, 8000, 8)]
    taken = measure.call(lambda: [len(mappings.get_implications(tag)) for tag in asked])
    assert taken.result == list(range(8000, 0, -8))
    assert taken.processor < 30
    assert taken.peak < 20e6


@pytest.mark.slow
def test_two_hundred_thousand_rows(tmp_path: Path) -> None:
    count = 100_000
    chain = [(f"a{i}", f"a{i + 1}") for i in range(count)]
    write(tmp_path, chain, [(f"i{i}", f"i{i + 1}") for i in range(count)] + [(f"i{count}", "i0")])
    began = time.process_time()
    mappings = TagMappings(tmp_path)
    assert mappings.get_canonical("a0") == f"a{count}"
    assert len(mappings.get_implications("i7")) == count
    assert time.process_time() - began < 2
