"""A SavedModel as other people make it: TensorFlow loaded without its notes, hostile input refused.

Everything that uses TensorFlow takes `tf` from here. A model comes from a hub or a folder that
nobody has looked at, so its graph is read as data first, and only a tagger's network is loaded.
"""

import logging
import math
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arena.cli import UserError

import numpy as np
import onnxruntime.capi.onnxruntime_pybind11_state as onnxruntime_errors
from numpy.typing import NDArray

__all__ = ["DAMAGE", "Signature", "explain_errors", "load", "refuse_side_effects", "tf", "why"]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what native code writes on stderr from the user, unless an error ends the block.

    TensorFlow's libraries print notes while they are loaded, before any log level is read.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as notes:
        os.dup2(notes.fileno(), 2)
        try:
            yield
        except Exception:  # Whatever it is goes on, after the notes that may say why.
            notes.seek(0)
            os.write(stderr, notes.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
with quiet():
    import tensorflow as tf
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow.python.framework import op_def_registry

    tf.config.set_visible_devices([], "GPU")  # A conversion has no use for a GPU's memory.
    tf.config.list_logical_devices()
tf.get_logger().setLevel(logging.ERROR)
# Says of every function with a gradient of its own that it may have none now: none is asked for.
logging.getLogger("absl").setLevel(logging.ERROR)

SIZES = {tf.float32.as_datatype_enum: 4, tf.int64.as_datatype_enum: 8}  # Bytes an element.
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
        with explain_errors("TensorFlow cannot run the SavedModel"):
            outputs = self.function(**{self.input_name: tf.constant(images)})
        answer: NDArray[np.float32] = outputs[self.output_name].numpy()
        return answer


def load(folder: Path) -> Signature:
    """The SavedModel in `folder`, refused with a UserError before anything in it is run if it is
    not one, holds more than a network, or is not a tagger of RGB images.
    """
    _inspect(folder)
    with explain_errors(f"the SavedModel in {folder} is damaged"):
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


def refuse_side_effects(node: Any) -> None:
    """Raise UserError for an operation that keeps state or handles text, such as a file's name."""
    known = op_def_registry.get(node.op)
    texts = [] if known is None else [*known.input_arg, *known.output_arg]
    if known is None or known.is_stateful or any(arg.type == tf.string for arg in texts):
        raise UserError(
            f"the SavedModel's graph holds the operation {node.op} ({node.name}), which a tagger's "
            "network has no use for: export a model that only computes scores from images"
        )


@contextmanager
def explain_errors(what: str) -> Iterator[None]:
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
    text = re.sub(r"\{\{function_node [^{}]*\}\} ?", "", str(error))
    for line in text.splitlines():
        reason = re.sub(r"\s*\[Op:[^]]*\]( name: ?)?\s*$", "", line)
        if reason.strip() and not ABOUT.match(reason):
            return reason.strip()[:200]
    return type(error).__name__
