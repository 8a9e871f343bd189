"""--tags FILE and validation_tags.txt: a run over the tags that a list names."""

import json
from pathlib import Path
from typing import Any

from demo.tiny import make_data, make_model, write_mappings
from tests.helpers import refused
from tests.validate.helpers import QUICK, TAGS, ok, validate

import pytest


def metrics(data: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((data / "metrics.json").read_text())
    return found


def test_a_runs_own_list_repeats_it(tmp_path: Path) -> None:
    make_data(tmp_path, 40)
    a, b = make_model(tmp_path, "a", TAGS[:9]), make_model(tmp_path, "b", TAGS[3:], seed=1)
    ok(validate(tmp_path, a, b, more=("--bootstrap", 0, "--min-count", 12)))
    first = metrics(tmp_path)
    wanted = tmp_path / "wanted.txt"
    wanted.write_bytes((tmp_path / "validation_tags.txt").read_bytes())
    assert wanted.read_text().split() == first["tag_names"]
    # The list holds whatever else of the run would choose other tags.
    ok(validate(tmp_path, a, more=(*QUICK, "--tags", wanted)))
    again = metrics(tmp_path)
    assert again["tag_names"] == first["tag_names"]
    assert again["models"][0]["overall"] == first["models"][0]["overall"]
    assert (first["tags"]["pinned"], again["tags"]["pinned"]) == (0, 1)
    assert (tmp_path / "validation_tags.txt").read_bytes() == wanted.read_bytes()


def test_a_list_is_of_any_order_and_goes_through_the_aliases(tmp_path: Path) -> None:
    make_data(tmp_path, 40)
    write_mappings(tmp_path, [("old", "tag_9")], [])
    a = make_model(tmp_path, "a", TAGS)
    wanted = tmp_path / "wanted.txt"
    wanted.write_bytes(b"\xef\xbb\xbftag_2\r\n\r\n  old \ntag_9\ntag_2\ntag_5")
    # A listed tag may be on fewer posts than --min-count, and none else is taken in.
    ended = ok(validate(tmp_path, a, more=("--bootstrap", 0, "--min-count", 39, "--tags", wanted)))
    assert metrics(tmp_path)["tag_names"] == ["tag_9", "tag_5", "tag_2"]
    assert "3 tags in common" in ended.out
    # What does not depend on the other models does not depend on the list either.
    all_tags = metrics(tmp_path)["models"][0]["all_tags"]
    assert (all_tags["tags"], all_tags["known"], all_tags["macro"]["f1"]["value"]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"tag_1\ntag_0\nno\nxx\ny\nz\n", ["b does not know 5 ('no', 'tag_0', 'xx', …) of the 6"]),
        (b"tag_1\nnowhere\n", ["1 ('nowhere') of the 2 tags in", "on none of the posts"]),
        (b"tag_1\n\xff\xfe\n", ["UTF-8"]),
        (b" \n\n\t\n", ["has no tag in it"]),
        (b"tag_1\n\x1b[31mtag_2\n", ["b does not know 1", "\\x1b[31mtag_2"]),
        (None, ["there is no file"]),
    ],
)
def test_bad_lists(tmp_path: Path, content: bytes | None, words: list[str]) -> None:
    make_data(tmp_path, 12)
    b = make_model(tmp_path, "b", [*TAGS[1:], "nowhere"])
    wanted = tmp_path / "wanted.txt"
    if content is not None:
        wanted.write_bytes(content)
    refused(validate(tmp_path, b, more=(*QUICK, "--tags", wanted)), str(wanted), *words)
