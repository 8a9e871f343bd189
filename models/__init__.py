"""Taggers: one TOML file a model, and the Python that runs each kind of network.

Here is what running a model means to the rest of the arena, whatever its kind.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from arena.cli import UserError
from models import card as cards
from models.card import ImageSettings, ModelCard

import torch

# Raise one when that resize gives other pixels than before: scores kept from then are not reused.
RESIZES = {"bicubic": 1, "area": 2}


class Network(Protocol):
    """A tagger's network in memory. `batch` is the only batch size it takes, None for any."""

    batch: int | None
    runs_on: str

    def outputs(self, images: torch.Tensor) -> torch.Tensor:
        """Raw outputs, float32 (n, tags) on the CPU, for normalised images on the model's device.

        Images are float32, (n, 3, size, size) or (n, size, size, 3) as the card's layout says.
        """


def weight_files(model: ModelCard, data: Path) -> list[Path]:
    """The files that decide what the network computes, fetched where they are missing."""
    return cards.locate(model, data, *cards.weight_names(model))


def fingerprint(model: ModelCard, data: Path) -> str:
    """A hash of all that decides a model's scores for an image: weights and settings."""
    resize = RESIZES[model.image.resize]
    settings = json.dumps([model.kind, model.activation, asdict(model.image), resize])
    digest = hashlib.sha256(settings.encode())
    for path in weight_files(model, data):
        if model.kind == "onnx":
            _refuse_external_weights(model, path)
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _refuse_external_weights(model: ModelCard, path: Path) -> None:
    """Raise UserError for an ONNX file whose weights stand in another file, unseen by its hash."""
    import onnx  # Here, as JoyTag does without it.
    from google.protobuf.message import DecodeError

    try:
        network = onnx.load(path, load_external_data=False)
    except DecodeError:
        return  # ONNX Runtime will say what is wrong with the file.
    for tensor in _within(network, onnx.TensorProto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise UserError(
                f"{model.name}: {path} keeps its weights in another file: save it as one with"
                " onnx.save(onnx.load(path), other_path) and change 'file'"
            )


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


def open_network(model: ModelCard, data: Path, tags: int, device: torch.device) -> Network:
    """Load a model's network for a CPU or GPU; UserError when it does not fit its card."""
    # Imported here, as ONNX Runtime and torch.nn each take seconds that cached models never need.
    if model.kind == "joytag":
        from models.joytag import JoyTagNetwork

        return JoyTagNetwork(model, weight_files(model, data)[0], tags, device)
    from models.onnx import OnnxNetwork

    return OnnxNetwork(model, weight_files(model, data)[0], tags, device)


def normalise(images: torch.Tensor, settings: ImageSettings) -> torch.Tensor:
    """uint8 RGB (n, size, size, 3) to the float32 input of the card's settings, on its device."""
    if settings.channels == "bgr":
        images = images.flip(-1)
    floats = images.to(torch.float32)
    mean, std = torch.tensor([settings.mean, settings.std], device=images.device)
    if settings.scale != 1:
        floats = floats * settings.scale
    if any(settings.mean) or set(settings.std) != {1}:
        floats = (floats - mean) / std
    if settings.layout == "nchw":
        floats = floats.permute(0, 3, 1, 2)
    return floats.contiguous()
