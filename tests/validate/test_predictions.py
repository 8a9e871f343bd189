"""The predictions files of validate.py: never overwritten, never stale, never blamed wrongly."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

from arena.data_folder import DataFolder
from arena.validate import ids, inference, predictions
from demo.tiny import make_data, make_image, make_model, make_onnx
from tests.helpers import ROOT, Ended, call, refused, run
from tests.validate.helpers import QUICK, TAGS, assert_alike, content, ok, saved, to_run, validate

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st


def fingerprint(data: Path, name: str) -> str:
    """That of a model's predictions file."""
    held = torch.load(data / f"{name}_predictions.pt", weights_only=True)
    return str(held["fingerprint"])


def test_predictions_of_other_weights_are_kept_and_found_again(tmp_path: Path) -> None:
    make_data(tmp_path, 20)
    model = make_model(tmp_path, "a", TAGS, seed=0)
    ok(validate(tmp_path, model))
    first = fingerprint(tmp_path, "a")
    before = (tmp_path / "a_predictions.pt").read_bytes()
    make_onnx(tmp_path / "a.onnx", len(TAGS), seed=1)
    ended = ok(validate(tmp_path, model))
    assert to_run(ended) == [20]
    aside = tmp_path / f"a-{first[:16]}_predictions.pt"
    assert aside.read_bytes() == before
    assert [line for line in ended.out.splitlines() if aside.name in line]
    make_onnx(tmp_path / "a.onnx", len(TAGS), seed=0)
    assert to_run(ok(validate(tmp_path, model))) == [0]
    assert (tmp_path / "a_predictions.pt").read_bytes() == before
    assert not aside.exists()


@pytest.mark.slow
def test_scores_of_any_order_of_weights_settings_and_posts_are_worked_out_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "IDS_AT_ONCE", 5)
    posts = [post["id"] for post in make_data(tmp_path, 24)]
    model = make_model(tmp_path, "a", TAGS)
    original = model.read_text()
    dice = random.Random(3)
    known: dict[tuple[int, str], set[int]] = {}
    for _ in range(20):
        weights, channels = dice.randrange(3), dice.choice(["rgb", "bgr"])
        make_onnx(tmp_path / "a.onnx", len(TAGS), seed=weights)
        model.write_text(original.replace('"bgr"', json.dumps(channels)))
        asked = set(dice.sample(posts, dice.randint(12, 24)))
        (tmp_path / "asked.txt").write_text("".join(f"{post}\n" for post in sorted(asked)))
        if dice.random() < 0.3 and (tmp_path / "a_predictions.pt").exists():
            # As a run that was killed leaves them: all in parts.
            folder = DataFolder(tmp_path).prediction_parts("a", fingerprint(tmp_path, "a"))
            folder.mkdir(parents=True)
            (tmp_path / "a_predictions.pt").rename(folder / "5-0.pt")
        ended = ok(validate(tmp_path, model, more=(*QUICK, "--post-ids", tmp_path / "asked.txt")))
        have = known.setdefault((weights, channels), set())
        assert to_run(ended) == [len(asked - have)]
        have |= asked
        assert set(saved(tmp_path, "a")["post_ids"].tolist()) == have
    assert len(known) > 3


IDS = st.lists(st.integers(1, 12), max_size=14)


@given(held=IDS, wanted=IDS, at_once=st.integers(1, 4))
def test_ids_are_looked_up_as_in_a_dict(held: list[int], wanted: list[int], at_once: int) -> None:
    row_of = {post_id: row for row, post_id in enumerate(held)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ids, "IDS_AT_ONCE", at_once)
        ours = np.array(held, np.int64), np.array(wanted, np.int64)
        rows, rest = ids.rows_of(*ours), ids.without(*ours[::-1])
    assert rows.tolist() == [row_of.get(post_id, -1) for post_id in wanted]
    assert rest.tolist() == [post_id for post_id in wanted if post_id not in row_of]
    assert ids.each_once(ours[0]).tolist() == sorted(row_of)


