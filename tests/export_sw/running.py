"""Ways to run export_sw.py, and to check the file that it writes."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from arena.export_sw.saved_model import tf

import numpy as np
import onnxruntime

NAME = "wd-v1-4-vit-tagger-v2"
REPO = f"SmilingWolf/{NAME}"
Export = Callable[..., tuple[int, str, str]]


def script(
    data: Path, *args: str | Path, limit: Callable[[], None] | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the real script in a process of its own."""
    return subprocess.run(
        [sys.executable, "export_sw.py", "--data", data, *args],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit,
    )


def check_answers(model: Path, folder: Path, within: float = 1e-5) -> None:
    """The ONNX file against TensorFlow's own run of the SavedModel."""
    loaded = tf.saved_model.load(str(folder))
    function = loaded.signatures["serving_default"]
    (name, spec), *_ = function.structured_input_signature[1].items()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    for batch in (1, 3, 8):
        images = np.random.default_rng(batch).uniform(0, 255, (batch, *spec.shape[1:]))
        images = images.astype(np.float32)
        (expected,) = function(**{name: tf.constant(images)}).values()
        (answer,) = session.run(None, {session.get_inputs()[0].name: images})
        assert answer.dtype == np.float32
        assert np.ptp(expected) > 0.1
        np.testing.assert_allclose(answer, expected.numpy(), rtol=0, atol=within)
