"""The cache of scores: what is run again, what is kept, what is refused."""

import os
from pathlib import Path

from arena.tagger import RESIZE_VERSIONS
from arena.validate import inference, predictions, scores
from arena.validate.predictions import Batch, Cache
from demo.tiny import make_data, make_image, make_model, make_onnx, write_mappings
from tests.helpers import refused
from tests.validate.helpers import QUICK, TAGS, assert_alike, ok, saved, to_run, validate

import numpy as np
import pytest
import torch


def test_the_cache_runs_only_what_it_lacks(tmp_path: Path) -> None:
    make_data(tmp_path, 30)
    a, b = (make_model(tmp_path, name, TAGS, seed=seed) for seed, name in enumerate("ab"))
    assert to_run(ok(validate(tmp_path, a, b, more=(*QUICK, "--posts", 20)))) == [20, 20]
    before = (tmp_path / "detailed_metrics.txt").read_bytes()
    assert to_run(ok(validate(tmp_path, a, b, more=(*QUICK, "--posts", 20)))) == [0, 0]
    assert (tmp_path / "detailed_metrics.txt").read_bytes() == before

    c = make_model(tmp_path, "c", TAGS, seed=5)
    assert to_run(ok(validate(tmp_path, a, b, c, more=(*QUICK, "--posts", 20)))) == [0, 0, 20]
    assert to_run(ok(validate(tmp_path, a, c))) == [10, 10]
    assert to_run(ok(validate(tmp_path, b, more=(*QUICK, "--posts", 5)))) == [0]
    assert len(saved(tmp_path, "b")["post_ids"]) == 20

    # A changed image concerns that post only; a new time with the old content concerns none.
    image, touched = sorted((tmp_path / "resized").glob("*.webp"))[3:5]
    make_image(image, np.random.default_rng(99))
    os.utime(touched, ns=(1, 1))
    assert to_run(ok(validate(tmp_path, a, c))) == [1, 1]
    fresh = saved(tmp_path, "a")["predictions"]
    # Other weights or image settings concern that model only.
    make_onnx(tmp_path / "c.onnx", len(TAGS), seed=6)
    assert to_run(ok(validate(tmp_path, a, c))) == [0, 30]
    a.write_text(a.read_text().replace('"bgr"', '"rgb"'))
    assert to_run(ok(validate(tmp_path, a, c))) == [30, 0]
    a.write_text(a.read_text().replace('"rgb"', '"bgr"'))
    assert to_run(ok(validate(tmp_path, a))) == [0]
    assert to_run(ok(validate(tmp_path, a, more=(*QUICK, "--fresh")))) == [30]
    assert_alike(saved(tmp_path, "a")["predictions"], fresh)
    # A threshold or an alias changes no score.
    a.write_text(a.read_text().replace("threshold = 0.5", "threshold = 0.4"))
    write_mappings(tmp_path, [("tag_2", "tag_11")], [])
    assert to_run(ok(validate(tmp_path, a))) == [0]
    assert saved(tmp_path, "a")["tags"].count("tag_11") == 2
    assert to_run(ok(validate(tmp_path, a, more=(*QUICK, "--fresh")))) == [30]


def test_a_rerun_with_all_cached_reads_each_row_of_scores_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_data(tmp_path, 30)
    a, b = (make_model(tmp_path, name, TAGS, seed=seed) for seed, name in enumerate("ab"))
    ok(validate(tmp_path, a, b))
    read: dict[float, list[int]] = {}  # Rows by the first score of their file.
    taken = predictions.taken

    def counted(mapped: np.ndarray, rows: np.ndarray) -> np.ndarray:
        read.setdefault(float(mapped[0, 0]), []).extend(rows.tolist())
        return taken(mapped, rows)

    monkeypatch.setattr(scores, "taken", counted)
    monkeypatch.setattr(predictions, "taken", counted)
    assert to_run(ok(validate(tmp_path, a, b, more=("--bootstrap", 100)))) == [0, 0]
    firsts = [float(saved(tmp_path, name)["predictions"][0, 0]) for name in "ab"]
    assert read == {first: list(range(30)) for first in firsts}


def test_scores_of_pixels_as_they_were_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_data(tmp_path, 12)
    area = make_model(tmp_path, "a", TAGS)
    bicubic = make_model(tmp_path, "b", TAGS, image={"resize": "bicubic"})
    assert to_run(ok(validate(tmp_path, area, bicubic))) == [12, 12]
    monkeypatch.setitem(RESIZE_VERSIONS, "area", RESIZE_VERSIONS["area"] + 1)
    assert to_run(ok(validate(tmp_path, area, bicubic))) == [12, 0]


def test_scores_that_cannot_be_in_a_cache_are_refused(tmp_path: Path) -> None:
    make_data(tmp_path, 12)
    model = make_model(tmp_path, "a", TAGS)
    ok(validate(tmp_path, model))
    held = torch.load(tmp_path / "a_predictions.pt", weights_only=True)
    held["predictions"][3, 4] = float("nan")
    torch.save(held, tmp_path / "a_predictions.pt")
    refused(validate(tmp_path, model), "a_predictions.pt", "--fresh")


def test_a_late_part_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_data(tmp_path, 12)
    model = make_model(tmp_path, "a", TAGS)
    write = Cache.save
    late = []

    def and_another(cache: Cache, path: Path, batch: Batch) -> None:
        write(cache, path, batch)
        if path.name == "a_predictions.pt":
            folder = cache.data.prediction_parts("a", cache.fingerprint)
            late.append(folder / "9-1.pt")
            late[0].write_bytes(path.read_bytes())

    monkeypatch.setattr(inference, "FLUSH_SECONDS", 0)  # Several parts, which have to be merged.
    monkeypatch.setattr(Cache, "save", and_another)
    ok(validate(tmp_path, model))
    assert list(late[0].parent.iterdir()) == late
