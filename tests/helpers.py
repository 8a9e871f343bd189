"""What the tests of validate.py share: a small data folder, tiny ONNX taggers, and ways to run."""

import contextlib
import io
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

ROOT = Path(__file__).parent.parent
SIZE = 32  # Of the tiny taggers' input.
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


def make_image(path: Path, rng: np.random.Generator) -> None:
    """A resized image of some blocks of colour."""
    width, height = (int(side) for side in rng.integers(20, 90, 2))
    blocks = rng.integers(0, 256, (3, 3, 3), dtype=np.uint8)
    Image.fromarray(blocks).resize((width, height), Image.Resampling.BICUBIC).save(
        path, "WEBP", quality=80
    )


def make_data(
    folder: Path, count: int, *, seed: int = 0, first: int = 6_700_000, tags: int = 12
) -> list[dict[str, Any]]:
    """A data folder as download.py and trainable.py leave it, with random posts. Returns them."""
    rng = np.random.default_rng(seed)
    (folder / "resized").mkdir(parents=True, exist_ok=True)
    (folder / "metadata").mkdir(exist_ok=True)
    posts = []
    for number in range(count):
        post_id = first + 3 * number
        make_image(folder / "resized" / f"{post_id}.webp", rng)
        carried = [f"tag_{tag}" for tag in range(tags) if rng.random() < 0.2 + 0.05 * tag]
        posts.append(
            {
                "id": post_id,
                "rating": "gsqe"[number % 4],
                "tag_string": " ".join(carried),
                "tag_string_general": " ".join(carried[1:]),
                "tag_string_character": " ".join(carried[:1]),
            }
        )
    with (folder / "posts.jsonl").open("w") as file:
        for post in reversed(posts):
            file.write(json.dumps(post) + "\n")
    write_mappings(folder, [], [])
    return posts


def write_mappings(
    folder: Path, aliases: list[tuple[str, ...]], implications: list[tuple[str, ...]]
) -> None:
    """Metadata files of rows (antecedent, consequent[, status])."""
    for name, rows in (("aliases", aliases), ("implications", implications)):
        with (folder / "metadata" / f"tag_{name}000000000000.json").open("w") as file:
            for row in rows:
                status = row[2] if len(row) > 2 else "active"
                fields = {"antecedent_name": row[0], "consequent_name": row[1], "status": status}
                file.write(json.dumps(fields) + "\n")


def make_onnx(
    path: Path,
    tags: int,
    *,
    seed: int = 0,
    layout: str = "nhwc",
    batch: int | str = "n",
    logits: bool = False,
    size: int = SIZE,
    half: bool = False,
    bias: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """A tagger that is a linear map of a 4 x 4 grid of mean colours. Returns its map and bias."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(0, 0.02, (48, tags)).astype(np.float32)
    offset = np.full(tags, bias, np.float32)
    shape = [batch, size, size, 3] if layout == "nhwc" else [batch, 3, size, size]
    nodes = [
        helper.make_node("Transpose", ["images"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node(
            "AveragePool",
            ["nchw" if layout == "nhwc" else "images"],
            ["grid"],
            kernel_shape=[size // 4] * 2,
            strides=[size // 4] * 2,
        ),
        helper.make_node("Flatten", ["grid"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "offset"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["scores"]),
    ]
    if layout != "nhwc":
        del nodes[0]
    if logits:
        del nodes[-1]
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    if half:
        weight, offset = weight.astype(np.float16), offset.astype(np.float16)
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", kind, shape)],
        [helper.make_tensor_value_info("logits" if logits else "scores", kind, [batch, tags])],
        [
            numpy_helper.from_array(weight, "weight"),
            numpy_helper.from_array(offset, "offset"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return weight, offset


CARD: dict[str, Any] = {
    "label": "Tiny",
    "kind": "onnx",
    "source": ".",
    "file": "tiny.onnx",
    "tags": "tiny.txt",
    "threshold": 0.5,
    "last_post_id": 5_000_000,
    "activation": "none",
}
IMAGE: dict[str, Any] = {
    "size": SIZE,
    "pad": "at_least",
    "resize": "area",
    "channels": "bgr",
    "layout": "nhwc",
    "scale": 0.0039,
    "mean": [0.0, 0.0, 0.0],
    "std": [1.0, 1.0, 1.0],
}


def toml(card: dict[str, Any], image: dict[str, Any]) -> str:
    """A model's TOML text; JSON's texts, numbers and lists are TOML's too."""
    tables = {key: value for key, value in card.items() if isinstance(value, dict)}
    lines = [f"{k} = {json.dumps(v)}" for k, v in card.items() if k not in tables]
    for name, table in {**tables, "image": image}.items():
        lines += [f"[{name}]", *(f"{k} = {json.dumps(v)}" for k, v in table.items())]
    return "\n".join(lines) + "\n"


def make_model(
    folder: Path,
    name: str,
    tags: list[str],
    *,
    card: dict[str, Any] | None = None,
    image: dict[str, Any] | None = None,
    **network: Any,
) -> Path:
    """A tiny ONNX tagger in a data folder, its tags and its TOML file, whose path it gives."""
    fields = {**CARD, "file": f"{name}.onnx", "tags": f"{name}.txt", **(card or {})}
    settings = {**IMAGE, **(image or {})}
    make_onnx(folder / fields["file"], len(tags), **{"layout": settings["layout"], **network})
    if not (folder / fields["tags"]).exists():
        (folder / fields["tags"]).write_text("\n".join(tags) + "\n")
    path = folder / f"{name}.toml"
    path.write_text(toml(fields, settings))
    return path
