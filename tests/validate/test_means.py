"""Rows of metrics.json that are the mean of several models."""

import json
from pathlib import Path
from typing import Any

from demo.tiny import make_data, make_model
from tests.helpers import refused
from tests.validate.helpers import QUICK, TAGS, ok, saved, to_run, validate

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, precision_recall_fscore_support


def entries(data: Path) -> dict[str, Any]:
    """The models of metrics.json by name."""
    found = json.loads((data / "metrics.json").read_text())
    return {model["name"]: model for model in found["models"]}


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    """Three models of one data folder, with thresholds of their own."""
    make_data(tmp_path, 30)
    settings: list[dict[str, Any]] = [
        {"label": "A", "threshold": 0.45},
        {"label": "B", "threshold": 0.5, "last_post_id": 6_700_030},
        {"label": "C", "threshold": 0.52},
    ]
    return [
        make_model(tmp_path, name, TAGS, seed=seed, card=settings[seed])
        for seed, name in enumerate("abc")
    ]


def test_a_mean_has_the_figures_of_the_mean_scores(tmp_path: Path, three: list[Path]) -> None:
    ended = ok(validate(tmp_path, *three, "a+b", "a+b+c"))
    assert to_run(ended) == [30] * 3
    rows = [line.split("|")[1].strip() for line in ended.out.splitlines() if line.startswith("| ")]
    assert rows[1:] == ["A", "B*", "C", "A + B*", "A + B + C*"]
    assert "A + B + C           : Precision" in (tmp_path / "detailed_metrics.txt").read_text()
    assert "A + B is the mean of their scores, at the mean of their thresholds" in ended.out
    assert not list(tmp_path.glob("*+*"))
    truth = torch.load(tmp_path / "ground_truth.pt", weights_only=True)
    y, tags = truth["ground_truth"].numpy(), truth["tags"]
    found = entries(tmp_path)
    for name, threshold in (("a+b", 0.475), ("a+b+c", 0.49)):
        parts = [saved(tmp_path, part) for part in name.split("+")]
        each = [part["predictions"][:, [part["tags"].index(t) for t in tags]] for part in parts]
        scores = np.mean(np.array(each, np.float64), axis=0)
        p, r, f1, _ = precision_recall_fscore_support(
            y, scores >= threshold, average=None, zero_division=0
        )
        ap = [average_precision_score(y[:, i], scores[:, i]) for i in range(len(tags))]
        for key, values in {"precision": p, "recall": r, "f1": f1, "ap": ap}.items():
            np.testing.assert_allclose(found[name]["per_tag"][key], values, atol=1e-9)
        assert found[name]["overall"]["own"]["threshold"] == pytest.approx(threshold)
        assert found[name]["maybe_seen"] == found["b"]["maybe_seen"] == 11
        assert (found[name]["speed"], found[name]["mean_of"]) == ([], name.split("+"))
        assert found[name]["parameters"] == sum(found[n]["parameters"] for n in name.split("+"))
    pairs = json.loads((tmp_path / "metrics.json").read_text())["pairs"]
    assert ("a", "a+b") in {(pair["a"], pair["b"]) for pair in pairs}


def test_what_one_part_alone_knows_has_its_scores(tmp_path: Path) -> None:
    from arena.data_folder import DataFolder
    from arena.validate.ground_truth import mappings
    from arena.validate.means import scored
    from arena.validate.predictions import Cache
    from models import tagger

    make_data(tmp_path, 20)
    one = make_model(tmp_path, "a", TAGS, card={"threshold": 0.3})
    other = make_model(tmp_path, "b", TAGS[:4], seed=1, card={"threshold": 0.5})
    ok(validate(tmp_path, one, other))
    data = DataFolder(tmp_path)
    found = [tagger(str(path), data, mappings(data)) for path in (one, other)]
    *_, mean = scored([Cache.of(each, data, "float32") for each in found], [["a", "b"]])
    assert mean.vocabulary() == set(TAGS)
    a, b = saved(tmp_path, "a"), saved(tmp_path, "b")
    held, thresholds = mean.scores(tmp_path, a["post_ids"], TAGS, lambda some, block: None)
    scores = held.rows(slice(0, len(held)))
    np.testing.assert_array_equal(scores[:, 4:], a["predictions"][:, 4:])
    both = (a["predictions"][:, :4] + b["predictions"]) / 2
    np.testing.assert_allclose(scores[:, :4], both, atol=1e-6)
    np.testing.assert_allclose(np.asarray(thresholds), [0.4] * 4 + [0.3] * 8)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["a+x"], ["a+x", "'x' is none of them", "give --models a,x,a+x"]),
        (["a+a"], ["a+a", "twice"]),
        (["a+b", "a+b"], ["a+b twice"]),
        (["a+"], ["'' is none of them"]),
    ],
)
def test_means_that_are_none(
    tmp_path: Path, three: list[Path], given: list[str], words: list[str]
) -> None:
    refused(validate(tmp_path, *three, *given), *words)


def test_a_model_in_a_folder_with_a_plus_is_no_mean(tmp_path: Path) -> None:
    data = tmp_path / "a+b"
    data.mkdir()
    make_data(data, 6)
    one = make_model(data, "a", TAGS)
    ok(validate(data, one, more=QUICK))
    assert list(entries(data)) == ["a"]
