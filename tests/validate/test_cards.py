"""Wrong cards and models, and the categories of a card's tags."""

import json
from pathlib import Path
from typing import Any

from arena.cli import UserError
from demo.tiny import SIZE, make_data, make_model, make_onnx
from models import card as cards
from tests.helpers import refused
from tests.validate.helpers import TAGS, ok, validate

import pytest


@pytest.mark.parametrize(
    ("card", "image", "network", "words"),
    [
        ({}, {}, {"tags": 11}, ["11 outputs", "12 tags", "'tags'"]),
        ({}, {"size": 64}, {"size": 32}, ["'image.size'"]),
        ({}, {"layout": "nchw"}, {"layout": "nhwc"}, ["'image.layout'"]),
        ({}, {}, {"half": True}, ["float16", "'file'"]),
        ({}, {}, {"logits": True}, ["logits", 'activation = "sigmoid"']),
        ({"activation": "sigmoid"}, {}, {}, ['activation = "none"']),
        ({}, {}, {"bias": float("nan")}, ["no numbers", "image.scale"]),
    ],
)
def test_a_wrong_model_is_caught_at_once(
    tmp_path: Path,
    card: dict[str, Any],
    image: dict[str, Any],
    network: dict[str, Any],
    words: list[str],
) -> None:
    make_data(tmp_path, 12)
    path = make_model(tmp_path, "wrong", TAGS, card=card, image=image)
    options = {"tags": len(TAGS), **network}
    options.setdefault("size", {"size": SIZE, **image}["size"])
    make_onnx(tmp_path / "wrong.onnx", **options)
    refused(validate(tmp_path, path), "wrong", *words)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("threshold = 0.5", "treshold = 0.5", ["unknown key 'treshold'"]),
        ("threshold = 0.5\n", "", ["key 'threshold' is missing"]),
        ("threshold = 0.5", 'threshold = "0.5"', ["'threshold'", "a number"]),
        ("threshold = 0.5", "threshold = 1.5", ["'threshold'", "0 to 1"]),
        ('kind = "onnx"', 'kind = "tflite"', ["'kind'", "onnx or joytag"]),
        ('source = "."', 'source = "nowhere"', ["'source'", "org/name"]),
        ('source = "."', 'source = "./nowhere"', ["nowhere/bad.txt is missing"]),
        ('source = "."', 'source = "some/where"', ["'revision'"]),
        ('file = "bad.onnx"', 'file = "../bad.onnx"', ["'file'", "inside"]),
        ("size = 32", "size = true", ["'image.size'", "whole number"]),
        ("size = 32", "sise = 32", ["unknown key 'image.sise'"]),
        ("std = [1.0, 1.0, 1.0]", "std = [1.0, 0.0, 1.0]", ["'image.std'", "above 0"]),
        ('label = "Tiny"', "label = Tiny", ["not valid TOML"]),
    ],
)
def test_a_wrong_card_names_its_file_and_key(
    tmp_path: Path, old: str, new: str, words: list[str]
) -> None:
    make_data(tmp_path, 12)
    path = make_model(tmp_path, "bad", TAGS)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    refused(validate(tmp_path, path), "bad", *words)


CATEGORY_WORDS = {
    "general": ["0", "0.0", " 0 ", "00", "general", "General", " GENERAL"],
    "character": ["4", "4.0", " 4 ", "4.", "character", "Character"],
    "copyright": ["3", "3.00", "copyright"],
    "artist": ["1", "1.0", "Artist"],
    "meta": ["5", "5.0", "META "],
    "rating": ["9", "9.0", "rating"],
}


def test_categories_are_numbers_or_words(tmp_path: Path) -> None:
    pairs = [(name, text) for name, texts in CATEGORY_WORDS.items() for text in texts]
    lines = "".join(f"tag_{row},{text}\n" for row, (_, text) in enumerate(pairs))
    path = tmp_path / "tags.csv"
    path.write_text("name,category\n" + lines)
    assert cards.read_tags(path)[1] == [name for name, _ in pairs]


@pytest.mark.parametrize("text", ["2", "4.5", "-4", "", "generall", "nan", "٤", "4,0", "1e0", "10"])
def test_a_category_that_is_none_names_file_and_row(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tags.csv"
    path.write_text(f'name,category\nfine,0\n\nodd,"{text}"\n', encoding="utf-8")
    with pytest.raises(UserError) as error:
        cards.read_tags(path)
    assert f"{path} row 4: category {text!r}" in str(error.value)


def test_thresholds_by_category_hold_for_categories_in_words(tmp_path: Path) -> None:
    make_data(tmp_path, 30)
    found = []
    for category in ("4", "4.0", "Character"):
        rows = "".join(f"{tag},{category if tag == 'tag_0' else 0}\n" for tag in TAGS)
        (tmp_path / "a.csv").write_text("name,category\n" + rows)
        card = {"tags": "a.csv", "threshold": {"general": 0.2, "character": 0.99}}
        model = make_model(tmp_path, "a", TAGS, card=card, bias=1.0)
        ok(validate(tmp_path, model))
        results = json.loads((tmp_path / "metrics.json").read_text())
        recall = dict(
            zip(results["tag_names"], results["models"][0]["per_tag"]["recall"], strict=True)
        )
        assert recall["tag_0"] == 0 and recall["tag_11"] == 1
        found.append(recall)
    assert found[0] == found[1] == found[2]
