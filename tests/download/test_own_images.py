"""download.py --from-folder: images and captions of one's own, without a site."""

import errno
import hashlib
import json
import os
import random
from pathlib import Path
from typing import Any

from arena.data_folder import DataFolder
from arena.download import own_images
from arena.posts import OWN
from tests.helpers import Ended, call, doomed, kills

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image


def picture(path: Path, shade: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (shade, shade, shade)).save(path)
    return path


def captioned(path: Path, shade: int, caption: str) -> Path:
    path.with_suffix(".txt").parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".txt").write_text(caption, encoding="utf-8")
    return picture(path, shade)


def take(folder: Path, data: Path, *more: object) -> Ended:
    data.mkdir(exist_ok=True)
    return call("download.py", "--from-folder", folder, "--data", data, *more)


def lines(data: Path) -> dict[int, dict[str, Any]]:
    rows = map(json.loads, (data / "posts.jsonl").read_text().splitlines())
    return {row["id"]: row for row in rows}


def test_captions_become_posts(tmp_path: Path) -> None:
    mine, data = tmp_path / "mine", tmp_path / "data"
    one = captioned(mine / "a.png", 10, "1girl, Long Hair, Saber \\(Fate\\), >_<,\n")
    captioned(mine / "10_set" / "b.PNG", 20, "\ufeff1boy, smile")
    picture(mine / "c.webp", 30).with_suffix(".json").write_text(
        json.dumps({"tags": {"general": ["1girl", "blue eyes"], "character": "hatsune_miku"}})
    )
    (picture(mine / "d.jpg", 40).parent / "d.jpg.json").write_text(
        json.dumps({"tag_string": "cat tail", "tag_string_meta": "highres", "rating": "s"})
    )
    done = take(mine, data)
    assert done.code == 0, done.err
    assert "new 4, changed 0, already there 0" in done.out
    found = lines(data)
    assert sorted(found) == [OWN + 1, OWN + 2, OWN + 3, OWN + 4]
    assert [post["tag_string"] for post in found.values()] == [
        "1girl >_< long_hair saber_(fate)",
        "1girl blue_eyes hatsune_miku",
        "cat highres tail",
        "1boy smile",
    ]
    assert found[OWN + 2]["tag_string_character"] == "hatsune_miku"
    assert [post["rating"] for post in found.values()] == [None, None, "s", None]
    for post in found.values():
        content = (data / "originals" / str(post["id"])).read_bytes()
        assert hashlib.md5(content).hexdigest() == post["md5"]
    assert (data / "originals" / str(OWN + 1)).samefile(one)
    assert str(tmp_path) not in (data / "posts.jsonl").read_text()


def test_a_rerun_does_what_is_new(tmp_path: Path) -> None:
    mine, data = tmp_path / "mine", tmp_path / "data"
    captioned(mine / "a.png", 10, "1girl, smile")
    moved = captioned(mine / "b.png", 20, "1boy")
    take(mine, data)
    before = lines(data)
    captioned(mine / "0.png", 30, "cat")
    captioned(mine / "a.png", 10, "1girl, frown")
    moved.rename(mine / "z.png")
    moved.with_suffix(".txt").rename(mine / "z.txt")
    done = take(mine, data)
    assert "new 1, changed 1, already there 1" in done.out
    after = lines(data)
    assert after[OWN + 1]["tag_string"] == "1girl frown"
    assert after[OWN + 2] == before[OWN + 2]
    assert after[OWN + 3]["tag_string"] == "cat"


def test_an_image_edited_in_its_place_stays_the_same_post(tmp_path: Path) -> None:
    mine, data = tmp_path / "mine", tmp_path / "data"
    image = captioned(mine / "a.png", 10, "1girl, smile")
    take(mine, data)
    other = picture(tmp_path / "other.png", 99).read_bytes()
    with image.open("r+b") as file:  # The same file, and so the original that links to it.
        file.write(other)
        file.truncate()
    assert "new 0, changed 1, already there 0" in take(mine, data).out
    assert [post["md5"] for post in lines(data).values()] == [hashlib.md5(other).hexdigest()]


