"""Results of another selection are kept, and --out puts results where one wants them."""

import json
import os
import shutil
from pathlib import Path

from arena.data_folder import DataFolder
from arena.validate import earlier
from demo.tiny import make_data, make_model
from tests.helpers import refused
from tests.validate.helpers import QUICK, TAGS, ok, validate

import numpy as np
import pytest

pytestmark = pytest.mark.slow


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in DataFolder(folder).results if path.exists())


def held(folder: Path) -> dict[str, bytes]:
    """What each file in a folder holds that results are in."""
    every = [file for path in DataFolder(folder).results for file in (path, *path.glob("*"))]
    return {str(file.relative_to(folder)): file.read_bytes() for file in every if file.is_file()}


ALL = sorted(path.name for path in DataFolder(Path()).results)


def test_results_of_another_selection_are_kept(tmp_path: Path) -> None:
    make_data(tmp_path, 12)
    a, b = (make_model(tmp_path, name, TAGS, seed=seed) for seed, name in enumerate("ab"))
    first = ok(validate(tmp_path, a))
    again = ok(validate(tmp_path, a))
    before = (tmp_path / "metrics.json").read_bytes()
    assert "earlier" not in first.out + again.out
    assert not (tmp_path / "earlier").exists()
    kept: list[Path] = []
    for models, more in (((a, b), QUICK), ((a, b), (*QUICK, "--posts", 9))):
        done = ok(validate(tmp_path, *models, more=more))
        told = [line for line in done.out.splitlines() if "earlier" in line]
        assert len(told) == 1
        new = set((tmp_path / "earlier").iterdir()) - set(kept)
        kept += new
        assert len(new) == 1
        assert str(*new) in told[0]
        assert names(*new) == names(tmp_path) == ALL
    assert (kept[0] / "metrics.json").read_bytes() == before
    assert len(json.loads((kept[1] / "metrics.json").read_text())["models"]) == 2


def test_a_kill_in_between_loses_nothing(tmp_path: Path) -> None:
    make_data(tmp_path, 12)
    model = make_model(tmp_path, "a", TAGS)
    ok(validate(tmp_path, model))
    whole = held(tmp_path)
    for count in range(len(ALL)):
        folder = tmp_path / f"killed-{count}"
        folder.mkdir()
        out = DataFolder(folder)
        for path in DataFolder(tmp_path).results:
            copy = shutil.copytree if path.is_dir() else shutil.copy2
            copy(path, folder / path.name)
        moved = out.results[:count]

        def rename(path: Path, target: Path, moved: list[Path] = moved) -> None:
            if path not in moved:
                raise KeyboardInterrupt
            shutil.move(path, target)

        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Path, "rename", rename)
            earlier.put_aside(out, np.array([1]), ["a"], TAGS)
        earlier.put_aside(out, np.array([1]), ["a"], TAGS)
        (kept,) = (folder / "earlier").iterdir()
        assert held(kept) == whole
        assert not names(folder)


def test_two_of_one_moment_have_folders_of_their_own(tmp_path: Path) -> None:
    out = DataFolder(tmp_path)
    for number in range(3):
        out.metrics.write_text(str(number))  # Of no selection that can be read.
        os.utime(out.metrics, (1_700_000_000, 1_700_000_000))
        earlier.put_aside(out, np.array([1]), ["a"], TAGS)
    kept = {path.name: (path / "metrics.json").read_text() for path in out.root.glob("earlier/*")}
    first = "2023-11-14T22-13-20Z"
    assert kept == {first: "0", f"{first}-2": "1", f"{first}-3": "2"}


def test_results_go_where_one_wants(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "a" / "b"
    make_data(data, 12)
    model = make_model(data, "a", TAGS)
    done = ok(validate(data, model, more=(*QUICK, "--out", out)))
    assert names(out) == ALL
    assert not names(data)
    assert str(out / "report.html") in done.out
    assert (data / "a_predictions.pt").exists()
    file = tmp_path / "file"
    file.write_text("")
    refused(validate(data, model, more=(*QUICK, "--out", file)), str(file))


def test_links_tell_no_folder_of_the_machine(tmp_path: Path) -> None:
    data, link = tmp_path / "data", tmp_path / "secret" / "link"
    make_data(data, 12)
    model = make_model(data, "a", TAGS)
    link.parent.mkdir()
    link.symlink_to(data)
    for given, out in ((link, data / "one"), (data, link / "two")):
        ok(validate(given, model, more=(*QUICK, "--out", out)))
        page = (data / out.name / "report.html").read_text()
        assert '"../resized"' in page and "secret" not in page
