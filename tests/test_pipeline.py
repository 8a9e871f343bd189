"""The four scripts in order on the stand-in, as a user runs them, and the README's example."""

import csv
import getpass
import inspect
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

from arena import metrics
from demo.drawings import make_site
from demo.server import serve
from demo.tiny import make_data, make_model, make_onnx
from tests.helpers import ROOT, Ended, call, refused, run

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

pytestmark = pytest.mark.slow

COUNT = 150
DEMO = ("wd-v1-4-vit-tagger-v2", "joytag")


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Ended]]]:
    """A data folder after the four scripts, and how each ended."""
    folder = tmp_path_factory.mktemp("arena")
    make_site(folder / "site", count=COUNT, seed=1)
    data = folder / "data"
    data.mkdir()
    with serve(folder / "site", ROOT / "demo" / "hub") as server:
        env = {
            "DANBOORU_URL": server.url,
            "HF_ENDPOINT": server.url,
            "HF_HOME": str(folder / "hub-cache"),
        }
        ended = {}
        for script in ("download.py", "trainable.py", "export_sw.py", "validate.py"):
            ended[script] = run(script, "--data", data, env=env)
            assert ended[script].code == 0, ended[script].err
        before = (data / "detailed_metrics.txt").read_bytes()
        ended["again"] = run("validate.py", "--data", data, env=env)
        assert (data / "detailed_metrics.txt").read_bytes() == before
        yield data, ended


def test_the_files_of_the_first_three_steps(arena: tuple[Path, dict[str, Ended]]) -> None:
    data, _ = arena
    posts = [json.loads(line) for line in (data / "posts.jsonl").read_text().splitlines()]
    assert len({post["id"] for post in posts}) == len(posts) > COUNT // 2
    verdicts = [json.loads(line) for line in (data / "trainable.jsonl").read_text().splitlines()]
    assert {row["id"] for row in verdicts} == {post["id"] for post in posts}
    kinds = {row["verdict"] for row in verdicts}
    assert kinds == {"ok", "missing", "unreadable", "animated", "transparent"}
    resized = {int(path.stem) for path in (data / "resized").glob("*.webp")}
    assert resized == {row["id"] for row in verdicts if row["verdict"] == "ok"}
    for post_id in resized:
        with Image.open(data / "resized" / f"{post_id}.webp") as image:
            assert (image.format, image.mode) == ("WEBP", "RGB")
            assert max(image.size) <= 1024
    graph = onnx.load(data / f"{DEMO[0]}.onnx").graph
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param


def test_the_files_of_validate(arena: tuple[Path, dict[str, Ended]]) -> None:
    data, ended = arena
    truth = torch.load(data / "ground_truth.pt", weights_only=True)
    ids, tags = truth["post_ids"].tolist(), truth["tags"]
    counts = truth["ground_truth"].sum(0).tolist()
    assert ids == sorted(ids)
    assert tags == [tag for _, tag in sorted(zip([-c for c in counts], tags, strict=True))]
    assert min(counts) >= 10
    assert (data / "validation_post_ids.txt").read_text() == "".join(f"{i}\n" for i in ids)
    for name in DEMO:
        held = torch.load(data / f"{name}_predictions.pt", weights_only=True)
        assert held["post_ids"].tolist() == ids
        assert held["predictions"].shape == (len(ids), len(held["tags"]))
        assert held["model"] == name
        assert set(tags) <= set(held["tags"])
        assert 0 <= held["predictions"].min() < held["predictions"].max() <= 1

    metrics = json.loads((data / "metrics.json").read_text())
    assert metrics["version"] == 2
    assert metrics["tag_names"] == tags
    rows = [line for line in ended["validate.py"].out.splitlines() if line.startswith("|")]
    assert re.fullmatch(r"\| Model +\| Precision \| Recall +\| F1 +\| AP +\|", rows[0])
    macro_f1 = [float(row.split("|")[4]) for row in rows[2:]]
    # Guessing each tag by its frequency alone would give an F1 of its share of posts.
    chance = np.mean(np.array(counts) / len(ids))
    assert min(macro_f1) > 2 * chance
    assert macro_f1[0] != macro_f1[1]
    again = [line for line in ended["again"].out.splitlines() if line.startswith("|")]
    assert again == rows

    line = r"{:<20}: Precision \d\.\d{{4}}, Recall \d\.\d{{4}}, F1 \d\.\d{{4}}, AP \d\.\d{{4}}"
    blocks = (data / "detailed_metrics.txt").read_text().removesuffix("\n\n").split("\n\n")
    assert [block.splitlines()[0] for block in blocks] == tags
    for block in blocks:
        for label, text in zip(("SmilingWolf", "JoyTag"), block.splitlines()[1:], strict=True):
            assert re.fullmatch(line.format(label), text)
    with (data / "per_tag.csv").open(newline="") as file:
        assert [row["tag"] for row in csv.DictReader(file)][::2] == tags
    with (data / "thresholds.csv").open(newline="") as file:
        listed = list(csv.DictReader(file))
    assert [row["name"] for row in listed if row["kind"] == "tag"] == tags * 2
    assert len([row for row in listed if row["kind"] == "one"]) == 2
    assert (data / "report.html").read_text().startswith("<!DOCTYPE html>")


