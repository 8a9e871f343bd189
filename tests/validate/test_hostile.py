"""Files that would run code, or have memory overwritten, are never loaded."""

import pickle
import shutil
from pathlib import Path
from typing import Any

from demo.tiny import make_data, make_model
from tests.helpers import ROOT, refused
from tests.validate.helpers import LOGITS_IMAGE, QUICK, TAGS, ok, validate

import pytest
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


class Made:
    """Numbers that torch is to make in memory as it reads the file."""

    def __init__(self, kind: type, numbers: torch.Tensor) -> None:
        self.kind, self.numbers = kind, numbers.tolist()

    def __reduce__(self) -> tuple[type, tuple[Any]]:
        return self.kind, (self.numbers,)


KINDS = {"predictions": torch.Tensor, "post_ids": torch.LongTensor, "images": torch.LongTensor}


@pytest.mark.parametrize("key", KINDS)
def test_numbers_that_are_not_in_the_file_are_refused(tmp_path: Path, key: str) -> None:
    make_data(tmp_path, 8)
    model = make_model(tmp_path, "a", TAGS)
    ok(validate(tmp_path, model))
    own, other = tmp_path / "a_predictions.pt", tmp_path / "other_predictions.pt"
    held = torch.load(own, weights_only=True)
    # With a record of as many bytes, so that the sizes tell nothing.
    torch.save({**held, key: Made(KINDS[key], held[key]), "unused": held[key].clone()}, other)
    refused(validate(tmp_path, other), "is not a predictions file, or not a whole one")
    other.rename(own)
    refused(validate(tmp_path, model), "is not a predictions file that validate.py wrote whole")
    torch.save({**held, key: torch.empty_like(held[key], device="meta")}, own)
    refused(validate(tmp_path, model), "is not a predictions file that validate.py wrote whole")
