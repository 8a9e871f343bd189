"""What `validate.py --list-models` shows, as a table and as JSON."""

import json
from pathlib import Path
from typing import Any

from demo.server import serve
from demo.tiny import CARD, IMAGE, toml
from models import card
from tests.helpers import call, refused

import pytest

CARDS: dict[str, dict[str, Any]] = {
    "z-onnx": {"file": "z.onnx", "tags": "z.txt", "label": "Zed, a longer label"},
    "a-onnx": {
        "source": "some/where",
        "revision": "v1",
        "held_out": [900, 999],
        "threshold": {"general": 0.35, "character": 0.85},
        "license": "gpl-3.0",
        "gated": True,
    },
    "b-joytag": {"kind": "joytag", "last_post_id": None, "tags": "broken.json"},
}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with one model's files and predictions, and a folder of three cards."""
    (tmp_path / "models").mkdir()
    for name, keys in CARDS.items():
        fields = {key: value for key, value in {**CARD, **keys}.items() if value is not None}
        (tmp_path / "models" / f"{name}.toml").write_text(toml(fields, IMAGE))
    monkeypatch.setattr(card, "FOLDER", tmp_path / "models")
    (tmp_path / "z.txt").write_text("1girl\nsolo\n>_<\n")
    for name in ("z.onnx", "z-onnx_predictions.pt", "broken.json"):
        (tmp_path / name).write_text("")
    return tmp_path


def test_the_table(data: Path) -> None:
    ended = call("validate.py", "--data", data, "--list-models")
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert rows[0][-2:] == ["Here", "Predictions"] and set(lines[1]) == {"|", "-"}
    assert rows[2:] == [
        [
            *("b-joytag", "Tiny", "joytag", "unknown", "0.5", "unknown", "none"),
            *("unknown", "no", "no", "no"),
        ],
        [
            *("a-onnx", "Tiny", "onnx", "unknown", "by category", "5000000", "900 to 999"),
            *("gpl-3.0", "yes", "no", "no"),
        ],
        [
            *("z-onnx", "Zed, a longer label", "onnx", "3", "0.5", "5000000", "none"),
            *("unknown", "no", "yes", "yes"),
        ],
    ]
    assert len({tuple(at for at, c in enumerate(line) if c == "|") for line in lines}) == 1


def test_json_for_programs(data: Path) -> None:
    found = json.loads(call("validate.py", "--data", data, "--list-models", "json").out)
    assert [model["name"] for model in found] == ["b-joytag", "a-onnx", "z-onnx"]
    joytag, hub, local = found
    assert joytag["last_post_id"] is None and joytag["tags"] is None
    assert hub["held_out"] == [900, 999] and hub["threshold"]["character"] == 0.85
    assert (hub["source"], hub["revision"]) == ("some/where", "v1")
    assert (hub["license"], hub["gated"]) == ("gpl-3.0", True)
    assert (local["license"], local["gated"]) == (None, False)
    assert (local["tags"], local["on_this_machine"], local["predictions"]) == (3, True, True)
    assert not hub["on_this_machine"] and not hub["predictions"]


def test_tags_in_the_hubs_cache_are_counted_and_the_hub_is_not_asked(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    commit = "0123456789" * 4
    repository = data / "cache" / "models--some--where"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "v1").write_text(commit)
    (repository / "snapshots" / commit).mkdir(parents=True)
    (repository / "snapshots" / commit / "tiny.txt").write_text("solo\n1girl\n")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(data / "cache"))
    with serve(hub=data) as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        out = call("validate.py", "--data", data, "--list-models", "json").out
        assert server.requests == []
    tags = {model["name"]: model["tags"] for model in json.loads(out)}
    assert tags == {"b-joytag": None, "a-onnx": 2, "z-onnx": 3}


def test_another_form_is_refused(data: Path) -> None:
    refused(call("validate.py", "--list-models", "yaml"), "--list-models", "'yaml'")