def test_cards_of_one_name_take_turns(tmp_path: Path) -> None:
    make_data(tmp_path, 12)
    one = make_model(tmp_path, "a", TAGS, seed=0)
    ok(validate(tmp_path, one))
    other = tmp_path / "other" / "a.toml"
    other.parent.mkdir()
    make_onnx(tmp_path / "b.onnx", len(TAGS), seed=1)
    other.write_text(one.read_text().replace("a.onnx", "b.onnx"))
    assert to_run(ok(validate(tmp_path, other))) == [12]
    assert to_run(ok(validate(tmp_path, one))) == [0]


def test_a_tags_file_of_another_length_is_told_though_all_is_cached(tmp_path: Path) -> None:
    make_data(tmp_path, 12)
    model = make_model(tmp_path, "a", TAGS)
    ok(validate(tmp_path, model))
    (tmp_path / "a.txt").write_text("\n".join(TAGS[:-1]) + "\n")
    refused(validate(tmp_path, model), "12 scores", "11 tags", "'tags'")


# Too little address space for the predictions file, with all else already in place.
NARROW = """
import resource, runpy, sys
import onnx, onnxruntime, torch, arena.validate.predictions
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 200_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.argv[0] = "validate.py"
runpy.run_path("validate.py", run_name="__main__")
"""


@pytest.mark.slow
def test_too_little_memory_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    make_data(tmp_path, 12)
    model = make_model(tmp_path, "a", TAGS)
    ok(validate(tmp_path, model))
    held = saved(tmp_path, "a")
    rows = 9_000_000
    held["predictions"] = torch.zeros(rows, len(TAGS))
    held["post_ids"] = torch.arange(rows)
    held["images"] = torch.zeros(rows, 3, dtype=torch.int64)
    torch.save(held, tmp_path / "a_predictions.pt")
    for more in ((), ("--fresh",)):
        ended = run("-c", NARROW, "--data", tmp_path, "--models", model, *QUICK, *more)
        refused(ended, "a_predictions.pt", "Cannot allocate memory", "ulimit")
        assert "delete" not in ended.err
        assert (tmp_path / "a_predictions.pt").exists()


def test_a_newer_score_wins_whatever_the_clock_said(tmp_path: Path) -> None:
    make_data(tmp_path, 12)
    model = make_model(tmp_path, "a", TAGS)
    ok(validate(tmp_path, model))
    image = sorted((tmp_path / "resized").glob("*.webp"))[4]
    make_image(image, np.random.default_rng(99))
    # The old scores as a part written by a clock that was ahead.
    folder = DataFolder(tmp_path).prediction_parts("a", fingerprint(tmp_path, "a"))
    folder.mkdir(parents=True)
    (tmp_path / "a_predictions.pt").rename(folder / f"{10**19 - 1}-0.pt")
    assert to_run(ok(validate(tmp_path, model))) == [1]
    held = saved(tmp_path, "a")
    ok(validate(tmp_path, model, more=(*QUICK, "--fresh")))
    fresh = saved(tmp_path, "a")
    np.testing.assert_array_equal(held["images"], fresh["images"])
    assert_alike(held["predictions"], fresh["predictions"])


def test_images_that_change_under_a_run_are_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_data(tmp_path, 12)
    model = make_model(tmp_path, "a", TAGS)
    victim = sorted((tmp_path / "resized").glob("*.webp"))[7]
    preprocess = inference.preprocess  # type: ignore[attr-defined]
    changes = [1]

    def and_change(path: Path, *rest: Any) -> Any:
        made = preprocess(path, *rest)
        if path == victim and changes[0]:
            changes[0] -= 1
            make_image(victim, np.random.default_rng(changes[0]))
        return made

    monkeypatch.setattr(inference, "preprocess", and_change)
    ended = ok(validate(tmp_path, model))
    assert to_run(ended) == [12, 1]
    assert victim.name in ended.err
    held = saved(tmp_path, "a")
    assert held["images"][7, 0] == victim.stat().st_size
    changes[0] = 99
    make_image(victim, np.random.default_rng(1000))
    refused(validate(tmp_path, model), victim.name, "same command again")


