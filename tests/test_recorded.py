"""The real site's own bytes, from the API to the ground truth: `tests/real/danbooru/`."""

import hashlib
import json
from pathlib import Path
from typing import Any

from arena import jsonl
from arena.data_folder import DataFolder
from arena.validate import ground_truth
from danbooru_metadata import TagMappings
from demo.record import CDN
from demo.server import serve
from tests.download.helpers import download, failed, originals
from tests.helpers import ROOT

import pytest

REAL = ROOT / "tests" / "real" / "danbooru"
ALL = ("--start-id", 99_999_999, "--min-age-days", 0)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def recorded(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((REAL / f"{name}.json").read_text())
    return rows


def saved(path: Path) -> list[dict[str, Any]]:
    return [row for _, row in jsonl.lines(path, jsonl.Problems())]


def test_the_recorded_posts_are_saved_as_they_are(data: Path) -> None:
    posts = recorded("posts")
    with serve(REAL) as server:
        ended = download(data, server.url, *ALL, code=2)
        text = (data / "posts.jsonl").read_text().replace(server.files.url, CDN)
    assert [json.loads(line) for line in text.splitlines()] == posts
    # The files themselves were not recorded.
    images = {post["id"] for post in posts if post.get("md5") and post["file_ext"] != "mp4"}
    assert failed(data) == dict.fromkeys(images, "404, not found")
    assert "downloaded 0, already there 0, hidden 1, not images 1, too large 0" in ended.out
    assert "not one of 15 files could be had" in ended.err
    for name in ("tag_aliases", "tag_implications"):
        assert saved(DataFolder(data).tag_rows(name)) == recorded(name)


def test_deleted_posts_have_their_files_and_hidden_ones_have_none(
    data: Path, tmp_path: Path
) -> None:
    text = (REAL / "posts.json").read_text()
    (tmp_path / "files").mkdir()
    files = {}
    for post in recorded("posts"):
        if old := post.get("md5"):
            content = b"x" * post["file_size"]
            files[post["id"]] = hashlib.md5(content + old.encode()).hexdigest()
            text = text.replace(old, files[post["id"]])
            file = tmp_path / "files" / f"{files[post['id']]}.{post['file_ext']}"
            file.write_bytes(content + old.encode())
    posts = json.loads(text)
    for post in posts:
        post["file_size"] += 32
    (tmp_path / "posts.json").write_text(json.dumps(posts))
    for name in ("tag_aliases.json", "tag_implications.json"):
        (tmp_path / name).write_bytes((REAL / name).read_bytes())
    with serve(tmp_path) as server:
        download(data, server.url, *ALL)
    images = {post["id"] for post in posts if post.get("md5") and post["file_ext"] != "mp4"}
    assert originals(data) == {str(number): files[number] for number in images}
    assert {post["id"] for post in posts if post["is_deleted"]} <= images


def test_ground_truth_of_the_recorded_posts(data: Path) -> None:
    posts = {post["id"]: post for post in recorded("posts")}
    with serve(REAL) as server:
        download(data, server.url, *ALL, code=2)
    folder = DataFolder(data)
    mappings = ground_truth.mappings(folder)
    truth = ground_truth.read(folder, set(posts), len(posts), mappings)
    assert truth.post_ids.tolist() == sorted(posts)
    assert truth.ratings.tolist() == [posts[number]["rating"] for number in sorted(posts)]
    matrix = truth.matrix(truth.tags)
    for row, number in enumerate(sorted(posts)):
        carried = {tag for column, tag in enumerate(truth.tags) if matrix[row, column]}
        assert carried == set(posts[number]["tag_string"].split())
    category = dict(zip(truth.tags, truth.categories, strict=True))
    for post in posts.values():
        for name in ("general", "artist", "copyright", "character", "meta"):
            assert {category[tag] for tag in post[f"tag_string_{name}"].split()} <= {name}


@pytest.mark.parametrize(
    ("status", "counts"),
    [
        ("active", True),
        ("deleted", False),
        ("retired", False),
        ("pending", False),
        ("error: that tag is taken", False),
    ],
)
def test_only_active_rows_count(status: str, counts: bool, tmp_path: Path) -> None:
    for name in ("tag_aliases", "tag_implications"):
        rows = [row | {"status": status} for row in recorded(name)]
        DataFolder(tmp_path).tag_rows(name).parent.mkdir(exist_ok=True)
        DataFolder(tmp_path).tag_rows(name).write_bytes(b"".join(map(jsonl.line, rows)))
    mappings = TagMappings(DataFolder(tmp_path).metadata)
    assert (mappings.get_canonical("red_urchin") == "dahaidan") == counts
    implied = mappings.get_implications("condom_wrapper_in_clothes")
    assert (implied == {"condom_wrapper"}) == counts
