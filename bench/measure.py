"""What a call in this process, or a Python script, takes: time, processor time and peak memory."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psutil

ROOT = Path(__file__).parents[1]
# A process's peak counts what its parent held when it was started, so the parent is a small one.
LAUNCHER = """
import json, resource, subprocess, sys, time
began = time.perf_counter()
code = subprocess.call(sys.argv[2:])
seconds = time.perf_counter() - began
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "w") as file:
    json.dump([seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024], file)
sys.exit(code)
"""


class Taken(NamedTuple):
    """What something took."""

    seconds: float  # By the clock.
    processor: float  # Seconds, over all threads and, of a script, its finished processes.
    peak: float  # Bytes of memory.
    result: Any  # What the call returned, or what the script wrote on stdout.


def seconds(work: Callable[[], object]) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def call(work: Callable[[], Any]) -> Taken:
    """What a call takes; `peak` is how far memory rises above where it started."""
    Path("/proc/self/clear_refs").write_text("5")  # The peak starts again from here.
    before = _status("VmRSS")
    busy, began = time.process_time(), time.perf_counter()
    result = work()
    took, processor = time.perf_counter() - began, time.process_time() - busy
    return Taken(took, processor, _status("VmHWM") - before, result)


def peak_here() -> float:
    """The peak memory of this process, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


def script(*command: object, env: Mapping[str, str] | None = None, workers: bool = False) -> Taken:
    """What Python takes with these arguments, run in the project's folder; it must succeed.

    `peak` is that of the largest process, or, with `workers`, that of the script and its workers
    together, sampled ten times a second.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        given = [sys.executable, *map(str, command)]
        process = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, str(report), *given],
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        watch = _Watch(process.pid) if workers else None
        out, err = process.communicate()
        together = watch.end() if watch else 0
        if process.returncode:
            raise SystemExit(f"{' '.join(given)} failed:\n{out}{err}")
        took, processor, largest = json.loads(report.read_text())
    return Taken(took, processor, together if watch else largest, out)


class _Watch:
    """The peak memory of all processes below one, until `end` is called."""

    def __init__(self, pid: int) -> None:
        self._launcher = psutil.Process(pid)
        self._peak = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()

    def _sample(self) -> None:
        while not self._ended.wait(0.1):
            try:
                processes = self._launcher.children(recursive=True)
                self._peak = max(self._peak, sum(each.memory_info().rss for each in processes))
            except psutil.NoSuchProcess:
                continue

    def end(self) -> int:
        """Bytes."""
        self._ended.set()
        self._thread.join()
        return self._peak
