"""Folders and hub repositories without a card: what their files tell, and what they do not."""

import json
import shutil
from pathlib import Path
from typing import Any

from demo.server import serve
from demo.tiny import make_data, make_model, make_onnx
from tests.helpers import ROOT, call, refused, run
from tests.models.joytag_oracle import CONFIG, write
from tests.validate.helpers import QUICK, TAGS, assert_alike, ok, saved, to_run, validate
from tests.validate.test_outputs import floats, with_outputs

import numpy as np
import onnx
import pytest

FORMS = ROOT / "tests" / "real" / "forms"


def table(folder: Path, names: list[str], head: str = "", row: str = "") -> None:
    lines = [f"tag_id,name,category{head}", *(f"1,{name},0{row}" for name in names)]
    (folder / "selected_tags.csv").write_text("\n".join(lines) + "\n")


def wd(folder: Path) -> Path:
    """The layout of SmilingWolf's repositories, with a network of the published size of input."""
    folder.mkdir(parents=True)
    make_onnx(folder / "model.onnx", len(TAGS), size=448)
    table(folder, TAGS)
    return folder


def animetimm(folder: Path) -> Path:
    """The layout of animetimm's: three outputs, steps in preprocess.json, thresholds by tag."""
    folder.mkdir(parents=True)
    make_onnx(folder / "model.onnx", len(TAGS), size=448, layout="nchw")
    network = onnx.load(folder / "model.onnx")
    network.graph.node[-1].output[0] = "prediction"
    network.graph.output[0].name = "prediction"
    onnx.save(network, folder / "model.onnx")
    shutil.copy(FORMS / "preprocess.json", folder)
    table(folder, TAGS, ",best_threshold", ",0.4")
    return folder


def joytag(folder: Path) -> Path:
    folder.mkdir(parents=True)
    write(folder, CONFIG)
    (folder / "top_tags.txt").write_text("".join(f"tag_{n}\n" for n in range(CONFIG["n_tags"])))
    return folder


LAYOUTS = {"wd": wd, "animetimm": animetimm, "joytag": joytag}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_is_scored_by_what_is_in_it(tmp_path: Path, layout: str) -> None:
    make_data(tmp_path, 6)
    folder = LAYOUTS[layout](tmp_path / "models" / layout)
    ended = ok(validate(tmp_path, folder))
    assert f"{folder} has no card" in ended.out
    card = ok(call("validate.py", "--data", tmp_path, "--show-card", folder)).out
    (tmp_path / "saved.toml").write_text(card)
    ok(validate(tmp_path, tmp_path / "saved.toml"))
    by_folder, by_card = (saved(tmp_path, name)["predictions"] for name in (layout, "saved"))
    assert_alike(by_card, by_folder)
    (entry,) = json.loads((tmp_path / "metrics.json").read_text())["models"]
    assert entry["last_post_id"] is None
    assert entry["threshold"] == ("best_threshold" if layout == "animetimm" else 0.5)
    assert ("threshold is not known" in card) == (layout != "animetimm")
    assert "newest training post is not known" in card


def test_the_steps_of_preprocess_json(tmp_path: Path) -> None:
    card = call("validate.py", "--show-card", animetimm(tmp_path / "m" / "animetimm")).out
    assert 'first = {size = 512, resize = "bilinear"}' in card
    assert "size = 448" in card and 'resize = "bicubic"' in card
    assert "mean = [0.485, 0.456, 0.406]" in card and 'output = "prediction"' in card


NAMES = [{"category": number, "name": name} for number, name in ((0, "general"), (4, "character"))]
BY_CATEGORY = "category,name,alpha,threshold\n0,general,1.0,0.52\n4,character,1.0,0.61\n"


def test_thresholds_of_each_category(tmp_path: Path) -> None:
    make_data(tmp_path, 12)
    folder = animetimm(tmp_path / "models" / "a")
    (folder / "thresholds.csv").write_text(BY_CATEGORY + "0,general,2.0,0.9\n")
    (folder / "categories.json").write_text(json.dumps(NAMES))
    rows = [f"1,{tag},{4 if number < 5 else 0}" for number, tag in enumerate(TAGS)]
    best = [f"{row},0.4" for row in rows]
    head = "tag_id,name,category"
    (folder / "selected_tags.csv").write_text("\n".join([head + ",best_threshold", *best]))
    card = ok(call("validate.py", "--show-card", folder)).out
    assert 'threshold = "best_threshold"' in card
    assert "each tag in selected_tags.csv, and not of thresholds.csv" in card
    (folder / "selected_tags.csv").write_text("\n".join([head, *rows]))
    card = ok(call("validate.py", "--show-card", folder)).out
    assert "threshold = {general = 0.52, character = 0.61}" in card
    assert "those of each category in thresholds.csv" in card and "not known: 0.5" not in card
    ok(validate(tmp_path, folder))
    found, kept = json.loads((tmp_path / "metrics.json").read_text()), saved(tmp_path, "a")
    recall = dict(zip(found["tag_names"], found["models"][0]["per_tag"]["recall"], strict=True))
    posts = [json.loads(line) for line in (tmp_path / "posts.jsonl").read_text().splitlines()]
    tags_of = {post["id"]: post["tag_string"].split() for post in posts}
    for column, tag in enumerate(TAGS):
        has = np.array([tag in tags_of[post_id] for post_id in kept["post_ids"]])
        threshold = np.float32(0.61 if column < 5 else 0.52)
        reached = kept["predictions"][:, column] >= threshold
        if has.any():
            assert recall[tag] == pytest.approx((reached & has).sum() / has.sum())
    (folder / "categories.json").unlink()  # Then a number is Danbooru's.
    assert ok(call("validate.py", "--show-card", folder)).out == card


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("thresholds.csv", "category,threshold\n", "has not in every row"),
        ("thresholds.csv", "category,limit\n0,0.5\n", "has not in every row"),
        ("thresholds.csv", "category,threshold\n0,1.5\n", "has not in every row"),
        ("thresholds.csv", "category,threshold\n0,nan\n", "has not in every row"),
        ("thresholds.csv", "category,threshold\n0\n", "has not in every row"),
        ("thresholds.csv", "category,threshold\n17,0.5\n", "category '17' is none of"),
        ("categories.json", "{}", ""),
        ("categories.json", "[3]", "is no list of categories"),
        ("categories.json", '[{"category": 5, "name": "species"}]', "calls category 5 species"),
    ],
)
def test_thresholds_that_cannot_be_read(tmp_path: Path, file: str, text: str, words: str) -> None:
    folder = animetimm(tmp_path / "a")
    table(folder, TAGS)
    (folder / "thresholds.csv").write_text(BY_CATEGORY)
    (folder / file).write_text(text)
    ended = call("validate.py", "--show-card", folder)
    if words:
        refused(ended, words, file)
    else:
        assert "threshold = {general = 0.52" in ok(ended).out


