"""Several machines with a part of the posts each: laid together, they are one machine's work."""

import argparse
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from arena.shard import Shard, shard
from demo.server import Server, serve
from tests.download.helpers import FAST, NO_LOGIN, asked, download, originals, saved_posts
from tests.helpers import call, doomed, refused
from tests.trainable import folder
from tests.trainable.cases import varied

import pytest
from hypothesis import given
from hypothesis import strategies as st

FIRST, COUNT = 5001, 450  # Three pages.


@given(st.integers(-3, 40), st.integers(-3, 40))
def test_a_shard_is_i_of_n(number: int, of: int) -> None:
    if 0 <= number < of:
        assert shard(f"{number}/{of}") == Shard(number, of)
    else:
        with pytest.raises(argparse.ArgumentTypeError, match="I from 0 to N - 1"):
            shard(f"{number}/{of}")


@given(st.text(max_size=8))
def test_what_is_no_shard_is_refused(text: str) -> None:
    try:
        chosen = shard(text)
    except argparse.ArgumentTypeError:
        return
    first, last = text.split("/")
    assert (first + last).isascii() and (first + last).isdigit()
    assert chosen == (int(first), int(last))


@given(st.integers(1, 9), st.sets(st.integers(1, 10**13)))
def test_each_post_is_of_one_shard(of: int, ids: set[int]) -> None:
    shards = [Shard(number, of) for number in range(of)]
    assert all(sum(each.has(post_id) for each in shards) == 1 for post_id in ids)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Posts with files of every kind that trainable.py may meet; no test may change them."""
    site = tmp_path_factory.mktemp("site")
    (site / "files").mkdir()
    posts = []
    for number, content in varied(COUNT).items():
        post: dict[str, Any] = {"id": FIRST + number, "rating": "g", "tag_string": "solo"}
        post |= {"created_at": "2023-10-22T00:00:00.000-04:00", "file_ext": "png"}
        if content is not None:
            md5 = hashlib.md5(content).hexdigest()
            post |= {"md5": md5, "file_size": len(content)}
            (site / "files" / f"{md5}.png").write_bytes(content)
        posts.append(post)
    (site / "posts.json").write_text(json.dumps(posts))
    for name in ("tag_aliases", "tag_implications"):
        (site / f"{name}.json").write_text("[]")
    return site


@pytest.fixture(scope="module")
def whole(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one machine makes of the site."""
    data = tmp_path_factory.mktemp("whole")
    with serve(site) as server:
        download(data, server.url)
    folder.run(data)
    return data


def lay_together(parts: list[Path], data: Path, copy: Callable[..., Any]) -> None:
    """As the README says: folders copied into one, lines one file after the other."""
    data.mkdir()
    for part in parts:
        for name in ("metadata", "originals", "resized"):
            shutil.copytree(part / name, data / name, dirs_exist_ok=True, copy_function=copy)
        for path in part.glob("*.jsonl"):
            with (data / path.name).open("ab") as file:
                file.write(path.read_bytes())


def judged(data: Path) -> dict[int, dict[str, Any]]:
    """The lines of trainable.jsonl without the times of the originals."""
    lines = folder.records(data)
    return {post: {**line, "mtime_ns": None} for post, line in lines.items()}


@pytest.mark.slow
@pytest.mark.parametrize(("of", "copy"), [(2, shutil.copy2), (3, shutil.copy)])
def test_shards_laid_together_are_one_run(
    site: Path, whole: Path, tmp_path: Path, of: int, copy: Callable[..., Any]
) -> None:
    parts = [tmp_path / f"part{number}" for number in range(of)]
    report = tmp_path / "steps"
    with serve(site) as server:
        for number, part in enumerate(parts):
            part.mkdir()
            chosen = ("--shard", f"{number}/{of}")
            if not number:  # In the middle of each step.
                given = ("--url", server.url, *FAST, *chosen)
                assert doomed("download", part, *given, step=90, report=report).code
            download(part, server.url, *chosen)
            if not number:
                assert doomed("trainable", part, *chosen, step=150, report=report).code
            folder.run(part, *chosen)
    # A part copied twice does no harm.
    lay_together([*parts, parts[-1]], tmp_path / "data", copy)
    data = tmp_path / "data"
    before = {path.name: path.stat().st_mtime_ns for path in (data / "resized").iterdir()}
    ended = folder.run(data)
    assert ended.out.endswith(f"; {COUNT} already judged\n")
    assert judged(data) == judged(whole)
    assert {path.name: path.stat().st_mtime_ns for path in (data / "resized").iterdir()} == before
    assert folder.images_in(data) == folder.images_in(whole)
    assert originals(data) == originals(whole)
    with serve(site) as server:
        again = download(data, server.url, "--posts", COUNT)
        assert server.requests == []
    assert again.err.count("\n") == 1 and f"skipped {COUNT // of} lines: line" in again.err
    lines = (data / "posts.jsonl").read_bytes().splitlines(keepends=True)
    assert len(lines) == COUNT + COUNT // of
    (data / "posts.jsonl").write_bytes(b"".join(dict.fromkeys(lines)))
    assert saved_posts(data) == saved_posts(whole)


