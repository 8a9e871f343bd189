"""What is around a run: closed outputs, odd names, limits, pipes, file systems without locks."""

import contextlib
import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from arena import cli
from arena.data_folder import DataFolder
from demo.tiny import make_data, make_model
from tests.helpers import PATIENCE, ROOT, call, refused, start, until
from tests.validate.helpers import QUICK, TAGS, ok, validate

import pytest


def folder(path: Path) -> Path:
    """A data folder with one model, whose card it gives."""
    make_data(path, 12)
    return make_model(path, "a", TAGS)


@pytest.mark.slow
@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)])
def test_closed_outputs(tmp_path: Path, closed: tuple[int, ...]) -> None:
    card = folder(tmp_path)
    command = ["validate.py", "--data", tmp_path, "--models", card, *QUICK]
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        preexec_fn=lambda: [*map(os.close, closed)],
        check=False,
    )
    assert done.returncode == 0
    assert (tmp_path / "report.html").exists()
    ok(validate(tmp_path, card))  # What was printed is in no file of the folder.


@pytest.mark.slow
def test_few_open_files(tmp_path: Path) -> None:
    card = folder(tmp_path)
    limited = f"ulimit -n 32; exec {sys.executable} validate.py --data {tmp_path} --models {card}"
    options = "--bootstrap 0 --min-count 1 --workers 16"
    done = subprocess.run(
        ["sh", "-c", f"{limited} {options}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == 0 or (done.returncode == 2 and "ulimit -n" in done.stderr)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("can't start new thread"), "ulimit -u"),
        (OSError(errno.EAGAIN, "Resource temporarily unavailable"), "ulimit -u"),
        (OSError(errno.EMFILE, "Too many open files", "/data/x"), "/data/x: Too many open files"),
        (OSError(errno.EMFILE, "Too many open files", "/data/x"), "ulimit -n"),
        (OSError(errno.ENOSPC, "No space left on device", "/data/x"), "/data/x: No space left"),
    ],
)
def test_limits_are_one_line_with_a_remedy(
    capsys: pytest.CaptureFixture[str], error: Exception, words: str
) -> None:
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        cli.run(main)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and words in line


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    card = folder(tmp_path)

    def flock(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    ended = ok(validate(tmp_path, card))
    assert f"{tmp_path} has no locks" in ended.err and "validate.py" in ended.err


def test_what_cannot_be_locked_for_another_reason_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = folder(tmp_path)

    def flock(*_: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", flock)
    refused(validate(tmp_path, card), ".validate.lock: Input/output error")


MAKERS: dict[str, Callable[[Path], None]] = {"pipe": os.mkfifo, "folder": Path.mkdir}


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("script", ["download.py", "trainable.py", "validate.py"])
def test_pipes_and_folders_where_shared_files_belong(
    tmp_path: Path, script: str, kind: str
) -> None:
    card = folder(tmp_path)
    data = DataFolder(tmp_path)
    more = ("--models", card, *QUICK) if script == "validate.py" else ()
    for path in data.files:
        path.unlink(missing_ok=True)
        MAKERS[kind](path)
        refused(call(script, "--data", tmp_path, *more), f"{path} is not a file", "move it")
        path.rmdir() if kind == "folder" else path.unlink()
    for path in data.folders:
        kept = path.exists() and path.rename(tmp_path / "kept")
        path.touch()
        refused(call(script, "--data", tmp_path, *more), f"{path} is not a folder", "move it")
        path.unlink()
        if kept:
            kept.rename(path)


@pytest.mark.parametrize("kind", MAKERS)
def test_pipes_and_folders_where_models_and_predictions_belong(tmp_path: Path, kind: str) -> None:
    card = folder(tmp_path)
    ok(validate(tmp_path, card))
    for name in ("a_predictions.pt", "a.onnx", "a.txt", "a.toml"):
        path = tmp_path / name
        path.rename(tmp_path / "kept")
        MAKERS[kind](path)
        done = validate(tmp_path, card)
        if name in ("a.onnx", "a.txt"):  # Then its predictions are scored.
            assert str(path) in ok(done).err
        else:
            refused(done, str(path))
        path.rmdir() if kind == "folder" else path.unlink()
        (tmp_path / "kept").rename(path)
    image = tmp_path / "resized" / "1.webp"
    MAKERS[kind](image)
    assert "0 posts to run" in ok(validate(tmp_path, card)).out


def test_a_name_that_is_not_utf_8(tmp_path: Path) -> None:
    data = tmp_path / os.fsdecode(b"\xff data")
    data.mkdir()
    card = folder(data)
    refused(validate(data, card), r"\udcff data is not a name in UTF-8", "rename")


STUCK = """
import ctypes, signal, sys
import models.onnx
def stuck(network, images, padding):
    # Another thread takes the signal, and native code does not come back.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    print("stuck", flush=True)
    ctypes.CDLL(None).sleep(100000)
models.onnx.OnnxNetwork.outputs = stuck
import validate
validate.run(validate.main)
"""


@pytest.mark.slow
def test_ctrl_c_ends_native_code_that_does_not_come_back(tmp_path: Path) -> None:
    card = folder(tmp_path)
    process = start("-c", STUCK, "--data", tmp_path, "--models", card, *QUICK)
    assert process.stdout
    while "stuck" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert err == "stopped; finished work is kept, run the same command to go on\n"


def test_in_another_thread_a_script_runs_without_ctrl_c() -> None:
    codes: list[Any] = []

    def script() -> None:
        try:
            cli.run(lambda: None)
        except SystemExit as ended:
            codes.append(ended.code)

    thread = threading.Thread(target=script)
    thread.start()
    thread.join()
    assert codes == [0]


def test_runs_in_one_process_leave_nothing_open(tmp_path: Path) -> None:
    def pipes() -> int:
        found = 0
        for number in os.listdir("/proc/self/fd"):  # noqa: PTH208
            with contextlib.suppress(OSError):  # Its own, which is closed again.
                found += os.readlink(f"/proc/self/fd/{number}").startswith("pipe:")  # noqa: PTH115
        return found

    before = pipes()
    for _ in range(5):
        call("trainable.py", "--data", tmp_path)
    until(lambda: pipes() <= before)
    until(lambda: not any(thread.name == cli.WATCH for thread in threading.enumerate()))
