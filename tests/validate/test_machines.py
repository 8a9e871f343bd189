"""Runs of several processes on machines that share nothing: each here has a folder of its own."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from arena.data_folder import DataFolder
from demo.tiny import make_data, make_image, make_model
from tests.helpers import PATIENCE, ROOT, Ended, refused, until
from tests.validate.helpers import (
    QUICK,
    TAGS,
    assert_alike,
    assert_rounded,
    content,
    ok,
    saved,
    to_run,
    validate,
)

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.slow

COUNT, BATCH = 50, 7
FILES = ("a_predictions.pt", "b_predictions.pt", "detailed_metrics.txt", "metrics.json")
MORE = (*QUICK, "--batch-size", BATCH)


def machine(process: int, port: int, *args: str) -> subprocess.Popen[str]:
    """A Python process with what torchrun tells the only process of its machine, of two."""
    told = {
        "TORCHELASTIC_RUN_ID": "test",
        "TORCHELASTIC_RESTART_COUNT": 0,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "RANK": process,
        "WORLD_SIZE": 2,
        "GROUP_RANK": process,
        "LOCAL_RANK": 0,
        "LOCAL_WORLD_SIZE": 1,
    }
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, *args],
        cwd=ROOT,
        env={**os.environ, **{name: str(value) for name, value in told.items()}},
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
    )


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


# Runs validate.py as often as a line on stdin says how, and writes how it ended.
SERVING = """
import json, os, sys
from tests.helpers import call
import arena.validate.exchange
import arena.validate.heartbeat
arena.validate.exchange.SAMPLE = 2
arena.validate.heartbeat.GRACE = 1
for line in sys.stdin:
    port, args = json.loads(line)
    os.environ["MASTER_PORT"] = str(port)
    print(json.dumps(call("validate.py", *args)), flush=True)
"""
Both = Callable[..., tuple[Ended, Ended]]


@pytest.fixture(scope="module")
def both() -> Iterator[Both]:
    """Runs validate.py on two machines: the models' names, and the data folder of each."""
    machines: list[subprocess.Popen[str]] = []

    def run(names: str, *folders: Path, more: tuple[object, ...] = MORE) -> tuple[Ended, Ended]:
        if any(each.poll() is not None for each in machines):
            close()
        if not machines:
            machines.extend(machine(process, 0, "-c", SERVING) for process in (0, 1))
        port = free_port()
        for each, folder in zip(machines, folders, strict=True):
            models = ",".join(str(folder / f"{name}.toml") for name in names)
            args = ["--data", str(folder), "--models", models, *map(str, more)]
            assert each.stdin
            each.stdin.write(json.dumps([port, args]) + "\n")
            each.stdin.flush()
        first, second = (Ended(*json.loads(answer(each))) for each in machines)
        return first, second

    def answer(each: subprocess.Popen[str]) -> str:
        assert each.stdout
        line = each.stdout.readline()
        if line:
            return line
        # Its heartbeat has ended it.
        _, err = each.communicate()
        return json.dumps([each.returncode, "", err])

    def close() -> None:
        while machines:
            machines[0].kill()
            machines.pop(0).communicate()

    yield run
    close()


def make(folder: Path) -> tuple[Path, Path]:
    """The data folders of two machines: the second one's has no posts and no tags."""
    first, second = folder / "first", folder / "second"
    make_data(first, COUNT)
    for seed, name in enumerate("ab"):
        make_model(first, name, TAGS, seed=seed)
    shutil.copytree(first / "resized", second / "resized")
    for path in first.glob("[ab].*"):
        shutil.copy(path, second)
    for number, path in enumerate((second / "resized").iterdir()):
        os.utime(path, ns=(number, number))
    return first, second


def alone(first: Path) -> dict[str, object]:
    """What one process makes of the first machine's folder, which is then as it was."""
    ok(validate(first, *(first / f"{name}.toml" for name in "ab"), more=MORE))
    made = {name: content(first / name) for name in FILES}
    for name in FILES:
        (first / name).unlink()
    return made


def parts(data: Path) -> list[Path]:
    return sorted(data.glob("*_predictions.parts/*/*.pt"))


def test_two_folders_give_what_one_process_does(tmp_path: Path, both: Both) -> None:
    first, second = make(tmp_path)
    expected = alone(first)
    ended, other = both("ab", first, second)
    assert to_run(ok(ended)) == [COUNT, COUNT]
    assert not ok(other).out
    for name in FILES:
        assert_alike(content(first / name), expected[name], name)
    left = {path.name for path in second.iterdir()}
    assert left == {"resized", ".validate.lock", *(f"{n}.{end}" for n in "ab" for end in ENDS)}
    assert not list(first.glob(".*.mark"))
    assert to_run(ok(both("ab", first, second)[0])) == [0, 0]
    # What the second machine has in its own folder is sent, not worked out again, and its parts
    # go only with all that is in them.
    part = DataFolder(second).prediction_parts("a", saved(first, "a")["fingerprint"]) / "5-1.pt"
    part.parent.mkdir(parents=True)
    shutil.move(first / "a_predictions.pt", part)
    shutil.copy(first / "b_predictions.pt", second)
    (first / "b_predictions.pt").unlink()
    assert to_run(ok(both("ab", first, second, more=(*MORE, "--posts", 20))[0])) == [0, 0]
    assert len(saved(first, "a")["post_ids"]) == len(saved(first, "b")["post_ids"]) == 20
    assert parts(second) == [part]
    assert to_run(ok(both("ab", first, second)[0])) == [0, 0]
    for name in FILES[:3]:
        assert_alike(content(first / name), expected[name], name)
    assert not parts(second) and (second / "b_predictions.pt").exists()
    exact = saved(first, "a")["predictions"]
    # --fresh holds for all folders.
    half = (*MORE, "--fresh", "--store", "half")
    assert to_run(ok(both("ab", first, second, more=half)[0])) == [COUNT, COUNT]
    assert_rounded(saved(first, "a")["predictions"], exact)


