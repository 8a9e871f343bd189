"""Presets: what they fill in, what a card keeps of its own, and what they leave to be said."""

import re
import tomllib
from pathlib import Path

from arena.cli import UserError
from models import card as cards
from models import keys, preset
from models.card import card
from tests.helpers import ROOT

import pytest

OWN = 'label = "Mine"\nsource = "me/mine"\nrevision = "v1"\n'


def written(folder: Path, text: str) -> str:
    (folder / "mine.toml").write_text(text)
    return str(folder / "mine.toml")


def test_five_keys_are_a_card(tmp_path: Path) -> None:
    mine = card(written(tmp_path, f'preset = "wd-v3"\n{OWN}threshold = 0.4\n'))
    shipped = card("wd-vit-tagger-v3")
    assert mine.image == shipped.image and mine.kind == "onnx" and mine.activation == "none"
    assert (mine.file, mine.tags, mine.threshold) == ("model.onnx", "selected_tags.csv", 0.4)
    assert (mine.last_post_id, mine.held_out) == (7220105, (900, 999))
    assert card(written(tmp_path, f'preset = "wd"\n{OWN}threshold = 0.4\n')).last_post_id is None


def test_a_cards_own_keys_override_its_presets(tmp_path: Path) -> None:
    text = f'preset = "wd-v3"\n{OWN}threshold = 0.4\nfile = "b.onnx"\nlast_post_id = 9\n'
    mine = card(written(tmp_path, text + "[image]\nsize = 512\nmean = [1.0, 2.0, 3.0]\n"))
    assert (mine.file, mine.last_post_id, mine.held_out) == ("b.onnx", 9, (900, 999))
    assert (mine.image.size, mine.image.mean, mine.image.channels) == (512, (1.0, 2.0, 3.0), "bgr")


def test_a_table_of_thresholds_replaces_a_column(tmp_path: Path) -> None:
    text = f'preset = "animetimm"\n{OWN}[threshold]\nother = 0.4\n'
    mine = card(written(tmp_path, text))
    assert mine.threshold == {"other": 0.4} and mine.output == "prediction"


@pytest.mark.parametrize("value", ['"wdv4"', "3", '["wd"]', '{name = "wd"}', '""', '"../joytag"'])
def test_an_unknown_preset_names_the_known(tmp_path: Path, value: str) -> None:
    with pytest.raises(UserError) as error:
        card(written(tmp_path, f"preset = {value}\n{OWN}"))
    assert "mine.toml" in str(error.value) and "'preset'" in str(error.value)
    assert "the presets are animetimm, joytag, timm, wd, wd-v1-4, wd-v3" in str(error.value)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('preset = "wd"\n' + OWN, "threshold"),
        ('preset = "wd"\n' + OWN.replace('revision = "v1"\n', "threshold = 0.4\n"), "revision"),
        ('preset = "wd"\n' + OWN.replace('label = "Mine"\n', "threshold = 0.4\n"), "label"),
        ('preset = "timm"\n' + OWN + "threshold = 0.4\n", "image.size"),
        ('preset = "timm"\n' + OWN + "threshold = 0.4\n[image]\nsize = 448\n", "image.pad"),
    ],
)
def test_what_a_preset_leaves_open_is_asked_for(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(UserError) as error:
        card(written(tmp_path, text))
    assert f"mine.toml: key '{key}' is missing" in str(error.value)


def test_the_readme_lists_every_key_and_preset(tmp_path: Path) -> None:
    text = (ROOT / "models" / "README.md").read_text()
    short, whole, *_ = re.findall(r"```toml\n(label.*?)```", text, re.DOTALL)
    assert card(written(tmp_path, short)).image == card("wd-vit-tagger-v3").image
    assert card(written(tmp_path, whole)).image.first == (512, "bilinear")
    listed = tomllib.loads(whole)
    # With `preprocess` there is no need of the [image] that is shown.
    assert {*listed, "preset", "preprocess"} == {*keys.KEYS} and "`preprocess = " in text
    assert {*listed["image"]} == {*keys.IMAGE_KEYS}
    assert all(f"`{name}`" in text for name in preset.names())


def test_presets_are_no_models() -> None:
    assert "presets" not in cards.names() and "wd" not in cards.names()
    with pytest.raises(UserError, match="no model 'wd'"):
        card("wd")


@pytest.mark.parametrize("category", ["generall", "Other", "0", ""])
def test_a_threshold_of_no_category(tmp_path: Path, category: str) -> None:
    text = f'preset = "wd"\n{OWN}[threshold]\ngeneral = 0.3\n"{category}" = 0.4\n'
    with pytest.raises(UserError) as error:
        card(written(tmp_path, text))
    assert f"key 'threshold.{category}' must be of a category" in str(error.value)
