"""history.jsonl, and what a run says where the common tags are others than the last run's."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

from arena.data_folder import DataFolder
from arena.validate import history
from demo.tiny import make_data, make_model, make_onnx
from tests.helpers import Ended, call, refused
from tests.validate.helpers import QUICK, TAGS, ok, validate

import pytest


def lines(data: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (data / "history.jsonl").read_text().splitlines()]


def moved(ended: Ended) -> list[str]:
    """What a run said of other tags."""
    starts = "The last run", "That alone", "Tags and posts"
    return [line for line in ended.out.splitlines() if line.startswith(starts)]


def macro(data: Path) -> list[tuple[float, float]]:
    """F1 and AP of each model."""
    overalls = [m["overall"] for m in json.loads((data / "metrics.json").read_text())["models"]]
    return [(o["own"]["macro"]["f1"]["value"], o["ap"]["macro"]["value"]) for o in overalls]


def printed_history(data: Path) -> list[str]:
    return ok(call("validate.py", "--data", data, "--history", "--ci")).out.splitlines()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one run."""
    folder = tmp_path_factory.mktemp("run")
    make_data(folder, 12)
    ok(validate(folder, make_model(folder, "a", TAGS)))
    return folder


def test_a_line_a_run(tmp_path: Path) -> None:
    make_data(tmp_path, 30)
    model = make_model(tmp_path, "a", TAGS)
    more = (*QUICK[2:], "--bootstrap", 100)
    for _ in range(2):
        assert moved(ok(validate(tmp_path, model, more=more))) == []
    first, second = lines(tmp_path)
    text = (tmp_path / "history.jsonl").read_text()
    assert str(tmp_path) not in text and str(tmp_path.parent) not in text
    assert "validate.py --data" in first["command"] and "--models ./a.toml" in first["command"]
    assert (first["posts"]["count"], first["tags"]["count"]) == (30, 12)
    assert first["run"]["host_memory"] > 1e7
    (entry,) = first["models"]
    overall = json.loads((tmp_path / "metrics.json").read_text())["models"][0]["overall"]
    assert entry["figures"]["f1"] == overall["own"]["macro"]["f1"]
    assert entry["figures"]["ap"] == overall["ap"]["macro"]
    assert entry["figures"]["f1"]["low"] is not None
    # The page has both runs, and --history prints them.
    data = re.findall(r'id="data">([^<]*)<', (tmp_path / "report.html").read_text())[0]
    figure = overall["own"]["macro"]["f1"]
    shown = [run["models"][0]["f1"]["value"] for run in json.loads(data)["runs"]]
    assert shown == pytest.approx([figure["value"]] * 2, abs=1e-5)
    rows = printed_history(tmp_path)[2:-2]
    assert [row.split(" | ")[0] for row in rows] == [
        f"| {line['date']}" for line in lines(tmp_path)
    ]
    assert all(f"| {figure['value']:.4f} ({figure['low']:.4f} to " in row for row in rows)
    for varying in ("date", "run"):
        del first[varying], second[varying]
    assert first == second


def page_lines(data: Path) -> Any:
    """The runs on each model's line of the page, by the model's label, and its F1 in them."""
    found = re.findall(r'id="data">([^<]*)<', (data / "report.html").read_text())[0]
    page = json.loads(found)
    return {
        model["label"]: [
            (at, row["f1"]["value"])
            for at, run in enumerate(page["runs"])
            for row in run["models"]
            if row["name"] == model["name"]
        ]
        for model in page["models"]
    }


