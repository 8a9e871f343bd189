"""What results say of how they were made, and that they say nothing private."""

import hashlib
import json
import platform
import shlex
import tomllib
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from arena import files
from arena.data_folder import DataFolder
from arena.validate import inference, provenance
from arena.validate.speed import Speed, add_up, is_list
from demo.tiny import make_data, make_model
from models.card import card
from tests.helpers import refused
from tests.validate.helpers import QUICK, TAGS, ok, saved, to_run, validate
from tests.validate.test_precision import joytag

import pytest
import torch
from safetensors.torch import load_file


def metrics(data: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((data / "metrics.json").read_text())
    return found


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_fact_of_a_run(tmp_path: Path) -> None:
    posts = make_data(tmp_path, 14)
    for number, post in enumerate(posts[1:], 1):
        post["created_at"] = f"2024-03-{number:02}T23:59:59.000-05:00"
    (tmp_path / "posts.jsonl").write_text("".join(json.dumps(post) + "\n" for post in posts))
    image = {"first": {"size": 40, "resize": "bilinear"}, "resize": "bicubic", "pad": "square"}
    a = make_model(tmp_path, "a", TAGS, card={"held_out": [900, 999]}, image=image)
    joy = joytag(tmp_path)
    before = datetime.now(UTC).replace(microsecond=0)
    ok(validate(tmp_path, a, joy))
    found = metrics(tmp_path)
    assert before <= datetime.fromisoformat(found["created"]) <= datetime.now(UTC)
    quick = shlex.join(map(str, QUICK))
    assert found["command"] == f"validate.py --data . --models ./a.toml,./{joy.name} {quick}"
    assert found["posts"]["sha256"] == sha256(tmp_path / "validation_post_ids.txt")
    assert found["software"] == {
        "python": platform.python_version(),
        **{name: version(name) for name in ("numpy", "torch", "onnxruntime-gpu")},
    }
    run = found["run"]
    assert run["posts"] == 14 and run["seconds"] > 0 and run["host_memory"] > 10**7
    assert run["images_per_second"] == pytest.approx(14 / run["seconds"])

    first, second = found["models"]
    assert first["weights"] == {"a.onnx": sha256(tmp_path / "a.onnx")}
    assert first["tags_file"] == {"a.txt": sha256(tmp_path / "a.txt")}
    assert first["parameters"] == 48 * 12 + 12
    assert first["file_size"] == (tmp_path / "a.onnx").stat().st_size
    assert (first["source"], first["revision"]) == ("the data folder", None)
    (settings,) = first["images"]
    assert settings["first"] == image["first"]
    assert (settings["size"], settings["pad"], settings["scale"]) == (32, "square", 0.0039)
    (weights,) = tmp_path.rglob("*.safetensors")
    assert second["parameters"] == sum(each.numel() for each in load_file(weights).values())
    assert set(second["weights"].values()) == {
        sha256(path) for path in (weights, weights.with_name("config.json"))
    }
    for model in found["models"]:
        (speed,) = model["speed"]
        assert speed["posts"] == 14 and 0 < speed["seconds"] < run["seconds"]
        assert speed["images_per_second"] == pytest.approx(14 / speed["seconds"])
        assert (speed["device"], speed["batch"]) == ("CPU", inference.CPU_BATCH)
        assert (speed["models"], speed["gpu_memory"]) == (2, None)
        ages = model["by_age"]
        assert [each["posts"] for each in ages] == [2] * 4 + [1] * 6
        assert (ages[0]["first_day"], ages[0]["last_day"]) == ("", "2024-03-01")
        assert (ages[-1]["first_day"], ages[-1]["last"]) == ("2024-03-13", posts[-1]["id"])
        assert sum(each["maybe_seen"] for each in ages) == model["maybe_seen"]

    held = saved(tmp_path, "a")
    assert (held["label"], held["threshold"], held["held_out"]) == ("Tiny", 0.5, [900, 999])
    assert held["last_post_id"] == 5_000_000 and held["categories"] == ["general"] * 12
    assert held["weights"] == first["weights"] and held["parameters"] == first["parameters"]
    assert held["software"] == found["software"] and held["created"] >= before.isoformat()[:10]
    # The card in the predictions runs the model that the other card runs.
    copy = tmp_path / "copy" / "a.toml"
    copy.parent.mkdir()
    copy.write_text(held["card"])
    assert vars(card(str(copy))) == {**vars(card(str(a))), "path": copy}


def test_cached_scores_keep_the_speed_of_the_run_that_made_them(tmp_path: Path) -> None:
    make_data(tmp_path, 30)
    model = make_model(tmp_path, "a", TAGS)
    ok(validate(tmp_path, model, more=(*QUICK, "--posts", 10)))
    (first,) = metrics(tmp_path)["models"][0]["speed"]
    ok(validate(tmp_path, model, more=(*QUICK, "--posts", 10)))
    again = metrics(tmp_path)
    assert again["models"][0]["speed"] == [first]
    assert (again["run"]["posts"], again["run"]["images_per_second"]) == (0, None)
    assert to_run(ok(validate(tmp_path, model))) == [20]
    (both,) = metrics(tmp_path)["models"][0]["speed"]
    assert both["posts"] == 30 and both["seconds"] > first["seconds"]
    ok(validate(tmp_path, model, more=(*QUICK, "--fresh", "--batch-size", 7)))
    (other,) = metrics(tmp_path)["models"][0]["speed"]
    assert (other["posts"], other["batch"]) == (30, 7)


def test_a_changed_threshold_is_in_the_predictions_though_no_score_is_new(tmp_path: Path) -> None:
    make_data(tmp_path, 6)
    model = make_model(tmp_path, "a", TAGS)
    ok(validate(tmp_path, model))
    before = saved(tmp_path, "a")
    model.write_text(model.read_text().replace("threshold = 0.5", "threshold = 0.25"))
    assert to_run(ok(validate(tmp_path, model))) == [0]
    held = saved(tmp_path, "a")
    assert held["threshold"] == 0.25 and held["speed"] == before["speed"]
    assert (held["predictions"] == before["predictions"]).all()


@pytest.mark.parametrize(
    "speed", [[1], [{}], "fast", [{"posts": "1"}], {"posts": 1}, [{"seconds": float("nan")}]]
)
def test_a_speed_of_another_form_is_refused(tmp_path: Path, speed: Any) -> None:
    make_data(tmp_path, 6)
    model = make_model(tmp_path, "a", TAGS)
    ok(validate(tmp_path, model))
    held = torch.load(tmp_path / "a_predictions.pt", weights_only=True)
    if isinstance(speed, list) and isinstance(speed[0], dict):
        speed = [{**held["speed"][0], **speed[0]}] if speed[0] else speed
    torch.save({**held, "speed": speed}, tmp_path / "a_predictions.pt")
    refused(validate(tmp_path, model), "a_predictions.pt", "whole")


def test_parts_add_up_by_device_and_batch() -> None:
    def part(posts: int, device: str, gpu: int | None, host: int) -> Speed:
        return {
            "posts": posts,
            "seconds": posts / 8,
            "device": device,
            "batch": 4,
            "gpu_memory": gpu,
            "host_memory": host,
            "models": 1,
        }

    parts = [part(8, "CPU", None, 5), part(16, "H100", 7, 9), part(40, "H100", 6, 1)]
    found = add_up(parts)
    assert found == [part(56, "H100", 7, 9), part(8, "CPU", None, 5)]
    assert is_list(found) and is_list([])
    assert parts[1]["posts"] == 16


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("runs/best", "runs/best"),
        ("./best", "./best"),
        ("/home/me/runs/best", "…/best"),
        ("../me/best", "…/best"),
        ("~/best", "…/best"),
        ("~", "…"),
        ("~me", "…"),
        ("/", "…"),
        ("..", "…"),
        ("wd-v3", "wd-v3"),
        ("", ""),
    ],
)
def test_paths_as_they_may_be_told(path: str, shown: str) -> None:
    assert files.shown_path(path) == shown


