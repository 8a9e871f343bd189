"""The posts' files: which are fetched, which fail, and what a rerun does about it."""

import hashlib
from pathlib import Path

from arena.download import fetch
from arena.download.fetch import RemoteFile
from demo.server import serve
from tests.download.helpers import (
    JSON_VALUES,
    Json,
    asked,
    download,
    expected,
    failed,
    fetchable,
    make_site,
    originals,
    saved_posts,
    site_posts,
    write_posts,
)

import pytest
from hypothesis import given
from hypothesis import strategies as st


def test_file_size_limit(tmp_path: Path, data: Path) -> None:
    posts = make_site(tmp_path / "site", 3)
    big = tmp_path / "site" / "files" / f"{posts[1]['md5']}.jpg"
    posts[1]["file_size"] = 1_000_001
    posts[2].pop("file_size")  # Then the size announced with the file counts.
    big2 = tmp_path / "site" / "files" / f"{posts[2]['md5']}.jpg"
    big2.write_bytes(bytes(1_000_001))
    write_posts(tmp_path / "site", posts)
    with serve(tmp_path / "site") as server:
        done = download(data, server.url, "--max-file-size", 1)
        assert "downloaded 1, already there 0, hidden 0, not images 0, too large 1" in done.out
        assert failed(data) == {1003: "larger than --max-file-size"}
        assert not any(big.name in path for path in asked(server, "/original"))
        assert len(asked(server, "/original")) == 2


def test_a_post_deleted_between_page_and_file(site: Path, data: Path) -> None:
    gone = {post["id"] for post in fetchable(site_posts(site))[10:40:10]}
    with serve(site, vanishing=gone) as server:
        done = download(data, server.url)
        assert "failed 0" in done.out
        before = (data / "posts.jsonl").read_bytes()
        disturbed = (saved_posts(data), originals(data))
        (data / "posts.jsonl").unlink()
        download(data, server.url)  # The site as it is now, undisturbed.
    assert not gone & {int(name) for name in disturbed[1]}
    assert len(gone) == 3
    assert (saved_posts(data), originals(data)) == disturbed
    assert len(before.splitlines()) == 260


def test_a_failed_file_is_listed_and_tried_again(tmp_path: Path, data: Path) -> None:
    posts = make_site(tmp_path / "site", 40)
    lost = fetchable(posts)[5]
    path = tmp_path / "site" / "files" / f"{lost['md5']}.jpg"
    path.rename(tmp_path / "aside")
    with serve(tmp_path / "site") as server:
        done = download(data, server.url)
        assert "failed 1: 404, not found" in done.out
        assert failed(data) == {lost["id"]: "404, not found"}
        (tmp_path / "aside").rename(path)
        server.requests.clear()
        done = download(data, server.url)
        assert "downloaded 1," in done.out
        assert len(asked(server, "/original")) == 1
    assert not (data / "failed_posts.jsonl").exists()
    assert originals(data) == expected(posts)


def test_a_replaced_file_comes_with_its_new_record(tmp_path: Path, data: Path) -> None:
    posts = make_site(tmp_path / "site", 40)
    files = tmp_path / "site" / "files"
    changed = fetchable(posts)[5]
    old = files / f"{changed['md5']}.jpg"
    old.unlink()
    with serve(tmp_path / "site") as server:
        download(data, server.url)
    changed["md5"] = hashlib.md5(b"new").hexdigest()
    changed["file_size"] = 3
    (files / f"{changed['md5']}.jpg").write_bytes(b"new")
    write_posts(tmp_path / "site", posts)
    old.write_bytes(b"no longer the file of the post")
    with serve(tmp_path / "site") as server:
        download(data, server.url)
    assert originals(data) == expected(posts)
    assert saved_posts(data)[changed["id"]]["md5"] == changed["md5"]
    assert len(saved_posts(data)) == 40


@pytest.mark.slow
def test_files_that_all_fail_end_the_run(site: Path, data: Path) -> None:
    with serve() as elsewhere:
        nowhere = elsewhere.url
    with serve(site, file_host=nowhere) as server:
        done = download(data, server.url, code=2)
    assert "20 files in a row failed, the last with: connection failed" in done.err
    assert set(failed(data).values()) == {"connection failed"}
    assert originals(data) == {}
    with serve(site) as server:  # The file host has moved: the saved posts are asked for again.
        download(data, server.url)
    assert originals(data) == expected(site_posts(site))


@given(st.dictionaries(st.sampled_from(["file_url", "md5", "file_size", "file_ext"]), JSON_VALUES))
def test_any_record_is_a_file_or_a_reason(record: Json) -> None:
    remote = fetch.remote_file(record | {"id": 1}, 100)
    assert isinstance(remote, RemoteFile) or remote in (*fetch.OUTCOMES, "failed")
