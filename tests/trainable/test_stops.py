"""Runs and workers that are killed, stopped or interrupted, and the time a file may take."""

import random
import shutil
import signal
import time
from pathlib import Path

from tests.helpers import PATIENCE, doomed, kills, until
from tests.trainable.cases import varied
from tests.trainable.folder import (
    busy,
    gone,
    images_in,
    make,
    records,
    results,
    run,
    start,
    verdicts,
)
from tests.trainable.images import BAD, GOOD, RGB, encoded, smooth

import psutil
import pytest
from PIL import Image

KILLS = kills(12)  # Fifty take some two minutes.

TWO_SECONDS = "from arena.trainable import examine; examine.MAX_SECONDS_PER_FILE = 2"
# All that a limit on time may come as; what such a process starts ignores and blocks it too.
IGNORE_SIGNALS = """
import signal
signals = (signal.SIGALRM, signal.SIGPROF, signal.SIGVTALRM, signal.SIGXCPU, signal.SIGCHLD)
for number in signals:
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
"""


@pytest.mark.slow
def test_a_killed_worker_costs_one_file(tmp_path: Path, slow: bytes) -> None:
    small = encoded(RGB, "PNG")
    data = make(tmp_path / "d", {1: slow, **dict.fromkeys(range(2, 40), small)})
    process = start(data)
    busy(process).send_signal(signal.SIGKILL)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert out.startswith("38 ok, 0 transparent, 0 animated, 1 unreadable")
    assert err.count("\n") == 1
    assert "originals/1: the worker decoding it was killed by signal 9" in err
    # It was not the file's doing for certain, so it gets another chance.
    (data / "originals" / "1").write_bytes(small)
    assert run(data).out == (
        "39 ok, 0 transparent, 0 animated, 0 unreadable, 0 missing; 38 already judged\n"
    )


@pytest.mark.slow
def test_a_killed_worker_costs_no_image(tmp_path: Path, slow: bytes) -> None:
    data = make(tmp_path / "d", {1: GOOD, 2: GOOD})
    run(data)
    images = images_in(data)
    (data / "originals" / "1").write_bytes(slow)
    process = start(data)
    busy(process).send_signal(signal.SIGKILL)
    out, err = process.communicate(timeout=PATIENCE)
    assert out.startswith("2 ok, "), err
    assert "killed by signal 9; its resized image is kept" in err
    assert images_in(data) == images
    (data / "originals" / "1").write_bytes(BAD)
    run(data)
    assert verdicts(data) == {1: "transparent", 2: "ok"}
    assert sorted(images_in(data)) == [2]


@pytest.mark.slow
@pytest.mark.parametrize("before", ["", IGNORE_SIGNALS])
def test_a_file_has_its_time(tmp_path: Path, slow: bytes, before: str) -> None:
    data = make(tmp_path / "d", {1: slow, 2: GOOD})
    process = start(data, before=before + TWO_SECONDS)
    _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (0, "")
    assert records(data)[1]["reason"] == "takes over 2 s of processor time to decode"
    assert verdicts(data) == {1: "unreadable", 2: "ok"}
    assert run(data).out.endswith("2 already judged\n")


@pytest.mark.slow
def test_a_stopped_run_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    large = encoded(Image.fromarray(smooth(2500, 2500)), "PNG")
    data = make(tmp_path / "d", dict.fromkeys(range(1, 30), large))
    process = start(data, before=TWO_SECONDS)
    busy(process, 0.5)
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for one in family:
        one.suspend()
    until(lambda: all(one.status() == psutil.STATUS_STOPPED for one in family), process)
    time.sleep(2.5)  # Longer than a file may take.
    for one in family:
        one.resume()
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (0, "")
    assert out.startswith("29 ok, ")


@pytest.mark.slow
def test_interrupt(tmp_path: Path, slow: bytes) -> None:
    data = make(tmp_path / "d", {1: encoded(RGB, "PNG"), 2: slow, 3: slow})
    process = start(data)
    busy(process)
    family = psutil.Process(process.pid).children(recursive=True)
    for one in [*family, process]:  # Ctrl-C reaches them all.
        one.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert gone(family)
    assert verdicts(data) == {1: "ok"}  # It did not wait for the others, which have a minute each.
    assert sorted(results(data)) == ["1.webp", "trainable.jsonl"]


@pytest.mark.slow
def test_ctrl_c_ends_a_run_whose_workers_wait(tmp_path: Path, slow: bytes) -> None:
    # A process that is stopped waits as one does whose disk does not answer.
    data = make(tmp_path / "d", {1: slow, 2: slow})
    process = start(data)
    worker = busy(process)
    worker.suspend()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert gone([worker])
    assert results(data) == {"trainable.jsonl": b""}


@pytest.mark.slow
def test_a_killed_run_leaves_no_workers(tmp_path: Path) -> None:
    large = encoded(Image.fromarray(smooth(2500, 2500)), "PNG")
    data = make(tmp_path / "d", dict.fromkeys(range(1, 60), large))
    process = start(data)
    busy(process)
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    assert gone(family)


@pytest.mark.slow
def test_two_at_once(tmp_path: Path, slow: bytes) -> None:
    data = make(tmp_path / "d", {1: slow})
    process = start(data)
    busy(process)
    refused = run(data, code=2).err
    assert "is in use by trainable.py" in refused
    assert refused.count("\n") == 1
    process.send_signal(signal.SIGINT)
    process.communicate()


@pytest.mark.slow
def test_killed_and_resumed_ends_the_same(tmp_path: Path) -> None:
    originals = varied(400)
    data = make(tmp_path / "d", originals)
    path, report = data / "trainable.jsonl", tmp_path / "steps"
    doomed("trainable", data, "--workers", 2, step=0, report=report)
    steps = int(report.read_text())
    wanted = results(data)
    dice = random.Random(0)

    def lines() -> int:
        return path.read_bytes().count(b"\n") if path.exists() else 0

    halfway = 0
    for kill in range(1, KILLS + 1):
        if kill % 4 == 1:
            shutil.rmtree(data / "resized")
            path.unlink()
        if kill % 2:
            step = dice.randint(1, steps)
            doomed("trainable", data, "--workers", 2, step=step, report=report)
        else:
            process = start(data)
            goal = dice.randint(lines(), len(originals))
            until(lambda goal=goal: lines() >= goal, process)  # type: ignore[misc]
            process.kill()
            process.communicate()
        left = lines()
        halfway += 0 < left < len(originals)
        if kill % 4 == 0 or kill == KILLS:
            assert run(data).out.endswith(f"; {left} already judged\n")
            assert results(data) == wanted
    assert halfway, "every kill came before or after the work"
