"""Layer norms: one node of the ONNX file, where they are exactly that."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from arena.export_sw.saved_model import tf
from tests.export_sw.networks import fused_norm, moments_norm, save
from tests.export_sw.running import Export, check_answers

import numpy as np
import onnx
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def honest_tensorflow() -> Iterator[None]:
    """TensorFlow without its remapper, which takes the look-alikes for layer norms itself."""
    tf.config.optimizer.set_experimental_options({"remapping": False})
    yield
    tf.config.optimizer.set_experimental_options({"remapping": True})


Norm = Callable[[Any, Any, Any], Any]


def exported(
    norm: Norm, sides: tuple[int, ...], folder: Path, export: Export, weights: tuple[int, ...] = ()
) -> onnx.ModelProto:
    """The ONNX file of a network with one norm, of tokens with 24 channels, checked."""
    numbers = np.random.default_rng(2)
    size = weights or (24,)
    gamma = tf.Variable(numbers.normal(1, 0.3, size).astype(np.float32))
    beta = tf.Variable(numbers.normal(0, 0.3, size).astype(np.float32))
    head = tf.Variable(numbers.normal(0, 0.4, (24, 4)).astype(np.float32))

    def network(images: Any) -> Any:
        x = tf.reshape(images / 100.0, [-1, *sides, 24]) + 3.0
        x = norm(x, gamma, beta)
        return tf.sigmoid(tf.matmul(tf.reshape(x, [-1, 8, 24])[:, 3], head))

    saved = save(folder, network, 4, (None, 8, 8, 3), variables=[gamma, beta, head])
    data = folder.parent / "data"
    code, _, err = export("--saved-model", saved, "--repo", "someone/tagger")
    assert (code, err) == (0, "")
    check_answers(data / "tagger.onnx", saved)
    return onnx.load(data / "tagger.onnx")


@pytest.mark.parametrize("sides", [(8,), (4, 2)], ids=["rank 3", "rank 4"])
@pytest.mark.parametrize(("norm", "epsilon"), [(fused_norm, 1e-3), (moments_norm, 1e-6)])
def test_a_layer_norm_is_one_node(
    norm: Norm, epsilon: float, sides: tuple[int, ...], tmp_path: Path, export: Export
) -> None:
    model = exported(norm, sides, tmp_path / "saved", export)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("LayerNormalization") == 1
    assert set(kinds) <= {
        *("Mul", "Add", "Reshape", "LayerNormalization"),
        *("Slice", "Squeeze", "Gather", "MatMul", "Sigmoid"),
    }
    (node,) = (node for node in model.graph.node if node.op_type == "LayerNormalization")
    given = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
    assert given == {"axis": -1, "epsilon": pytest.approx(epsilon)}


def test_layer_norms_of_todays_keras_are_one_node_each(
    saved: dict[str, Path], data: Path, export: Export
) -> None:
    """Their weights have three dimensions in the SavedModel."""
    assert export("--saved-model", saved["new keras"], "--repo", "someone/tagger")[0] == 0
    kinds = [node.op_type for node in onnx.load(data / "tagger.onnx").graph.node]
    assert kinds.count("LayerNormalization") == 2
    assert not {"GlobalAveragePool", "Sqrt", "Reciprocal"} & set(kinds)
    check_answers(data / "tagger.onnx", saved["new keras"])


def keeps_the_mean(x: Any, gamma: Any, beta: Any) -> Any:
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-3) + mean


def changing_epsilon(x: Any, gamma: Any, beta: Any) -> Any:
    return moments_norm(x, gamma, beta, epsilon=tf.reduce_max(x) / 100)


def other_factor(x: Any, gamma: Any, beta: Any) -> Any:
    """The mean is taken away with another weight than the values were multiplied by."""
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    inverse = tf.math.rsqrt(variance + 1e-3)
    return x * (inverse * gamma) + (beta - mean * (inverse * beta))


def two_means(x: Any, gamma: Any, beta: Any) -> Any:
    """The variance is that around another mean, over the tokens."""
    mean, other = (tf.reduce_mean(x, [axis], keepdims=True) for axis in (-1, 1))
    around = tf.math.squared_difference(x, tf.stop_gradient(other))
    variance = tf.reduce_mean(around, [-1], keepdims=True)
    return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-3)


@pytest.mark.parametrize(
    ("norm", "weights"),
    [
        (partial(moments_norm, axis=1), (24,)),
        (moments_norm, (8, 1)),
        (keeps_the_mean, (24,)),
        (changing_epsilon, (24,)),
        (other_factor, (24,)),
        (two_means, (24,)),
        (partial(fused_norm, training=False), (24,)),
        (partial(fused_norm, ones=2), (24,)),
        (partial(fused_norm, split=2), (24,)),
        (fused_norm, (8, 1)),
    ],
    ids=[
        *("another axis", "weights by token", "mean used elsewhere", "epsilon not constant"),
        *("another factor", "another mean", "given moments", "scale of two", "half of the axis"),
        "fused, weights by token",
    ],
)
def test_what_only_looks_like_one_stays_as_it_is(
    norm: Norm, weights: tuple[int, ...], tmp_path: Path, export: Export
) -> None:
    model = exported(norm, (8,), tmp_path / "saved", export, weights)
    assert "LayerNormalization" not in {node.op_type for node in model.graph.node}
