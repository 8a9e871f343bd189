"""An ONNX model in half precision: float16 weights and arithmetic, float32 input and output.

Products, which take the time and the memory, and what is done with them are in float16. Sums of
many numbers, squares, roots, exponents and the last node would lose too much or leave float16's
range: they are in float32, and so is what is worked out from such numbers alone or multiplied by
one, up to the next product. LayerNormalization and Softmax take float16 and sum in float32 by
themselves.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from arena.cli import UserError
from arena.export_sw.convert import tidy

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
WHOLE = (
    *("ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL2", "ReduceProd", "CumSum"),
    *("AveragePool", "GlobalAveragePool", "BatchNormalization", "InstanceNormalization"),
    *("Pow", "Sqrt", "Reciprocal", "Exp", "Log", "Sigmoid", "Softplus"),
    *("Cast", "Resize"),  # One says what type it makes, the other takes sizes in float32 only.
)


def convert(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, which is float32 and tidy, in half precision.

    Raises UserError for a weight that is too large for it.
    """
    floats = _tensors(model, TensorProto.FLOAT)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    halved: dict[str, NDArray[np.float16]] = {}
    halves: set[str] = set()
    nodes: dict[str, onnx.NodeProto] = {}
    for original in model.graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(original)
        given = floats.intersection(node.input).difference(weights)
        half = _is_in_half(node, given & halves, given - halves)
        half = half and model.graph.output[0].name not in node.output
        for index, name in enumerate(node.input):
            if name not in floats or (name in halves) == half:
                continue
            other = node.input[index] = f"{name} in {'float16' if half else 'float32'}"
            if name in weights:
                halved[other] = _halved(weights[name])
            else:
                kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
                nodes[other] = helper.make_node("Cast", [name], [other], name=other, to=kind)
        if half:
            halves.update(floats.intersection(node.output))
        nodes[node.name] = node
    return _like(model, nodes.values(), weights | halved)


def rounded(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model in half precision as one in float32 that rounds every result to float16.

    ONNX Runtime computes in float32 on a CPU whatever the model says: only this one's scores there
    are as far off as a GPU's, and show it where a number leaves float16's range.
    """
    halves = _tensors(model, TensorProto.FLOAT16)
    nodes: list[onnx.NodeProto] = []
    for original in model.graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(original)
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
        nodes.append(node)
        for index, name in enumerate(original.output):
            if name in halves:
                node.output[index], short = f"{name} exact", f"{name} short"
                for source, kind, target in (
                    (node.output[index], TensorProto.FLOAT16, short),
                    (short, TensorProto.FLOAT, name),
                ):
                    nodes.append(helper.make_node("Cast", [source], [target], name=target, to=kind))
    weights = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    whole = {
        name: weight.astype(np.float32) if weight.dtype == np.float16 else weight
        for name, weight in weights.items()
    }
    return _like(model, nodes, whole)


def _is_in_half(node: onnx.NodeProto, halves: set[str], whole: set[str]) -> bool:
    """Whether a node computes in float16; what it takes in each precision is without weights."""
    if node.op_type in PRODUCTS:
        return True
    if node.op_type in WHOLE or not halves:
        return False
    if node.op_type in ("Mul", "Div"):
        return not whole and node.input[0] != node.input[1]
    return True


def _halved(weight: NDArray[np.float32]) -> NDArray[np.float16]:
    """A weight in float16. Raises UserError when a finite number in it becomes infinite."""
    with np.errstate(over="ignore"):
        half = weight.astype(np.float16)
    lost = weight[np.isinf(half) & np.isfinite(weight)]
    if lost.size:
        raise UserError(
            f"a weight of the SavedModel is {lost[0]:.6g} and half precision ends at "
            f"{np.finfo(np.float16).max:.0f}: export the model without --half"
        )
    return half


def _tensors(model: onnx.ModelProto, kind: int) -> set[str]:
    """The names of all tensors of one type."""
    weights = [
        helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in model.graph.initializer
    ]
    inputs = [*model.graph.input, *weights]  # Inferring copies the model: not with its weights.
    graph = helper.make_graph(model.graph.node, "types", inputs, model.graph.output)
    types = helper.make_model(graph, opset_imports=model.opset_import)
    known = onnx.shape_inference.infer_shapes(types).graph
    every = (*known.input, *known.value_info, *known.output)
    return {tensor.name for tensor in every if tensor.type.tensor_type.elem_type == kind}


def _like(
    model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto], weights: Mapping[str, NDArray[Any]]
) -> onnx.ModelProto:
    """A model with the input, output and versions of another one."""
    graph = helper.make_graph(list(nodes), model.graph.name, model.graph.input, model.graph.output)
    other = helper.make_model(
        graph,
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
        producer_name=model.producer_name,
        producer_version=model.producer_version,
    )
    tidy(other.graph, dict(weights))
    return other
