"""A TensorFlow SavedModel as one ONNX file that takes any batch size.

tf2onnx handles a graph whole, dozens of times over, so it is given one without weights: every
variable becomes one more input (`lift`), tf2onnx converts that small graph, and the weights come
back as initialisers at the end (`fold`), where whatever depends on them alone, such as a kernel's
transposition, is computed once.
"""

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from arena.cli import UserError
from arena.export_sw import einsum, layer_norm

# This loads TensorFlow without its notes: it must come before whatever else loads TensorFlow.
from arena.export_sw.saved_model import (
    DAMAGE,
    Signature,
    explain_errors,
    refuse_side_effects,
    tf,
)

import numpy as np
import onnx
import onnxruntime
import tf2onnx
from numpy.typing import NDArray
from tensorflow.core.protobuf import meta_graph_pb2, rewriter_config_pb2
from tensorflow.python.grappler import tf_optimizer

# Operations that cannot be converted are reported by `convert`; the rest is for tf2onnx's authors.
logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)

OPSET = 17
LARGEST_FILE = 2**31 - 1  # Bytes: what one protocol buffer, and so one ONNX file, can hold.
LARGEST_CONSTANT = 1024  # Bytes: a float constant above this is a weight, not a setting.
# Operations that only repeat what is already there: folding them would grow the file for nothing.
NEVER_FOLDED = ("Expand", "Tile", "ConstantOfShape")


def lift(signature: Signature) -> tuple[Any, dict[str, NDArray[Any]]]:
    """The signature as a GraphDef without weights, and the weights by the placeholder they became.

    Raises UserError for a graph that does more than compute, or that uses a variable in a way that
    is not a plain read.
    """
    graph = _inlined(signature.function)
    weights: dict[str, NDArray[Any]] = {}
    settings: dict[str, NDArray[Any]] = {}
    variables = {id(variable.handle): variable for variable in signature.function.variables}
    for outer, inner in signature.function.graph.captures:
        if outer.dtype == tf.resource and id(outer) not in variables:
            raise UserError(f"the SavedModel's graph needs {inner.op.name}, which is no variable")
        # What `numpy` gives for a tensor of no dimensions is no array.
        value = np.asarray(variables.get(id(outer), outer).numpy())
        setting = id(outer) not in variables and value.nbytes <= LARGEST_CONSTANT
        (settings if setting else weights)[inner.op.name] = value
    resource = tf.resource.as_datatype_enum
    passed = [n for n in graph.node if n.op == "Identity" and n.attr["T"].type == resource]
    handles = {node.name: node.input[0] for node in passed}
    for node in graph.node:
        # Control inputs only order side effects, and a graph with those is refused below.
        kept = [name for name in node.input if not name.startswith("^")]
        del node.input[:]
        node.input.extend(kept)
        if node.name in weights:
            _become_placeholder(node, weights[node.name])
        elif node.name in settings:
            _become_constant(node, settings[node.name])
        elif node.op in ("ReadVariableOp", "ResourceGather"):
            source = node.input[0]
            while source in handles:
                source = handles[source]
            _read_placeholder(node, source)
        elif node.op == "Const" and node.attr["value"].tensor.ByteSize() > LARGEST_CONSTANT:
            value = tf.make_ndarray(node.attr["value"].tensor)
            if value.dtype == np.float32:
                weights[node.name] = value
                _become_placeholder(node, value)
    for node in passed:
        graph.node.remove(node)
    for nodes in (graph.node, *(function.node_def for function in graph.library.function)):
        for node in nodes:
            refuse_side_effects(node)
    _check_size(sum(weight.nbytes for weight in weights.values()))
    return graph, weights


def _become_placeholder(node: Any, weight: NDArray[Any]) -> None:
    """Turn a GraphDef node into an input of the weight's type and shape."""
    node.op = "Placeholder"
    node.attr.clear()
    node.attr["dtype"].type = tf.as_dtype(weight.dtype).as_datatype_enum
    node.attr["shape"].shape.CopyFrom(tf.TensorShape(weight.shape).as_proto())


def _become_constant(node: Any, value: NDArray[Any]) -> None:
    """Turn a GraphDef node into a constant, as an axis or a shape is converted only as one."""
    node.op = "Const"
    node.attr.clear()
    node.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))


def _read_placeholder(node: Any, source: str) -> None:
    """Turn a node that reads a variable into the same reading of the placeholder `source`."""
    dtype, indices = node.attr["dtype"].type, node.attr["Tindices"].type
    if node.op == "ResourceGather" and node.attr["batch_dims"].i:
        raise UserError(f"the SavedModel's graph gathers by batch in {node.name}: not supported")
    node.input[0] = source
    gathers = node.op == "ResourceGather"
    node.attr.clear()
    if gathers:
        node.op = "Gather"
        node.attr["Tparams"].type, node.attr["Tindices"].type = dtype, indices
    else:
        node.op = "Identity"
        node.attr["T"].type = dtype


