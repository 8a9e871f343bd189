"""Image settings that a card takes from its source's preprocess.json."""

import json
import shutil
from pathlib import Path
from typing import Any

from arena.cli import UserError
from arena.data_folder import DataFolder
from models import preprocess
from models.card import ModelCard, card, whole
from tests.helpers import ROOT

import pytest

PUBLISHED = ROOT / "tests" / "real" / "forms" / "preprocess.json"


def made(folder: Path, image: str = "", steps: Any = None) -> ModelCard:
    """A card of the preset, with its file beside it: the published one, or one of these steps."""
    if steps is None:
        shutil.copy(PUBLISHED, folder)
    else:
        (folder / preprocess.FILE).write_text(json.dumps(steps))
    path = folder / "mine.toml"
    path.write_text(f'preset = "animetimm"\nlabel = "Mine"\nsource = "{folder}"\n{image}')
    return card(str(path))


def test_three_keys_are_a_card(tmp_path: Path) -> None:
    mine = whole(made(tmp_path), DataFolder(tmp_path)).image
    assert (mine.size, mine.resize, mine.first) == (448, "bicubic", (512, "bilinear"))
    assert (mine.channels, mine.layout, mine.color) == ("rgb", "nchw", (255, 255, 255))
    assert mine.scale == pytest.approx(1 / 255)
    assert mine.mean == (0.485, 0.456, 0.406) and mine.std == (0.229, 0.224, 0.225)


def test_a_cards_own_keys_override_the_files(tmp_path: Path) -> None:
    found = made(tmp_path, '[image]\nchannels = "bgr"\nmean = [0.5, 0.5, 0.5]\n')
    mine = whole(found, DataFolder(tmp_path)).image
    assert (mine.channels, mine.mean, mine.size) == ("bgr", (0.5, 0.5, 0.5), 448)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("[image]\nsise = 9\n", "mine.toml: unknown key 'image.sise'"),
        ('[image]\nchannels = "gbr"\n', "mine.toml: key 'image.channels' must be rgb or bgr"),
        ("[image]\nsize = 0\n", "key 'image.size' must be from 1 to 4096"),
        ('preprocess = "../steps.json"\n', "mine.toml: key 'preprocess' must be a file inside"),
        ('preprocess = "steps.json"\n', "steps.json is missing"),
    ],
)
def test_wrong_keys(tmp_path: Path, image: str, words: str) -> None:
    with pytest.raises(UserError) as error:
        whole(made(tmp_path, image), DataFolder(tmp_path))
    assert words in str(error.value)


NORMALIZE = {"type": "normalize", "mean": [0.5] * 3, "std": [0.5] * 3}
RESIZE = {"type": "resize", "size": [64, 64], "interpolation": "bilinear"}


def test_steps_as_deepghs_names_them(tmp_path: Path) -> None:
    steps = {"stages": [RESIZE, {"type": "maybe_to_tensor"}, NORMALIZE]}
    mine = whole(made(tmp_path, steps=steps), DataFolder(tmp_path)).image
    assert (mine.size, mine.pad, mine.resize, mine.first) == (64, "stretch", "bilinear", None)


@pytest.mark.parametrize(
    "steps",
    [
        [],
        3,
        {"test": [RESIZE]},
        {"test": [RESIZE, NORMALIZE | {"mean": [0.5]}]},
        {"test": [RESIZE | {"interpolation": "box"}, NORMALIZE]},
        {"test": [RESIZE | {"size": [64, 32]}, NORMALIZE]},
        {"test": [RESIZE | {"size": "64"}, NORMALIZE]},
        {"test": [RESIZE, {"type": "center_crop", "size": [32, 32]}, NORMALIZE]},
        {"test": [RESIZE, "normalize"]},
    ],
)
def test_steps_that_no_card_can_say(tmp_path: Path, steps: Any) -> None:
    with pytest.raises(UserError) as error:
        whole(made(tmp_path, steps=steps), DataFolder(tmp_path))
    assert str(tmp_path / preprocess.FILE) in str(error.value)
