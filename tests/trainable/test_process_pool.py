"""Calls in processes of their own: what workers load, and the limit on processor time."""

import itertools
import os
import signal
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from arena.trainable import process_pool
from tests.helpers import PATIENCE, run, start, until

import psutil
import pytest

SIGNALS = (
    signal.SIGALRM,
    signal.SIGPROF,
    signal.SIGVTALRM,
    signal.SIGXCPU,
    signal.SIGCHLD,
    signal.SIGUSR1,
)
LIMIT = 1  # Seconds of processor time.

pytestmark = pytest.mark.slow


def nothing() -> None:
    pass


def spin(seconds: float) -> str:
    """Use up so much processor time."""
    begin = time.process_time()
    while time.process_time() - begin < seconds:
        pass
    return "done"


def sleep(seconds: float) -> str:
    time.sleep(seconds)
    return "done"


def stop_halfway(pid_file: Path) -> str:
    """Work for less than the limit, with a stop in between."""
    spin(LIMIT / 4)
    pid_file.write_text(str(os.getpid()))
    os.kill(os.getpid(), signal.SIGSTOP)
    return spin(LIMIT / 4)


def refuse_signals(how: str) -> None:
    """Ignore or block the signals; what this process starts does so too."""
    if how != "blocked":
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
    if how != "ignored":
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def blocks_ctrl_c(_: int) -> bool:
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def answers(function: Callable[[Any], Any], tasks: list[Any]) -> list[Any]:
    with closing(
        process_pool.call_each(function, tasks, 2, prepare=nothing, seconds=LIMIT)
    ) as found:
        return [answer for _, answer in found]


TIMED_OUT = process_pool.Died(process_pool.TIME_IS_UP)


@pytest.mark.slow
def test_processor_time_is_limited_for_each_call() -> None:
    # One process works through most of the short calls, in all far over the limit.
    found = answers(spin, [60, *[LIMIT / 4] * 8])
    assert (found.count(TIMED_OUT), found.count("done")) == (1, 8)


@pytest.mark.slow
def test_waiting_is_not_limited() -> None:
    assert answers(sleep, [LIMIT * 1.5] * 2) == ["done"] * 2


@pytest.mark.slow
def test_a_stopped_process_loses_no_time(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = (
        "import sys; from pathlib import Path; from tests.trainable.test_process_pool import *\n"
        "print(answers(stop_halfway, [Path(sys.argv[1])]))\n"
    )
    process = start("-c", code, pid_file)

    def stopped() -> bool:
        text = pid_file.read_text() if pid_file.exists() else ""
        return bool(text) and psutil.Process(int(text)).status() == psutil.STATUS_STOPPED

    until(stopped, process)
    time.sleep(LIMIT * 1.5)  # Longer than it may work.
    os.kill(int(pid_file.read_text()), signal.SIGCONT)
    assert process.communicate(timeout=PATIENCE)[0] == "['done']\n"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["ignored", "blocked", "both"])
def test_signals_that_were_ignored_or_blocked_change_nothing(how: str) -> None:
    code = (
        "import sys; from tests.trainable.test_process_pool import *\n"
        "refuse_signals(sys.argv[1]); print(answers(spin, [20, 0.1]))\n"
    )
    done = run("-c", code, how)
    assert done.out == f"['done', Died(signal={int(process_pool.TIME_IS_UP)})]\n", done.err


def test_ctrl_c_is_blocked_in_every_process() -> None:
    # A run of its own: only its first process is started together with Python's resource tracker.
    code = (
        "from tests.trainable.test_process_pool import *\n"
        "print(answers(blocks_ctrl_c, [1]), answers(blocks_ctrl_c, [1, 2, 3]), blocks_ctrl_c(0))\n"
    )
    done = run("-c", code)
    assert done.out == "[True] [True, True, True] False\n", done.err


def test_no_more_processes_than_tasks() -> None:
    me = psutil.Process()
    before = len(me.children())
    tasks = itertools.chain([0.0])
    with closing(process_pool.call_each(spin, tasks, 50, prepare=nothing, seconds=LIMIT)) as found:
        assert next(found)[1] == "done"
        assert len(me.children()) <= before + 2  # The other is Python's resource tracker.
    assert answers(spin, []) == []


def test_workers_need_no_torch() -> None:
    # Every worker imports the script and these modules; torch takes a second and 200 MB.
    rooms = "arena.trainable.verdicts, arena.trainable.examine, arena.trainable.process_pool"
    done = run("-c", f"import sys, trainable, {rooms}; print('torch' in sys.modules)")
    assert done.out == "False\n", done.err