def test_commands_as_they_may_be_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    words = ["--data", f"{tmp_path}", "--models", f"{tmp_path}/a b.toml,joytag,/x/y/c.toml+joytag"]
    words += ["--post-ids=/home/somebody", "--posts", "5", "--data=../elsewhere"]
    monkeypatch.setattr("sys.argv", ["/home/somebody/arena/validate.py", *words])
    told = shlex.split(provenance.command(DataFolder(tmp_path)))
    assert told == [
        *("validate.py", "--data", ".", "--models", "./a b.toml,joytag,…/c.toml+joytag"),
        *("--post-ids=…", "--posts", "5", "--data=…/elsewhere"),
    ]


def test_a_card_elsewhere_leaves_no_path(tmp_path: Path) -> None:
    data, own = tmp_path / "data", tmp_path / "secret" / "own"
    data.mkdir()
    own.mkdir(parents=True)
    make_data(data, 6)
    model = make_model(own, "a", TAGS, card={"source": str(own)})
    ok(validate(data, model))
    results = ("metrics.json", "report.html", "a_predictions.pt")
    for name in (*results, "per_tag.csv", "detailed_metrics.txt"):
        content = (data / name).read_bytes()
        assert b"secret" not in content and str(tmp_path).encode() not in content, name
    assert tomllib.loads(saved(data, "a")["card"])["source"] == "./own"
    assert metrics(data)["models"][0]["source"] == "…/own"