def _inlined(function: Any) -> Any:
    """The function's GraphDef with every function that it calls written out in place."""
    graph = function.graph.as_graph_def()
    meta = tf.compat.v1.train.export_meta_graph(graph_def=graph, graph=function.graph)
    wanted = meta_graph_pb2.CollectionDef()
    wanted.node_list.value.extend(tensor.name for tensor in function.inputs + function.outputs)
    meta.collection_def["train_op"].CopyFrom(wanted)
    config = tf.compat.v1.ConfigProto()
    rewrite = config.graph_options.rewrite_options
    rewrite.min_graph_nodes = -1
    rewrite.optimizers.append("function")
    rewrite.function_optimization = rewriter_config_pb2.RewriterConfig.AGGRESSIVE
    with explain_errors("TensorFlow cannot read the SavedModel's graph"):
        return tf_optimizer.OptimizeGraph(config, meta)


def convert(signature: Signature) -> onnx.ModelProto:
    """The signature as a complete ONNX model with a symbolic batch dimension.

    Raises UserError for an operation that tf2onnx cannot convert.
    """
    graph, weights = lift(signature)
    # tf2onnx would copy the graph before each optimiser pass, half its time, only to leave out a
    # pass that fails; so it does that when one has failed.
    os.environ["TF2ONNX_CATCH_ERRORS"] = "FALSE"
    try:
        model = _small_onnx(signature, graph, weights)
    except DAMAGE:
        del os.environ["TF2ONNX_CATCH_ERRORS"]
        with explain_errors("tf2onnx cannot convert the SavedModel"):
            model = _small_onnx(signature, graph, weights)
    for node in model.graph.node:
        if not onnx.defs.has(node.op_type, node.domain):
            raise UserError(f"no ONNX for the operation {node.op_type} ({node.name}) is known")
        if _has_subgraph(node):
            raise UserError(f"the network holds a loop or a branch ({node.name}): not supported")
    constants = fold(model, weights)
    tidy(model.graph, constants)
    for tensor in (model.graph.input[0], model.graph.output[0]):
        tensor.type.tensor_type.shape.dim[0].dim_param = "batch"
    return model


def _small_onnx(
    signature: Signature, graph: Any, weights: Mapping[str, NDArray[Any]]
) -> onnx.ModelProto:
    """tf2onnx's conversion of a graph whose weights are inputs."""
    images = f"{signature.input_name}:0"
    scores = signature.function.outputs[0].name
    model: onnx.ModelProto = tf2onnx.convert.from_graph_def(
        graph,
        name=signature.output_name,
        input_names=[images, *(f"{name}:0" for name in weights)],
        output_names=[scores],
        opset=OPSET,
        custom_op_handlers={"Erf": (erf, []), "Erfc": (erf, [])},
        custom_rewriter=[layer_norm.rewrite, einsum.rewrite],
        tensors_to_rename={
            images: signature.input_name,
            scores: signature.output_name,
            **{f"{name}:0": name for name in weights},
        },
    )[0]
    return model


def erf(ctx: Any, node: Any, name: str, args: Sequence[Any]) -> None:
    """Give tf2onnx Erf(x) with a factor c of x as a division by 1/c, and Erfc(-x) as 1 + Erf(x).

    That is how ONNX Runtime knows GELU, x/2 · (1 + Erf(x / √2)), and runs it in one step.
    TensorFlow writes it with a factor √½ and, in its later versions, as x/2 · Erfc(-x · √½).
    """
    output, dtype, shape = (
        node.output[0],
        ctx.get_dtype(node.output[0]),
        ctx.get_shape(node.output[0]),
    )
    number = tf2onnx.utils.ONNX_TO_NUMPY_DTYPE[dtype]
    complement, product = node.type == "Erfc", node.inputs[0]
    factors = dict(zip(product.input, product.inputs, strict=True))
    scales = [n for n, maker in factors.items() if maker.is_const() and not ctx.get_shape(n)]
    x = node.input[0]
    if product.type == "Mul" and len(factors) == 2 and len(scales) == 1:
        (x,) = factors.keys() - scales
        scale = factors[scales[0]].get_tensor_value()
        negated = complement and factors[x].type == "Neg"
        x = factors[x].input[0] if negated else x
        sign = -1 if complement and not negated else 1
        divisor = ctx.make_const(f"{name}_divisor", np.array(sign / scale, number)).output[0]
        x = ctx.make_node("Div", [x, divisor], name=f"{name}_scaled").output[0]
    elif complement:
        x = ctx.make_node("Neg", [x], name=f"{name}_negated").output[0]
    ctx.remove_node(name)
    spec = {"outputs": [output], "shapes": [shape], "dtypes": [dtype]}
    if complement:
        x = ctx.make_node("Erf", [x], name=f"{name}_erf").output[0]
        one = ctx.make_const(f"{name}_one", np.array(1, number)).output[0]
        ctx.make_node("Add", [x, one], name=name, **spec)
    else:
        ctx.make_node("Erf", [x], name=name, **spec)