def torchrun(*args: object) -> Ended:
    """How a script ends that two processes share."""
    env = {"PYTHONPATH": str(ROOT)}
    return run("-m", "torch.distributed.run", "--nproc-per-node=2", *args, env=env)


@pytest.mark.slow
def test_two_processes_give_what_one_does(tmp_path: Path) -> None:
    make_data(tmp_path, 50)
    models = [make_model(tmp_path, name, TAGS, seed=seed) for seed, name in enumerate("ab")]
    args = ["--data", tmp_path, "--models", ",".join(map(str, models)), *QUICK, "--batch-size", 7]
    ok(call("validate.py", *args))
    files = ["a_predictions.pt", "b_predictions.pt", "detailed_metrics.txt", "metrics.json"]
    alone = {name: content(tmp_path / name) for name in files}
    ended = ok(torchrun("validate.py", *args, "--fresh"))
    assert to_run(ended) == [50, 50]
    assert "terminate called" not in ended.err and "SIGABRT" not in ended.err, ended.err
    for name in files:
        assert_alike(content(tmp_path / name), alone[name], name)


# Process 1 says who it is; process 0, its results written, gives it time to leave.
PATIENT = """
import os, pathlib, runpy, sys, time
import arena.files
note = pathlib.Path(sys.argv.pop(1))
if os.environ["RANK"] == "1":
    note.write_text(str(os.getpid()))
else:
    write = arena.files.write_text

    def and_wait(path, text):
        write(path, text)
        if path.name == "report.html":
            end = time.monotonic() + 3
            other = pathlib.Path("/proc", note.read_text(), "stat")
            while time.monotonic() < end and other.exists() and ") Z " not in other.read_text():
                time.sleep(0.05)
            note.write_text("there" if time.monotonic() >= end else "gone")

    arena.files.write_text = and_wait
sys.argv[0] = "validate.py"
runpy.run_path("validate.py", run_name="__main__")
"""


@pytest.mark.slow
def test_no_process_leaves_before_the_results_are_written(tmp_path: Path) -> None:
    make_data(tmp_path, 12)
    model = make_model(tmp_path, "a", TAGS)
    script = tmp_path / "patient.py"
    script.write_text(PATIENT)
    note = tmp_path / "note"
    ok(torchrun(script, note, "--data", tmp_path, "--models", model, *QUICK))
    assert note.read_text() == "there"


# Process 1 reads the images of another folder.
ELSEWHERE = """
import os, pathlib, runpy, sys
from arena.data_folder import DataFolder
if os.environ["RANK"] == "1":
    other = pathlib.Path(sys.argv[1])
    DataFolder.resized_image = lambda data, post_id: other / f"{post_id}.webp"
del sys.argv[1]
sys.argv[0] = "validate.py"
runpy.run_path("validate.py", run_name="__main__")
"""


@pytest.mark.slow
def test_a_process_that_reads_older_copies_spoils_nothing(tmp_path: Path) -> None:
    make_data(tmp_path, 30)
    model = make_model(tmp_path, "a", TAGS)
    shutil.copytree(tmp_path / "resized", tmp_path / "older")
    for path in sorted((tmp_path / "resized").glob("*.webp"))[::2]:
        make_image(path, np.random.default_rng(int(path.stem)))
    args = ("--data", tmp_path, "--models", model, *QUICK, "--batch-size", 4)
    script = tmp_path / "elsewhere.py"
    script.write_text(ELSEWHERE)
    ended = ok(torchrun(script, tmp_path / "older", *args))
    assert "sees other copies" in ended.err
    shared = {name: torch.load(tmp_path / name, weights_only=True) for name in PT}
    ok(call("validate.py", *args, "--fresh"))
    for name in PT:
        alone = torch.load(tmp_path / name, weights_only=True)
        for key, value in alone.items():
            if isinstance(value, torch.Tensor):
                # A batch of another size may round another way.
                close = torch.allclose(value.double(), shared[name][key].double(), atol=1e-6)
                assert close, (name, key)


PT = ("a_predictions.pt", "ground_truth.pt")
