"""A TensorFlow SavedModel as one ONNX file that takes any batch size.

tf2onnx handles a graph whole, dozens of times over, so it is given one without weights: every
variable becomes one more input (`lift`), tf2onnx converts that small graph, and the weights come
back as initialisers at the end (`fold`), where whatever depends on them alone, such as a kernel's
transposition, is computed once.
"""

import hashlib
import logging
import math
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arena.cli import UserError

import numpy as np
import onnx
import onnxruntime
import onnxruntime.capi.onnxruntime_pybind11_state as onnxruntime_errors
from numpy.typing import NDArray


@contextmanager
def _unheard() -> Iterator[None]:
    """Keep what native code writes on stderr from the user, unless an exception ends the block.

    TensorFlow's libraries print notes while they are loaded, before any log level is read.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as notes:
        os.dup2(notes.fileno(), 2)
        try:
            yield
        except BaseException:
            notes.seek(0)
            os.write(stderr, notes.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
with _unheard():
    import tensorflow as tf
    import tf2onnx
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import meta_graph_pb2, rewriter_config_pb2, saved_model_pb2
    from tensorflow.python.framework import op_def_registry
    from tensorflow.python.grappler import tf_optimizer

    tf.config.set_visible_devices([], "GPU")  # A conversion has no use for a GPU's memory.
    tf.config.list_logical_devices()
# Operations that cannot be converted are reported by `convert`; the rest is for tf2onnx's authors.
logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)
tf.get_logger().setLevel(logging.ERROR)
# Says of every function with a gradient of its own that it may have none now: none is asked for.
logging.getLogger("absl").setLevel(logging.ERROR)

OPSET = 17
SIZES = {tf.float32.as_datatype_enum: 4, tf.int64.as_datatype_enum: 8}  # Bytes an element.
LARGEST_FILE = 2**31 - 1  # Bytes: what one protocol buffer, and so one ONNX file, can hold.
LARGEST_CONSTANT = 1024  # Bytes: a float constant above this is a weight, not a setting.
# What the three libraries raise for a graph with wrong bytes in it.
DAMAGE = (
    *(ValueError, LookupError, TypeError, AttributeError, AssertionError, RuntimeError),
    *(tf.errors.OpError, DecodeError, OSError),
    *(onnxruntime_errors.Fail, onnxruntime_errors.InvalidGraph, onnxruntime_errors.InvalidArgument),
    *(onnxruntime_errors.RuntimeException, onnxruntime_errors.NotImplemented),
)
# Lines of TensorFlow's errors that say where, not why.
ABOUT = re.compile(
    r"\s|Graph execution error:$|Detected at node |Node: |<stack traces unavailable>$"
)
# Operations that only repeat what is already there: folding them would grow the file for nothing.
NEVER_FOLDED = ("Expand", "Tile", "ConstantOfShape")


@dataclass(frozen=True, slots=True)
class Signature:
    """The serving_default function of a SavedModel: images (N, H, W, 3) to scores (N, tags)."""

    function: Any  # tf.types.experimental.ConcreteFunction
    owner: Any  # What tf.saved_model.load gave; it keeps the variables alive.
    input_name: str
    output_name: str
    image_shape: tuple[int, int, int]
    width: int

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """TensorFlow's own answer for a batch of images."""
        with _blamed("TensorFlow cannot run the SavedModel"):
            outputs = self.function(**{self.input_name: tf.constant(images)})
        answer: NDArray[np.float32] = outputs[self.output_name].numpy()
        return answer


@contextmanager
def _blamed(what: str) -> Iterator[None]:
    """Make what a library says of the model it was given a UserError that begins with `what`."""
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        raise UserError(f"{what} ({why(error)}): it needs a machine with more memory") from None
    except DAMAGE as error:
        raise UserError(f"{what} ({why(error)}): get its files again") from None


def why(error: BaseException) -> str:
    """The line of a library's error that says why, at most 200 characters of it.

    TensorFlow puts before it a heading, where each node was defined (indented) and the names of
    functions in double braces, and after it the places again.
    """
    told = re.sub(r"\{\{function_node [^{}]*\}\} ?", "", str(error))
    for line in told.splitlines():
        reason = re.sub(r"\s*\[Op:[^]]*\]( name: ?)?\s*$", "", line)
        if reason.strip() and not ABOUT.match(reason):
            return reason.strip()[:200]
    return type(error).__name__


