"""The ONNX file against TensorFlow's own answers."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import export_sw
from arena.export_sw import convert, saved_model
from arena.export_sw.saved_model import tf
from bench.export import erfc
from tests.export_sw.running import NAME, Export, check_answers, script

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", ["vit", "old keras", "new keras"])
def test_onnx_answers_as_tensorflow_does(
    kind: str, saved: dict[str, Path], data: Path, export: Export
) -> None:
    code, out, err = export("--saved-model", saved[kind], "--repo", "someone/tagger")
    assert (code, err) == (0, "")
    check_answers(data / "tagger.onnx", saved[kind])
    tags = saved[kind] / export_sw.TAGS
    assert (data / "tagger.csv").read_bytes() == tags.read_bytes()
    size = (data / "tagger.onnx").stat().st_size / 1e6
    assert f"tagger.onnx ({size:.1f} MB)" in out
    told = re.search(r"within (\S+) of TensorFlow", out)
    assert told and 0 <= float(told[1]) < 1e-5

    model = onnx.load(data / "tagger.onnx")
    onnx.checker.check_model(model, full_check=True)
    (images,), (scores,) = model.graph.input, model.graph.output
    assert images.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    for tensor in (images, scores):
        assert tensor.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert images.type.tensor_type.shape.dim[3].dim_value == 3
    stored = {tensor.name for tensor in model.graph.initializer}
    repeats = {"Expand", "Tile", "ConstantOfShape"}
    for node in model.graph.node:
        assert node.op_type in repeats or not stored.issuperset(filter(None, node.input))
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(data / "optimized")
    onnxruntime.InferenceSession(data / "tagger.onnx", options, ["CPUExecutionProvider"])
    optimized = {node.op_type for node in onnx.load(data / "optimized").graph.node}
    assert optimized & {"Gelu", "BiasGelu"} and "Erf" not in optimized
    contents = [(t.data_type, tuple(t.dims), t.raw_data) for t in model.graph.initializer]
    assert len(set(contents)) == len(contents)


def test_graph_has_no_more_nodes_than_the_plain_conversion(saved: dict[str, Path]) -> None:
    import tf2onnx

    loaded = tf.saved_model.load(str(saved["vit"]))
    function = loaded.signatures["serving_default"]
    plain, _ = tf2onnx.convert.from_function(
        tf.function(lambda x: next(iter(function(input_1=x).values()))),
        input_signature=[tf.TensorSpec([None, 32, 32, 3])],
        opset=convert.OPSET,
        custom_op_handlers={"Erfc": (erfc, [])},
    )
    ours = convert.convert(saved_model.load(saved["vit"]))
    assert len(ours.graph.node) <= len(plain.graph.node)
    assert ours.ByteSize() < plain.ByteSize()


def test_numbers_and_one_element_lists_stay_apart(
    saved: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    """In a process of its own, as absl speaks before anything else of this one is heard."""
    ended = script(data, "--saved-model", saved["scalars"])
    assert (ended.returncode, ended.stderr) == (0, "")
    check_answers(data / f"{NAME}.onnx", saved["scalars"])


SHAPES = [(), (1,), (1, 1), (2,), (0,), (2, 1)]
ARRAYS = st.builds(
    lambda dtype, shape, number: np.full(shape, number, dtype),
    st.sampled_from(["float32", "int32", "int64", "bool", "float64"]),
    st.sampled_from(SHAPES),
    st.integers(0, 1),
)


@given(st.lists(ARRAYS, min_size=1, max_size=12))
def test_constants_are_one_where_type_shape_and_values_are_equal(arrays: list[Any]) -> None:
    weights = {f"w{number}": array for number, array in enumerate(arrays)}
    kinds = onnx.helper.np_dtype_to_tensor_dtype
    info = onnx.helper.make_tensor_value_info
    nodes = [onnx.helper.make_node("Mix", ["images", name], [f"{name}_out"]) for name in weights]
    graph = onnx.helper.make_graph(
        nodes,
        "mixed",
        [info(name, kinds(array.dtype), array.shape) for name, array in weights.items()],
        [],
    )
    model = onnx.helper.make_model(graph)
    constants = convert.fold(model, dict(weights))
    for node, array in zip(model.graph.node, arrays, strict=True):
        stored = onnx.numpy_helper.from_array(constants[node.input[1]], "stored")
        back = onnx.numpy_helper.to_array(stored)
        assert (back.dtype, back.shape) == (array.dtype, array.shape)
        assert np.array_equal(back, array)
    distinct = {(array.dtype, array.shape, array.tobytes()) for array in arrays}
    assert len(constants) == len(distinct)


def test_scores_that_differ_keep_no_file(
    saved: dict[str, Path], refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = saved_model.Signature.__call__
    for error, shown in ((2e-4, "2.0e-04"), (float("nan"), "nan")):
        monkeypatch.setattr(
            saved_model.Signature, "__call__", lambda s, x, e=error: honest(s, x) + np.float32(e)
        )
        assert shown in refused("--saved-model", saved["old keras"])
