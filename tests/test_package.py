"""The library face: what the wheel holds, and what its metrics need to be imported."""

import ast
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.helpers import ROOT

import pytest

pytestmark = pytest.mark.slow

STEPS = ("download", "trainable", "export_sw", "validate")
SOURCES = ("arena", "danbooru_metadata", "models", "demo", "bench", "tests")
# Says no to every package that a script needs and the wheel does not ask for.
IMPORT = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"PIL", "requests", "onnx", "onnxruntime", "huggingface_hub"}:
            raise ImportError(f"{name} is not asked for")
sys.meta_path.insert(0, Refuse())
from arena.metrics import compare, evaluate, per_tag
import arena
print(arena.__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built without a network, from a copy, as building leaves files beside the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "data")
        )
    for name in ("pyproject.toml", "README.md", "LICENSE", "validate.py"):
        shutil.copy(ROOT / name, folder)
    pip = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--no-index", "--quiet", "-w", "out"], cwd=folder, check=True)
    (file,) = (folder / "out").iterdir()
    return file


def test_the_wheel_holds_the_packages_and_the_page(wheel: Path) -> None:
    assert wheel.name.startswith("validation_arena-2.0.0-")
    sources = wheel.parent.parent
    packages = [sources / "arena", sources / "danbooru_metadata"]
    files = [file for package in packages for file in package.rglob("*") if file.is_file()]
    wanted = {str(file.relative_to(sources)) for file in files}
    assert {"arena/metrics/figures.py", "arena/report/page/page.html"} <= wanted
    names = zipfile.ZipFile(wheel).namelist()
    held = {name for name in names if ".dist-info/" not in name}
    assert held == wanted
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheels_metrics_need_only_what_it_asks_for(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    ended = subprocess.run(
        [sys.executable, "-c", IMPORT], cwd=tmp_path, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert Path(ended.stdout.strip()).is_relative_to(tmp_path)


def without_packages(folder: Path) -> dict[str, str]:
    """An environment in which Python finds the standard library only."""
    return {"PYTHONPATH": "", "PYTHONNOUSERSITE": "1", "PATH": "/usr/bin:/bin", "HOME": str(folder)}


@pytest.mark.parametrize("script", [f"{step}.py" for step in STEPS])
def test_without_the_packages_one_line_says_how_to_get_them(tmp_path: Path, script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-S", script, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=without_packages(tmp_path),
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and "torch" in line and line.endswith(f"python {script}")


def test_any_python_3_can_read_what_says_so() -> None:
    first = ["arena/__init__.py", "models/__init__.py", "models/tagger.py"]
    for name in [*first, *(f"{step}.py" for step in STEPS)]:
        ast.parse((ROOT / name).read_text(), feature_version=(3, 8))