@pytest.mark.slow
@pytest.mark.parametrize("name", ["org/wd", "org/wd@v2.0"])
def test_a_repository_of_the_hub_by_its_name(tmp_path: Path, name: str) -> None:
    make_data(tmp_path, 6)
    wd(tmp_path / "hub" / "org" / "wd")
    with serve(None, tmp_path / "hub") as server:
        env = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "cache")}
        command = ("validate.py", "--data", tmp_path, "--models", name, *QUICK)
        ended = ok(run(*command, env=env))
        assert to_run(ended) == [6]
        again = ok(run(*command, env=env | {"HF_HUB_OFFLINE": "1"}))
        assert to_run(again) == [0]
        (entry,) = json.loads((tmp_path / "metrics.json").read_text())["models"]
        assert entry["source"] == "org/wd" and len(entry["revision"]) == 40
        refused(run("validate.py", "--data", tmp_path, "--models", "org/no", env=env), "org/no")


def two_networks(folder: Path) -> None:
    shutil.copy(folder / "model.onnx", folder / "other.onnx")


def two_tags(folder: Path) -> None:
    (folder / "tags_info.csv").write_text("name,category\na,0\n")


def two_outputs(folder: Path) -> None:
    with_outputs(folder / "model.onnx", {"second": ("Neg", floats("n", 12))}, last=True)


def no_tags(folder: Path) -> None:
    (folder / "selected_tags.csv").unlink()


def nothing(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (two_networks, ["several ONNX files, model.onnx, other.onnx", "card of its own"]),
        (two_tags, ["several tags files, selected_tags.csv, tags_info.csv"]),
        (two_outputs, ["'scores'", "'second'", "say which with 'output'"]),
        (no_tags, ["no layout", "selected_tags.csv", "has model.onnx"]),
        (nothing, ["no layout", "has no file"]),
    ],
)
def test_what_is_not_clear_lists_the_choices(tmp_path: Path, change: Any, words: list[str]) -> None:
    make_data(tmp_path, 3)
    folder = wd(tmp_path / "m" / "wd")
    change(folder)
    refused(validate(tmp_path, folder), *words)


@pytest.mark.parametrize(
    "steps",
    [
        {},
        {"test": []},
        {"test": [{"type": "rotate"}]},
        {"test": [{"type": "resize", "size": 448, "interpolation": "bicubic"}]},
        {"test": [{"type": "pad_to_size", "size": [512, 400], "interpolation": "bilinear"}]},
        {"test": "resize"},
    ],
)
def test_steps_that_are_not_known(tmp_path: Path, steps: dict[str, Any]) -> None:
    make_data(tmp_path, 3)
    folder = animetimm(tmp_path / "m" / "a")
    (folder / "preprocess.json").write_text(json.dumps(steps))
    refused(validate(tmp_path, folder), "preprocess.json", "card of its own")


def test_a_folder_beside_does_not_hide_a_model_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_data(tmp_path, 3)
    (tmp_path / "joytag").mkdir()
    monkeypatch.chdir(tmp_path)
    shown = call("validate.py", "--data", tmp_path, "--show-card", "joytag").out
    assert shown.startswith("# https://") or 'label = "JoyTag"' in shown
    make_model(tmp_path, "own", TAGS)
    assert 'label = "Tiny"' in call("validate.py", "--show-card", tmp_path / "own.toml").out


def test_results_say_nothing_of_where_a_folder_is(tmp_path: Path) -> None:
    make_data(tmp_path, 6)
    ok(validate(tmp_path, joytag(tmp_path / "models" / "own")))
    for name in ("metrics.json", "report.html", "per_tag.csv", "detailed_metrics.txt"):
        assert str(tmp_path) not in (tmp_path / name).read_text(), name
    (entry,) = json.loads((tmp_path / "metrics.json").read_text())["models"]
    assert entry["source"] == "…/own"
