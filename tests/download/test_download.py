"""download.py on a good day, against the stand-in: everything is fetched, and once."""

import json
import time
from pathlib import Path

from arena.download.site import Site
from demo.server import serve
from tests.download.helpers import download, expected, originals, saved_posts, site_posts

import pytest


def test_a_whole_site(site: Path, data: Path) -> None:
    posts = site_posts(site)
    with serve(site) as server:
        done = download(data, server.url)
        requests, connections = list(server.requests), server.connections
    assert originals(data) == expected(posts)
    found = saved_posts(data)
    assert found.keys() == {post["id"] for post in posts}
    for post in posts:
        assert post.items() <= found[post["id"]].items()
    hidden = sum("md5" not in post for post in posts)
    others = sum("md5" in post and post["file_ext"] != "jpg" for post in posts)
    counts = f"downloaded {len(expected(posts))}, already there 0, hidden {hidden}, "
    assert counts + f"not images {others}, too large 0, failed 0" in done.out
    assert "the site has no more posts below ID 6800000: 260 of 65536 found" in done.out
    assert done.err == ""
    assert connections <= 5  # Kept alive: one for the API, one for each worker.
    files = [request.path for request in requests if "/original/" in request.path]
    assert len(files) == len(set(files)) == len(expected(posts))
    assert {request.headers["user-agent"] for request in requests} == {Site(server.url).agent}
    assert not any("authorization" in request.headers for request in requests)


def test_metadata_is_fetched_when_missing_and_refreshed_when_asked(site: Path, data: Path) -> None:
    aliases = data / "metadata" / "tag_aliases000000000000.json"
    with serve(site) as server:
        download(data, server.url, "--tags-only")
        rows = [json.loads(line) for line in aliases.read_text().splitlines()]
        assert rows == json.loads((site / "tag_aliases.json").read_text())[::-1]
        assert not (data / "posts.jsonl").exists()
        assert (data / "metadata" / "site.txt").read_text() == f"{server.url}\n"
        aliases.write_text("{}\n")
        download(data, server.url, "--posts", 1)
        assert aliases.read_text() == "{}\n"
        download(data, server.url, "--tags-only")
        assert len(aliases.read_text().splitlines()) == 1202


@pytest.mark.slow
def test_images_come_while_pages_are_walked(site: Path, data: Path) -> None:
    with serve(site) as server:
        download(data, server.url, "--api-interval", "0.3")
        paths = [request.path for request in server.requests]
    pages = [number for number, path in enumerate(paths) if path.startswith("/posts.json")]
    assert any("/original/" in path for path in paths[pages[0] : pages[-1]])


@pytest.mark.slow
def test_api_calls_keep_their_distance(site: Path, data: Path) -> None:
    with serve(site) as server:
        began = time.monotonic()
        download(data, server.url, "--api-interval", "0.4", "--posts", 300)
        calls = len([request for request in server.requests if ".json" in request.path])
        assert calls >= 6
        assert time.monotonic() - began >= (calls - 1) * 0.4