def fold(model: onnx.ModelProto, weights: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Take from the model what depends on its weights alone; all the constants the rest needs.

    The nodes taken are run once, by ONNX Runtime. Equal constants become one.
    """
    graph = model.graph
    constant = set(weights) | {tensor.name for tensor in graph.initializer}
    before: list[onnx.NodeProto] = []
    after: list[onnx.NodeProto] = []
    for node in graph.node:
        alone = all(name in constant for name in node.input if name)
        if alone and node.op_type not in NEVER_FOLDED:
            before.append(node)
            constant.update(node.output)
        else:
            after.append(node)
    used = {name for node in after for name in node.input}
    results = [name for node in before for name in node.output if name in used]
    values = dict(zip(results, _run(model, before, results, weights), strict=True)) | weights
    for tensor in graph.initializer:
        values[tensor.name] = onnx.numpy_helper.to_array(tensor)
    inputs = [tensor for tensor in graph.input if tensor.name not in weights]
    del graph.node[:], graph.initializer[:], graph.input[:], graph.value_info[:]
    graph.node.extend(after)
    graph.input.extend(inputs)
    # In C order, and as `ascontiguousarray` does not: a number stays one.
    constants = {n: np.asarray(value, order="C") for n, value in values.items() if n in used}
    first: dict[tuple[Any, ...], str] = {}
    names: dict[str, str] = {}
    for name, value in constants.items():
        content = hashlib.sha256(value.reshape(-1).view(np.uint8).data)
        key = (value.dtype, value.shape, content.digest())
        names[name] = first.setdefault(key, name)
    _rename(graph, names)
    return {name: constants[name] for name in first.values()}


def _has_subgraph(node: onnx.NodeProto) -> bool:
    return any(attribute.type == onnx.AttributeProto.GRAPH for attribute in node.attribute)


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Give tensors other names, where the nodes take and make them."""
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def tidy(graph: onnx.GraphProto, constants: dict[str, NDArray[Any]]) -> None:
    """Order and name all nodes by their place on the way to the output, and store the constants.

    tf2onnx takes its order from hashes and some names from memory addresses; after this, equal
    SavedModels give equal bytes. What the output does not need is dropped.
    """
    makers = {name: node for node in graph.node for name in node.output}
    names = {tensor.name: tensor.name for tensor in (*graph.input, *graph.output)}
    nodes: dict[str, onnx.NodeProto] = {}
    todo = [(tensor.name, False) for tensor in graph.output]
    while todo:
        name, has_inputs = todo.pop()
        if name in constants and name not in names:
            names[name] = f"constant_{len(graph.initializer)}"
            graph.initializer.append(onnx.numpy_helper.from_array(constants[name], names[name]))
        node = makers.get(name)
        if node is None or node.name in nodes:
            continue
        if not has_inputs:
            todo.append((name, True))
            todo.extend((source, False) for source in reversed(node.input) if source)
            continue
        nodes[node.name] = node
        for index, output in enumerate(node.output):
            names.setdefault(output, f"{node.op_type}_{len(nodes)}_{index}")
    kept = list(nodes.values())
    del graph.node[:]
    for number, node in enumerate(kept, 1):
        node.name = f"{node.op_type}_{number}"
        if not node.domain:
            node.ClearField("domain")  # An empty text that is set is written to the file.
        graph.node.append(node)
    _rename(graph, names)


def _run(
    model: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    results: Sequence[str],
    weights: dict[str, NDArray[Any]],
) -> list[NDArray[Any]]:
    """What a part of the model that takes nothing but weights gives for `results`."""
    if not results:
        return []
    taken = {name for node in nodes for name in node.input}
    fed = {name: weight for name, weight in weights.items() if name in taken}
    graph = onnx.helper.make_graph(
        nodes,
        "constants",
        [tensor for tensor in model.graph.input if tensor.name in fed],
        [onnx.helper.make_empty_tensor_value_info(name) for name in results],
        [tensor for tensor in model.graph.initializer if tensor.name in taken],
    )
    part = onnx.helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=model.ir_version
    )
    return run(part.SerializeToString(), [fed], results)[0]


def run(
    model: bytes | str, inputs: Sequence[dict[str, NDArray[Any]]], outputs: Sequence[str] | None
) -> list[list[NDArray[Any]]]:
    """What ONNX Runtime on the CPU answers to each of `inputs`; a model it refuses: UserError."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    with explain_errors("ONNX Runtime cannot run the converted SavedModel"):
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return [session.run(outputs, given) for given in inputs]


def _check_size(size: int) -> None:
    if size > LARGEST_FILE:
        raise UserError(
            f"the model needs {size / 1e9:.1f} GB and one ONNX file can hold only "
            f"{LARGEST_FILE / 1e9:.1f} GB"
        )


def serialised(model: onnx.ModelProto) -> bytes:
    """The model's file. Raises UserError when it is larger than one file can be."""
    _check_size(model.ByteSize())
    file: bytes = model.SerializeToString()
    return file
