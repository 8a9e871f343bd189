"""What the tests of export_sw.py share."""

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import export_sw
from arena.cli import run
from bench.export import build
from demo import server as stand_in
from tests.export_sw.networks import TINY, new_keras, old_keras, scalars
from tests.export_sw.running import REPO, Export

import pytest


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """SavedModels by what wrote them."""
    folder = tmp_path_factory.mktemp("saved")
    build(folder / "vit", TINY)
    return {
        "vit": folder / "vit",
        "old keras": old_keras(folder / "old"),
        "new keras": new_keras(folder / "new"),
        "scalars": scalars(folder / "scalars"),
    }


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def export(
    data: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Export:
    """Run export_sw.py's main in this process, which has TensorFlow loaded: (code, out, err)."""

    def call(*args: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["export_sw.py", "--data", str(data), *map(str, args)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            run(export_sw.main)
        assert isinstance(end.value.code, int)
        return end.value.code, *capfd.readouterr()

    return call


@pytest.fixture
def refused(export: Export, data: Path) -> Callable[..., str]:
    """Run export_sw.py on what it must refuse: its one line. It must leave no file behind."""

    def call(*args: str | Path) -> str:
        code, out, err = export(*args)
        assert (code, out) == (2, "")
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert not list(data.glob("*.onnx")) and not list(data.glob(".*.tmp"))
        return err

    return call


@pytest.fixture
def hub(saved: dict[str, Path], tmp_path: Path) -> Iterator[SimpleNamespace]:
    """The stand-in hub with one repository, and the environment that leads to it."""
    folder = tmp_path / "hub"
    shutil.copytree(saved["vit"], folder / REPO)
    (folder / REPO / "model.onnx").write_bytes(b"never fetched")
    with stand_in.serve(hub=folder, tokens={"gated/tagger": "hf_secret"}) as server:
        yield SimpleNamespace(
            folder=folder,
            server=server,
            environment={"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "home")},
        )