def test_checkpoints_of_one_run_are_lines_of_their_own(run: Path, tmp_path: Path) -> None:
    make_data(tmp_path, 12)
    files = []
    for seed, folder in enumerate((tmp_path / "first", tmp_path / "second")):
        shutil.copytree(run, folder)
        make_onnx(folder / "a.onnx", len(TAGS), seed=seed)
        ok(validate(folder, folder / "a.toml"))
        files.append(folder / "a_predictions.pt")
    first, second = files
    for file in files:
        ok(validate(tmp_path, file))
    f1 = [line["models"][0]["figures"]["f1"]["value"] for line in lines(tmp_path)]
    one, other = (pytest.approx(value, abs=1e-4) for value in f1)
    # One checkpoint a run: the line is the model's progress.
    assert page_lines(tmp_path) == {"Tiny": [(0, one), (1, other)]}
    # Two rows of one run, whichever of them has the name to itself.
    ok(validate(tmp_path, first, second))
    ok(validate(tmp_path, second, first))
    prints = [line["models"][0]["fingerprint"] for line in lines(tmp_path)[:2]]
    assert page_lines(tmp_path) == {
        "Tiny (a)": [(1, other), (2, other), (3, other)],
        f"Tiny (a-{prints[0][:16]})": [(0, one), (2, one), (3, one)],
    }
    *rows, _, _, said = printed_history(tmp_path)[2:]
    assert "another fingerprint" in said
    cells = [[cell.strip() for cell in row[1:-1].split("|")] for row in rows]
    assert [cell[5] for cell in cells] == [prints[each][:8] for each in (0, 1, 0, 1, 1, 0)]
    assert all(cell[4].startswith("Tiny (a") for cell in cells)
    # Once more a run of one of them.
    ok(validate(tmp_path, first))
    assert page_lines(tmp_path) == {"Tiny": [(0, one), (2, one), (3, one), (4, one)]}
    ok(validate(tmp_path, second, first))
    # With other tags, and in another order: each is known by its scores.
    there = (tmp_path / "validation_tags.txt").read_text().splitlines()
    (tmp_path / "few.txt").write_text("\n".join(there[:3]))
    some = (*QUICK, "--tags", tmp_path / "few.txt")
    told = moved(ok(validate(tmp_path, first, second, more=some)))
    assert len(told) == 2 and "came in" not in told[0] and "went out" not in told[0]
    found = json.loads((tmp_path / "metrics.json").read_text())["moved"]
    assert [model["f1"][0] for model in found["models"]] == f1 and found["rescored"] == []


def test_a_model_with_few_tags_moves_the_others(tmp_path: Path) -> None:
    make_data(tmp_path, 40)
    a = make_model(tmp_path, "a", TAGS, card={"label": "A"})
    b = make_model(tmp_path, "b", TAGS, card={"label": "B"}, seed=1)
    few = make_model(tmp_path, "few", TAGS[8:], card={"label": "Few"}, seed=2)
    ok(validate(tmp_path, a, b))
    before = macro(tmp_path)
    ended = ok(validate(tmp_path, a, b, few))
    now = macro(tmp_path)
    steps = [
        f"{label}'s F1 from {old[0]:.4f} to {new[0]:.4f}, AP from {old[1]:.4f} to {new[1]:.4f}"
        for label, old, new in zip("AB", before, now[:2], strict=True)
    ]
    assert moved(ended) == [
        "The last run was scored on other tags, 12 where there are 4 now, 4 of them in both: Few"
        " came in.",
        f"That alone moved {steps[0]}; {steps[1]}.",
    ]
    found = json.loads((tmp_path / "metrics.json").read_text())["moved"]
    assert (found["tags"], found["both"], found["same_posts"]) == ([12, 4], 4, True)
    assert "6 general tags are out because Few lacks them." in ended.out.splitlines()
    # The same set again: nothing moves.
    assert moved(ok(validate(tmp_path, few, a, b))) == []
    # Other scores of one model: what moved is not told of it, as tags are only a part of that.
    make_onnx(tmp_path / "b.onnx", len(TAGS), seed=9)
    said = moved(ok(validate(tmp_path, a, b)))
    assert said[0].endswith("4 where there are 12 now, 4 of them in both: Few went out.")
    assert "A's F1" in said[1] and "B's" not in said[1]
    found = json.loads((tmp_path / "metrics.json").read_text())["moved"]
    assert (found["went"], found["rescored"]) == (["Few"], ["b"])


def test_other_posts_and_other_tags_are_not_told_apart(tmp_path: Path) -> None:
    make_data(tmp_path, 40)
    a, few = make_model(tmp_path, "a", TAGS), make_model(tmp_path, "few", TAGS[8:], seed=2)
    ok(validate(tmp_path, a))
    ended = ok(validate(tmp_path, a, few, more=(*QUICK, "--posts", 20)))
    assert moved(ended) == [
        "Tags and posts are others than in the last run: figures moved because of both."
    ]
    # Other tags of the same posts are other posts, too.
    posts = (tmp_path / "posts.jsonl").read_text()
    (tmp_path / "posts.jsonl").write_text(posts.replace("tag_11", "tag_11 tag_0"))
    (said,) = moved(ok(validate(tmp_path, a, more=(*QUICK, "--posts", 20))))
    assert said.startswith("Tags and posts")


def test_without_the_last_list_of_tags(tmp_path: Path) -> None:
    make_data(tmp_path, 20)
    a, few = make_model(tmp_path, "a", TAGS), make_model(tmp_path, "few", TAGS[8:], seed=2)
    ok(validate(tmp_path, a))
    (tmp_path / "validation_tags.txt").write_text("tag_1\n")
    said = moved(ok(validate(tmp_path, a, few)))
    assert said[0] == (
        "The last run was scored on other tags, 12 where there are 4 now: Tiny (few) came in."
    )


