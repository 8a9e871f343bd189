"""Layer norms as the one node that ONNX has for them, instead of the dozen that tf2onnx writes.

Keras writes a layer norm into a SavedModel in one of three ways. Each is a pattern here, looked for
among the TensorFlow operations of tf2onnx's graph; what does not fit to the letter stays as it is.
"""

from collections.abc import Iterator
from itertools import permutations
from typing import Any

import numpy as np

# A pattern is an operation and what it takes; a text is any tensor, the same wherever it stands.
# Equal patterns are one tensor too: the mean of a layer norm is taken once.
Pattern = str | tuple[Any, ...]
COMMUTATIVE = ("AddV2", "Mul")

MEAN = ("Mean", "x", "axes")
VARIANCE = ("Mean", ("SquaredDifference", "x", ("StopGradient", MEAN)), "variance axes")
FACTOR = ("Mul", ("Rsqrt", ("AddV2", VARIANCE, "epsilon")), "gamma")
KERAS_2 = ("AddV2", ("Mul", "x", FACTOR), ("Sub", "beta", ("Mul", MEAN, FACTOR)))
KERAS_3 = ("AddV2", ("Mul", "x", FACTOR), ("AddV2", ("Mul", ("Neg", MEAN), FACTOR), "beta"))
# As a batch norm in training mode, of every token as a channel.
ROWS = ("Reshape", "x", "rows")
ONES, ZEROS = ("Fill", "count", "one"), ("Fill", "count of zeros", "zero")
SHAPE = ("Shape", "x")
BATCH_NORM = ("FusedBatchNormV3", ROWS, ONES, ZEROS, "no mean", "no variance")
FUSED = ("AddV2", ("Mul", ("Reshape", BATCH_NORM, SHAPE), "gamma"), "beta")
# What else in the graph may use as well.
SHARED = (ONES, ZEROS, SHAPE)


def rewrite(graph: Any, nodes: list[Any]) -> list[Any]:
    """Turn every layer norm over the last axis into a LayerNormalization: a tf2onnx rewriter."""
    graph.delete_unused_nodes(graph.outputs)  # They do not count as users of a result.
    for node in list(graph.get_nodes()):
        for pattern in (KERAS_2, KERAS_3, FUSED):
            for found in matches(graph, pattern, node.output[0] if node.output else "", {}):
                epsilon = _epsilon(graph, pattern, found)
                if epsilon is not None and _is_whole(graph, pattern, found):
                    _replace(graph, node, found, epsilon)
                    break
    return graph.get_nodes()  # type: ignore[no-any-return]


def matches(
    graph: Any, pattern: Pattern, tensor: str, known: dict[Pattern, str]
) -> Iterator[dict[Pattern, str]]:
    """Every way in which a tensor fits a pattern: the tensors of the pattern and of its parts."""
    if known.get(pattern, tensor) != tensor:
        return
    ways = [{**known, pattern: tensor}]
    if isinstance(pattern, str):
        yield from ways
        return
    kind, *parts = pattern
    node = graph.get_node_by_output(tensor)
    if node is None or (node.type, node.output[0]) != (kind, tensor):
        return
    if len(node.input) != len(parts):
        return
    for order in permutations(parts) if kind in COMMUTATIVE else (parts,):
        found = ways
        for part, source in zip(order, node.input, strict=True):
            found = [more for way in found for more in matches(graph, part, source, way)]
        yield from found


def _epsilon(graph: Any, pattern: Pattern, found: dict[Pattern, str]) -> float | None:
    """What is added to the variance; None where this is no layer norm over the last axis of x."""
    shape = graph.get_shape(found["x"])
    if not shape or shape[-1] < 1 or graph.get_dtype(found["x"]) != graph.get_dtype(found["gamma"]):
        return None
    for weight in ("gamma", "beta"):
        sides = graph.get_shape(found[weight])
        if not sides or len(sides) > len(shape) or sides != [1] * (len(sides) - 1) + shape[-1:]:
            return None
    if pattern is FUSED:
        return _batch_norms_epsilon(graph, found, shape)
    for mean, axes in ((MEAN, "axes"), (VARIANCE, "variance axes")):
        keeps = graph.get_node_by_output(found[mean]).get_attr_value("keep_dims", 0)
        if not keeps or _constant(graph, found[axes]) not in ([-1], [len(shape) - 1]):
            return None
    values = _constant(graph, found["epsilon"])
    return values[0] if values and len(values) == 1 else None


def _batch_norms_epsilon(graph: Any, found: dict[Pattern, str], shape: list[int]) -> float | None:
    """The same of a batch norm, which must be over rows that are the last axis of x."""
    norm = graph.get_node_by_output(found[BATCH_NORM])
    rows = graph.get_shape(found[ROWS])
    if not rows or [rows[0], *rows[2:]] != [1, shape[-1], 1]:
        return None
    if not norm.get_attr_value("is_training", 1) or norm.get_attr_value("data_format") != b"NCHW":
        return None
    if [_constant(graph, found[name]) for name in ("one", "zero")] != [[1], [0]]:
        return None
    if any(graph.find_output_consumers(output) for output in norm.output[1:]):
        return None
    return float(norm.get_attr_value("epsilon"))


def _constant(graph: Any, tensor: str) -> list[float] | None:
    """The numbers of a constant, None for anything else."""
    node = graph.get_node_by_output(tensor)
    if node is None or not node.is_const():
        return None
    values: list[float] = np.ravel(node.get_tensor_value(as_list=False)).tolist()
    return values


def _is_whole(graph: Any, pattern: Pattern, found: dict[Pattern, str]) -> bool:
    """Whether nothing outside uses what the layer norm works out on its way."""
    own = [part for part in found if isinstance(part, tuple) and part not in SHARED]
    names = {graph.get_node_by_output(found[part]).name for part in own}
    inner = [found[part] for part in own if part != pattern]
    users = [user.name for tensor in inner for user in graph.find_output_consumers(tensor)]
    return names.issuperset(users) and not set(graph.outputs).intersection(inner)


def _replace(graph: Any, node: Any, found: dict[Pattern, str], epsilon: float) -> None:
    """Put one LayerNormalization in the place of the last node of a layer norm."""
    (output,), shape = node.output, graph.get_shape(found["x"])
    dtype = graph.get_dtype(found["x"])
    weights = []
    for name in ("gamma", "beta"):
        weight = found[name]
        if len(graph.get_shape(weight)) > 1:  # Of a weight: worked out once, at the end.
            flat = graph.make_const(f"{node.name}_{name}_shape", np.array(shape[-1:]))
            weight = graph.make_node("Reshape", [weight, flat.output[0]]).output[0]
        weights.append(weight)
    graph.remove_node(node.name)
    graph.make_node(
        "LayerNormalization",
        [found["x"], *weights],
        attr={"axis": -1, "epsilon": epsilon},
        outputs=[output],
        shapes=[shape],
        dtypes=[dtype],
        name=node.name,
    )
