"""Disks and folders that cannot be written, and input that is missing or damaged."""

import os
import subprocess
from pathlib import Path

from tests.helpers import small_disk
from tests.trainable.folder import make, records, results, run, verdicts
from tests.trainable.images import GREY, RGB, encoded, shot

import pytest


@pytest.mark.slow
def test_full_disk(tmp_path: Path) -> None:
    data = make(tmp_path / "d", {post: encoded(RGB, "PNG") for post in range(1, 30)})
    # The lock's file, the lines and the small images fit; the first file over the limit stops it.
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))"
    done = run(data, before=limit, code=2)
    assert done.err.startswith(f"error: cannot write in {data}: ")
    assert done.err.count("\n") == 1
    assert (data / "trainable.jsonl").read_bytes().endswith(b"\n")
    assert not list(data.rglob(".*.tmp"))
    for path in (data / "resized").iterdir():
        shot(path.read_bytes())
    assert run(data).out.startswith("29 ok")


@pytest.mark.slow
@pytest.mark.parametrize("room", [0, 4096, 12288, 40960])
def test_small_disk(tmp_path: Path, room: int) -> None:
    with small_disk(tmp_path / "disk", "1m"):
        data = make(tmp_path / "disk" / "d", dict.fromkeys(range(1, 60), encoded(RGB, "PNG")))
        free = os.statvfs(data)
        filler = data / "filler"
        filler.write_bytes(bytes(max(0, free.f_bavail * free.f_bsize - room)))
        done = run(data, code=2)
        assert done.err.startswith("error: ")
        assert done.err.count("\n") == 1
        assert not list(data.rglob(".*.tmp"))
        verdicts_path = data / "trainable.jsonl"
        assert not verdicts_path.exists() or verdicts_path.read_bytes()[-1:] in (b"", b"\n")
        filler.unlink()
        assert run(data).out.startswith("59 ok")


def test_no_folder_to_write_to(tmp_path: Path) -> None:
    data = make(tmp_path / "d", {1: encoded(RGB, "PNG")})
    (data / "resized").write_text("a file")
    assert run(data, code=2).err.startswith(f"error: {data}/resized is not a folder: ")
    (data / "resized").unlink()
    (data / "trainable.jsonl").mkdir()
    assert run(data, code=2).err.count("\n") == 1


def test_read_only_folder(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m"):
        data = make(tmp_path / "disk" / "d", {1: encoded(RGB, "PNG")})
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "disk")], check=True)
        done = run(data, code=2)
        assert done.err.startswith("error: ")
        assert done.err.count("\n") == 1
        assert "ead-only" in done.err


@pytest.mark.slow
def test_missing_input(tmp_path: Path) -> None:
    assert "is not a folder" in run(tmp_path / "none", code=2).err
    assert "posts.jsonl is missing: run download.py" in run(tmp_path, code=2).err
    (tmp_path / "posts.jsonl").write_text("\n")
    assert "has no post in it" in run(tmp_path, code=2).err
    (tmp_path / "posts.jsonl").write_text('{"id": 1}\n')
    assert "originals is missing: run download.py" in run(tmp_path, code=2).err
    assert not (tmp_path / "resized").exists()


def test_bad_lines_are_skipped(tmp_path: Path) -> None:
    data = make(tmp_path / "d", {1: encoded(RGB, "PNG")})
    with (data / "posts.jsonl").open("ab") as file:
        file.write(b'{"id": "../1"}\n\xff\0\n{"id": -1}\n{"id": 1}\n[]\n{"id": 2')
    done = run(data)
    assert "skipped 6 lines: line 2 " in done.err
    assert done.err.count("\n") == 1
    assert list(records(data)) == [1]


def test_originals_that_are_no_files(tmp_path: Path) -> None:
    data = make(tmp_path / "d", dict.fromkeys(range(1, 6), None))
    (data / "originals" / "1").mkdir()
    os.mkfifo(data / "originals" / "2")
    (data / "originals" / "3").symlink_to("/dev/zero")
    (data / "originals" / "4").symlink_to("nowhere")
    for _ in range(2):  # They are told again, as the user can mend them.
        assert "originals/3: is not a file; it counts as unreadable" in run(data).err
        assert list(verdicts(data).values()) == ["unreadable"] * 3 + ["missing"] * 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        b"rubbish\n",
        b'{"id":1,"verdict":"ok","size":[],"mtime_ns":{},"bytes":"x"}\n',
        b"\xff\xfe\0" * 1000 + b"\n",
    ],
)
def test_a_damaged_trainable_file_is_made_anew(tmp_path: Path, line: bytes) -> None:
    data = make(tmp_path / "d", {1: encoded(RGB, "PNG"), 2: encoded(GREY, "PNG")})
    run(data)
    before = results(data)
    (data / "trainable.jsonl").write_bytes(line)
    run(data)
    assert results(data) == before
