"""A data folder of originals, trainable.py run over it, and what it leaves there."""

import json
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests import helpers
from tests.helpers import PATIENCE, Ended, until

import psutil


def _command(data: Path, options: tuple[object, ...], before: str) -> list[Any]:
    script = ["trainable.py"]
    if before:
        script = ["-c", f"{before}\nimport trainable\ntrainable.run(trainable.main)"]
    return [*script, "--data", data, "--workers", 2, *options]


def start(data: Path, *options: object, before: str = "") -> subprocess.Popen[str]:
    """Start trainable.py; `before` is Python code that its process runs first."""
    return helpers.start(*_command(data, options, before))


def run(data: Path, *options: object, code: int = 0, before: str = "") -> Ended:
    """Run trainable.py and check its exit code."""
    ended = helpers.run(*_command(data, options, before))
    assert ended.code == code, ended.err
    assert "Traceback" not in ended.err
    return ended


def make(data: Path, originals: dict[int, bytes | None]) -> Path:
    """Posts and their originals; None for a post without one. Returns `data`."""
    (data / "originals").mkdir(parents=True)
    with (data / "posts.jsonl").open("a") as file:
        for post, content in originals.items():
            file.write(json.dumps({"id": post, "tag_string": "solo"}) + "\n")
            if content is not None:
                (data / "originals" / str(post)).write_bytes(content)
    return data


def records(data: Path) -> dict[int, dict[str, Any]]:
    """The lines of trainable.jsonl by post."""
    lines = (data / "trainable.jsonl").read_text().splitlines()
    return {record["id"]: record for record in map(json.loads, lines)}


def verdicts(data: Path) -> dict[int, str]:
    return {post: record["verdict"] for post, record in records(data).items()}


def results(data: Path) -> dict[str, bytes]:
    """Everything a run leaves behind."""
    found = {path.name: path.read_bytes() for path in (data / "resized").iterdir()}
    found["trainable.jsonl"] = (data / "trainable.jsonl").read_bytes()
    return found


def images_in(data: Path) -> dict[int, bytes]:
    return {int(path.stem): path.read_bytes() for path in (data / "resized").glob("*.webp")}


def busy(process: subprocess.Popen[str], seconds: float = 1.5) -> psutil.Process:
    """The first worker of a run that has taken so much processor time, most of it to decode."""
    found: list[psutil.Process] = []

    def look() -> bool:
        for child in psutil.Process(process.pid).children():
            with suppress(psutil.NoSuchProcess):  # Ended just now.
                if "spawn_main" in " ".join(child.cmdline()) and child.cpu_times().user > seconds:
                    found.append(child)
        return bool(found)

    until(look, process)
    return found[0]


def gone(processes: list[psutil.Process]) -> bool:
    """Whether they all end soon."""
    return not psutil.wait_procs(processes, timeout=PATIENCE)[1]
