"""What a run of export_sw.py finds done, writes, and leaves when it is cut short."""

import random
import re
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import export_sw
from arena.data_folder import DataFolder
from arena.export_sw import saved_model
from arena.export_sw.saved_model import tf
from tests.export_sw.networks import save
from tests.export_sw.running import NAME, Export, check_answers, script
from tests.helpers import doomed, kills

import pytest

pytestmark = pytest.mark.slow


def test_export_from_the_hub_then_offline(
    hub: SimpleNamespace, data: Path, saved: dict[str, Path]
) -> None:
    first = script(data, **hub.environment)
    assert (first.returncode, first.stderr) == (0, "")
    check_answers(data / f"{NAME}.onnx", saved["vit"])
    asked = {request.path for request in hub.server.requests}
    assert any(path.endswith("/revision/v2.0") for path in asked)
    assert not any("model.onnx" in path for path in asked)

    model, table = data / f"{NAME}.onnx", data / f"{NAME}.csv"
    before, stamp = model.read_bytes(), model.stat().st_mtime_ns
    count = len(hub.server.requests)
    again = script(data, **hub.environment, HF_HUB_OFFLINE="1")
    assert (again.returncode, again.stderr) == (0, "")
    assert "nothing to do" in again.stdout
    assert len(hub.server.requests) == count
    assert model.stat().st_mtime_ns == stamp

    # The same bytes whatever the order of Python's hashes, also when a part was lost.
    table.unlink()
    redone = script(data, **hub.environment, HF_HUB_OFFLINE="1", PYTHONHASHSEED="7")
    assert (redone.returncode, redone.stderr) == (0, "")
    assert "wrote" in redone.stdout
    assert model.read_bytes() == before
    assert table.is_file()
    assert len(hub.server.requests) == count


def test_other_weights_are_converted_anew(
    saved: dict[str, Path], data: Path, tmp_path: Path, export: Export
) -> None:
    def say(value: float) -> Path:
        bias = tf.Variable(tf.fill([4], value))
        folder = tmp_path / str(value)
        return save(folder, lambda x: tf.reduce_mean(x) * 0 + x[:, 0, :4, 0] + bias, variables=bias)

    first, second = say(0.25), say(0.5)
    assert "wrote" in export("--saved-model", first)[1]
    before = (data / f"{NAME}.onnx").read_bytes()
    assert "nothing to do" in export("--saved-model", first)[1]
    assert "wrote" in export("--saved-model", second)[1]
    assert (data / f"{NAME}.onnx").read_bytes() != before
    (data / f"{NAME}.onnx").write_bytes(before[:-100])
    assert "wrote" in export("--saved-model", first)[1]
    assert (data / f"{NAME}.onnx").read_bytes() == before


def test_kills_leave_a_whole_file_or_none(
    saved: dict[str, Path], data: Path, tmp_path: Path, export: Export
) -> None:
    args = ("--saved-model", saved["old keras"])
    model, report = data / f"{NAME}.onnx", tmp_path / "steps"
    doomed("export_sw", data, *args, step=0, report=report)
    steps = int(report.read_text())
    whole = model.read_bytes()
    dice = random.Random(5)
    for _ in range(kills(4)):
        model.unlink(missing_ok=True)
        doomed("export_sw", data, *args, step=dice.randint(1, steps), report=report)
        assert not model.exists() or model.read_bytes() == whole
    assert export(*args)[0] == 0
    assert model.read_bytes() == whole
    assert {path.name for path in data.iterdir()} == {
        f"{NAME}.onnx",
        f"{NAME}.csv",
        ".export_sw.lock",
    }


def test_a_failed_export_leaves_the_old_pair(
    saved: dict[str, Path],
    data: Path,
    tmp_path: Path,
    export: Export,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert export("--saved-model", saved["old keras"])[0] == 0
    pair = [(data / f"{NAME}{end}").read_bytes() for end in (".onnx", ".csv")]
    other = tmp_path / "other"
    shutil.copytree(saved["old keras"], other)
    first, *rows = (other / export_sw.TAGS).read_text().splitlines()
    (other / export_sw.TAGS).write_text("\n".join([first, *reversed(rows)]) + "\n")
    honest = saved_model.Signature.__call__
    with monkeypatch.context() as patch:
        patch.setattr(saved_model.Signature, "__call__", lambda s, x: honest(s, x) + 1)
        assert export("--saved-model", other)[0] == 2
    assert [(data / f"{NAME}{end}").read_bytes() for end in (".onnx", ".csv")] == pair
    assert export("--saved-model", other)[0] == 0
    assert (data / f"{NAME}.csv").read_bytes() == (other / export_sw.TAGS).read_bytes()


def test_full_disk_and_read_only_folder(saved: dict[str, Path], data: Path, export: Export) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    ended = script(data, "--saved-model", saved["old keras"], limit=small_files)
    assert ended.returncode == 2
    assert re.fullmatch(r"error: .*[Ff]ile too large.*\n", ended.stderr)
    assert not list(data.glob("*.onnx")) and not list(data.glob(".*.tmp"))
    code, _, err = export("--saved-model", saved["old keras"], "--data", data / "missing")
    assert code == 2
    assert re.fullmatch(r"error: .*missing is not a folder.*\n", err)


def test_a_second_run_names_the_holder(
    saved: dict[str, Path], data: Path, refused: Callable[..., str]
) -> None:
    from arena import files

    with files.lock(DataFolder(data), "export_sw"):
        assert "in use by export_sw.py" in refused("--saved-model", saved["old keras"])