def load(folder: Path) -> Signature:
    """The SavedModel in `folder`, refused with a UserError before anything in it is run if it is
    not one, holds more than a network, or is not a tagger of RGB images.
    """
    _inspect(folder)
    with _blamed(f"the SavedModel in {folder} is damaged"):
        owner = tf.saved_model.load(str(folder))
    function = owner.signatures.get("serving_default")
    if function is None:
        raise UserError(f"the SavedModel in {folder} has no signature serving_default to export")
    inputs = function.structured_input_signature[1]
    outputs = function.structured_outputs
    if not (
        len(inputs) == 1
        and (images := next(iter(inputs.values()))).dtype == tf.float32
        and images.shape.rank == 4
        and images.shape[1:].is_fully_defined()
        and images.shape[3] == 3
    ):
        raise UserError(
            f"the SavedModel in {folder} must take one float32 batch of RGB images "
            f"(None, height, width, 3), not {_described(inputs)}"
        )
    if images.shape[0] is not None:
        raise UserError(
            f"the SavedModel in {folder} takes batches of {images.shape[0]} only: save it again "
            "with a batch size of None"
        )
    if not (
        len(outputs) == 1
        and (scores := next(iter(outputs.values()))).dtype == tf.float32
        and scores.shape.rank == 2
        and scores.shape[1] is not None
    ):
        raise UserError(
            f"the SavedModel in {folder} must give one float32 table of scores (None, tags), "
            f"not {_described(outputs)}"
        )
    height, width, channels = images.shape[1:]
    return Signature(
        function=function,
        owner=owner,
        input_name=next(iter(inputs)),
        output_name=next(iter(outputs)),
        image_shape=(height, width, channels),
        width=scores.shape[1],
    )


def _described(specs: dict[str, Any]) -> str:
    return ", ".join(f"{spec.dtype.name} {spec.shape}" for spec in specs.values()) or "nothing"


def _inspect(folder: Path) -> None:
    """Read saved_model.pb as data and raise UserError unless loading it is safe.

    Loading runs the functions that initialise or restore tables and other resources, which a
    network does not need, and reserves the memory that the variables claim.
    """
    path = folder / "saved_model.pb"
    if not path.is_file():
        raise UserError(f"{folder} holds no SavedModel (no saved_model.pb in it)")
    model = saved_model_pb2.SavedModel()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError:
        raise UserError(f"{path} is damaged: get the SavedModel's files again") from None
    if not model.meta_graphs:
        raise UserError(f"{path} is empty: get the SavedModel's files again")
    if len(model.meta_graphs) != 1 or not model.meta_graphs[0].object_graph_def.nodes:
        raise UserError(f"{path} is not a SavedModel of TensorFlow 2: save the model with it again")
    claimed = 0  # Bytes
    for node in model.meta_graphs[0].object_graph_def.nodes:
        kind = node.WhichOneof("kind")
        # A variable's own legacy functions are never called.
        called = set(node.saveable_objects) - ({"VARIABLE_VALUE"} if kind == "variable" else set())
        if kind == "resource" or called:
            raise UserError(
                f"{path} holds a table or another resource that runs code when it is loaded: "
                "export a model that is a network and nothing else"
            )
        if kind == "variable":
            sides = [max(0, side.size) for side in node.variable.shape.dim]
            claimed += math.prod(sides) * SIZES.get(node.variable.dtype, 1)
    held = sum(file.stat().st_size for file in (folder / "variables").glob("*"))
    if claimed > held:
        raise UserError(
            f"{path} names {claimed} bytes of variables and {folder / 'variables'} holds {held}: "
            "get the SavedModel's files again"
        )


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
            _refuse_side_effects(node)
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


def _refuse_side_effects(node: Any) -> None:
    """Raise UserError for an operation that keeps state or handles text, such as a file's name."""
    known = op_def_registry.get(node.op)
    texts = [] if known is None else [*known.input_arg, *known.output_arg]
    if known is None or known.is_stateful or any(arg.type == tf.string for arg in texts):
        raise UserError(
            f"the SavedModel's graph holds the operation {node.op} ({node.name}), which a tagger's "
            "network has no use for: export a model that only computes scores from images"
        )


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
    with _blamed("TensorFlow cannot read the SavedModel's graph"):
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
        with _blamed("tf2onnx cannot convert the SavedModel"):
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
    scales = [n for n, made in factors.items() if made.is_const() and not ctx.get_shape(n)]
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
    made = {"outputs": [output], "shapes": [shape], "dtypes": [dtype]}
    if complement:
        x = ctx.make_node("Erf", [x], name=f"{name}_erf").output[0]
        one = ctx.make_const(f"{name}_one", np.array(1, number)).output[0]
        ctx.make_node("Add", [x, one], name=name, **made)
    else:
        ctx.make_node("Erf", [x], name=name, **made)


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
    with _blamed("ONNX Runtime cannot run the converted SavedModel"):
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
