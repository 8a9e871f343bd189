"""Files that would run code are never loaded."""

import pickle
import shutil
from pathlib import Path
from typing import Any

from demo.tiny import make_data, make_model
from tests.helpers import ROOT, refused
from tests.validate.helpers import LOGITS_IMAGE, QUICK, TAGS, ok, validate

import torch


def test_a_hostile_predictions_file_runs_nothing(tmp_path: Path) -> None:
    make_data(tmp_path, 12)
    model = make_model(tmp_path, "a", TAGS)

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "executed",))

    ok(validate(tmp_path, model))
    cut = (tmp_path / "a_predictions.pt").read_bytes()[:-700]
    for content in (pickle.dumps(Evil()), b"", b"rubbish" * 99, cut):
        (tmp_path / "a_predictions.pt").write_bytes(content)
        refused(validate(tmp_path, model), "a_predictions.pt", "--fresh")
    torch.save({"predictions": Evil()}, tmp_path / "a_predictions.pt")
    refused(validate(tmp_path, model), "a_predictions.pt", "--fresh")
    assert not (tmp_path / "executed").exists()
    ok(validate(tmp_path, model, more=(*QUICK, "--fresh")))


def test_a_pickle_of_weights_is_never_loaded(tmp_path: Path) -> None:
    make_data(tmp_path, 12)

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "executed",))

    fields = {"kind": "joytag", "file": "model.pt", "activation": "sigmoid"}
    model = make_model(tmp_path, "a", TAGS, card=fields, image=LOGITS_IMAGE)
    shutil.copy(ROOT / "demo" / "hub" / "fancyfeast" / "joytag" / "config.json", tmp_path)
    torch.save({"head.weight": Evil()}, tmp_path / "model.pt")
    refused(validate(tmp_path, model), "model.pt", "safetensors")
    assert not (tmp_path / "executed").exists()
