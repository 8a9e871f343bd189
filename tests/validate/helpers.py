"""What the tests of validate.py share: tags, quick runs, and what a run says and keeps."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.helpers import Ended, call

import torch

TAGS = [f"tag_{number}" for number in range(12)]
QUICK = ("--bootstrap", 0, "--min-count", 1)

LOGITS_IMAGE = {
    "pad": "square",
    "resize": "bicubic",
    "channels": "rgb",
    "layout": "nchw",
    "scale": 1 / 255,
    "mean": [0.4, 0.5, 0.6],
    "std": [0.2, 0.3, 0.25],
}

EAGER = """
import arena.validate.inference
# Finished batches are written at once, not every 15 seconds.
arena.validate.inference.FLUSH_SECONDS = 0
"""


def validate(data: Path, *models: Path | str, more: tuple[object, ...] = QUICK) -> Ended:
    names = ",".join(str(model) for model in models)
    return call("validate.py", "--data", data, "--models", names, *more)


def ok(ended: Ended) -> Ended:
    assert ended.code == 0, ended.err
    return ended


def to_run(ended: Ended) -> list[int]:
    """How many posts each model was run over, as the script says."""
    return [
        int(line.split(": ")[1].split()[0])
        for line in ended.out.splitlines()
        if " posts to run, " in line
    ]


def saved(data: Path, name: str) -> dict[str, Any]:
    held = torch.load(data / f"{name}_predictions.pt", weights_only=True)
    return {key: value.numpy() if torch.is_tensor(value) else value for key, value in held.items()}


def content(path: Path) -> Any:
    """What a result file holds, but for what says when and how fast it was made."""
    if path.name == "metrics.json":
        found = json.loads(path.read_text())
        for key in ("created", "command", "run"):
            del found[key]
        for model in found["models"]:
            del model["speed"]
        return found
    if path.suffix != ".pt":
        return path.read_bytes()
    held = torch.load(path, weights_only=True)
    return {
        key: value.numpy().tobytes() if torch.is_tensor(value) else value
        for key, value in held.items()
        if key not in ("created", "speed")
    }


class Stub:
    """A network whose answers to a batch are what a test wants."""

    batch: int | None = None
    wants_padding = False

    def __init__(self, answer: Callable[[int], torch.Tensor]) -> None:
        self._answer = answer

    def outputs(self, images: torch.Tensor, padding: torch.Tensor | None = None) -> torch.Tensor:
        return self._answer(len(images))
