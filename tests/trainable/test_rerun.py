"""A second run: what is judged again and what is not."""

import json
import os
from pathlib import Path

from tests.trainable.cases import varied
from tests.trainable.folder import make, records, results, run, verdicts
from tests.trainable.images import HOLE, RGB, encoded

import pytest


def test_a_judged_file_is_not_decoded_again(tmp_path: Path) -> None:
    data = make(tmp_path / "d", varied(100))
    run(data)
    before = results(data)
    for path in (data / "originals").iterdir():
        facts = path.stat()
        path.write_bytes(bytes(facts.st_size))  # Reading one would now change its verdict.
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert run(data).out.endswith("; 100 already judged\n")
    assert results(data) == before


@pytest.mark.slow
def test_a_copy_without_its_times_is_not_decoded_again(tmp_path: Path) -> None:
    data = make(tmp_path / "d", varied(60))
    run(data)
    before, lines = results(data), records(data)
    images = {path: path.stat().st_mtime_ns for path in (data / "resized").iterdir()}
    for path in (data / "originals").iterdir():
        os.utime(path, ns=(1, 1))
    changed = data / "originals" / "1"
    assert lines[1]["verdict"] == "ok"
    content = changed.read_bytes()
    changed.write_bytes(bytes(len(content)))  # As large as before.
    assert run(data).out.endswith("; 59 already judged\n")
    assert verdicts(data)[1] == "unreadable"
    images.pop(data / "resized" / "1.webp")
    assert {path: path.stat().st_mtime_ns for path in (data / "resized").iterdir()} == images
    assert records(data)[2] == lines[2] | {"mtime_ns": 1}
    changed.write_bytes(content)
    assert run(data).out.endswith("; 59 already judged\n")
    after = results(data)
    assert {name: after[name] for name in after if name.endswith(".webp")} == {
        name: before[name] for name in before if name.endswith(".webp")
    }


@pytest.mark.slow
def test_changes_are_judged_again(tmp_path: Path) -> None:
    whole = encoded(RGB, "PNG")
    data = make(tmp_path / "d", {**dict.fromkeys(range(1, 8), whole), 8: None})
    assert run(data).out.startswith("7 ok, 0 transparent, 0 animated, 0 unreadable, 1 missing")
    first = results(data)
    (data / "originals" / "1").write_bytes(encoded(HOLE, "PNG"))
    (data / "originals" / "2").unlink()
    (data / "originals" / "8").write_bytes(whole)
    (data / "resized" / "3.webp").unlink()
    (data / "resized" / "4.webp").write_bytes(b"")  # As a power cut may leave it.
    (data / "resized" / ".5.webp.tmp").write_bytes(b"half")
    with (data / "trainable.jsonl").open("ab") as file:
        file.write(b'{"id": 9, "verd')
    assert run(data).out == (
        "7 ok, 1 transparent, 0 animated, 0 unreadable, 0 missing; 4 already judged\n"
        "1 image is kept without an original\n"
    )
    assert list(verdicts(data).values()) == ["transparent"] + ["ok"] * 7
    left = results(data)
    assert sorted(left) == [f"{post}.webp" for post in range(2, 9)] + ["trainable.jsonl"]
    assert left["3.webp"] == left["4.webp"] == first["3.webp"]


def test_what_an_earlier_version_found_unreadable_is_judged_again(tmp_path: Path) -> None:
    whole, bad = encoded(RGB, "PNG"), b"no image"
    data = make(tmp_path / "d", {1: whole, 2: encoded(HOLE, "PNG"), 3: bad, 4: bad})
    run(data)
    fresh = results(data)
    lines = records(data)
    for line in lines.values():  # As the version before wrote them.
        line.pop("rules", None)
    path = data / "trainable.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines.values()))
    assert run(data).out == (
        "1 ok, 1 transparent, 0 animated, 2 unreadable, 0 missing; 2 already judged\n"
        "2 files were judged again, as an earlier version found more files unreadable\n"
    )
    assert results(data) == fresh
    assert run(data).out.endswith("; 4 already judged\n")
