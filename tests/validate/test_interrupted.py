"""Runs that are killed, stopped, doubled or out of disk space."""

import random
import shutil
import signal
from pathlib import Path

from arena.validate import inference
from demo.tiny import make_data, make_model
from tests.helpers import PATIENCE, doomed, kills, refused, run, start
from tests.validate.helpers import EAGER, QUICK, TAGS, assert_alike, content, ok, to_run, validate

import pytest


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    data, report = tmp_path / "data", tmp_path / "steps"
    make_data(data, 600)
    models = [make_model(data, name, TAGS, seed=seed) for seed, name in enumerate("ab")]
    args = ("--models", ",".join(map(str, models)), *QUICK, "--batch-size", 7)
    ok(doomed("validate", data, *args, step=0, report=report, before=EAGER))
    steps = int(report.read_text())
    files = ["a_predictions.pt", "b_predictions.pt", "detailed_metrics.txt", "metrics.json"]
    undisturbed = {name: content(data / name) for name in files}
    dice = random.Random(4)
    resumed = []
    for _ in range(kills(6)):
        for path in [*data.glob("*_predictions.*"), data / "detailed_metrics.txt"]:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        step = dice.randint(1, steps)
        doomed("validate", data, *args, step=step, report=report, before=EAGER)
        resumed += to_run(ok(validate(data, *models, more=(*QUICK, "--batch-size", 7))))
        for name in files:
            assert_alike(content(data / name), undisturbed[name], name)
        assert not list(data.rglob("*.tmp"))
    assert any(0 < count < 600 for count in resumed), resumed


# validate.py whose network says what it has done, and does nothing more after thirty batches.
WEARY = """
import time
from models.onnx import OnnxNetwork
outputs, batches = OnnxNetwork.outputs, 0
def weary(self, images, padding=None):
    global batches
    batches += 1
    if batches > 30:
        print("thirty batches are done", flush=True)
        while True:
            time.sleep(0.05)  # In small parts: a signal just before one would wait for its end.
    return outputs(self, images, padding)
OnnxNetwork.outputs = weary
import validate
validate.run(validate.main)
"""


@pytest.mark.slow
def test_ctrl_c_keeps_finished_batches(tmp_path: Path) -> None:
    make_data(tmp_path, 400)
    model = make_model(tmp_path, "a", TAGS)
    process = start("-c", WEARY, "--data", tmp_path, "--models", model, *QUICK)
    assert process.stdout
    assert "Device: CPU" in process.stdout.readline()
    assert "400 posts to run" in process.stdout.readline()
    assert "thirty batches are done" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert to_run(ok(validate(tmp_path, model))) == [400 - 30 * inference.CPU_BATCH]


@pytest.mark.slow
def test_a_second_run_over_the_same_folder_is_refused(tmp_path: Path) -> None:
    make_data(tmp_path, 600)
    model = make_model(tmp_path, "a", TAGS)
    process = start("validate.py", "--data", tmp_path, "--models", model, *QUICK)
    assert process.stdout
    process.stdout.readline()
    process.send_signal(signal.SIGSTOP)  # So that it cannot end too soon.
    refused(validate(tmp_path, model), "validate.py", str(process.pid))
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate()
    assert process.returncode == 0, err


SMALL_DISK = """
import resource, runpy, sys
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
sys.argv[0] = "validate.py"
runpy.run_path("validate.py", run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.parametrize("limit", [100, 2000, 2500, 3000])
def test_a_full_disk_is_one_line(tmp_path: Path, limit: int) -> None:
    make_data(tmp_path, 30)
    model = make_model(tmp_path, "a", TAGS)
    ended = run("-c", SMALL_DISK, limit, "--data", tmp_path, "--models", model, *QUICK)
    # Of 100 bytes even the tags of 30 posts are more, which lie in a file without a name.
    refused(ended, "File too large", f"{tmp_path}: " if limit == 100 else "a_predictions")
    assert not list(tmp_path.rglob("*.tmp"))
    assert not list(tmp_path.rglob("*.pt"))
    ok(validate(tmp_path, model))
