"""No run takes a resized image away unless its original says so."""

import io
import itertools
import os
import random
import shutil
from pathlib import Path

from tests.trainable.folder import images_in, make, records, results, run, verdicts
from tests.trainable.images import BAD, CHANGED, GOOD, KEPT

import pytest
from PIL import Image


def set_original(path: Path, kind: str) -> None:
    """Bring originals/<id> into a state; one link can never be read, the other not looked up."""
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    path.unlink(missing_ok=True)
    if kind == "directory":
        path.mkdir()
    elif kind == "unreadable":
        path.symlink_to("/proc/self/mem")
    elif kind == "unknown":
        path.symlink_to(path.name)
    elif kind != "gone":
        path.write_bytes({"good": GOOD, "changed": CHANGED, "bad": BAD}[kind])


def set_image(path: Path, kind: str) -> None:
    """Bring resized/<id>.webp into a state."""
    if kind == "lost":
        path.unlink(missing_ok=True)
    elif kind != "as it is":
        path.write_bytes({"other": KEPT, "cut": KEPT[:-60], "empty": b"", "no WebP": GOOD}[kind])


def is_whole(content: bytes | None) -> bool:
    try:
        Image.open(io.BytesIO(content or b""), formats=["WEBP"]).load()
    except OSError:
        return False
    return True


def run_and_check(data: Path, originals: dict[int, str], *options: str) -> str:
    """Run over originals in these states and hold each post against what must be. What it said."""
    before = images_in(data)
    path = data / "trainable.jsonl"
    known = verdicts(data) if path.exists() else {}
    out = run(data, *options).out
    after, now = images_in(data), records(data)
    assert now.keys() == originals.keys()
    for post, kind in originals.items():
        record = now[post]
        if kind in ("good", "changed"):
            assert record["verdict"] == "ok" and is_whole(after.get(post)), (post, kind)
        elif kind == "bad":
            assert record["verdict"] == "transparent" and post not in after, (post, kind)
        else:
            assert after.get(post) == before.get(post), (post, kind)
            if is_whole(before.get(post)):
                assert record["verdict"] == "ok", (post, kind, record)
            elif kind == "gone":
                assert record["verdict"] == "missing", (post, kind, record)
            else:
                assert record["verdict"] in {"unreadable", known.get(post)} - {"ok"}, (post, kind)
        assert (record["verdict"] == "ok") == is_whole(after.get(post))
        assert ("size" in record) or record["reason"]
    return out


ORIGINALS = ("good", "changed", "bad", "gone", "unreadable", "unknown", "directory")
IMAGES = ("as it is", "lost", "other", "cut", "empty", "no WebP")


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--max-size", "40"), ("--quality", "10")])
def test_every_state_of_original_verdict_and_image(tmp_path: Path, options: tuple[str]) -> None:
    states = list(itertools.product(("good", "bad", "gone"), ORIGINALS, IMAGES, (True, False)))
    data = make(tmp_path / "d", dict.fromkeys(range(1, len(states) + 1), None))
    for post, (first, *_) in enumerate(states, 1):
        set_original(data / "originals" / str(post), first)
    run_and_check(data, {post: state[0] for post, state in enumerate(states, 1)})
    lines = (data / "trainable.jsonl").read_bytes().splitlines(keepends=True)
    left = []
    for post, (line, (first, then, image, judged)) in enumerate(zip(lines, states, strict=True), 1):
        if then != first:
            set_original(data / "originals" / str(post), then)
        set_image(data / "resized" / f"{post}.webp", image)
        left += [line] * judged
    (data / "trainable.jsonl").write_bytes(b"".join(left))
    originals = {post: state[1] for post, state in enumerate(states, 1)}
    run_and_check(data, originals, *options)
    settled = results(data)
    run_and_check(data, originals, *options)
    assert results(data) == settled


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_no_history_loses_an_image(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    count = 60
    data = make(tmp_path / "d", dict.fromkeys(range(1, count + 1), None))
    (data / "resized").mkdir()
    originals = dict.fromkeys(range(1, count + 1), "gone")
    for _ in range(6):
        for post in originals:
            if dice.random() < 0.6:
                originals[post] = dice.choice(ORIGINALS)
                set_original(data / "originals" / str(post), originals[post])
            if dice.random() < 0.2:
                set_image(data / "resized" / f"{post}.webp", dice.choice(IMAGES))
        path = data / "trainable.jsonl"
        if path.exists():
            lines = path.read_bytes().splitlines(keepends=True)
            path.write_bytes(b"".join(line for line in lines if dice.random() < 0.8))
        run_and_check(data, originals, "--quality", dice.choice(("80", "30")))


@pytest.mark.slow
def test_originals_may_be_emptied(tmp_path: Path) -> None:
    data = make(tmp_path / "d", {**dict.fromkeys(range(1, 9), GOOD), 9: BAD})
    run(data)
    images = images_in(data)
    set_original(data / "originals" / "1", "gone")
    assert run(data).out == (
        "8 ok, 1 transparent, 0 animated, 0 unreadable, 0 missing; 9 already judged\n"
        "1 image is kept without an original\n"
    )
    shutil.rmtree(data / "originals")
    nine = "8 ok, 0 transparent, 0 animated, 0 unreadable, 1 missing; "
    kept = "8 images are kept without an original"
    assert run(data).out == f"{nine}8 already judged\n{kept}\n"
    lines = (data / "trainable.jsonl").read_bytes()
    other = "; 8 of them had another --max-size or --quality"
    assert run(data, "--max-size", "40").out == f"{nine}9 already judged\n{kept}{other}\n"
    assert (data / "trainable.jsonl").read_bytes() == lines
    assert images_in(data) == images
    # Back again, they need no second decoding unless the settings are others.
    (data / "originals").mkdir()
    for post in range(1, 9):
        set_original(data / "originals" / str(post), "good")
        record = records(data)[post]
        os.utime(data / "originals" / str(post), ns=(record["mtime_ns"], record["mtime_ns"]))
    assert run(data).out == f"{nine}9 already judged\n"


@pytest.mark.slow
def test_a_copy_of_resized_alone_is_enough(tmp_path: Path) -> None:
    data = make(tmp_path / "d", dict.fromkeys(range(1, 6), None))
    (data / "resized").mkdir()
    (data / "originals").rmdir()
    for post in (1, 2, 3):
        set_image(data / "resized" / f"{post}.webp", "other")
    set_image(data / "resized" / "4.webp", "cut")
    done = run(data)
    assert done.out == (
        "3 ok, 0 transparent, 0 animated, 0 unreadable, 2 missing; 0 already judged\n"
        "3 images are kept without an original\n"
    )
    assert done.err.startswith(f"warning: {data}/resized/4.webp: does not decode: ")
    assert "delete it, or bring the original back" in done.err
    assert done.err.count("\n") == 1
    assert {record["reason"] for record in records(data).values() if "bytes" in record} == {
        "kept without its original"
    }
    assert sorted(images_in(data)) == [1, 2, 3, 4]
    assert run(data, "--quality", "5").out.endswith("; 4 already judged\n" + done.out[-38:])


def test_many_troubles_are_counted(tmp_path: Path) -> None:
    data = make(tmp_path / "d", dict.fromkeys(range(1, 10), None))
    for post in range(1, 10):
        set_original(data / "originals" / str(post), "unreadable")
    warnings = run(data).err.splitlines()
    assert len(warnings) == 4
    assert "originals/3: could not be read: Input/output error; it counts as" in "".join(warnings)
    assert warnings[3] == "warning: 6 more files had trouble: the reasons are in trainable.jsonl"
