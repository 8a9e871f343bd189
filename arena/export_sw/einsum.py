"""Attention's einsums as products of matrices, with what is known of their sizes.

tf2onnx takes an einsum apart for axes of any size: a dozen nodes work the sizes out in every run.
"""

import math
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

EQUATION = re.compile(r"([a-zA-Z]+),([a-zA-Z]+)->([a-zA-Z]+)")
Groups = list[list[str]]  # The axes, by their letters, that each axis of a matrix is made of.


def rewrite(graph: Any, nodes: list[Any]) -> list[Any]:
    """Turn every einsum that is a product of matrices into one: a tf2onnx rewriter.

    What is none, or has more than one axis of unknown size (the images'), stays as it is.
    """
    for node in list(nodes):
        if node.type == "Einsum":
            equation = EQUATION.fullmatch(node.get_attr_value("equation").decode())
            if equation and all(graph.get_shape(tensor) for tensor in node.input):
                _rewrite(graph, node, *equation.groups())
    return graph.get_nodes()  # type: ignore[no-any-return]


def _rewrite(graph: Any, node: Any, first: str, second: str, out: str) -> None:
    """The einsum `first,second->out`."""
    factors = [(first, node.input[0]), (second, node.input[1])]
    # In a product the left matrix's own axes come before the right one's.
    own = [axis for axis in out if (axis in first) != (axis in second)]
    if own and own[0] in second:
        factors.reverse()
    (left, _), (right, _) = factors
    batch = [[axis] for axis in out if axis in left and axis in right]
    rows = [axis for axis in out if axis not in right]
    columns = [axis for axis in out if axis not in left]
    summed = [axis for axis in left if axis in right and axis not in out]
    # Without a batch, the left matrix may have any number of axes for its rows.
    lead = [*batch, rows] if batch else [[axis] for axis in rows]
    parts = ((left, [*lead, summed]), (right, [*batch, summed, columns]), (out, [*lead, columns]))
    sizes = {
        axis: size
        for axes, tensor in factors
        for axis, size in zip(axes, graph.get_shape(tensor), strict=True)
    }
    if not (rows and columns and summed) or sum(size < 1 for size in sizes.values()) > 1:
        return
    # An axis may also stand twice, or be summed over in one factor alone.
    if any(sorted(axes) != sorted(_flat(groups)) for axes, groups in parts):
        return
    matrices: list[str] = []
    for (axes, tensor), (_, groups) in zip(factors, parts, strict=False):
        tensor = _transposed(graph, tensor, axes, _flat(groups))
        if len(groups) < len(axes):
            tensor = _reshaped(graph, tensor, f"{node.name}_{axes}", groups, sizes)
        matrices.append(tensor)
    product = graph.make_node("MatMul", matrices).output[0]
    result = parts[2][1]
    if len(result) < len(out):
        single = [[axis] for axis in _flat(result)]
        product = _reshaped(graph, product, f"{node.name}_{out}", single, sizes)
    product = _transposed(graph, product, _flat(result), out)
    spec = {
        "outputs": list(node.output),
        "shapes": [graph.get_shape(node.output[0])],
        "dtypes": [graph.get_dtype(node.output[0])],
    }
    graph.remove_node(node.name)
    graph.make_node("Identity", [product], name=node.name, **spec)


def _flat(groups: Groups) -> list[str]:
    """All axes in their order."""
    return [axis for group in groups for axis in group]


def _transposed(graph: Any, tensor: str, axes: Iterable[str], wanted: Iterable[str]) -> str:
    """A tensor with its axes in the wanted order."""
    order = [list(axes).index(axis) for axis in wanted]
    if order == sorted(order):
        return tensor
    output: str = graph.make_node("Transpose", [tensor], attr={"perm": order}).output[0]
    return output


def _reshaped(graph: Any, tensor: str, name: str, groups: Groups, sizes: dict[str, int]) -> str:
    """A tensor with one axis for each group, by a constant of that name."""
    sides = [[sizes[axis] for axis in group] for group in groups]
    shape = [-1 if min(group) < 1 else math.prod(group) for group in sides]
    wanted = graph.make_const(name, np.array(shape, np.int64)).output[0]
    output: str = graph.make_node("Reshape", [tensor, wanted]).output[0]
    return output
