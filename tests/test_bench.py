"""bench.gpu runs on a machine that has nothing but what its docstring names."""

import subprocess
import sys

from tests.helpers import ROOT

import pytest

BARE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"tqdm", "requests", "huggingface_hub", "httpx2", "onnx",
                                  "tf2onnx", "tensorflow", "sklearn", "scipy", "psutil"}:
            raise ModuleNotFoundError(f"a bare machine has no {name}")
sys.meta_path.insert(0, Refuse())
sys.argv[0] = "bench/gpu.py"
from bench.gpu import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["joytag", "onnx"])
def test_the_bench_of_the_gpu_runs_on_a_bare_machine(kind: str) -> None:
    options = "--device cpu --images 1 --batch-size 1 --rounds 1 --workers 2 --only"
    done = subprocess.run(
        [sys.executable, "-c", BARE, *options.split(), kind],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, compared, measured = done.stdout.splitlines()
    assert first.startswith("CPU, ") and "torch " in first and "onnxruntime" in first
    assert "squares up to 0 levels apart" in compared and compared.endswith("fine")
    # A library may add in another order where memory lies elsewhere.
    assert float(compared.split("scores up to ")[1].split()[0]) <= 1e-5
    for part in ("decoding alone", "preprocessing alone", "networks alone", "was not measured"):
        assert part in measured
