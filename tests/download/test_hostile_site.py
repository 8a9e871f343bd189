"""A site that answers what no site should."""

import hashlib
import json
from pathlib import Path
from typing import Any

from arena.download import danbooru
from tests.download.helpers import (
    JSON_VALUES,
    answering,
    download,
    failed,
    originals,
    saved_posts,
)

import pytest
from hypothesis import given
from hypothesis import strategies as st


def test_hostile_posts(data: Path, tmp_path: Path) -> None:
    md5 = hashlib.md5(b"x").hexdigest()
    good = {"file_ext": "jpg", "md5": md5, "file_size": 1, "rating": "g"}
    rows: list[Any] = [
        good | {"id": "../../evil", "file_url": "http://h/x"},
        good | {"id": -5, "file_url": "http://h/x"},
        good | {"id": 2**60, "file_url": "http://h/x"},
        good | {"id": True, "file_url": "http://h/x"},
        good | {"id": 1.0, "file_url": "http://h/x"},
        None,
        [],
        "text",
        good | {"id": 90, "file_url": "file:///etc/passwd"},
        good | {"id": 91, "file_url": ["http://h/x"]},
        good | {"id": 92, "file_url": "http://h/x", "md5": "../../../evil"},
        good | {"id": 93, "file_url": "http://h/x", "file_size": "12"},
        good | {"id": 94, "file_url": "http://h/x", "file_ext": "../x"},
        good | {"id": 95, "file_url": "http://[::zz]/x"},
        good | {"id": 96, "file_url": "http://\udc80/\x00"},
        good | {"id": 97, "file_url": "http://h/x", "file_ext": None, "created_at": 5},
        good | {"id": 98, "created_at": "9999-12-31T23:59:59", "rating": ["g"]},
        good | {"id": 99, "file_url": "URL/x", "note": "\ud800 ‮ \0", "created_at": "x"},
        good | {"id": 89, "tag_string": "a" * 2_000_000},
    ]

    def respond(path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        if path == "/x":
            return 200, {}, b"x"
        if not path.startswith("/posts.json") or "b6800000" not in path:
            return 200, {}, b"[]"
        return 200, {}, json.dumps(rows).replace("URL", url).encode()

    with answering(respond) as url:
        done = download(data, url, "--min-age-days", 30, "--tries", 2)
    assert originals(data) == {"99": md5}
    assert set(saved_posts(data)) == {*range(90, 98), 99}
    assert failed(data).keys() == {90, 91, 92, 93, 95, 96}
    assert "left out as too young: 1" in done.out
    assert {path.name for path in tmp_path.iterdir()} == {"data"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("file:///etc/passwd", "not an http or https URL"),
        ("ftp://127.0.0.1/x", "not an http or https URL"),
        ("http://[", "a redirect to what is no URL"),
        ("http://[::zz]/", "a redirect to what is no URL"),
        ("/again", "too many redirects"),
    ],
)
def test_redirects_that_lead_nowhere(place: str, words: str, data: Path) -> None:
    with answering(lambda path, headers: (302, {"Location": place}, b"")) as url:
        assert words in download(data, url, code=2).err


def test_a_host_that_is_none(data: Path) -> None:
    done = download(data, "http://é..x", "--tries", 2, "--backoff", 0, code=2)
    assert "not a valid URL" in done.err


@given(st.lists(JSON_VALUES | st.fixed_dictionaries({"id": JSON_VALUES | st.integers(1, 9)})))
def test_rows_come_sorted_and_once(rows: list[Any]) -> None:
    ids = [row["id"] for row in danbooru.newest_first(rows)]
    assert ids == sorted(set(ids), reverse=True)
    assert all(type(number) is int and number > 0 for number in ids)
