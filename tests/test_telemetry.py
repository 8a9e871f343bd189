"""Nothing phones home: ONNX Runtime's telemetry is off wherever it is imported.

Left on, it keeps an id of the device below HOME and, some ten seconds later, sends events. Where a
CI variable is set it is quiet by itself, so the processes here get an environment of their own.
"""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

from demo.tiny import make_data, make_model
from tests.helpers import ROOT

import pytest

pytestmark = pytest.mark.slow

# Stands in for the lookup of host names: writes them down and finds none.
LOOKUP = """
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **found) {
    FILE *log = fopen(getenv("LOOKUPS"), "a");
    fprintf(log, "%s\\n", name ? name : "");
    fclose(log);
    return EAI_FAIL;
}
"""
LOADED = """
import sys, time
import onnxruntime
onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
time.sleep(15)
"""
VALIDATE = """
import contextlib, runpy, sys, time
sys.argv[0] = "validate.py"
with contextlib.suppress(SystemExit):
    runpy.run_path("validate.py", run_name="__main__")
time.sleep(15)
"""
IMPORT = """
import importlib, importlib.abc, os, sys
class Watch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "onnxruntime":
            sys.exit("off" if os.environ.get("ORT_DISABLE_TELEMETRY") == "1" else "on")
sys.meta_path.insert(0, Watch())
importlib.import_module(sys.argv[1])
"""


def start(code: str, *args: object, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_run_looks_up_no_host_and_keeps_no_device_id(tmp_path: Path) -> None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        # .ci/run installs one, so there this test always runs.
        pytest.skip("there is no C compiler to make the stand-in for host lookups")
    (tmp_path / "lookup.c").write_text(LOOKUP)
    library = tmp_path / "lookup.so"
    source = str(tmp_path / "lookup.c")
    subprocess.run([compiler, "-shared", "-fPIC", source, "-o", str(library)], check=True)
    make_data(tmp_path, 12)
    model = make_model(tmp_path, "a", [f"tag_{number}" for number in range(12)])

    def spied(name: str, code: str, *args: object) -> subprocess.Popen[str]:
        home = tmp_path / name
        home.mkdir()
        # The user's own 0 must not turn it on either.
        env = {"HOME": str(home), "ORT_DISABLE_TELEMETRY": "0"}
        return start(code, *args, LD_PRELOAD=str(library), LOOKUPS=f"{home}.txt", **env)

    options = ("--data", tmp_path, "--models", model, "--bootstrap", 0, "--min-count", 1)
    runs = [
        spied("plain", LOADED, tmp_path / "a.onnx"),
        spied("validate", VALIDATE, *options, "--device", "cpu"),
    ]
    for process in runs:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert (tmp_path / "metrics.json").exists()
    # What this test watches for does happen where nothing turns it off.
    assert "microsoft" in (tmp_path / "plain.txt").read_text()
    assert list((tmp_path / "plain").rglob("deviceid"))
    assert not (tmp_path / "validate.txt").exists()
    assert not list((tmp_path / "validate").rglob("deviceid"))


def modules() -> list[str]:
    """Every module of the project that imports ONNX Runtime, at its top or inside a function."""
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True)
    found = []
    for name in listed.stdout.splitlines():
        for node in ast.walk(ast.parse((ROOT / name).read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(each.split(".")[0] == "onnxruntime" for each in names):
                found.append(name.removesuffix(".py").replace("/", "."))
                break
    return found


@pytest.mark.parametrize("module", modules())
def test_telemetry_is_off_before_every_import(module: str) -> None:
    _, err = start(IMPORT, module, HOME="/").communicate(timeout=60)
    assert err.splitlines() == ["off"]


def test_some_module_imports_it() -> None:
    assert {"models.onnx", "arena.export_sw.convert", "arena.export_sw.saved_model"} <= set(
        modules()
    )
