"""Which posts download.py asks for, keeps and never asks for again."""

import datetime
import json
from pathlib import Path
from typing import Any

from arena.download.post_file import Filter
from demo.server import serve
from tests.download.helpers import (
    JSON_VALUES,
    answering,
    asked,
    download,
    expected,
    failed,
    make_site,
    originals,
    saved_posts,
    site_posts,
    write_posts,
)

import pytest
from hypothesis import given

TWO_HOURS_LATER = """
import time
now = time.time
time.time = lambda: now() + 7200
"""


@pytest.mark.slow
def test_exactly_as_many_posts_as_asked_and_no_page_twice(site: Path, data: Path) -> None:
    with serve(site) as server:
        download(data, server.url, "--posts", 250)
        assert sorted(saved_posts(data)) == list(range(1011, 1261))
        server.requests.clear()
        download(data, server.url, "--posts", 250)
        assert server.requests == []
        download(data, server.url, "--posts", 260)
        assert asked(server, "/posts") == ["/posts.json?limit=200&page=b1011"]
        assert sorted(saved_posts(data)) == list(range(1001, 1261))


def test_a_higher_start_walks_only_what_is_new(site: Path, data: Path) -> None:
    with serve(site) as server:
        download(data, server.url, "--start-id", 1101, "--posts", 90)
        server.requests.clear()
        download(data, server.url, "--start-id", 1201, "--posts", 200)
        assert asked(server, "/posts") == [
            "/posts.json?limit=200&page=b1201",
            "/posts.json?limit=200&page=b1011",
        ]
        assert sorted(saved_posts(data)) == list(range(1001, 1201))


def test_lost_lines_are_walked_again(site: Path, data: Path) -> None:
    with serve(site) as server:
        download(data, server.url)
        whole = saved_posts(data)
        lines = (data / "posts.jsonl").read_bytes().splitlines(keepends=True)
        (data / "posts.jsonl").write_bytes(b"".join(lines[:-30]) + lines[-30][:50])
        done = download(data, server.url)
    assert saved_posts(data) == whole
    assert "warning" not in done.err


@pytest.mark.slow
def test_ratings(site: Path, data: Path) -> None:
    with serve(site) as server:
        done = download(data, server.url, "--rating", "s,g", "--posts", 100)
        assert {post["rating"] for post in saved_posts(data).values()} == {"g", "s"}
        assert len(saved_posts(data)) == 100
        assert "left out as of another rating: " in done.out
        server.requests.clear()
        download(data, server.url, "--rating", "g,s", "--posts", 100)
        assert server.requests == []
        download(data, server.url, "--posts", 100)
        assert len(saved_posts(data)) == 150


def test_young_posts_are_left_out_until_they_are_old_enough(tmp_path: Path, data: Path) -> None:
    posts = make_site(tmp_path / "site", 450)
    now = datetime.datetime.now(datetime.UTC)
    for post in posts[150:]:
        post["created_at"] = (now - datetime.timedelta(days=10)).isoformat()
    posts[150]["created_at"] = (now - datetime.timedelta(days=60, hours=-1)).isoformat()
    write_posts(tmp_path / "site", posts)
    with serve(tmp_path / "site") as server:
        done = download(data, server.url, "--posts", 100)
        assert "left out as too young: 300" in done.out
        assert sorted(saved_posts(data)) == list(range(1051, 1151))
        server.requests.clear()
        download(data, server.url, "--posts", 100)
        assert server.requests == []
        download(data, server.url, "--posts", 101, before=TWO_HOURS_LATER)
        assert sorted(saved_posts(data)) == list(range(1051, 1152))
        assert len(asked(server, "/posts")) == 1  # Only the page with the post that came of age.
        download(data, server.url, "--posts", 100, "--min-age-days", 0)
        assert set(saved_posts(data)) >= set(range(1351, 1451))


@given(JSON_VALUES)
def test_a_filter_takes_any_record(value: Any) -> None:
    Filter("gs", 60, 0.0).old_enough_at({"created_at": value})
    Filter("gs", 60, 0.0).has_rating({"rating": value})


# --- --post-ids ---------------------------------------------------------------------------------


def test_exactly_the_posts_of_a_list(site: Path, data: Path, tmp_path: Path) -> None:
    wanted = [*range(1010, 1230), 77, 9_999_999]
    (tmp_path / "ids.txt").write_text("\n".join(map(str, wanted)) + "\n")
    with serve(site) as server:
        done = download(data, server.url, "--post-ids", tmp_path / "ids.txt")
        assert sorted(saved_posts(data)) == list(range(1010, 1230))
        assert "not shown by the site: 77, 9999999" in done.out
        assert failed(data) == dict.fromkeys((77, 9_999_999), "not shown by the site")
        assert len(asked(server, "/posts")) == 2
        wants = [post for post in site_posts(site) if post["id"] in range(1010, 1230)]
        assert originals(data) == expected(wants)
        server.requests.clear()
        download(data, server.url, "--post-ids", tmp_path / "ids.txt")
        assert asked(server, "/") == ["/posts.json?limit=200&tags=id%3A9999999%2C77"]


@pytest.mark.parametrize("text", ["12\n-3\n", "../x\n", "", "1 2\n"])
def test_a_list_that_is_not_one(site: Path, data: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "ids.txt").write_text(text)
    with serve(site) as server:
        done = download(data, server.url, "--post-ids", tmp_path / "ids.txt", code=2)
    assert "ids.txt" in done.err


# --- Pages and files that are not as they should be ---------------------------------------------


@pytest.mark.slow
def test_a_site_that_repeats_one_page_for_ever(data: Path) -> None:
    def respond(path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        return 200, {}, b'[{"id":9},{"id":8}]' if "posts" in path else b"[]"

    with answering(respond) as url:
        done = download(data, url, code=2)
    assert "an earlier page instead of the one asked for" in done.err
    assert set(saved_posts(data)) == {8, 9}


def test_hostile_posts_file(site: Path, data: Path) -> None:
    good = [b'{"id":%d}' % number for number in range(1200, 1260)]
    bad = [b"\xef\xbb\xbf{}", b"\xff\xfe\0", b'{"id":"7"}', b"[" * 100_000, b'{"id":1e400}']
    (data / "posts.jsonl").write_bytes(b"\r\n".join([*bad, *good, b'{"id":1, "cut']))
    with serve(site) as server:
        done = download(data, server.url)
    assert f"warning: {data / 'posts.jsonl'}: skipped {len(bad)} lines: line 1" in done.err
    lines = (data / "posts.jsonl").read_bytes().splitlines()
    assert lines[: len(bad)] == bad
    ids = [json.loads(line)["id"] for line in lines[len(bad) :]]
    assert sorted(ids) == list(range(1001, 1261))


def test_hostile_walked_file(site: Path, data: Path) -> None:
    page = {
        "below": 6800000,
        "lowest": 5,
        "kept": 0,
        "ratings": "egqs",
        "min_age_days": 60,
        "until": None,
    }
    rows: list[Any] = [{}, [], None, 3, page | {"below": "6800000"}, page | {"lowest": -1}]
    rows += [page | {"kept": 9}, page | {"until": "x"}, page | {"lowest": 6800000}, page | {"x": 1}]
    text = "\n".join([*map(json.dumps, rows), "\0", "[" * 100_000, "{"])
    (data / "walked.jsonl").write_text(text)
    with serve(site) as server:
        download(data, server.url)
    assert len(saved_posts(data)) == 260
