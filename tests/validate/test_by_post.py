"""report_posts/: what each model says of each post, against the predictions files; and the page has
the files of its own run, wherever a run is killed."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

from arena import files
from arena.validate import by_post
from demo.tiny import make_data, make_model, make_onnx, write_mappings
from tests.helpers import refused
from tests.report.test_records import unpacked
from tests.validate.helpers import QUICK, TAGS, ok, saved, to_run, validate

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

NAME = re.compile(r"(\d+)-[0-9a-f]{16}\.js")
Records = dict[int, tuple[set[int], list[set[int]]]]


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_post, "POSTS_PER_FILE", 7)


def in_page(folder: Path) -> dict[str, Any]:
    """What report.html has of posts."""
    (text,) = re.findall(r'id="data">([^<]*)<', (folder / "report.html").read_text())
    return json.loads(text)["by_post"]  # type: ignore[no-any-return]


def names_in_page(folder: Path) -> set[str]:
    return {name for _, name in in_page(folder)["files"]}


def on_disk(folder: Path) -> set[str]:
    return {path.name for path in (folder / "report_posts").iterdir()}


def read(text: str, models: int) -> Records:
    """Each post's tags and each model's mistakes, of packed records."""
    found: Records = {}
    numbers = iter(unpacked(text))
    post = 0

    def tags() -> set[int]:
        return set(np.cumsum([next(numbers) for _ in range(next(numbers))]).tolist())

    for step in numbers:
        post += step
        found[post] = tags(), [tags() for _ in range(models)]
    return found


def all_records(folder: Path, models: int) -> Records:
    """Those of every file that the page names."""
    found: Records = {}
    for first, name in in_page(folder)["files"]:
        text = (folder / "report_posts" / name).read_text()
        (inside,) = re.findall(rf'^reportPosts\("{name}","([\w+/=]*)"\);\n$', text)
        held = read(inside, models)
        assert min(held) == first and len(held) <= 7
        assert not found or min(held) > max(found)
        found |= held
    return found


def predicted(folder: Path, name: str, cuts: dict[str, float]) -> np.ndarray:
    """Where a model predicts the common tags, from its predictions file: bool (posts, tags). `cuts`
    are the thresholds of its outputs as they were before aliases, in order."""
    held = saved(folder, name)
    above = held["predictions"] >= np.array(list(cuts.values()), np.float32)
    tags = torch.load(folder / "ground_truth.pt", weights_only=True)["tags"]
    outputs = np.array(held["tags"])
    return np.stack([above[:, outputs == tag].any(axis=1) for tag in tags], axis=1)


def check(folder: Path, given: list[np.ndarray]) -> None:
    """That files, page and metrics.json say what the ground truth and `given` do."""
    truth = torch.load(folder / "ground_truth.pt", weights_only=True)
    y, ids = truth["ground_truth"].numpy(), truth["post_ids"].tolist()
    found = all_records(folder, len(given))
    expected: Records = {
        post: (set(np.flatnonzero(y[row])), [set(np.flatnonzero(y[row] != g[row])) for g in given])
        for row, post in enumerate(ids)
    }
    assert found == expected
    assert names_in_page(folder) == on_disk(folder)

    apart = [
        sum(int((a[row] != b[row]).sum()) for a, b in combinations(given, 2))
        for row in range(len(ids))
    ]
    f1 = np.array(
        [[f1_score(y[row], g[row], zero_division=0) for g in given] for row in range(len(ids))]
    )
    if len(given) > 1:
        rows = sorted((row for row in range(len(ids)) if apart[row]), key=lambda r: (-apart[r], r))
    else:
        worse = (row for row in range(len(ids)) if y[row].any() and f1[row, 0] < 1)
        rows = sorted(worse, key=lambda row: (round(f1[row, 0], 12), row))
    rows = rows[: by_post.MOST]
    told = json.loads((folder / "metrics.json").read_text())["disagreements"]
    assert [(each["post"], each["differences"]) for each in told] == [
        (ids[row], apart[row]) for row in rows
    ]
    np.testing.assert_allclose([each["f1"] for each in told], f1[rows], atol=1e-12)
    chosen = {ids[row]: expected[ids[row]] for row in rows}
    assert read(in_page(folder)["records"], len(given)) == chosen


def test_what_models_and_their_mean_say_of_each_post(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_post, "MOST", 9)
    make_data(tmp_path, 40)
    # A tag with two outputs of different thresholds, which no threshold of its score decides.
    write_mappings(tmp_path, [("old_3", "tag_3"), ("old_5", "tag_5")], [])
    outputs = {**dict.fromkeys(TAGS, "0"), "old_3": "4", "old_5": "4"}
    own = {"0": 0.5, "4": 0.53}
    text = "".join(f"{name},{category}\n" for name, category in outputs.items())
    (tmp_path / "a.csv").write_text("name,category\n" + text)
    card = {"tags": "a.csv", "threshold": {"general": 0.5, "character": 0.53}}
    a = make_model(tmp_path, "a", list(outputs), card=card, seed=11)
    b, c = (
        make_model(tmp_path, name, TAGS, card={"threshold": cut}, seed=seed)
        for name, cut, seed in (("b", 0.5, 4), ("c", 0.52, 5))
    )
    ok(validate(tmp_path, a, b, c, "b+c"))
    cuts = {name: own[category] for name, category in outputs.items()}
    given = [predicted(tmp_path, "a", cuts)]
    given += [
        predicted(tmp_path, n, dict.fromkeys(TAGS, cut)) for n, cut in (("b", 0.5), ("c", 0.52))
    ]
    tags = torch.load(tmp_path / "ground_truth.pt", weights_only=True)["tags"]
    parts = [saved(tmp_path, name) for name in "bc"]
    both = [part["predictions"][:, [part["tags"].index(t) for t in tags]] for part in parts]
    given.append(np.asarray(np.mean(both, axis=0, dtype=np.float64) >= 0.51))
    check(tmp_path, given)
    assert len(on_disk(tmp_path)) == 6


def test_one_model(tmp_path: Path) -> None:
    make_data(tmp_path, 30)
    ok(validate(tmp_path, make_model(tmp_path, "a", TAGS)))
    check(tmp_path, [predicted(tmp_path, "a", dict.fromkeys(TAGS, 0.5))])


def state(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / "report_posts").iterdir()}


def test_a_rerun_writes_what_is_not_there_and_removes_what_is_old(tmp_path: Path) -> None:
    make_data(tmp_path, 30)
    model = make_model(tmp_path, "a", TAGS)
    ok(validate(tmp_path, model))
    first = state(tmp_path)
    one, *_ = sorted(first)
    (tmp_path / "report_posts" / one).unlink()
    (tmp_path / "report_posts" / ".x.js.tmp").write_text("of a killed run")
    (tmp_path / "report_posts" / "mine.txt").write_text("of somebody else")
    ok(validate(tmp_path, model))
    second = state(tmp_path)
    assert second.keys() == first.keys() | {"mine.txt"}
    assert {name for name in first if second[name] == first[name]} == first.keys() - {one}
    # Other scores of the same posts, tags and models: the results take the place of the old ones.
    make_onnx(tmp_path / "a.onnx", len(TAGS), seed=9)
    ok(validate(tmp_path, model))
    assert not (tmp_path / "earlier").exists()
    assert on_disk(tmp_path) == names_in_page(tmp_path) | {"mine.txt"}
    assert not names_in_page(tmp_path) & first.keys()


def test_other_posts_leave_the_folder_with_the_page_it_belongs_to(tmp_path: Path) -> None:
    make_data(tmp_path, 30)
    model = make_model(tmp_path, "a", TAGS)
    ok(validate(tmp_path, model))
    first = on_disk(tmp_path)
    ok(validate(tmp_path, model, more=(*QUICK, "--posts", 9)))
    (earlier,) = (tmp_path / "earlier").iterdir()
    assert on_disk(earlier) == names_in_page(earlier) == first
    assert on_disk(tmp_path) == names_in_page(tmp_path)
    assert len(on_disk(tmp_path)) == 2


@pytest.mark.slow
def test_wherever_a_run_ends_the_page_has_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_data(tmp_path, 20)
    model = make_model(tmp_path, "a", TAGS)
    ok(validate(tmp_path, model))
    write = files.write_text
    ended = []
    # Through the files of posts, the page, and beyond.
    for number, count in enumerate(range(4, 13)):
        left = count

        def some(path: Path, text: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            write(path, text)

        make_onnx(tmp_path / "a.onnx", len(TAGS), seed=20 + number)
        before = names_in_page(tmp_path)
        monkeypatch.setattr(files, "write_text", some)
        ended.append(validate(tmp_path, model).code)
        monkeypatch.setattr(files, "write_text", write)
        assert names_in_page(tmp_path) <= on_disk(tmp_path)
        assert (names_in_page(tmp_path) == before) == (ended[-1] == 130)
        ok(validate(tmp_path, model))
        check(tmp_path, [predicted(tmp_path, "a", dict.fromkeys(TAGS, 0.5))])
    assert {0, 130} == set(ended)


def test_a_file_in_its_place(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    make_data(data, 12)
    model = make_model(data, "a", TAGS)
    out.mkdir()
    (out / "report_posts").write_text("")
    ended = validate(data, model, more=(*QUICK, "--out", out))
    refused(ended, str(out / "report_posts"))
    assert not to_run(ended) and not (out / "metrics.json").exists()


def test_a_file_that_was_cut_short_is_written_again(tmp_path: Path) -> None:
    make_data(tmp_path, 12)
    model = make_model(tmp_path, "a", TAGS)
    ok(validate(tmp_path, model))
    path, *_ = sorted((tmp_path / "report_posts").iterdir())
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    ok(validate(tmp_path, model))
    assert path.read_bytes() == whole
