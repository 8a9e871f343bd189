"""Weights in a safetensors file and the config.json beside it: both are treated as hostile.

Only safetensors files are read: nothing in one can run code.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arena.cli import UserError
from arena.files import fresh

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

STRANGERS = "take it and config.json from one model and revision"
FLOATS = ("F64", "F32", "F16", "BF16")


def read_config(path: Path) -> dict[str, Any]:
    """The JSON object in config.json. Raises UserError when there is none."""
    try:
        config = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: {fresh(path)}") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path} is not JSON: {fresh(path)}") from None
    if not isinstance(config, dict):
        raise UserError(f"{path} is not a JSON object: {fresh(path)}")
    return config


def read(path: Path, net: nn.Module, spare: Mapping[str, int] | None = None) -> dict[str, Tensor]:
    """Every floating point tensor of `net`, which may be without memory, from a file, as float32.

    All names and shapes are compared before any tensor is read. `spare` are rows that a tensor may
    have too many: they are cut off. Whole numbers in a network are counters and indices: they are
    no weights, some writers leave them out, and they are not read. Raises UserError that names the
    file and the tensor.
    """
    try:
        with safe_open(path, framework="pt") as tensors:
            return _read(tensors, path, net, spare or {})
    except FileNotFoundError:
        raise UserError(f"{path} is missing: {fresh(path)}") from None
    except SafetensorError as error:
        raise UserError(
            f"{path} is damaged or no safetensors file ({error}): {fresh(path)}"
        ) from None


def parameters(path: Path) -> int | None:
    """How many numbers a safetensors file's floating point tensors have, from its header alone;
    None of a file that is none."""
    try:
        with safe_open(path, framework="pt") as tensors:
            parts = [tensors.get_slice(name) for name in tensors.keys()]  # noqa: SIM118
            shapes = [part.get_shape() for part in parts if part.get_dtype() in FLOATS]
            return sum(int(math.prod(shape)) for shape in shapes)
    except (OSError, SafetensorError):
        return None


def _read(tensors: Any, path: Path, net: nn.Module, spare: Mapping[str, int]) -> dict[str, Tensor]:
    whole = net.state_dict()
    expected = {name: list(each.shape) for name, each in whole.items() if each.is_floating_point()}
    # Tables that a network works out itself: files of older versions hold some of them.
    known = whole.keys() | dict(net.named_buffers()).keys()
    held = set(tensors.keys())
    for name in sorted(expected.keys() - held):
        raise UserError(f"{path}: tensor {name} is missing: {STRANGERS}")
    for name in sorted(held - known):
        raise UserError(f"{path}: unexpected tensor {short(name)}: {STRANGERS}")
    for name, wanted in sorted(expected.items()):
        part = tensors.get_slice(name)
        shape = list(part.get_shape())
        if name in spare and shape and shape[0] == wanted[0] + spare[name]:
            shape[0] = wanted[0]
        if shape != wanted:
            raise UserError(
                f"{path}: tensor {name} has shape {part.get_shape()}, config.json calls for "
                f"{wanted}: {STRANGERS}"
            )
        if part.get_dtype() not in FLOATS:
            raise UserError(
                f"{path}: tensor {name} is {part.get_dtype()}, not floating point: {STRANGERS}"
            )
    state = {}
    for name, wanted in sorted(expected.items()):
        tensor = tensors.get_tensor(name)
        tensor = tensor[: wanted[0]] if name in spare else tensor
        tensor = tensor.to(torch.float32, copy=True)
        if not tensor.isfinite().all():
            raise UserError(
                f"{path}: tensor {name} holds values that are no finite numbers: {fresh(path)}"
            )
        state[name] = tensor
    return state


def short(value: Any) -> str:
    """A value for a message: as Python writes it, cut off where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
