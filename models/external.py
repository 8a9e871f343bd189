"""The files beside an ONNX file in which it keeps its weights."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from arena.cli import UserError

import onnx
from google.protobuf.message import DecodeError

# Types of tensors that hold indices, shapes and switches.
NO_WEIGHTS = {
    onnx.TensorProto.INT64,
    onnx.TensorProto.INT32,
    onnx.TensorProto.BOOL,
    onnx.TensorProto.STRING,
}


class Contents(NamedTuple):
    """What an ONNX file says of its weights, which are not read: the names, relative to its folder,
    of the files that it keeps some in, and how many numbers they are."""

    names: list[str]
    parameters: int | None


def contents(path: Path) -> Contents:
    """The contents of an ONNX file; of one that is damaged, no names and None.

    Every tensor is looked at for a file, wherever it hangs: in constants, branches, functions.
    Parameters are the elements of the initialisers and constants that are no indices or shapes.
    Raises UserError for a name that leads out of the folder.
    """
    try:
        network = onnx.load(path, load_external_data=False)
    except DecodeError:
        return Contents([], None)  # ONNX Runtime will say what is wrong with the file.
    found, parameters = set(), 0
    for tensor in _within(network, onnx.TensorProto):
        if tensor.data_type not in NO_WEIGHTS:
            parameters += math.prod(tensor.dims)
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            places = [entry.value for entry in tensor.external_data if entry.key == "location"]
            found.update(places or [""])
    for name in found:
        if not is_inside(name):
            raise UserError(
                f"{path} keeps weights in {name!r}, which is no file in its folder: export it anew,"
                " with its weights beside it"
            )
    return Contents(sorted(found), parameters)


def is_inside(name: str) -> bool:
    """Whether a name from an ONNX file can only be that of a file in or below its folder."""
    path = PurePosixPath(name)
    plain = name.isprintable() and not {"\\", ":"} & {*name}
    return plain and bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def _within(message: Any, kind: type) -> Iterator[Any]:
    """Every message of a kind, wherever it is in another: in graphs, nodes, branches, functions."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for each in value if isinstance(value, Sequence) else [value]:
            if isinstance(each, kind):
                yield each
            else:
                yield from _within(each, kind)