def test_a_copy_where_there_are_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    mine, data = tmp_path / "mine", tmp_path / "data"
    image = captioned(mine / "a.png", 10, "1girl, smile")
    monkeypatch.setattr(os, "link", no_links)
    assert take(mine, data).code == 0
    original = data / "originals" / str(OWN + 1)
    assert original.read_bytes() == image.read_bytes()
    assert not original.samefile(image)
    inode = original.stat().st_ino
    take(mine, data)
    assert original.stat().st_ino == inode, "the copy was made again"


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    mine, data = tmp_path / "mine", tmp_path / "data"
    captioned(mine / "good.png", 10, "1girl solo long_hair")
    captioned(mine / "good copy.png", 10, "1girl, solo")
    captioned(mine / "large.png", 20, "cat").write_bytes(b"x" * 1_000_001)
    captioned(mine / "empty.png", 30, " ,\n")
    captioned(mine / "long.png", 40, "a" * (own_images.MAX_CAPTION + 1))
    picture(mine / "latin.png", 50).with_suffix(".txt").write_bytes(b"caf\xe9")
    picture(mine / "bare\x1b[31m.png", 60)
    for name, text in {"deep": "[" * 100_000, "list": "[1]", "number": '{"tags": [1]}'}.items():
        picture(mine / f"{name}.png", 70).with_suffix(".json").write_text(text)
    os.mkfifo(mine / "pipe.png")
    os.mkfifo(mine / "good.json")
    captioned(mine / ".hidden" / "x.png", 80, "cat")
    (mine / "clip.gif").write_bytes(b"GIF89a")
    done = take(mine, data, "--max-file-size", 1)
    assert done.code == 0, done.err
    assert "new 1," in done.out
    for line in (
        "left out 1: the same image as another one (good.png)",
        "left out 1: too large (--max-file-size) (large.png)",
        "left out 1: no tag in its caption (empty.png)",
        "left out 1: its caption is longer than 1000000 bytes (long.png)",
        "left out 1: its caption is not in UTF-8 (latin.png)",
        "left out 1: no caption beside it (bare\\x1b[31m.png)",
        "left out 1: its caption is not JSON (deep.png)",
        'left out 2: its caption has no "tags": a list of texts (list.png, number.png)',
    ):
        assert line in done.out.splitlines()
    assert [post["tag_string"] for post in lines(data).values()] == ["1girl solo"]


def test_words_without_a_comma_are_tags(tmp_path: Path) -> None:
    mine, data = tmp_path / "mine", tmp_path / "data"
    captioned(mine / "a.png", 10, "1girl solo long_hair")
    done = take(mine, data)
    assert "1 captions have no comma: their words were taken for tags" in done.out
    assert lines(data)[OWN + 1]["tag_string"] == "1girl long_hair solo"


def test_wrong_folders_and_options(tmp_path: Path) -> None:
    data = tmp_path / "data"
    done = take(tmp_path / "none", data)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "is not a folder" in done.err
    picture(tmp_path / "mine" / "a.png", 10)
    done = take(tmp_path / "mine", data)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "no image with a caption" in done.err
    assert "holds the arena's own files" in take(data, data).err
    done = take(tmp_path / "mine", data, "--start-id", 5)
    assert (done.code, done.err.count("\n")) == (2, 1)


@pytest.mark.slow
def test_killed_anywhere_a_rerun_ends_the_same(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    for number in range(3):
        captioned(mine / f"{number}.png", 10 * number, f"1girl, tag {number}")
    whole, report = tmp_path / "whole", tmp_path / "steps"
    whole.mkdir()
    doomed("download", whole, "--from-folder", mine, step=0, report=report)
    steps = int(report.read_text())
    for step in random.Random(1).sample(range(1, steps + 1), kills(6)):
        data = tmp_path / f"killed-{step}"
        data.mkdir()
        doomed("download", data, "--from-folder", mine, step=step, report=report)
        take(mine, data)
        assert lines(data) == lines(whole), step
        for part in ("originals", "metadata"):
            assert names(data / part) == names(whole / part), step


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


WORDS = st.lists(st.text("ab_()'", min_size=1), min_size=1, max_size=3)


@given(st.lists(WORDS, min_size=1, max_size=5))
def test_names_are_read_as_they_are_written(tags: list[list[str]]) -> None:
    """Trainers write a tag with spaces and with brackets escaped."""
    written = [
        " ".join(words).replace("(", "\\(").replace(")", "\\)").replace("_", " ") for words in tags
    ]
    wanted = {"_".join("_".join(words).replace("_", " ").split()) for words in tags} - {""}
    if wanted:
        caption, _ = own_images._from_text(" , ".join(["x", *written]))
        assert set(caption.tags[None]) == wanted | {"x"}


def test_paths_of_the_folder_itself_may_be_links(tmp_path: Path) -> None:
    real = captioned(tmp_path / "store" / "a.png", 10, "1girl, smile")
    mine, data = tmp_path / "mine", tmp_path / "data"
    mine.mkdir()
    (mine / "a.png").symlink_to(real)
    (mine / "a.txt").symlink_to(real.with_suffix(".txt"))
    assert take(mine, data).code == 0
    original = DataFolder(data).original(OWN + 1)
    assert not original.is_symlink()
    assert original.read_bytes() == real.read_bytes()
