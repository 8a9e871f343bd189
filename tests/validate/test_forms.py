"""Inputs and outputs of other types than float32, and a second input that marks padding."""

from pathlib import Path
from typing import Any

from demo.tiny import SIZE, make_data, make_model
from tests.helpers import refused
from tests.validate.helpers import TAGS, assert_alike, ok, saved, validate

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

WHOLE = {"scale": 1.0, "channels": "rgb"}


def retyped(path: Path, kind: int, output: bool = False) -> None:
    """Give an ONNX file an input of another type, and an output if wanted, by casts inside."""
    network = onnx.load(path)
    graph = network.graph
    graph.input[0].type.tensor_type.elem_type = kind
    graph.input[0].name = "given"
    graph.node.insert(0, helper.make_node("Cast", ["given"], ["images"], to=TensorProto.FLOAT))
    if output:
        graph.node.append(helper.make_node("Cast", ["scores"], ["out"], to=kind))
        graph.output[0].name = "out"
        graph.output[0].type.tensor_type.elem_type = kind
    onnx.save(network, path)


def both(
    data: Path, kind: int, image: dict[str, Any] | None = None, output: bool = False
) -> tuple[Any, Any]:
    """The scores of a tagger with float32 input, and of the same with another."""
    make_data(data, 9)
    cards = [make_model(data, name, TAGS, image=image) for name in "ab"]
    retyped(data / "b.onnx", kind, output)
    ok(validate(data, *cards))
    plain, other = (saved(data, name)["predictions"] for name in "ab")
    return plain, other


def test_float16_in_and_out(tmp_path: Path) -> None:
    plain, other = both(tmp_path, TensorProto.FLOAT16, output=True)
    assert other.dtype == np.float32
    assert 0 < np.abs(plain - other).max() < 2e-3


def test_whole_pixels_in(tmp_path: Path) -> None:
    plain, other = both(tmp_path, TensorProto.UINT8, WHOLE)
    assert_alike(other, plain)


def test_whole_pixels_that_the_card_would_scale(tmp_path: Path) -> None:
    make_data(tmp_path, 3)
    card = make_model(tmp_path, "a", TAGS)
    retyped(tmp_path / "a.onnx", TensorProto.UINT8)
    refused(validate(tmp_path, card), "uint8", "image.scale = 1", "a.toml")


@pytest.mark.parametrize("kind", [TensorProto.DOUBLE, TensorProto.INT32, TensorProto.BOOL])
def test_other_types_are_refused(tmp_path: Path, kind: int) -> None:
    make_data(tmp_path, 3)
    card = make_model(tmp_path, "a", TAGS)
    retyped(tmp_path / "a.onnx", kind)
    refused(validate(tmp_path, card), "not float32, float16 or uint8", "'file'")


def masked(path: Path, kind: int = TensorProto.BOOL) -> None:
    """Make the scores of an ONNX file the share of the square that is marked as padding."""
    network = onnx.load(path)
    graph = network.graph
    graph.input.append(helper.make_tensor_value_info("padding_mask", kind, ["n", SIZE, SIZE]))
    graph.node.extend(
        [
            helper.make_node("Cast", ["padding_mask"], ["marked"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["marked"], ["share"], axes=[1, 2], keepdims=0),
            helper.make_node("Unsqueeze", ["share", "one"], ["column"]),
            helper.make_node("Mul", ["scores", "zero"], ["zeros"]),
            helper.make_node("Add", ["zeros", "column"], ["shares"]),
        ]
    )
    graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), "one"))
    graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1, np.float32), "zero"))
    graph.output[0].name = "shares"
    onnx.save(network, path)


@pytest.mark.parametrize(
    "image",
    [
        {"pad": "square"},
        {"pad": "at_least"},
        {"pad": "stretch"},
        {"first": {"size": SIZE, "resize": "lanczos"}, "resize": "bicubic"},
    ],
)
def test_padding_is_marked(tmp_path: Path, image: dict[str, Any]) -> None:
    make_data(tmp_path, 9)
    card = make_model(tmp_path, "a", TAGS, card={"mask": "padding_mask"}, image=image)
    masked(tmp_path / "a.onnx")
    ok(validate(tmp_path, card))
    found = saved(tmp_path, "a")
    for post_id, scores in zip(found["post_ids"], found["predictions"], strict=True):
        width, height = Image.open(tmp_path / "resized" / f"{post_id}.webp").size
        side = max(width, height, SIZE if image.get("pad") == "at_least" else 1)
        share = 0.0 if image.get("pad") == "stretch" else 1 - width * height / side**2
        assert (scores == scores[0]).all()
        # A pixel that the image touches counts as its own.
        assert share - 4 / SIZE < scores[0] <= share + 1e-6 + (2 / SIZE if "first" in image else 0)


def test_an_input_that_marks_nothing_we_know(tmp_path: Path) -> None:
    make_data(tmp_path, 3)
    card = make_model(tmp_path, "a", TAGS)
    masked(tmp_path / "a.onnx")
    refused(validate(tmp_path, card), "images, padding_mask", "'mask'", "a.toml")
    named = make_model(tmp_path, "b", TAGS, card={"mask": "other"})
    refused(validate(tmp_path, named), "no input 'other'", "'mask'", "b.toml")
    wrong = make_model(tmp_path, "c", TAGS, card={"mask": "padding_mask"})
    masked(tmp_path / "c.onnx", TensorProto.FLOAT)
    refused(validate(tmp_path, wrong), "padding_mask", "bool")
