"""The outputs of networks: which hold the scores, answers of other forms, tags with several."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from demo.tiny import make_data, make_model, write_mappings
from models.tagger import CardTagger
from tests.helpers import refused
from tests.validate.helpers import QUICK, TAGS, Stub, assert_alike, ok, saved, validate

import numpy as np
import onnx
import pytest
import torch
from sklearn.metrics import average_precision_score, precision_recall_fscore_support


def test_a_tag_is_predicted_where_any_of_its_outputs_reaches_its_own_threshold(
    tmp_path: Path,
) -> None:
    """An output's category decides its threshold, whatever the tag's other outputs are."""
    make_data(tmp_path, 60)
    aliases: list[tuple[str, ...]] = [
        ("old_3", "tag_3"),
        ("older_3", "tag_3"),
        ("old_5", "tag_5"),
        ("old_7", "tag_7"),
    ]
    write_mappings(tmp_path, aliases, [])
    outputs = {  # Name: category, in an order in which neither first nor last is right.
        **dict.fromkeys(TAGS, "0"),
        "old_3": "4",
        "older_3": "0",
        "old_5": "character",
        "old_7": "0",
        "explicit": "9",
    }
    rows = "".join(f"{name},{category}\n" for name, category in outputs.items())
    (tmp_path / "a.csv").write_text("name,category\n" + rows)
    own = {"general": 0.5, "character": 0.53}
    card = {"tags": "a.csv", "threshold": own}
    model = make_model(tmp_path, "a", list(outputs), card=card, seed=11)
    rival = make_model(tmp_path, "b", TAGS, card={"label": "Rival"}, seed=4)
    ok(validate(tmp_path, model, rival, more=("--bootstrap", 100, "--min-count", 1)))

    truth = torch.load(tmp_path / "ground_truth.pt", weights_only=True)
    held, tags, y = saved(tmp_path, "a"), truth["tags"], truth["ground_truth"].numpy()
    categories = ["character" if c in ("4", "character") else "general" for c in outputs.values()]
    scores, predicted = np.zeros(y.shape), np.zeros(y.shape, bool)
    by_one_threshold = []
    for place, tag in enumerate(tags):
        columns = [i for i, name in enumerate(held["tags"]) if name == tag]
        cuts = np.array([own[categories[column]] for column in columns], np.float32)
        scores[:, place] = held["predictions"][:, columns].max(axis=1)
        predicted[:, place] = (held["predictions"][:, columns] >= cuts).any(axis=1)
        most = scores[~predicted[:, place], place].max(initial=0)
        by_one_threshold.append(most < scores[predicted[:, place], place].min(initial=1))
    apart = {tag for tag, one in zip(tags, by_one_threshold, strict=True) if not one}
    assert apart and apart <= {"tag_3", "tag_5"}
    p, r, f1, _ = precision_recall_fscore_support(y, predicted, average=None, zero_division=0)
    ap = [average_precision_score(y[:, place], scores[:, place]) for place in range(len(tags))]
    results = json.loads((tmp_path / "metrics.json").read_text())
    entry = results["models"][0]
    for name, values in {"precision": p, "recall": r, "f1": f1, "ap": ap}.items():
        np.testing.assert_allclose(entry["per_tag"][name], values, atol=1e-9)
    assert entry["overall"]["own"]["macro"]["f1"]["value"] == pytest.approx(f1.mean())
    pooled = precision_recall_fscore_support(y.ravel(), predicted.ravel(), average="binary")
    assert entry["overall"]["own"]["micro"]["f1"]["value"] == pytest.approx(pooled[2])
    blocks = (tmp_path / "detailed_metrics.txt").read_text().split("\n\n")
    for place, tag in enumerate(tags):
        figures = zip(("Precision", "Recall", "F1", "AP"), (p, r, f1, ap), strict=True)
        line = ", ".join(f"{name} {values[place]:.4f}" for name, values in figures)
        assert blocks[place].splitlines()[:2] == [tag, f"{'Tiny':<20}: {line}"]


def with_outputs(path: Path, outputs: dict[str, tuple[str, Any]], last: bool) -> None:
    """Give an ONNX file outputs: name -> the operator that makes it of the scores, its type."""
    network = onnx.load(path)
    scores = network.graph.output.pop()
    network.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0]), "zero"))
    network.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(12, bool), "kept"))
    inputs = {
        "Unsqueeze": ["scores", "zero"],
        "Gather": ["scores", "zero"],
        "Compress": ["scores", "kept"],
    }
    options: dict[str, dict[str, Any]] = {
        "Cast": {"to": onnx.TensorProto.INT64},
        "Gather": {"axis": 1},
        "Compress": {"axis": 1},
    }
    for name, (operator, kind) in outputs.items():
        node = onnx.helper.make_node(
            operator, inputs.get(operator, ["scores"]), [name], **options.get(operator, {})
        )
        network.graph.node.append(node)
        network.graph.output.append(onnx.helper.make_value_info(name, kind))
    network.graph.output.insert(len(outputs) if last else 0, scores)
    onnx.save(network, path)


def floats(*shape: int | str) -> Any:
    return onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, shape)


@pytest.mark.parametrize("last", [False, True])
def test_the_only_output_that_fits_the_tags_holds_the_scores(tmp_path: Path, last: bool) -> None:
    make_data(tmp_path, 12)
    models = [make_model(tmp_path, name, TAGS, seed=3) for name in "ab"]
    others = {
        "narrow": ("Gather", floats("n", 1)),
        "deep": ("Unsqueeze", floats(1, "n", 12)),
        "whole": ("Cast", onnx.helper.make_tensor_type_proto(onnx.TensorProto.INT64, ("n", 12))),
        "listed": ("SequenceConstruct", onnx.helper.make_sequence_type_proto(floats("n", 12))),
    }
    with_outputs(tmp_path / "b.onnx", others, last)
    ok(validate(tmp_path, *models))
    first, second = (saved(tmp_path, name)["predictions"] for name in "ab")
    assert_alike(second, first)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(("operator", "width"), [("Neg", 12), ("Compress", "width")])
def test_two_outputs_that_fit_the_tags_are_refused(
    tmp_path: Path, operator: str, width: int | str, last: bool
) -> None:
    make_data(tmp_path, 12)
    model = make_model(tmp_path, "a", TAGS)
    outputs = {"narrow": ("Gather", floats("n", 1)), "second": (operator, floats("n", width))}
    with_outputs(tmp_path / "a.onnx", outputs, last)
    ended = validate(tmp_path, model)
    refused(ended, "a: any", "'scores'", f"'second' tensor(float) (n, {width})", "12 tags")
    assert "narrow" not in ended.err


def test_no_output_that_fits_the_tags_is_refused(tmp_path: Path) -> None:
    make_data(tmp_path, 12)
    model = make_model(tmp_path, "a", TAGS)
    with_outputs(tmp_path / "a.onnx", {"narrow": ("Gather", floats("n", 1))}, last=True)
    (tmp_path / "a.txt").write_text("\n".join(TAGS[:7]))
    refused(validate(tmp_path, model), "1 and 12 outputs", "7 tags", "'tags'")


@pytest.mark.parametrize("batch", [None, 5])
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda n: torch.full((n + 1, 12), 0.5), "(5, 12)"),
        (lambda n: torch.full((2 * n, 12), 0.5), "(8, 12)"),
        (lambda n: torch.full((n - 1, 12), 0.5), "(3, 12)"),
        (lambda n: torch.full((1, 12), 0.5), "(1, 12)"),
        (lambda n: torch.full((0, 12), 0.5), "(0, 12)"),
        (lambda n: torch.full((n, 11), 0.5), "(4, 11)"),
        (lambda n: torch.full((n,), 0.5), "(4,)"),
        (lambda n: torch.full((n, 12, 1), 0.5), "(4, 12, 1)"),
        (lambda n: torch.tensor(0.5), "()"),
        (lambda n: torch.full((n, 12), 0.5, dtype=torch.float64), "float64"),
        (lambda n: torch.ones((n, 12), dtype=torch.int64), "int64"),
    ],
)
def test_answers_of_another_form_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: Callable[[int], torch.Tensor],
    words: str,
    batch: int | None,
) -> None:
    make_data(tmp_path, 12)
    model = make_model(tmp_path, "odd", TAGS)
    stub = Stub(answer)
    stub.batch = batch
    monkeypatch.setattr(CardTagger, "open", lambda *_: stub)
    ended = validate(tmp_path, model, more=(*QUICK, "--batch-size", 4))
    refused(ended, "odd: for", words if batch is None else "for 5 images", "'file'")
    assert not list(tmp_path.rglob("*.pt"))


@pytest.mark.parametrize("operator", ["Concat", "ReduceMean"])
def test_an_onnx_file_that_answers_with_other_rows_is_refused(
    tmp_path: Path, operator: str
) -> None:
    make_data(tmp_path, 12)
    model = make_model(tmp_path, "odd", TAGS)
    network = onnx.load(tmp_path / "odd.onnx")
    inputs = ["scores", "scores"] if operator == "Concat" else ["scores"]
    options: dict[str, Any] = {"axis": 0} if operator == "Concat" else {"axes": [0]}
    network.graph.node.append(onnx.helper.make_node(operator, inputs, ["out"], **options))
    network.graph.output.pop()
    network.graph.output.append(onnx.helper.make_tensor_value_info("out", 1, ["m", 12]))
    onnx.save(network, tmp_path / "odd.onnx")
    rows = 8 if operator == "Concat" else 1
    ended = validate(tmp_path, model, more=(*QUICK, "--batch-size", 4))
    refused(ended, "odd: for 4 images the network gives float32", f"({rows}, 12)", "(4, 12)")
    assert not list(tmp_path.rglob("*.pt"))