RESULTS = (
    *("report.html", "metrics.json", "history.jsonl", "thresholds.csv", "per_tag.csv"),
    *("detailed_metrics.txt", "validation_post_ids.txt", "*.pt"),
)


def told(path: Path) -> str:
    """All that a result file says: of a page without its libraries, of tensors their names only."""
    if path.suffix == ".pt":
        held = torch.load(path, weights_only=True)
        return repr({key: value for key, value in held.items() if not torch.is_tensor(value)})
    text = path.read_text()
    return re.sub(r"<(script|style)>.*?</\1>", "", text, flags=re.DOTALL)


def test_no_result_tells_of_the_machine_or_its_user(arena: tuple[Path, dict[str, Ended]]) -> None:
    data, _ = arena
    places = [str(data.parent), str(ROOT), tempfile.gettempdir(), "/home/", "/Users/"]
    # Names of one or two letters are in every text.
    names = [name for name in (getpass.getuser(), socket.gethostname()) if len(name) > 2]
    words = [re.escape(place) for place in places] + [rf"\b{re.escape(name)}\b" for name in names]
    found = [path for pattern in RESULTS for path in data.glob(pattern)]
    assert {"report.html", "metrics.json", "joytag_predictions.pt"} <= {path.name for path in found}
    for path in found:
        text = told(path)
        assert len(text) > 50, path.name
        for word in words:
            seen = re.search(f".{{0,40}}{word}.{{0,40}}", text)
            assert not seen, (path.name, seen)
        # What torch writes around the tensors, too.
        assert str(data.parent).encode() not in path.read_bytes()
        assert str(ROOT).encode() not in path.read_bytes()


def test_what_the_scripts_say(arena: tuple[Path, dict[str, Ended]]) -> None:
    _, ended = arena
    for script, end in ended.items():
        assert "Traceback" not in end.err, script
    assert "0 posts to run" in ended["again"].out
    assert "report.html" in ended["validate.py"].out


def test_a_third_model_costs_itself_alone(arena: tuple[Path, dict[str, Ended]]) -> None:
    data, ended = arena
    truth = torch.load(data / "ground_truth.pt", weights_only=True)
    card = {"label": "Third", "activation": "sigmoid", "threshold": 0.4}
    image = {"pad": "square", "resize": "bicubic", "channels": "rgb", "layout": "nchw"}
    third = make_model(data, "third", truth["tags"], card=card, image=image, logits=True)
    names = ",".join([*DEMO, str(third)])
    with serve(hub=ROOT / "demo" / "hub") as server:
        env = {"HF_ENDPOINT": server.url, "HF_HOME": str(data.parent / "hub-cache")}
        three = run("validate.py", "--data", data, "--models", names, env=env)
    assert three.code == 0, three.err
    posts = len(truth["post_ids"])
    said = [line.partition(": ")[2] for line in three.out.splitlines() if "posts to run" in line]
    assert said[:2] == [f"0 posts to run, {posts} cached"] * 2
    assert said[2].startswith(f"{posts} posts to run, 0 cached")
    rows = [line for line in three.out.splitlines() if line.startswith("|")]
    before = [line for line in ended["validate.py"].out.splitlines() if line.startswith("|")]
    assert rows[2:4] == before[2:4]