def walk(server: Server, data: Path, *more: object) -> list[str]:
    """Run download.py; the pages that it asked for."""
    server.requests.clear()
    download(data, server.url, *more)
    return asked(server, "/posts.json")


def test_a_shard_counts_its_own_posts_and_believes_no_other(site: Path, tmp_path: Path) -> None:
    with serve(site) as server:
        assert len(walk(server, tmp_path, "--shard", "1/3", "--posts", 90)) == 2
        own = [post for post in range(FIRST + 1, FIRST + COUNT + 1) if post % 3 == 1]
        assert sorted(saved_posts(tmp_path)) == own[-90:]
        assert walk(server, tmp_path, "--shard", "1/3", "--posts", 90) == []
        for other in (["--shard", "0/3"], ["--shard", "1/2"], []):
            assert len(walk(server, tmp_path, *other, "--posts", 60)) >= 1, other


def test_pages_of_all_shards_are_one_machines_until_a_line_is_lost(
    site: Path, tmp_path: Path
) -> None:
    with serve(site) as server:
        for number in range(3):
            assert walk(server, tmp_path, "--shard", f"{number}/3")
        assert walk(server, tmp_path, "--posts", COUNT) == []
        assert len(walk(server, tmp_path, "--shard", "1/2")) == 4
        lines = (tmp_path / "posts.jsonl").read_bytes().splitlines(keepends=True)
        (tmp_path / "posts.jsonl").write_bytes(b"".join(lines[1:]))
        pages = walk(server, tmp_path, "--posts", COUNT)
        assert len([page for page in pages if "page=b" in page]) == 1
        assert len(saved_posts(tmp_path)) == COUNT


@pytest.mark.parametrize(("first", "starts"), [(60, (None, None)), (120, (FIRST + 390, None))])
def test_pages_that_shards_cut_otherwise_are_walked_all_the_same(
    site: Path, tmp_path: Path, first: int, starts: tuple[int | None, int | None]
) -> None:
    parts = [tmp_path / name for name in ("one", "two")]
    with serve(site) as server:
        for number, (part, start) in enumerate(zip(parts, starts, strict=True)):
            part.mkdir()
            begin = ("--start-id", start) if start else ()
            for posts in (first, 120):
                walk(server, part, "--shard", f"{number}/2", "--posts", posts, *begin)
        for name in ("posts.jsonl", "walked.jsonl"):
            lines = b"".join((part / name).read_bytes() for part in parts)
            (tmp_path / name).write_bytes(lines)
        held = len(saved_posts(tmp_path))
        pages = walk(server, tmp_path, "--posts", held)
        assert len([page for page in pages if "page=b" in page]) <= 2
        assert walk(server, tmp_path, "--posts", held) == []


def test_a_shard_without_posts(site: Path, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text(f"{FIRST + 100}\n")
    with serve(site) as server:
        chosen = ("--post-ids", tmp_path / "ids.txt", "--shard", f"{(FIRST + 1) % 2}/2")
        download(tmp_path, server.url, *chosen)
    assert (tmp_path / "posts.jsonl").read_bytes() == b""
    refused(call("trainable.py", "--data", tmp_path), "has no post in it", "leave this shard out")


def test_a_shards_share_of_a_list(site: Path, tmp_path: Path) -> None:
    wanted = range(FIRST + 100, FIRST + 160)
    (tmp_path / "ids.txt").write_text("\n".join(map(str, [*wanted, 77, 78])))
    for number in range(2):
        data = tmp_path / f"part{number}"
        data.mkdir()
        with serve(site) as server:
            chosen = ("--post-ids", tmp_path / "ids.txt", "--shard", f"{number}/2")
            ended = download(data, server.url, *chosen)
        assert sorted(saved_posts(data)) == [post for post in wanted if post % 2 == number]
        assert f"not shown by the site: {78 - (number == 1)}\n" in ended.out


@pytest.mark.slow
def test_a_shard_judges_its_own_posts_and_keeps_the_lines_of_others(tmp_path: Path) -> None:
    data = folder.make(tmp_path / "d", varied(60))
    one = folder.make(tmp_path / "one", varied(60))
    folder.run(one)
    assert folder.run(data, "--shard", "0/2").out.endswith("; 0 already judged\n")
    assert sorted(folder.records(data)) == list(range(2, 61, 2))
    for path in (data / "originals").iterdir():  # Out of date, but not this shard's to judge.
        if int(path.name) % 2 == 0:
            path.write_bytes(b"changed")
    shown = folder.run(data, "--shard", "1/2").out
    counts = [int(part.split()[0]) for part in shown.partition(";")[0].split(", ")]
    assert sum(counts) == 30
    assert judged(data) == judged(one)
    assert folder.images_in(data) == folder.images_in(one)


@pytest.mark.parametrize("script", ["download.py", "trainable.py"])
@pytest.mark.parametrize("text", ["2/2", "1", "0/0", "a/b", "1/2/3", "", "٣/4"])
def test_a_shard_that_is_none(script: str, text: str, tmp_path: Path) -> None:
    ended = call(script, "--data", tmp_path, "--shard", text, env=NO_LOGIN)
    refused(ended, f"argument --shard: '{text}' is not I/N with I from 0 to N - 1")
    assert not list(tmp_path.iterdir())
