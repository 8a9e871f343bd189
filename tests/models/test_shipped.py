"""The cards in models/: they parse, and their files are where the hub has them."""

import json
from typing import Any

from models import card as cards
from models.card import ModelCard, card, weight_names
from tests.helpers import ROOT

import pytest

HUB = json.loads((ROOT / "tests" / "real" / "hub" / "files.json").read_text())
SHIPPED = cards.names()


def listings(model: ModelCard) -> list[dict[str, Any]]:
    """The lists of files that we have of a model's repository."""
    return [files for name, files in HUB.items() if name.startswith(f"{model.source}@")]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_card_is_whole(name: str) -> None:
    model = card(name)
    assert model.name == name and model.label
    on_hub = model.source != "."
    assert (model.revision is not None) == on_hub
    text = model.path.read_text()
    # No branch, as what it names would move; where no commit is known, the card says so.
    moving = {model.revision, model.tags_revision} - {None, "v1.0", "v2.0"}
    assert all(len(str(revision)) == 40 for revision in moving - {"main"})
    assert ("main" in moving) == ("# A branch, which may move" in text)
    assert text.startswith("# ") and "https://huggingface.co/" in text.split("\n\n")[0]


def test_what_is_gated_says_so() -> None:
    gated = {name for name in SHIPPED if card(name).gated}
    assert gated == {"cl-tagger-v2", *(name for name in SHIPPED if name.startswith("animetimm-"))}


def test_labels_are_told_apart() -> None:
    assert len({card(name).label for name in SHIPPED}) == len(SHIPPED)


@pytest.mark.parametrize("name", [name for name in SHIPPED if listings(card(name))])
def test_files_have_the_names_that_the_hub_lists(name: str) -> None:
    model = card(name)
    for files in listings(model):
        assert {model.tags, *weight_names(model)} <= files.keys()


@pytest.mark.parametrize("repository", HUB["_tags"])
def test_tags_are_those_of_the_hub(repository: str) -> None:
    model = card(repository)
    assert model.revision in HUB["_tags"][repository]


def test_swinv2_is_the_one_for_any_batch() -> None:
    model = card("wd-v1-4-swinv2-tagger-v2")
    (listed,) = [name for name in HUB if name.startswith(f"{model.source}@{model.revision}")]
    assert "SwinV2 Tagger v2.1" in listed
