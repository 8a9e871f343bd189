"""What the tests share: ways to run a script, and to check how it ended."""

import contextlib
import io
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PATIENCE = 120  # Seconds that a test waits for what should come at once.


def kills(usual: int) -> int:
    """At how many random moments a test kills a script: ARENA_KILLS=50 for a thorough run."""
    return int(os.environ.get("ARENA_KILLS", usual))


def until(condition: Callable[[], object], process: subprocess.Popen[Any] | None = None) -> None:
    """Wait for a state, with a deadline that only something broken misses.

    With `process`, its end ends the waiting: the test fails, as the state can no longer come.
    """
    end = time.monotonic() + PATIENCE
    while not condition():
        # Once more after its end: it may have got there last.
        if process and process.poll() is not None and not condition():
            raise AssertionError(f"the process ended, code {process.returncode}, before its state")
        assert time.monotonic() < end, f"the state did not come within {PATIENCE} s"
        time.sleep(0.01)


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A new folder on a disk of `size`, as mount writes it; skips the test where there is none."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True
    )
    if done.returncode:
        # Only root may mount; the tests of RLIMIT_FSIZE show the same for everybody.
        pytest.skip("no permission to mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


class Ended(NamedTuple):
    """How a script ended."""

    code: int
    out: str
    err: str


def call(script: str, *args: object, env: dict[str, str] | None = None) -> Ended:
    """Run a script's own entry point in this process, which saves the imports."""
    out, err = io.StringIO(), io.StringIO()
    argv, before = sys.argv, dict(os.environ)
    code: Any = 0
    try:
        sys.argv = [script, *map(str, args)]
        os.environ.update(env or {})
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            runpy.run_path(str(ROOT / script), run_name="__main__")
    except SystemExit as ended:
        code = ended.code
    finally:
        sys.argv = argv
        os.environ.clear()
        os.environ.update(before)
    return Ended(int(code or 0), out.getvalue(), err.getvalue())


def start(
    script: str, *args: object, env: dict[str, str] | None = None, cwd: Path = ROOT
) -> subprocess.Popen[str]:
    """Start a script as a user's shell would."""
    return subprocess.Popen(
        [sys.executable, script, *map(str, args)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(script: str, *args: object, env: dict[str, str] | None = None, cwd: Path = ROOT) -> Ended:
    """Run a script as a user's shell would."""
    process = start(script, *args, env=env, cwd=cwd)
    out, err = process.communicate(timeout=240)
    return Ended(process.returncode, out, err)


# Runs a script until it is about to open, rename or remove something in a folder for the n-th time;
# there it dies as by `kill -9`. Where it goes through, it writes how many such steps there were.
DOOMED = """
import importlib, os, pathlib, signal, sys
name, folder, wanted, report = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
steps = 0
def watch(event, args):
    global steps
    if event in ("open", "os.rename", "os.remove") and str(args[0]).startswith(folder):
        steps += 1
        if steps == wanted:
            os.kill(os.getpid(), signal.SIGKILL)
sys.argv = [name + ".py", *sys.argv[5:]]
script = importlib.import_module(name)
sys.addaudithook(watch)
try:
    script.run(script.main)
finally:
    pathlib.Path(report).write_text(str(steps))
"""


def doomed(
    script: str, data: Path, *args: object, step: int, report: Path, before: str = ""
) -> Ended:
    """Run a script (its module's name) that is killed at its `step`-th file operation in `data`.

    The moments differ in what is on disk: a file may be written and not yet renamed. `before` is
    run first. Where it has fewer steps, and with step 0, the script goes through, and `report` gets
    their number.
    """
    report.unlink(missing_ok=True)
    given = [script, data, step, report, "--data", data, *args]
    process = start("-c", f"{before}\n{DOOMED}", *given)
    out, err = process.communicate(timeout=240)
    assert process.returncode == (0 if report.exists() else -signal.SIGKILL), err
    assert "Traceback" not in err
    return Ended(process.returncode, out, err)


def refused(ended: Ended, *words: str) -> None:
    """Check that the script ended on one `error: …` line that has these words in it."""
    lines = [line for line in ended.err.splitlines() if not line.startswith("warning: ")]
    assert (ended.code, len(lines)) == (2, 1), ended.err
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0], f"{word!r} is not in: {lines[0]}"
