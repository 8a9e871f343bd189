"""A model's figures as the hub reads them from a model card."""

import hashlib
import json
from pathlib import Path

from demo.tiny import make_data, make_model
from tests.helpers import call, refused
from tests.validate.helpers import TAGS, ok, validate

import pytest
from huggingface_hub import ModelCard, ModelCardData

pytestmark = pytest.mark.slow


def test_the_hub_reads_the_figures_from_a_card(tmp_path: Path) -> None:
    make_data(tmp_path, 120)
    label = "A: \"quoted\" \u202e & 'Tiny' #1"
    model = make_model(tmp_path, "a", TAGS, card={"label": label})
    args = ("--data", tmp_path, "--model-index", "a")
    refused(call("validate.py", *args), "no whole results")
    ok(validate(tmp_path, model, more=("--min-count", 1, "--bootstrap", 100)))
    done = ok(call("validate.py", *args))
    card = ModelCard(f"---\n{done.out}---\nMy tagger").data
    assert isinstance(card, ModelCardData)
    overall = json.loads((tmp_path / "metrics.json").read_text())["models"][0]["overall"]
    own, found = overall["own"]["macro"], card.eval_results
    assert found is not None
    values = [own[key]["value"] for key in ("f1", "precision", "recall")]
    values += [overall["equal"]["macro"]["f1"]["value"], overall["ap"]["macro"]["value"]]
    assert [each.metric_value for each in found] == [round(value, 4) for value in values]
    ids = (tmp_path / "validation_post_ids.txt").read_bytes()
    assert {each.dataset_revision for each in found} == {hashlib.sha256(ids).hexdigest()}
    low, high = own["f1"]["low"], own["f1"]["high"]
    assert f"(95% interval {low:.4f} to {high:.4f})" in str(found[0].metric_name)
    assert card.model_name == label.replace("\u202e", "\\u202e")
    assert str(tmp_path) not in done.out
    refused(call("validate.py", "--data", tmp_path, "--model-index", "b\x1b"), "only a", "b\\x1b")
    (tmp_path / "metrics.json").write_text('{"version": 1}')
    refused(call("validate.py", *args), "no whole results")
