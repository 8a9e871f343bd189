"""export_sw.py --half: a second file, in half precision."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import export_sw
from arena.export_sw.saved_model import tf
from tests.export_sw.networks import moments_norm, save
from tests.export_sw.running import NAME, Export, check_answers

import numpy as np
import onnx
import pytest
from onnx import TensorProto

pytestmark = pytest.mark.slow

WITHIN = 5e-3


def weights(model: onnx.ModelProto) -> int:
    """Bytes of weights."""
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer)


@pytest.mark.parametrize("kind", ["vit", "old keras", "new keras"])
def test_half_is_a_file_of_its_own(
    kind: str, saved: dict[str, Path], data: Path, export: Export
) -> None:
    assert export("--saved-model", saved[kind])[0] == 0
    whole = data / f"{NAME}.onnx"
    before = whole.read_bytes()
    code, out, err = export("--saved-model", saved[kind], "--half")
    assert (code, err) == (0, "")
    told = re.search(r"in half precision, within (\S+) of TensorFlow", out)
    assert told and 1e-6 < float(told[1]) < WITHIN
    half = data / f"{NAME}-half.onnx"
    assert f"wrote {half}" in out
    assert whole.read_bytes() == before
    tags = (saved[kind] / export_sw.TAGS).read_bytes()
    assert tags == (data / f"{NAME}.csv").read_bytes() == (data / f"{NAME}-half.csv").read_bytes()
    check_answers(half, saved[kind], WITHIN)

    model = onnx.load(half)
    onnx.checker.check_model(model, full_check=True)
    (images,), (scores,) = model.graph.input, model.graph.output
    for tensor in (images, scores):
        assert tensor.type.tensor_type.elem_type == TensorProto.FLOAT
        assert tensor.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert weights(model) < 0.6 * weights(onnx.load(whole))

    stamps = [path.stat().st_mtime_ns for path in (whole, half)]
    for option in ([], ["--half"]):
        assert "nothing to do" in export("--saved-model", saved[kind], *option)[1]
    assert [path.stat().st_mtime_ns for path in (whole, half)] == stamps


def test_sums_roots_and_the_sigmoid_stay_in_float32(
    saved: dict[str, Path], data: Path, export: Export
) -> None:
    assert export("--saved-model", saved["old keras"], "--half")[0] == 0
    model = onnx.shape_inference.infer_shapes(onnx.load(data / f"{NAME}-half.onnx"))
    graph = model.graph
    types = {t.name: t.type.tensor_type.elem_type for t in (*graph.value_info, *graph.output)}
    kinds: dict[str, set[int]] = {}
    for node in graph.node:
        kinds.setdefault(node.op_type, set()).add(types[node.output[0]])
    for kind in ("Sigmoid", "ReduceMean", "BatchNormalization"):
        assert kinds[kind] == {TensorProto.FLOAT}
    for kind in ("MatMul", "Conv", "Erf"):
        assert kinds[kind] == {TensorProto.FLOAT16}


def scorer(folder: Path, layer: Callable[[Any], Any], first: float, spread: float = 0.3) -> Path:
    """A network with a layer between two products, the first of which gives large numbers."""
    numbers = np.random.default_rng(3)
    stem, head = (
        tf.Variable(numbers.normal(0, spread, shape).astype(np.float32))
        for shape in ((24, 24), (24, 4))
    )

    def network(images: Any) -> Any:
        x = tf.matmul(tf.reshape(images / 255.0, [-1, 8, 24]), stem) * first
        return tf.sigmoid(tf.matmul(tf.reduce_mean(layer(x), 1), head))

    return save(folder, network, 4, (None, 8, 8, 3), variables=[stem, head])


def test_squares_beyond_its_range_do_no_harm(data: Path, tmp_path: Path, export: Export) -> None:
    """A layer norm of another axis, which is written out."""
    gamma, beta = np.full(24, 3, np.float32), np.linspace(-1, 1, 24, dtype=np.float32)
    folder = scorer(tmp_path / "saved", lambda x: moments_norm(x, gamma, beta, axis=1), 1e3)
    code, _, err = export("--saved-model", folder, "--half")
    assert (code, err) == (0, "")
    model = onnx.load(data / f"{NAME}-half.onnx")
    assert "LayerNormalization" not in {node.op_type for node in model.graph.node}


def test_factors_beyond_its_range_do_no_harm(data: Path, tmp_path: Path, export: Export) -> None:
    """The inverse length of a vector of zeros, 1e6, as in SwinV2's attention."""
    mask = np.arange(8, dtype=np.float32)[:, None] > 2

    def normalised(x: Any) -> Any:
        return tf.math.l2_normalize(tf.nn.relu(x) * mask.astype(np.float32), -1, 1e-12) * 9.0

    code, _, err = export("--saved-model", scorer(tmp_path / "saved", normalised, 1), "--half")
    assert (code, err) == (0, "")


def test_numbers_beyond_its_range_on_the_way_are_found(
    tmp_path: Path, export: Export, refused: Callable[..., str]
) -> None:
    """ONNX Runtime's CPU, which computes in float32 whatever the file says, would not show them."""
    folder = scorer(tmp_path / "saved", lambda x: tf.nn.relu(tf.nn.relu(x) * 3e3) / 3e4, 3e3)
    assert re.search(
        r"are up to (nan|\d\S*) away.*without --half", refused("--saved-model", folder, "--half")
    )
    assert export("--saved-model", folder)[0] == 0


def test_a_weight_beyond_its_range_is_refused(
    tmp_path: Path, export: Export, refused: Callable[..., str]
) -> None:
    folder = scorer(tmp_path / "saved", lambda x: x, 1e-6, 4e4)
    error = refused("--saved-model", folder, "--half")
    assert re.search(
        r"a weight of the SavedModel is -?\d+.* ends at 65504: .*without --half", error
    )
    assert export("--saved-model", folder)[0] == 0
