"""posts.jsonl and lists of IDs, however broken: good lines are read, bad ones are told."""

import json
import random
from pathlib import Path
from typing import Any

from arena import jsonl, posts
from arena.cli import UserError
from demo.tiny import make_data, make_model
from tests.helpers import call

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "tag_string", "rating", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)
LINE = st.one_of(
    st.binary(max_size=60),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.integers(-5, 9).map(lambda number: json.dumps({"id": number}).encode()),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given_lines=st.lists(LINE, max_size=12), end=st.sampled_from([b"\n", b"\r\n"]))
def test_any_lines_give_only_good_posts(
    tmp_path: Path, given_lines: list[bytes], end: bytes
) -> None:
    path = tmp_path / "posts.jsonl"
    path.write_bytes(end.join(given_lines))
    problems = jsonl.Problems()
    read = list(jsonl.lines(path, problems))
    ids = [record["id"] for _, record in read]
    assert all(type(post_id) is int and 0 < post_id <= jsonl.MAX_ID for post_id in ids)
    assert len(set(ids)) == len(ids)
    physical = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    filled = [line for line in physical if line.strip()]
    assert len(read) + problems.count == len(filled)
    for number, record in read:
        assert repr(json.loads(physical[number - 1])) == repr(record)


HOSTILE: list[tuple[bytes, str]] = [
    (b'{"id": 6700001, "tag_string": "cut', "is not JSON"),
    (bytes(random.Random(1).randrange(1, 256) for _ in range(300)).replace(b"\n", b"-"), "JSON"),
    (b'{"id": 6700001, "x": "' + b"y" * 10_000_000 + b'"}', "is longer than"),
    (b"{}", "no valid integer id"),
    (b'{"id": "6700001"}', "no valid integer id"),
    (b'{"id": "../../etc/passwd"}', "no valid integer id"),
    (b'{"id": -6700001}', "no valid integer id"),
    (b'{"id": 0}', "no valid integer id"),
    (b'{"id": true}', "no valid integer id"),
    (b'{"id": 6700001.0}', "no valid integer id"),
    (b'{"id": 99999999999999999999}', "no valid integer id"),
    (b'{"id": ' + b"9" * 5000 + b"}", "is not JSON"),
    (b'[{"id": 6700001}]', "is not a JSON object"),
    (b"[" * 100_000, "is not JSON"),
    (b"\x00\x00\x00", "is not JSON"),
    (b"\xff\xfe{\x00", "is not JSON"),
]


@pytest.mark.parametrize(("line", "reason"), HOSTILE)
def test_a_hostile_line_is_named_and_skipped(tmp_path: Path, line: bytes, reason: str) -> None:
    path = tmp_path / "posts.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"id": 1}\r\n' + line + b'\n{"id": 1}\n{"id": 2}')
    problems = jsonl.Problems()
    assert [post["id"] for _, post in jsonl.lines(path, problems)] == [1, 2]
    assert problems.count == 2
    assert problems.first[0].startswith("line 2 ")
    assert reason in problems.first[0]
    assert problems.first[1] == "line 3 repeats post 1"


def test_hostile_posts_pass_through_validate(tmp_path: Path) -> None:
    good = make_data(tmp_path, 20)
    model = make_model(tmp_path, "a", [f"tag_{number}" for number in range(12)])
    bad: list[dict[str, Any]] = [
        {"tag_string": None},
        {"tag_string": ["tag_1"]},
        {},
        {"tag_string": "tag_1 ../../x tag_\x00 \ud800 " + "\u202etag_2", "rating": {"g": 1}},
        {"tag_string": "", "tag_string_general": 7, "rating": "../"},
    ]
    lines = [json.dumps(post).encode() for post in good[5:]]
    lines += [
        json.dumps({"id": post["id"], **row}).encode() for post, row in zip(good, bad, strict=False)
    ]
    lines += [line for line, _ in HOSTILE]
    random.Random(2).shuffle(lines)
    (tmp_path / "posts.jsonl").write_bytes(b"\n".join(lines))
    before = {path for path in tmp_path.parent.rglob("*") if tmp_path not in path.parents}
    args = ("--models", model, "--bootstrap", 0, "--min-count", 1)
    ended = call("validate.py", "--data", tmp_path, *args)
    assert ended.code == 0, ended.err
    assert f"skipped {len(HOSTILE) + 3} lines" in ended.err
    assert "17 posts" in ended.out
    after = {path for path in tmp_path.parent.rglob("*") if tmp_path not in path.parents}
    assert after == before


@pytest.mark.parametrize("text", ["1\n2\n\n 3 \n", "\ufeff1\r\n2\r\n3"])
def test_a_list_of_ids(tmp_path: Path, text: str) -> None:
    (tmp_path / "ids").write_text(text)
    assert list(posts.ids(tmp_path / "ids")) == [1, 2, 3]


@pytest.mark.parametrize("text", ["1\n-2", "1\n2.0", "1\n../x", "1\n٣", "1\n" + "9" * 30, "1\n0"])
def test_a_bad_id_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "ids").write_text(text)
    with pytest.raises(UserError, match=r"ids line 2: .* is not a post ID"):
        posts.ids(tmp_path / "ids")
