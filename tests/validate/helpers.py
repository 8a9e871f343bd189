"""What the tests of validate.py share: tags, quick runs, and what a run says and keeps."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.helpers import Ended, call

import numpy as np
import pytest
import torch

TAGS = [f"tag_{number}" for number in range(12)]
QUICK = ("--bootstrap", 0, "--min-count", 1)
APART = 1e-5  # At most, of what was worked out twice.
DECIMAL = re.compile(r"(\d\.\d{4})\b")

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
        return path.read_text()
    held = torch.load(path, weights_only=True)
    return {
        key: value.numpy() if torch.is_tensor(value) else value
        for key, value in held.items()
        if key not in ("created", "speed")
    }


def assert_alike(found: Any, wanted: Any, where: str = "") -> None:
    """Assert that two things that `content` gives say the same, but for what scores that were
    worked out twice may differ by: a library adds in an order that depends on where memory lies."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), where
        for key, value in wanted.items():
            assert_alike(found[key], value, f"{where} {key}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), where
        for place, value in enumerate(wanted):
            assert_alike(found[place], value, f"{where} {place}")
    elif isinstance(wanted, np.ndarray):
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape), where
        within = APART if wanted.dtype.kind == "f" else 0
        np.testing.assert_allclose(found, wanted, rtol=0, atol=within, err_msg=where)
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, rel=0, abs=APART, nan_ok=True), where
    elif isinstance(wanted, str):
        texts = [DECIMAL.split(text) for text in (found, wanted)]
        assert texts[0][::2] == texts[1][::2], where
        # They are rounded.
        apart = [
            abs(float(one) - float(other))
            for one, other in zip(*(text[1::2] for text in texts), strict=True)
        ]
        assert max(apart, default=0) < 1.5e-4, where
    else:
        assert found == wanted, where


def assert_rounded(half: np.ndarray, exact: np.ndarray) -> None:
    """Assert that scores are others' in half precision; both may have been worked out."""
    assert half.dtype == np.float16
    np.testing.assert_allclose(half.astype(np.float32), exact, rtol=2**-11, atol=APART)


class Stub:
    """A network whose answers to a batch are what a test wants."""

    batch: int | None = None
    wants_padding = False

    def __init__(self, answer: Callable[[int], torch.Tensor]) -> None:
        self._answer = answer

    def outputs(self, images: torch.Tensor, padding: torch.Tensor | None = None) -> torch.Tensor:
        return self._answer(len(images))
