"""Wrong cards and models, and the categories of a card's tags."""

import json
from pathlib import Path
from typing import Any

from arena.cli import UserError
from demo.tiny import SIZE, make_data, make_model, make_onnx
from models import tags
from tests.helpers import refused
from tests.validate.helpers import TAGS, ok, saved, validate

import numpy as np
import pytest
from PIL import Image


@pytest.mark.parametrize(
    ("card", "image", "network", "words"),
    [
        ({}, {}, {"tags": 11}, ["11 outputs", "12 tags", "'tags'"]),
        ({}, {"size": 64}, {"size": 32}, ["'image.size'"]),
        ({}, {"layout": "nchw"}, {"layout": "nhwc"}, ["'image.layout'"]),
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
        ("threshold = 0.5", 'threshold = "0.5"', ["no column '0.5'", "'threshold'"]),
        ("threshold = 0.5", "threshold = 1.5", ["'threshold'", "0 to 1"]),
        ('kind = "onnx"', 'kind = "tflite"', ["'kind'", "onnx or joytag or timm"]),
        ('source = "."', 'source = "nowhere"', ["'source'", "org/name"]),
        ('source = "."', 'source = "./nowhere"', ["nowhere/bad.txt is missing"]),
        ('source = "."', 'source = "some/where"', ["'revision'"]),
        ('file = "bad.onnx"', 'file = "../bad.onnx"', ["'file'", "inside"]),
        ("size = 32", "size = true", ["'image.size'", "whole number"]),
        ("size = 32", "sise = 32", ["unknown key 'image.sise'"]),
        ("std = [1.0, 1.0, 1.0]", "std = [1.0, 0.0, 1.0]", ["'image.std'", "above 0"]),
        ('label = "Tiny"', "label = Tiny", ["not valid TOML"]),
        ("scale = 0.0039", 'scale = "1/0"', ["'image.scale'", '"1/255"']),
        ("scale = 0.0039", 'scale = "x"', ["'image.scale'", '"1/255"']),
        ("size = 32", "size = 32\ncolor = [1, 2]", ["'image.color'", "0 to 255"]),
        ("size = 32", "size = 32\ncolor = [1, 2, 256]", ["'image.color'", "0 to 255"]),
        ("size = 32", "size = 32\nfirst = {size = 9}", ["'image.first.resize' is missing"]),
        (
            "size = 32",
            'size = 32\nfirst = {size = 9, resize = "area"}',
            ["'image.first.resize'", "bicubic, bilinear, lanczos"],
        ),
        ("size = 32", 'size = 32\nfirst = {side = 9, resize = "area"}', ["first.side'"]),
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
    assert tags.read(path).categories == [name for name, _ in pairs]


@pytest.mark.parametrize("text", ["2", "4.5", "-4", "", "generall", "nan", "٤", "4,0", "1e0", "10"])
def test_a_category_that_is_none_names_file_and_row(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tags.csv"
    path.write_text(f'name,category\nfine,0\n\nodd,"{text}"\n', encoding="utf-8")
    with pytest.raises(UserError) as error:
        tags.read(path)
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


STEPS: list[dict[str, Any]] = [
    {"pad": "stretch", "resize": "bilinear", "scale": "1/255"},
    {"pad": "square", "resize": "lanczos", "color": [0, 0, 0]},
    {"pad": "square", "resize": "bicubic", "first": {"size": 40, "resize": "bilinear"}},
    {"pad": "at_least", "resize": "bilinear", "color": [124, 116, 104], "channels": "rgb"},
]


@pytest.mark.parametrize("steps", STEPS)
def test_steps_of_an_image_are_pillows(tmp_path: Path, steps: dict[str, Any]) -> None:
    make_data(tmp_path, 6)
    image: dict[str, Any] = {
        "channels": "bgr",
        "scale": 0.01,
        "mean": [0.3, 0.4, 0.5],
        "std": [0.2, 0.5, 1.0],
    }
    image |= steps
    card = make_model(tmp_path, "a", TAGS, image=image)
    weight, bias = make_onnx(tmp_path / "a.onnx", len(TAGS), layout="nhwc")
    ok(validate(tmp_path, card))
    found = saved(tmp_path, "a")
    scale = 1 / 255 if image["scale"] == "1/255" else 0.01
    color = tuple(image.get("color", [255, 255, 255]))
    for post_id, scores in zip(found["post_ids"], found["predictions"], strict=True):
        picture = Image.open(tmp_path / "resized" / f"{post_id}.webp").convert("RGB")
        if first := image.get("first"):
            times = first["size"] / max(picture.size)
            sides = [max(1, int(side * times)) for side in picture.size]
            picture = picture.resize((sides[0], sides[1]), Image.Resampling.BILINEAR)
        if image["pad"] != "stretch":
            least = {"at_least": SIZE, "square": 1}[image["pad"]]
            side = first["size"] if first else max(*picture.size, least)
            canvas = Image.new("RGB", (side, side), color)
            canvas.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
            picture = canvas
        filters = Image.Resampling[image["resize"].upper()]
        pixels = np.asarray(picture.resize((SIZE, SIZE), filters), np.float64)
        if image["channels"] == "bgr":
            pixels = pixels[:, :, ::-1]
        ready = (pixels * scale - np.array(image["mean"])) / np.array(image["std"])
        grid = ready.reshape(4, SIZE // 4, 4, SIZE // 4, 3).mean(axis=(1, 3))
        logits = grid.transpose(2, 0, 1).ravel() @ weight + bias
        np.testing.assert_allclose(scores, 1 / (1 + np.exp(-logits)), atol=1e-5)
