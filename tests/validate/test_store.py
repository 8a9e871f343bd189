"""Predictions kept in half precision: half the disk, and float32 everywhere else."""

import shutil
from pathlib import Path

from arena.data_folder import DataFolder
from arena.validate import inference
from demo.tiny import make_data, make_model
from tests.validate.helpers import QUICK, TAGS, assert_rounded, content, ok, saved, to_run, validate

import numpy as np
import pytest

HALF = (*QUICK, "--store", "half")
RESULTS = ("detailed_metrics.txt", "per_tag.csv", "metrics.json")


def test_half_is_float32_rounded_and_stays_half(tmp_path: Path) -> None:
    make_data(tmp_path, 30)
    model = make_model(tmp_path, "a", TAGS)
    ok(validate(tmp_path, model))
    exact = saved(tmp_path, "a")
    assert exact["predictions"].dtype == np.float32
    ended = ok(validate(tmp_path, model, more=(*HALF, "--fresh")))
    assert "half precision" not in ended.out  # As there is no file that becomes it.
    half = saved(tmp_path, "a")
    assert half["fingerprint"] == exact["fingerprint"]
    assert_rounded(half["predictions"], exact["predictions"])
    before = (tmp_path / "a_predictions.pt").read_bytes()
    results = content(tmp_path / "metrics.json")
    assert to_run(ok(validate(tmp_path, model))) == [0]
    assert (tmp_path / "a_predictions.pt").read_bytes() == before
    assert content(tmp_path / "metrics.json") == results
    # More posts without the option: what is new is float32, and the file stays what it is.
    make_data(tmp_path, 40)
    assert to_run(ok(validate(tmp_path, model))) == [10]
    grown = saved(tmp_path, "a")["predictions"]
    assert grown.dtype == np.float16
    np.testing.assert_array_equal(grown[:30], half["predictions"])


def test_a_float32_file_becomes_half_once_and_never_float32_again(tmp_path: Path) -> None:
    make_data(tmp_path, 30)
    model = make_model(tmp_path, "a", TAGS)
    ok(validate(tmp_path, model))
    exact = saved(tmp_path, "a")
    ended = ok(validate(tmp_path, model, more=HALF))
    assert to_run(ended) == [0]
    said = [line for line in ended.out.splitlines() if "half precision" in line]
    assert len(said) == 1 and "a_predictions.pt" in said[0]
    half = saved(tmp_path, "a")
    np.testing.assert_array_equal(half["predictions"], exact["predictions"].astype(np.float16))
    for key in ("post_ids", "images"):
        np.testing.assert_array_equal(half[key], exact[key])
    for more in (HALF, QUICK, (*QUICK, "--store", "float32")):
        ended = ok(validate(tmp_path, model, more=more))
        assert "half precision" not in ended.out
        assert saved(tmp_path, "a")["predictions"].dtype == np.float16


def test_parts_of_both_kinds_are_one_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_data(tmp_path, 30)
    model = make_model(tmp_path, "a", TAGS)
    ok(validate(tmp_path, model, more=(*HALF, "--posts", 12)))
    first = saved(tmp_path, "a")
    parts = DataFolder(tmp_path).prediction_parts("a", first["fingerprint"])
    parts.mkdir(parents=True)
    shutil.move(tmp_path / "a_predictions.pt", parts / "0-0.pt")
    monkeypatch.setattr(inference, "FLUSH_SECONDS", 0)  # Several parts.
    assert to_run(ok(validate(tmp_path, model))) == [18]
    held = saved(tmp_path, "a")["predictions"]
    assert held.dtype == np.float16
    ok(validate(tmp_path, model, more=(*QUICK, "--fresh")))
    assert_rounded(held, saved(tmp_path, "a")["predictions"])


def test_results_say_what_scores_are_kept_in(tmp_path: Path) -> None:
    make_data(tmp_path, 12)
    a, b = (make_model(tmp_path, name, TAGS, seed=seed) for seed, name in enumerate("ab"))
    ok(validate(tmp_path, a, more=HALF))
    given = shutil.copy(tmp_path / "a_predictions.pt", tmp_path / "given_predictions.pt")
    ok(validate(tmp_path, a, b, given, "a+b", "a+given"))
    found = {
        model["name"]: model["store"] for model in content(tmp_path / "metrics.json")["models"]
    }
    assert found == {
        "a": "float16",
        "b": "float32",
        "given": "float16",
        "a+b": "float16 + float32",
        "a+given": "float16",
    }
