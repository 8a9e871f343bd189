"""--precision: what each tagger computes in on which device, and that files never mix it."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from arena.data_folder import DataFolder
from danbooru_metadata import TagMappings
from demo.tiny import IMAGE, make_data, make_model, toml
from models.tagger import tagger
from tests.helpers import refused
from tests.models.joytag_oracle import CONFIG, write
from tests.validate.helpers import LOGITS_IMAGE, QUICK, TAGS, ok, saved, to_run, validate

import numpy as np
import pytest
import torch

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


def joytag(folder: Path) -> Path:
    """A tiny JoyTag in a data folder; gives its card."""
    weights = folder / "joy"
    weights.mkdir()
    write(weights, CONFIG)
    (weights / "tags.txt").write_text("".join(f"tag_{n}\n" for n in range(CONFIG["n_tags"])))
    card = {
        "label": "Joy",
        "kind": "joytag",
        "source": "./joy",
        "file": "model.safetensors",
        "tags": "tags.txt",
        "threshold": 0.4,
        "last_post_id": 5_000_000,
        "activation": "sigmoid",
    }
    path = folder / "joy.toml"
    path.write_text(toml(card, IMAGE | LOGITS_IMAGE | {"size": CONFIG["image_size"]}))
    return path


def with_bfloat16(monkeypatch: pytest.MonkeyPatch, has: bool) -> None:
    found = {"avx2": True, "avx512_bf16": has, "amx_bf16": False}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)


@pytest.mark.parametrize(
    ("device", "wanted", "capability", "expected"),
    [
        (CPU, "auto", None, ("float32", "float32")),
        (CPU, "float32", None, ("float32", "float32")),
        (CPU, "half", None, ("bfloat16", "float32")),
        (CUDA, "auto", (9, 0), ("float16", "tf32")),
        (CUDA, "auto", (8, 0), ("float16", "tf32")),
        (CUDA, "auto", (7, 5), ("float16", "float32")),
        (CUDA, "half", (8, 6), ("float16", "tf32")),
        (CUDA, "float32", (9, 0), ("float32", "float32")),
    ],
)
def test_the_precision_of_each_kind(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    device: torch.device,
    wanted: str,
    capability: tuple[int, int] | None,
    expected: tuple[str, str],
) -> None:
    make_data(tmp_path, 2)
    with_bfloat16(monkeypatch, True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    data, mappings = DataFolder(tmp_path), TagMappings(tmp_path / "metadata")
    kinds = joytag(tmp_path), make_model(tmp_path, "a", TAGS)
    both = [tagger(str(path), data, mappings) for path in kinds]
    found = tuple(each.precision(device, wanted) for each in both)
    assert found == expected
    for each, precision in zip(both, found, strict=True):
        assert precision in each.precisions
        assert len({each.fingerprint(other) for other in each.precisions}) == len(each.precisions)


def test_half_is_refused_where_it_would_be_slower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_data(tmp_path, 6)
    with_bfloat16(monkeypatch, False)
    ended = validate(tmp_path, joytag(tmp_path), more=(*QUICK, "--precision", "half"))
    refused(ended, "--precision half", "avx512_bf16", "amx_bf16", "give float32")


def test_half_on_a_cpu_is_bfloat16_and_files_do_not_mix_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_data(tmp_path, 9)
    with_bfloat16(monkeypatch, True)
    card = joytag(tmp_path)
    full = ok(validate(tmp_path, card))
    assert full.out.startswith("Device: CPU. Precision: Joy in float32\n")
    exact = saved(tmp_path, "joy")
    half = ok(validate(tmp_path, card, more=(*QUICK, "--precision", "half")))
    assert half.out.startswith("Device: CPU. Precision: Joy in bfloat16\n")
    assert to_run(half) == [9]
    other = saved(tmp_path, "joy")
    assert (exact["precision"], other["precision"]) == ("float32", "bfloat16")
    apart = np.abs(exact["predictions"] - other["predictions"]).max()
    assert 0 < apart < 0.02
    results = json.loads((tmp_path / "metrics.json").read_text())
    assert results["models"][0]["precision"] == "bfloat16"
    again = ok(validate(tmp_path, card, more=(*QUICK, "--precision", "float32")))
    assert to_run(again) == [0]
    np.testing.assert_array_equal(saved(tmp_path, "joy")["predictions"], exact["predictions"])


def test_scores_of_another_device_are_not_worked_out_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_data(tmp_path, 9)
    with_bfloat16(monkeypatch, True)
    card = joytag(tmp_path)
    ok(validate(tmp_path, card, more=(*QUICK, "--precision", "half")))
    kept = ok(validate(tmp_path, card))
    assert kept.out.startswith("Device: CPU. Precision: Joy in bfloat16\n")
    assert to_run(kept) == [0]
    # Only where none is missing: else the device's own precision, for all posts.
    make_data(tmp_path, 12)
    more = ok(validate(tmp_path, card))
    assert "Joy in float32" in more.out
    assert to_run(more) == [12]
    fresh = ok(validate(tmp_path, card, more=(*QUICK, "--fresh")))
    assert "Joy in float32" in fresh.out
    assert to_run(fresh) == [12]


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_joytag_asks_for_the_precision_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    make_data(tmp_path, 2)
    found = tagger(str(joytag(tmp_path)), DataFolder(tmp_path), TagMappings(tmp_path / "metadata"))
    network = found.open(CPU, precision)
    asked: list[Any] = []

    @contextlib.contextmanager
    def autocast(device: str, dtype: Any, enabled: bool) -> Iterator[None]:
        asked.append((device, dtype if enabled else torch.float32))
        yield

    monkeypatch.setattr(torch, "autocast", autocast)
    side = found.image.size
    assert network.outputs(torch.zeros((2, 3, side, side))).dtype == torch.float32
    assert asked == [("cpu", getattr(torch, precision))]
