"""The end of a .jsonl file after a crash: whole objects stay, the rest goes, appending works."""

import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from arena import files, jsonl
from arena.data_folder import DataFolder
from arena.download.post_file import PostFile
from demo.tiny import make_data, make_model
from tests.helpers import call, small_disk

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
RECORDS = st.lists(st.dictionaries(st.text(max_size=4), VALUE, max_size=3), max_size=6)


def read(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=RECORDS, compact=st.booleans(), draw=st.data())
def test_a_file_cut_anywhere_keeps_its_whole_records(
    tmp_path: Path, records: list[dict[str, Any]], compact: bool, draw: st.DataObject
) -> None:
    path = tmp_path / "x.jsonl"
    separators = (",", ":") if compact else None
    lines = [json.dumps(record, separators=separators) + "\n" for record in records]
    content = "".join(lines).encode()
    ends = [len("".join(lines[: number + 1]).encode()) for number in range(len(lines))]
    before_newline = st.sampled_from([end - 1 for end in ends] or [0])
    cut = draw.draw(st.integers(0, len(content)) | before_newline)
    path.write_bytes(content[:cut])
    whole = [record for record, end in zip(records, ends, strict=True) if end - 1 <= cut]
    jsonl.repair(path)
    assert read(path) == whole
    with path.open("ab") as file:
        file.write(jsonl.line({"next": 1}))
    assert read(path) == [*whole, {"next": 1}]


@pytest.mark.parametrize("before", [b"", b'{"id":1}\n', b"\xff rubbish\n", b'{"id":1}\r\n\n'])
@pytest.mark.parametrize(
    ("tail", "kept"),
    [
        (b"", b""),
        (b'{"id":2}', b'{"id":2}\n'),
        (b'{"id":2}\r', b'{"id":2}\r\n'),
        (b' \t{"id": 2}  ', b' \t{"id": 2}  \n'),
        (b'{"id":2', b""),
        (b'{"id":2}{"id', b""),
        (b'{"id":2}\0\0\0', b""),
        (b"12", b""),
        (b'"12"', b""),
        (b"[12]", b""),
        (b"null", b""),
        (b"   ", b""),
        (b"\xff\xfe{", b""),
        (b"[" * 100_000, b""),
        (b'{"x":' * 100_000, b""),
    ],
)
def test_what_follows_the_last_newline(
    tmp_path: Path, before: bytes, tail: bytes, kept: bytes
) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(before + tail)
    jsonl.repair(path)
    assert path.read_bytes() == before + kept


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    jsonl.repair(tmp_path / "x.jsonl")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("start", [b"", b'{"id":1}\n'])
def test_a_huge_cut_line_takes_no_memory(tmp_path: Path, start: bytes) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(start + b'{"id":2')
    os.truncate(path, 200_000_000)
    tracemalloc.start()
    try:
        jsonl.repair(path)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    assert path.read_bytes() == start


@pytest.mark.parametrize(("length", "stays"), [(jsonl.MAX_LINE, True), (jsonl.MAX_LINE + 1, False)])
def test_a_line_stays_if_it_can_be_read(tmp_path: Path, length: int, stays: bool) -> None:
    path = tmp_path / "x.jsonl"
    empty = len(jsonl.line({"id": 1, "x": ""}))
    path.write_bytes(jsonl.line({"id": 1, "x": "y" * (length - empty)})[:-1])
    jsonl.repair(path)
    assert [record["id"] for _, record in jsonl.lines(path, jsonl.Problems())] == [1] * stays


def test_a_full_disk_leaves_the_line_and_names_the_file(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "64k"):
        path = tmp_path / "disk" / "x.jsonl"
        content = b'{"id":1}\n{"x":"' + b"y" * (4096 - 17) + b'"}'
        assert len(content) == 4096  # A page of the disk: the newline needs another.
        path.write_bytes(content)
        filler = tmp_path / "disk" / "filler"
        free = os.statvfs(path)
        filler.write_bytes(bytes(free.f_bavail * free.f_bsize))
        with pytest.raises(OSError) as caught:
            jsonl.repair(path)
        assert caught.value.filename == str(path)
        assert path.read_bytes() == content
        filler.unlink()
        jsonl.repair(path)
        assert path.read_bytes() == content + b"\n"


def test_a_whole_file_need_not_be_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"id":1}\n')
    usual: Callable[..., Any] = Path.open

    def reading(self: Path, mode: str = "r", *more: Any, **options: Any) -> Any:
        if {"+", "w", "a"} & set(mode):
            raise PermissionError(13, "Permission denied", str(self))
        return usual(self, mode, *more, **options)

    monkeypatch.setattr(Path, "open", reading)
    jsonl.repair(path)
    with usual(path, "ab") as file:
        file.write(b'{"id":2}')
    with pytest.raises(PermissionError) as caught:
        jsonl.repair(path)
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b'{"id":1}\n{"id":2}'


@pytest.mark.parametrize("before", [[], [1, 2]])
def test_a_last_post_without_its_newline_is_held(tmp_path: Path, before: list[int]) -> None:
    path = tmp_path / "posts.jsonl"
    path.write_bytes(b"".join(jsonl.line({"id": post}) for post in before) + b'{"id":9}')
    assert [post["id"] for post in PostFile(DataFolder(tmp_path)).read()] == [*before, 9]
    PostFile(DataFolder(tmp_path)).add([{"id": 10}])
    assert [post["id"] for post in read(path)] == [*before, 9, 10]


def test_validate_reads_a_last_post_without_its_newline(tmp_path: Path) -> None:
    made = make_data(tmp_path, 12)
    model = make_model(tmp_path, "a", [f"tag_{number}" for number in range(12)])
    path = tmp_path / "posts.jsonl"
    path.write_bytes(path.read_bytes()[:-1])
    ended = call(
        "validate.py", "--data", tmp_path, "--models", model, "--bootstrap", 0, "--min-count", 1
    )
    assert ended.code == 0, ended.err
    assert f"{len(made)} posts, min id {made[0]['id']}" in ended.out  # The file's last post.


def test_a_lock_for_which_the_disk_has_no_room_is_named(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "64k"):
        data = DataFolder(tmp_path / "disk")
        free = os.statvfs(data.root)
        (data.root / "filler").write_bytes(bytes(free.f_bavail * free.f_bsize))
        with pytest.raises(OSError, match="No space left") as caught, files.lock(data, "validate"):
            pass
        assert caught.value.filename == str(data.lock("validate"))