def test_list_models(tmp_path: Path) -> None:
    ended = run("validate.py", "--list-models", "--data", tmp_path)
    assert ended.code == 0, ended.err
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in ended.out.splitlines()[2:]]
    assert len(rows) == len(list((ROOT / "models").glob("*.toml")))
    joytag = ["joytag", "JoyTag", "joytag", "unknown", "0.4", "5100000", "none"]
    assert [*joytag, "apache-2.0", "no", "no", "no"] in rows


def test_the_commands_of_an_error_make_a_run_possible(tmp_path: Path) -> None:
    make_site(tmp_path / "site", count=60, seed=2)
    posts = json.loads((tmp_path / "site" / "posts.json").read_text())
    ids = sorted(post["id"] for post in posts)
    data = tmp_path / "some data"
    data.mkdir()
    tags = sorted({tag for post in posts for tag in post["tag_string"].split()})
    card = {"last_post_id": ids[40]}
    paths = [make_model(data, name, tags, card=card) for name in ("one", "two")]
    names = ",".join(map(str, paths))
    quick = ("--min-count", 1, "--bootstrap", 0)
    given = ("--data", data, "--models", names, "--unseen-only", *quick)
    with serve(tmp_path / "site") as server:
        env = {"DANBOORU_URL": server.url}
        at_once = {"download.py": ["--api-interval", 0], "trainable.py": []}
        for script, more in at_once.items():
            low = ["--start-id", ids[30]] if script == "download.py" else []
            ended = call(script, "--data", data, *more, *low, env=env)
            assert ended.code == 0, ended.err
        seen = call("validate.py", *given)
        refused(seen, "a model may have been trained on each of the ")
        found = re.search(r": run (download.py .*), then (trainable.py .*)$", seen.err.strip())
        assert found
        for command in found.groups():
            script, *args = shlex.split(command)
            ended = call(script, *args, *at_once[script], env=env)
            assert ended.code == 0, ended.err
    ended = call("validate.py", *given)
    assert ended.code == 0, ended.err
    scored = [int(line) for line in (data / "validation_post_ids.txt").read_text().split()]
    assert scored and min(scored) > ids[40]


def test_the_readme_example_of_a_model(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text()
    found = re.search(r"`models/my-tagger\.toml`:\n\n```toml\n(.*?)```", text, re.DOTALL)
    assert found
    project = tmp_path / "project"
    shutil.copytree(ROOT, project, ignore=shutil.ignore_patterns(".*", "hub", "data", "tests"))
    (project / "models" / "my-tagger.toml").write_text(found[1])
    repository = tmp_path / "hub" / "someone" / "my-tagger"
    repository.mkdir(parents=True)
    make_data(project, 20)
    tags = [f"tag_{number}" for number in range(12)]
    make_onnx(repository / "model.onnx", 12, layout="nhwc", size=448)
    rows = "".join(f"{i},{tag},{4 * (i == 0)},9\n" for i, tag in enumerate(tags))
    (repository / "selected_tags.csv").write_text("tag_id,name,category,count\n" + rows)
    with serve(hub=tmp_path / "hub") as server:
        env = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "cache")}
        ended = run("validate.py", "--models", "my-tagger", "--min-count", 1, env=env, cwd=project)
    assert ended.code == 0, ended.err
    assert "| My Tagger? |" in ended.out


def test_every_script_has_help() -> None:
    for script in ("download.py", "trainable.py", "export_sw.py", "validate.py"):
        ended = run(script, "--help")
        assert ended.code == 0
        assert "--data DIR" in ended.out
        assert f"python {script}" in ended.out


def test_nothing_a_run_writes_is_tracked() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout
    for name in tracked.splitlines():
        assert not re.fullmatch(r"(originals|resized|metadata)/\d.*|.*(\.pt|\.jsonl|\.lock)", name)


def test_the_example_of_the_metrics(tmp_path: Path) -> None:
    _, example = (inspect.getdoc(metrics) or "").split("\n\n", 1)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(example)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    figure, difference, ap = done.stdout.splitlines()
    for line in (figure, difference):
        value = json.loads(line.replace("'", '"'))
        assert value["low"] < value["value"] < value["high"]
    assert ap.startswith("[0.")