ENDS = ("toml", "onnx", "txt")


def test_other_images_or_weights_are_told_before_anything_is_run(
    tmp_path: Path, both: Both
) -> None:
    first, second = make(tmp_path)
    images = sorted((second / "resized").iterdir())
    make_image(images[4], np.random.default_rng(99))
    images[7].unlink()
    told = "resized images of process 1 on node 1 are not those of process 0 for 2 posts, such as"
    for ended in both("ab", first, second):
        refused(ended, told, images[4].stem)
    assert not parts(first) and not parts(second)
    for image in (images[4], images[7]):
        shutil.copy(first / "resized" / image.name, image)
    shutil.copy(second / "a.onnx", second / "b.onnx")
    for ended in both("ab", first, second):
        refused(ended, "process 1 on node 1 has other weights or settings of Tiny than process 0")
    shutil.rmtree(second)
    refused(both("ab", first, second)[1], str(second), "is not a folder")


# validate.py whose process 1 does nothing more after two batches; nor does process 0 where it is
# told so. Word of the others comes at once.
HELD = """
import os, sys, time
import arena.validate.inference
from arena.validate import heartbeat
from models.onnx import OnnxNetwork
arena.validate.inference.FLUSH_SECONDS = 0
heartbeat.BEAT, heartbeat.SILENT, heartbeat.GRACE = 0.2, 6, 0.5
outputs, batches, held = OnnxNetwork.outputs, 0, sys.argv.pop(1)
def hold(self, images, padding=None):
    global batches
    batches += 1
    if batches > 2 and os.environ["RANK"] in held:
        print("held", flush=True)
        while True:
            time.sleep(0.05)
    return outputs(self, images, padding)
OnnxNetwork.outputs = hold
import validate
validate.run(validate.main)
"""


def start(held: str, first: Path, second: Path) -> list[subprocess.Popen[str]]:
    """Two machines at work on model a, held in their third batch; returns when they are."""
    port = free_port()
    started = []
    for process, folder in enumerate((first, second)):
        args = ["--data", folder, "--models", folder / "a.toml", *MORE]
        started.append(machine(process, port, "-c", HELD, held, *map(str, args)))
    for each in held:
        stdout = started[int(each)].stdout
        assert stdout
        while "held" not in stdout.readline():
            continue
    until(lambda: sum(rows(path) for path in parts(second)) == 2 * BATCH)
    return started


def rows(part: Path) -> int:
    return len(torch.load(part, weights_only=True)["post_ids"])


def end(process: subprocess.Popen[str]) -> Ended:
    out, err = process.communicate(timeout=PATIENCE)
    return Ended(process.returncode, out, err)


def test_a_killed_process_ends_those_who_wait_for_it_and_its_work_is_kept(
    tmp_path: Path, both: Both
) -> None:
    first, second = make(tmp_path)
    expected = alone(first)
    waiting, killed = start("1", first, second)
    killed.kill()
    killed.communicate()
    refused(end(waiting), "process 1 on node 1 has been silent", "finished work is kept")
    left = COUNT - 2 * BATCH - sum(rows(path) for path in parts(first))
    assert 0 < left < COUNT - 2 * BATCH
    ended, _ = both("ab", first, second)
    assert to_run(ok(ended)) == [left, COUNT]
    for name in FILES:
        assert_alike(content(first / name), expected[name], name)


def test_a_silent_process_ends_those_at_work(tmp_path: Path) -> None:
    first, second = make(tmp_path)
    working, silent = start("01", first, second)
    silent.send_signal(signal.SIGSTOP)
    refused(end(working), "process 1 on node 1 has been silent", "finished work is kept")
    # And should it come back, nobody is there.
    silent.send_signal(signal.SIGCONT)
    refused(end(silent), "torchrun on 127.0.0.1", "process 0")


def test_an_image_of_the_same_size_is_known_by_its_hash(tmp_path: Path, both: Both) -> None:
    first, second = make(tmp_path)
    image = sorted((second / "resized").iterdir())[BATCH]  # The first of process 1's.
    expected = alone(first)
    raw = image.read_bytes()
    image.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    ended, other = both("a", first, second)
    refused(ended, "process 1 on node 1 are not those of process 0 for 1 posts", image.stem)
    assert other.code == 2
    assert not (first / "a_predictions.pt").exists()
    # The work is kept. Where its parts are copied by hand, all count but that one.
    for part in parts(second):
        shutil.copy(part, first / part.relative_to(second))
    assert to_run(ok(validate(first, first / "a.toml", more=MORE))) == [1]
    assert_alike(content(first / "a_predictions.pt"), expected["a_predictions.pt"])
    assert not parts(first)