@pytest.mark.parametrize(
    ("rest", "warned"),
    [
        (b'{"date": "2026', False),  # A crash cut it short: it is taken away.
        (b"no json\n", True),
        (b"[1, 2]\n", True),
        (b'{"posts": {}, "tags": {}, "models": 3}\n', True),
        (b"[" * 5000 + b"\n", True),
        (b"\xff\x00\n", True),
        (b'{"models": [' + b" " * 1_100_000 + b"]}\n", True),
    ],
)
def test_whatever_the_last_line_is(
    run: Path, tmp_path: Path, rest: bytes, warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    data = DataFolder(tmp_path)
    whole = (run / "history.jsonl").read_bytes()
    data.history.write_bytes(whole + rest)
    assert (history.last(data) is None) == warned
    said = "history.jsonl: its last line is not of a run" in capsys.readouterr().err
    assert said == warned
    history.append(data, json.loads((run / "metrics.json").read_text()))
    kept = whole + rest if warned else whole
    assert data.history.read_bytes().startswith(kept)
    assert len(data.history.read_bytes()[len(kept) :].splitlines()) == 1
    assert history.last(data) is not None


def test_damaged_values_of_a_whole_line(run: Path, tmp_path: Path) -> None:
    data = DataFolder(tmp_path)
    (line,) = lines(run)

    def refuses(change: Any) -> bool:
        changed = json.loads(json.dumps(line))
        change(changed)
        data.history.write_text(json.dumps(changed) + "\n")
        return history.last(data) is None

    assert refuses(lambda c: c["tags"].update(count="many"))
    assert refuses(lambda c: c["posts"].update(sha256=5))
    assert refuses(lambda c: c["models"][0].update(label=[1]))
    assert refuses(lambda c: c["models"][0]["figures"]["ap"].update(value=None))
    assert refuses(lambda c: c["models"][0]["figures"].update(f1=0.5))
    assert refuses(lambda c: c.update(models={"a": 1}))
    assert not refuses(lambda c: c.update(other=1))


def test_hostile_lines_are_left_out_of_the_table(run: Path, tmp_path: Path) -> None:
    good = lines(run)[0]
    figures = good["models"][0]["figures"]
    assert printed_history(tmp_path) == ["No run is recorded yet."]

    def changed(change: Any) -> dict[str, Any]:
        line = json.loads(json.dumps(good))
        change(line)
        return line  # type: ignore[no-any-return]

    other = changed(lambda it: it["tags"].update(sha256="f" * 64))
    other["models"][0].update(label="a|b\x1b[31m\n<b>", fingerprint="||||")
    damaged = [
        *("no json", "[1]", "[" * 5000, "1" * 1_100_000, '{"date": NaN}'),
        *(
            json.dumps(changed(change))
            for change in (
                lambda it: it.update(date="yesterday"),
                lambda it: it.update(date=7),
                lambda it: it.pop("date"),
                lambda it: it["posts"].update(count="12"),
                lambda it: it["models"][0]["figures"]["f1"].update(value=1e300),
                lambda it: it["models"][0]["figures"]["f1"].update(value=True),
                lambda it: it["models"][0]["figures"]["ap"].update(low=0.1),
                lambda it: it["models"][0]["figures"]["ap"].update(low=0.1, high="b"),
                lambda it: it["models"][0]["figures"]["ap"].pop("high"),
                lambda it: it.update(models=[3]),
            )
        ),
    ]
    kept = [json.dumps(line) for line in (good, other, good)]
    text = "\n".join([*damaged[:7], kept[0], "", *damaged[7:], *kept[1:]])
    (tmp_path / "history.jsonl").write_text(text)
    ended = ok(call("validate.py", "--data", tmp_path, "--history"))
    assert f"history.jsonl: skipped {len(damaged)} lines that are not of a run" in ended.err
    head, rule, *rows, empty, _, _ = ended.out.splitlines()
    assert empty == ""
    cells = [[cell.strip() for cell in row[1:-1].split(" | ")] for row in rows]
    assert [row[3] for row in cells] == ["1", "2", "1"]
    assert len({len(re.findall(r"\|", row)) for row in (head, rule, *rows)}) == 1
    assert "\\<b>" in cells[1][4] and ended.out.replace("\n", "").isprintable()
    for row in cells:
        assert row[6:] == [f"{figures[name]['value']:.4f}" for name in ("f1", "ap")]


def test_a_folder_in_its_place(tmp_path: Path) -> None:
    make_data(tmp_path, 12)
    (tmp_path / "history.jsonl").mkdir()
    refused(validate(tmp_path, make_model(tmp_path, "a", TAGS)), "history.jsonl is not a file")
