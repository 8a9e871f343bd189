"""Einsums: products of matrices in the ONNX file, where they are that."""

import math
from pathlib import Path
from typing import Any

from arena.export_sw.saved_model import tf
from tests.export_sw.networks import save
from tests.export_sw.running import NAME, Export, check_answers

import numpy as np
import onnx
import pytest

pytestmark = pytest.mark.slow

SIZES = {"b": 6, "c": 4, "d": 8, "e": 5}  # The first axis of what comes from images is a.


def kinds(equation: str, folder: Path, data: Path, export: Export) -> set[str]:
    """The kinds of node in the ONNX file of a network with an einsum, checked."""
    numbers = np.random.default_rng(4)
    *factors, out = equation.replace("->", ",").split(",")

    def weight(*shape: int) -> Any:
        return tf.Variable(numbers.normal(0, 0.3, shape).astype(np.float32))

    def sides(axes: str) -> list[int]:
        return [SIZES[axis] for axis in axes if axis != "a"]

    def size(axes: str) -> int:
        return math.prod(sides(axes))

    weights = [weight(192, size(f)) if "a" in f else weight(*sides(f)) for f in factors]
    head = weight(size(out), 4)

    def network(images: Any) -> Any:
        x = tf.reshape(images / 255.0 - 0.5, [-1, 192])
        made = [
            tf.reshape(tf.matmul(x, w), [-1, *sides(f)]) if "a" in f else w
            for f, w in zip(factors, weights, strict=True)
        ]
        y = tf.reshape(tf.einsum(equation, *made), [-1, size(out)])
        return tf.sigmoid(tf.matmul(y, head))

    saved = save(folder, network, 4, (None, 8, 8, 3), variables=[*weights, head])
    code, _, err = export("--saved-model", saved)
    assert (code, err) == (0, "")
    check_answers(data / f"{NAME}.onnx", saved)
    return {node.op_type for node in onnx.load(data / f"{NAME}.onnx").graph.node}


@pytest.mark.parametrize(
    "equation",
    [
        *("abc,cde->abde", "aecd,abcd->acbe", "acbe,aecd->abcd", "abcd,cde->abe"),  # Attention's.
        *("cde,abc->abde", "abc,cd->abd", "abcd,acde->aceb", "abcd,aecd->abe", "abcd,aed->aecb"),
    ],
)
def test_a_product_is_one(equation: str, tmp_path: Path, data: Path, export: Export) -> None:
    found = kinds(equation, tmp_path / "saved", data, export)
    assert found <= {"Mul", "Sub", "Reshape", "Transpose", "MatMul", "Sigmoid"}


@pytest.mark.parametrize("equation", ["abc,abc->ab", "abc,ab->ac", "abc,ade->abd", "abc,abd->abcd"])
def test_what_is_no_product_is_left(
    equation: str, tmp_path: Path, data: Path, export: Export
) -> None:
    assert kinds(equation, tmp_path / "saved", data, export)
