"""download.py that is killed, stopped, started twice at once, or out of disk space."""

import hashlib
import random
import signal
from pathlib import Path
from typing import Any

from demo.server import Faults, serve
from tests.download.helpers import (
    FAST,
    NO_LOGIN,
    arguments,
    download,
    expected,
    fetchable,
    make_site,
    originals,
    saved_posts,
    site_posts,
)
from tests.helpers import PATIENCE, doomed, kills, start, until

import pytest

LIMIT = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))"  # Bytes a file.


@pytest.mark.slow
def test_killed_at_random_moments(
    site: Path, data: Path, tmp_path: Path, undisturbed: tuple[Any, dict[str, str]]
) -> None:
    dice = random.Random(0)
    report = tmp_path / "steps"

    def files() -> list[Path]:
        return list((data / "originals").glob("[!.]*"))

    with serve(site, faults=Faults(0.2, retry_after=0)) as server:
        args = ("--url", server.url, *FAST, "--workers", 2)
        for kill in range(kills(20)):
            if kill % 2:
                # Few steps are left near the end: then it may get through.
                step = dice.randint(1, 200)
                doomed("download", data, *args, step=step, report=report)
            else:
                process = start(
                    "download.py", *arguments(data, server.url, "--workers", 2), env=NO_LOGIN
                )
                goal = len(files()) + dice.randint(0, 60)
                until(lambda goal=goal, ran=process: len(files()) >= goal or ran.poll() == 0)  # type: ignore[misc]
                process.kill()
                assert "Traceback" not in process.communicate()[1]
            for path in files():
                assert undisturbed[1][path.name] == hashlib.md5(path.read_bytes()).hexdigest()
            if len(files()) == len(undisturbed[1]):  # Take something away and go on.
                for path in files()[::2]:
                    path.unlink()
        download(data, server.url)
    assert (saved_posts(data), originals(data)) == undisturbed


def test_ctrl_c_ends_at_once(site: Path, data: Path) -> None:
    silence = 2 * PATIENCE  # Longer than this test would wait.
    faults = Faults(0.3, kinds=["stall"], stall=silence)
    with serve(site) as server:
        process = start(
            "download.py", *arguments(data, server.url, "--timeout", silence), env=NO_LOGIN
        )
        until(lambda: len(list(data.glob("originals/*"))) >= 5, process)
        server.faults = faults
        until(lambda: server.failed["stall"] >= 4, process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert err == "stopped; finished work is kept, run the same command to go on\n"
    left = originals(data)
    assert len(left) >= 5
    assert left.items() <= expected(site_posts(site)).items()
    assert not list(data.rglob(".*.tmp"))


@pytest.mark.slow
def test_a_full_disk(tmp_path: Path, data: Path) -> None:
    make_site(tmp_path / "site", 30, size=100_000)
    with serve(tmp_path / "site") as server:
        download(data, server.url, "--tags-only")
        done = download(data, server.url, code=2, before=LIMIT.format(80_000))
        assert "File too large" in done.err
        assert originals(data) == {}
        done = download(tmp_path, server.url, code=2, before=LIMIT.format(200))
        assert {path.name for path in tmp_path.glob("metadata/*")} <= {"site.txt"}
        (data / "posts.jsonl").unlink()
        (data / "walked.jsonl").unlink()
        download(data, server.url, code=2, before=LIMIT.format(2000))
        assert (data / "posts.jsonl").read_bytes() == b""
        download(data, server.url)
    assert len(originals(data)) == len(fetchable(site_posts(tmp_path / "site")))


def test_folders_that_cannot_be_written(site: Path, data: Path, tmp_path: Path) -> None:
    with serve(site) as server:
        (data / "originals").write_text("a file")
        assert str(data / "originals") in download(data, server.url, code=2).err
        missing = tmp_path / "missing"
        assert "missing is not a folder" in download(missing, server.url, code=2).err
        download(Path("/proc"), server.url, code=2)


@pytest.mark.slow
def test_two_at_once(site: Path, data: Path) -> None:
    with serve(site) as server:
        first = start("download.py", *arguments(data, server.url), env=NO_LOGIN)
        until(lambda: server.requests, first)
        first.send_signal(signal.SIGSTOP)  # So that it cannot end too soon.
        done = download(data, server.url, code=2)
        first.send_signal(signal.SIGCONT)
        assert f"{data} is in use by download.py (process {first.pid}" in done.err
        first.communicate(timeout=PATIENCE)
        assert first.returncode == 0
    assert originals(data) == expected(site_posts(site))
