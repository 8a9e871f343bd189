"""validate.py through its command line: what it computes, keeps, refuses and survives."""

import json
import os
import pickle
import random
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from arena.cli import UserError
from arena.tagger import RESIZE_VERSIONS
from arena.validate import inference
from arena.validate.predictions import Batch, Cache
from demo.server import serve
from demo.tiny import SIZE, make_data, make_image, make_model, make_onnx, write_mappings
from models import card as cards
from models.card import ModelCard
from models.tagger import CardTagger, refuse_external_weights
from tests.helpers import PATIENCE, ROOT, Ended, call, doomed, kills, refused, run, start

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import average_precision_score, precision_recall_fscore_support

TAGS = [f"tag_{number}" for number in range(12)]
QUICK = ("--bootstrap", 0, "--min-count", 1)


def validate(data: Path, *models: Path | str, more: tuple[object, ...] = QUICK) -> Ended:
    names = ",".join(str(model) for model in models)
    return call("validate.py", "--data", data, "--models", names, *more)


def ok(ended: Ended) -> Ended:
    assert ended.code == 0, ended.err
    return ended


def to_run(ended: Ended) -> list[int]:
    """How many posts each model was run over, as the script says."""
    return [
        int(line.split(": ")[1].split()[0])
        for line in ended.out.splitlines()
        if " posts to run, " in line
    ]


def saved(data: Path, name: str) -> dict[str, Any]:
    held = torch.load(data / f"{name}_predictions.pt", weights_only=True)
    return {key: value.numpy() if torch.is_tensor(value) else value for key, value in held.items()}


def area_matrix(side: int, size: int) -> np.ndarray:
    """Exact area averaging in float64."""
    matrix = np.zeros((size, side))
    for row in range(size):
        low, high = row * side / size, (row + 1) * side / size
        for column in range(side):
            matrix[row, column] = max(0.0, min(high, column + 1) - max(low, column))
    return np.asarray(matrix * size / side)


def reference_square(path: Path, resize: str) -> np.ndarray:
    """The square of DESIGN's image paragraph, from Pillow (bicubic) or in float64 (area)."""
    image = Image.open(path).convert("RGB")
    side = max(image.size) if resize == "bicubic" else max(*image.size, SIZE)
    canvas = Image.new("RGB", (side, side), "white")
    canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    if resize == "bicubic":
        return np.asarray(canvas.resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.float64)
    matrix = area_matrix(side, SIZE)
    mean: np.ndarray = np.einsum("ij,jkc,lk->ilc", matrix, np.asarray(canvas, np.float64), matrix)
    return np.asarray(np.rint(mean))


def reference_scores(
    data: Path, post_ids: np.ndarray, image: dict[str, Any], weights: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    rows = []
    for post_id in post_ids:
        square = reference_square(data / "resized" / f"{post_id}.webp", image["resize"])
        if image["channels"] == "bgr":
            square = square[:, :, ::-1]
        square = (square * image["scale"] - image["mean"]) / image["std"]
        grid = square.reshape(4, SIZE // 4, 4, SIZE // 4, 3).mean(axis=(1, 3))
        rows.append(grid.transpose(2, 0, 1).reshape(-1) @ weights[0] + weights[1])
    scores: np.ndarray = 1 / (1 + np.exp(-np.array(rows)))
    return scores


LOGITS_IMAGE = {
    "pad": "square",
    "resize": "bicubic",
    "channels": "rgb",
    "layout": "nchw",
    "scale": 1 / 255,
    "mean": [0.4, 0.5, 0.6],
    "std": [0.2, 0.3, 0.25],
}


@pytest.mark.slow
def test_every_file_and_number_of_a_run(tmp_path: Path) -> None:
    posts = make_data(tmp_path, 60)
    # An alias chain, a self-alias, an inactive row; implications that chain over an alias.
    write_mappings(
        tmp_path,
        [("old_3", "older"), ("older", "tag_3"), ("tag_5", "tag_5"), ("tag_4", "no", "deleted")],
        [("tag_0", "tag_1"), ("tag_1", "old_3"), ("tag_9", "tag_10"), ("tag_2", "x", "pending")],
    )
    a = make_model(tmp_path, "a", ["old_3", *TAGS], seed=1)  # Two outputs land on tag_3.
    image = {**LOGITS_IMAGE}
    card = {"activation": "sigmoid", "threshold": {"general": 0.45, "character": 0.52}}
    b_tags = [tag for tag in reversed(TAGS) if tag != "tag_7"]
    rows = ["tag_id,name,category,count", "0,explicit,9,5"]
    rows += [f"{i},{tag},{4 if tag == 'tag_0' else 0},9" for i, tag in enumerate(b_tags)]
    (tmp_path / "b.csv").write_text("\n".join(rows) + "\n")
    b = make_model(
        tmp_path,
        "b",
        ["explicit", *b_tags],
        card={**card, "tags": "b.csv", "label": "B | <b>"},
        image=image,
        logits=True,
        seed=2,
        bias=-0.1,
    )
    ended = ok(validate(tmp_path, a, b, more=("--bootstrap", 100, "--min-count", 25)))

    # Ground truth by a brute-force closure.
    alias = {"old_3": "tag_3", "older": "tag_3"}
    implied = {"tag_0": {"tag_1"}, "tag_1": {"tag_3"}, "tag_9": {"tag_10"}}
    sets = {}
    for post in posts:
        tags = {alias.get(tag, tag) for tag in post["tag_string"].split()}
        while more := set().union(*(implied.get(tag, set()) for tag in tags)) - tags:
            tags |= more
        sets[post["id"]] = tags
    counts = {tag: sum(tag in tags for tags in sets.values()) for tag in TAGS}
    common = sorted(
        (tag for tag in TAGS if tag != "tag_7" and counts[tag] >= 25),
        key=lambda tag: (-counts[tag], tag),
    )
    ids = sorted(sets)
    truth = torch.load(tmp_path / "ground_truth.pt", weights_only=True)
    assert truth["tags"] == common
    assert truth["post_ids"].tolist() == ids
    assert truth["ground_truth"].dtype == torch.bool
    assert truth["ground_truth"].tolist() == [[tag in sets[post] for tag in common] for post in ids]
    lines = (tmp_path / "validation_post_ids.txt").read_text()
    assert lines == "".join(f"{post_id}\n" for post_id in ids)

    # Predictions against float64.
    first, second = saved(tmp_path, "a"), saved(tmp_path, "b")
    assert first["predictions"].dtype == np.float32
    assert first["predictions"].shape == (60, 13)
    assert first["tags"] == ["tag_3", *TAGS]
    assert (first["model"], first["post_ids"].tolist()) == ("a", ids)
    a_image = {"resize": "area", "channels": "bgr", "scale": 0.0039, "mean": 0, "std": 1}
    expected = reference_scores(
        tmp_path, np.array(ids), a_image, make_onnx(tmp_path / "x", 13, seed=1)
    )
    np.testing.assert_allclose(first["predictions"], expected, atol=1e-4)
    weights = make_onnx(tmp_path / "x", 12, seed=2, bias=-0.1)
    expected = reference_scores(tmp_path, np.array(ids), image, weights)
    np.testing.assert_allclose(second["predictions"], expected, atol=2e-3)

    # Metrics against scikit-learn, from the files.
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    y = truth["ground_truth"].numpy()
    merged = np.stack(
        [
            first["predictions"][:, [i for i, t in enumerate(first["tags"]) if t == tag]].max(
                axis=1
            )
            for tag in common
        ],
        axis=1,
    )
    order = [second["tags"].index(tag) for tag in common]
    tests = [
        (merged, np.full(len(common), 0.5)),
        (second["predictions"][:, order], np.where(np.array(common) == "tag_0", 0.52, 0.45)),
    ]
    table = [line for line in ended.out.splitlines() if line.startswith("|")]
    detailed = (tmp_path / "detailed_metrics.txt").read_text().split("\n\n")
    for number, (scores, threshold) in enumerate(tests):
        p, r, f1, _ = precision_recall_fscore_support(
            y, scores >= threshold.astype(np.float32), average=None, zero_division=0
        )
        ap = [average_precision_score(y[:, i], scores[:, i]) for i in range(len(common))]
        per_tag = metrics["models"][number]["per_tag"]
        for name, values in {"precision": p, "recall": r, "f1": f1, "ap": ap}.items():
            np.testing.assert_allclose(per_tag[name], values, atol=1e-9)
        for value in (np.mean(p), np.mean(r), np.mean(f1), np.mean(ap)):
            assert f" {value:.4f} " in table[2 + number]
        label = ["Tiny", "B | <b>"][number]
        line = (
            f"{label:<20}: Precision {p[0]:.4f}, Recall {r[0]:.4f}, F1 {f1[0]:.4f}, AP {ap[0]:.4f}"
        )
        assert detailed[0].splitlines()[0] == common[0]
        assert detailed[0].splitlines()[1 + number] == line
    assert metrics["posts"] == {"count": 60, "min_id": ids[0], "max_id": ids[-1]}
    assert f"60 posts, min id {ids[0]}, max id {ids[-1]}" in ended.out


def test_a_tag_is_predicted_where_any_of_its_outputs_reaches_its_own_threshold(
    tmp_path: Path,
) -> None:
    """An output's category decides its threshold, whatever the tag's other outputs are."""
    make_data(tmp_path, 60)
    aliases: list[tuple[str, ...]] = [
        ("old_3", "tag_3"),
        ("older_3", "tag_3"),
        ("old_5", "tag_5"),
        ("old_7", "tag_7"),
    ]
    write_mappings(tmp_path, aliases, [])
    outputs = {  # Name: category, in an order in which neither first nor last is right.
        **dict.fromkeys(TAGS, "0"),
        "old_3": "4",
        "older_3": "0",
        "old_5": "character",
        "old_7": "0",
        "explicit": "9",
    }
    rows = "".join(f"{name},{category}\n" for name, category in outputs.items())
    (tmp_path / "a.csv").write_text("name,category\n" + rows)
    own = {"general": 0.5, "character": 0.53}
    card = {"tags": "a.csv", "threshold": own}
    model = make_model(tmp_path, "a", list(outputs), card=card, seed=11)
    rival = make_model(tmp_path, "b", TAGS, card={"label": "Rival"}, seed=4)
    ok(validate(tmp_path, model, rival, more=("--bootstrap", 100, "--min-count", 1)))

    truth = torch.load(tmp_path / "ground_truth.pt", weights_only=True)
    held, tags, y = saved(tmp_path, "a"), truth["tags"], truth["ground_truth"].numpy()
    categories = ["character" if c in ("4", "character") else "general" for c in outputs.values()]
    scores, predicted = np.zeros(y.shape), np.zeros(y.shape, bool)
    by_one_threshold = []
    for place, tag in enumerate(tags):
        columns = [i for i, name in enumerate(held["tags"]) if name == tag]
        cuts = np.array([own[categories[column]] for column in columns], np.float32)
        scores[:, place] = held["predictions"][:, columns].max(axis=1)
        predicted[:, place] = (held["predictions"][:, columns] >= cuts).any(axis=1)
        most = scores[~predicted[:, place], place].max(initial=0)
        by_one_threshold.append(most < scores[predicted[:, place], place].min(initial=1))
    apart = {tag for tag, one in zip(tags, by_one_threshold, strict=True) if not one}
    assert apart and apart <= {"tag_3", "tag_5"}
    p, r, f1, _ = precision_recall_fscore_support(y, predicted, average=None, zero_division=0)
    ap = [average_precision_score(y[:, place], scores[:, place]) for place in range(len(tags))]
    results = json.loads((tmp_path / "metrics.json").read_text())
    entry = results["models"][0]
    for name, values in {"precision": p, "recall": r, "f1": f1, "ap": ap}.items():
        np.testing.assert_allclose(entry["per_tag"][name], values, atol=1e-9)
    assert entry["overall"]["own"]["macro"]["f1"]["value"] == pytest.approx(f1.mean())
    pooled = precision_recall_fscore_support(y.ravel(), predicted.ravel(), average="binary")
    assert entry["overall"]["own"]["micro"]["f1"]["value"] == pytest.approx(pooled[2])
    blocks = (tmp_path / "detailed_metrics.txt").read_text().split("\n\n")
    for place, tag in enumerate(tags):
        figures = zip(("Precision", "Recall", "F1", "AP"), (p, r, f1, ap), strict=True)
        line = ", ".join(f"{name} {values[place]:.4f}" for name, values in figures)
        assert blocks[place].splitlines()[:2] == [tag, f"{'Tiny':<20}: {line}"]


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
    np.testing.assert_array_equal(saved(tmp_path, "a")["predictions"], fresh)
    # A threshold or an alias changes no score.
    a.write_text(a.read_text().replace("threshold = 0.5", "threshold = 0.4"))
    write_mappings(tmp_path, [("tag_2", "tag_11")], [])
    assert to_run(ok(validate(tmp_path, a))) == [0]
    assert saved(tmp_path, "a")["tags"].count("tag_11") == 2
    assert to_run(ok(validate(tmp_path, a, more=(*QUICK, "--fresh")))) == [30]


def test_scores_of_pixels_as_they_were_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_data(tmp_path, 12)
    area = make_model(tmp_path, "a", TAGS)
    bicubic = make_model(tmp_path, "b", TAGS, image={"resize": "bicubic"})
    assert to_run(ok(validate(tmp_path, area, bicubic))) == [12, 12]
    monkeypatch.setitem(RESIZE_VERSIONS, "area", RESIZE_VERSIONS["area"] + 1)
    assert to_run(ok(validate(tmp_path, area, bicubic))) == [12, 0]


EAGER = """
import arena.validate.inference
# Finished batches are written at once, not every 15 seconds.
arena.validate.inference.FLUSH_SECONDS = 0
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    data, report = tmp_path / "data", tmp_path / "steps"
    make_data(data, 600)
    models = [make_model(data, name, TAGS, seed=seed) for seed, name in enumerate("ab")]
    args = ("--models", ",".join(map(str, models)), *QUICK, "--batch-size", 7)
    ok(doomed("validate", data, *args, step=0, report=report, before=EAGER))
    steps = int(report.read_text())
    files = ["a_predictions.pt", "b_predictions.pt", "detailed_metrics.txt", "metrics.json"]
    undisturbed = {name: (data / name).read_bytes() for name in files}
    dice = random.Random(4)
    resumed = []
    for _ in range(kills(6)):
        for path in [*data.glob("*_predictions.*"), data / "detailed_metrics.txt"]:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        step = dice.randint(1, steps)
        doomed("validate", data, *args, step=step, report=report, before=EAGER)
        resumed += to_run(ok(validate(data, *models, more=(*QUICK, "--batch-size", 7))))
        for name in files:
            assert (data / name).read_bytes() == undisturbed[name], name
        assert not list(data.rglob("*.tmp"))
    assert any(0 < count < 600 for count in resumed), resumed


# validate.py whose network says what it has done, and does nothing more after thirty batches.
WEARY = """
import time
from models.onnx import OnnxNetwork
outputs, batches = OnnxNetwork.outputs, 0
def weary(self, images):
    global batches
    batches += 1
    if batches > 30:
        print("thirty batches are done", flush=True)
        while True:
            time.sleep(0.05)  # In small parts: a signal just before one would wait for its end.
    return outputs(self, images)
OnnxNetwork.outputs = weary
import validate
validate.run(validate.main)
"""


@pytest.mark.slow
def test_ctrl_c_keeps_finished_batches(tmp_path: Path) -> None:
    make_data(tmp_path, 400)
    model = make_model(tmp_path, "a", TAGS)
    process = start("-c", WEARY, "--data", tmp_path, "--models", model, *QUICK)
    assert process.stdout
    assert "400 posts to run" in process.stdout.readline()
    assert "thirty batches are done" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert to_run(ok(validate(tmp_path, model))) == [400 - 30 * inference.CPU_BATCH]


@pytest.mark.slow
def test_a_second_run_over_the_same_folder_is_refused(tmp_path: Path) -> None:
    make_data(tmp_path, 600)
    model = make_model(tmp_path, "a", TAGS)
    process = start("validate.py", "--data", tmp_path, "--models", model, *QUICK)
    assert process.stdout
    process.stdout.readline()
    process.send_signal(signal.SIGSTOP)  # So that it cannot end too soon.
    refused(validate(tmp_path, model), "validate.py", str(process.pid))
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate()
    assert process.returncode == 0, err


def test_a_fixed_batch_is_kept_and_said(tmp_path: Path) -> None:
    make_data(tmp_path, 11)
    free = make_model(tmp_path, "free", TAGS, seed=3)
    fixed = make_model(tmp_path, "fixed", TAGS, seed=3, batch=3)
    ended = ok(validate(tmp_path, free, fixed, more=(*QUICK, "--min-count", 1)))
    assert "fixed" in ended.err and "3 image(s) at a time" in ended.err
    np.testing.assert_allclose(
        saved(tmp_path, "fixed")["predictions"],
        saved(tmp_path, "free")["predictions"],
        atol=1e-6,
    )


def test_posts_that_a_model_may_have_seen(tmp_path: Path) -> None:
    posts = make_data(tmp_path, 40)
    newest = posts[14]["id"]
    old = make_model(tmp_path, "old", TAGS, card={"label": "Old"})
    new = make_model(tmp_path, "new", TAGS, card={"last_post_id": newest, "label": "New"})
    ended = ok(validate(tmp_path, old, new))
    rows = [line for line in ended.out.splitlines() if line.startswith("|")]
    assert "*" in rows[3] and "*" not in rows[2]
    assert f"New may have been trained on 15 of the 40 posts (ids up to {newest})" in ended.err
    ended = ok(validate(tmp_path, old, new, more=(*QUICK, "--unseen-only")))
    assert "may have been" not in ended.err
    ids = (tmp_path / "validation_post_ids.txt").read_text().split()
    assert ids == [str(post["id"]) for post in posts[15:]]
    new.write_text(new.read_text().replace(str(newest), "7000000"))
    refused(validate(tmp_path, old, new, more=(*QUICK, "--unseen-only")), "7000000", "--start-id")


def test_post_ids_repeat_a_run(tmp_path: Path) -> None:
    posts = make_data(tmp_path, 30)
    model = make_model(tmp_path, "a", TAGS)
    wanted = tmp_path / "wanted.txt"
    wanted.write_text("\n".join(str(post["id"]) for post in posts[5:25]) + "\n")
    more = (*QUICK, "--post-ids", wanted, "--posts", 3)
    ok(validate(tmp_path, model, more=more))
    assert (tmp_path / "validation_post_ids.txt").read_text() == wanted.read_text()
    wanted.write_text(wanted.read_text() + "99\n")
    assert "of the 21 posts" in ok(validate(tmp_path, model, more=more)).err
    wanted.write_text("12\n1O\n")
    refused(validate(tmp_path, model, more=more), "line 2", "1O")
    refused(validate(tmp_path, model, more=(*QUICK, "--post-ids", "no.txt")), "no.txt")


@pytest.mark.parametrize(
    ("card", "image", "network", "words"),
    [
        ({}, {}, {"tags": 11}, ["11 outputs", "12 tags", "'tags'"]),
        ({}, {"size": 64}, {"size": 32}, ["'image.size'"]),
        ({}, {"layout": "nchw"}, {"layout": "nhwc"}, ["'image.layout'"]),
        ({}, {}, {"half": True}, ["float16", "'file'"]),
        ({}, {}, {"logits": True}, ["logits", 'activation = "sigmoid"']),
        ({"activation": "sigmoid"}, {}, {}, ['activation = "none"']),
        ({}, {}, {"bias": float("nan")}, ["no numbers", "image.scale"]),
    ],
)
def test_a_wrong_model_is_caught_at_once(
    tmp_path: Path,
    card: dict[str, Any],
    image: dict[str, Any],
    network: dict[str, Any],
    words: list[str],
) -> None:
    make_data(tmp_path, 12)
    path = make_model(tmp_path, "wrong", TAGS, card=card, image=image)
    options = {"tags": len(TAGS), **network}
    options.setdefault("size", {"size": SIZE, **image}["size"])
    make_onnx(tmp_path / "wrong.onnx", **options)
    refused(validate(tmp_path, path), "wrong", *words)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("threshold = 0.5", "treshold = 0.5", ["unknown key 'treshold'"]),
        ("threshold = 0.5\n", "", ["key 'threshold' is missing"]),
        ("threshold = 0.5", 'threshold = "0.5"', ["'threshold'", "a number"]),
        ("threshold = 0.5", "threshold = 1.5", ["'threshold'", "0 to 1"]),
        ('kind = "onnx"', 'kind = "tflite"', ["'kind'", "onnx or joytag"]),
        ('source = "."', 'source = "nowhere"', ["'source'", "org/name"]),
        ('source = "."', 'source = "./nowhere"', ["nowhere/bad.txt is missing"]),
        ('source = "."', 'source = "some/where"', ["'revision'"]),
        ('file = "bad.onnx"', 'file = "../bad.onnx"', ["'file'", "inside"]),
        ("size = 32", "size = true", ["'image.size'", "whole number"]),
        ("size = 32", "sise = 32", ["unknown key 'image.sise'"]),
        ("std = [1.0, 1.0, 1.0]", "std = [1.0, 0.0, 1.0]", ["'image.std'", "above 0"]),
        ('label = "Tiny"', "label = Tiny", ["not valid TOML"]),
    ],
)
def test_a_wrong_card_names_its_file_and_key(
    tmp_path: Path, old: str, new: str, words: list[str]
) -> None:
    make_data(tmp_path, 12)
    path = make_model(tmp_path, "bad", TAGS)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    refused(validate(tmp_path, path), "bad", *words)


def test_too_few_resamples_are_refused(tmp_path: Path) -> None:
    refused(call("validate.py", "--data", tmp_path, "--bootstrap", 1), "0 or at least 100")


def test_what_is_missing_is_named_with_what_to_do(tmp_path: Path) -> None:
    refused(call("validate.py", "--data", tmp_path / "no"), "--data")
    refused(call("validate.py", "--data", tmp_path), "download.py --tags-only")
    make_data(tmp_path, 12)
    refused(call("validate.py", "--data", tmp_path), "wd-v1-4-vit-tagger-v2", "export_sw.py")
    refused(validate(tmp_path, "no-such"), "no-such", "joytag")
    refused(validate(tmp_path, tmp_path / "no.toml"), "no.toml")
    model = make_model(tmp_path, "a", TAGS)
    other = make_model(tmp_path, "b", ["unlike", "these"])
    refused(validate(tmp_path, model, other), "no tag in common")
    refused(validate(tmp_path, model, more=(*QUICK, "--min-count", 99)), "--min-count")
    refused(validate(tmp_path, model, model), "names a twice", "name it once")
    refused(validate(tmp_path, model, more=(*QUICK, "--device", "cuda")), "--device cpu")
    refused(validate(tmp_path, model, more=("--posts", "many")), "--posts")
    (tmp_path / "a.onnx").write_bytes((tmp_path / "a.onnx").read_bytes()[:900])
    refused(validate(tmp_path, model), "a.onnx", "'file'")
    (tmp_path / "posts.jsonl").rename(tmp_path / "elsewhere")
    refused(validate(tmp_path, other), "posts.jsonl", "download.py")
    (tmp_path / "elsewhere").rename(tmp_path / "posts.jsonl")
    shutil.rmtree(tmp_path / "resized")
    refused(validate(tmp_path, other), "resized", "trainable.py")
    (tmp_path / "resized").mkdir()
    refused(validate(tmp_path, other), "no post", "trainable.py")


def test_a_hostile_predictions_file_runs_nothing(tmp_path: Path) -> None:
    make_data(tmp_path, 12)
    model = make_model(tmp_path, "a", TAGS)

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "executed",))

    ok(validate(tmp_path, model))
    cut = (tmp_path / "a_predictions.pt").read_bytes()[:-700]
    for content in (pickle.dumps(Evil()), b"", b"rubbish" * 99, cut):
        (tmp_path / "a_predictions.pt").write_bytes(content)
        refused(validate(tmp_path, model), "a_predictions.pt", "--fresh")
    torch.save({"predictions": Evil()}, tmp_path / "a_predictions.pt")
    refused(validate(tmp_path, model), "a_predictions.pt", "--fresh")
    assert not (tmp_path / "executed").exists()
    ok(validate(tmp_path, model, more=(*QUICK, "--fresh")))


def test_a_pickle_of_weights_is_never_loaded(tmp_path: Path) -> None:
    make_data(tmp_path, 12)

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "executed",))

    fields = {"kind": "joytag", "file": "model.pt", "activation": "sigmoid"}
    model = make_model(tmp_path, "a", TAGS, card=fields, image=LOGITS_IMAGE)
    shutil.copy(ROOT / "demo" / "hub" / "fancyfeast" / "joytag" / "config.json", tmp_path)
    torch.save({"head.weight": Evil()}, tmp_path / "model.pt")
    refused(validate(tmp_path, model), "model.pt", "safetensors")
    assert not (tmp_path / "executed").exists()


SMALL_DISK = """
import resource, runpy, sys
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
sys.argv[0] = "validate.py"
runpy.run_path("validate.py", run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.parametrize("limit", [100, 2000, 2500, 3000])
def test_a_full_disk_is_one_line(tmp_path: Path, limit: int) -> None:
    make_data(tmp_path, 30)
    model = make_model(tmp_path, "a", TAGS)
    ended = run("-c", SMALL_DISK, limit, "--data", tmp_path, "--models", model, *QUICK)
    refused(ended, "File too large", "a_predictions")
    assert not list(tmp_path.rglob("*.tmp"))
    assert not list(tmp_path.rglob("*.pt"))
    ok(validate(tmp_path, model))


def test_weights_in_another_file_are_refused(tmp_path: Path) -> None:
    make_data(tmp_path, 12)
    model = make_model(tmp_path, "a", TAGS)
    network = onnx.load(tmp_path / "a.onnx")
    onnx.save_model(
        network,
        tmp_path / "a.onnx",
        save_as_external_data=True,
        location="a.data",
        size_threshold=0,
    )
    refused(validate(tmp_path, model), "a.onnx", "another file")


def test_weights_of_a_constant_in_another_file_are_refused_and_can_be_brought_in(
    tmp_path: Path,
) -> None:
    make_data(tmp_path, 12)
    model = make_model(tmp_path, "a", TAGS)
    ok(validate(tmp_path, model))
    network = onnx.load(tmp_path / "a.onnx")
    weight = network.graph.initializer.pop(0)
    (tmp_path / "a.data").write_bytes(weight.raw_data)
    onnx.external_data_helper.set_external_data(weight, "a.data")
    weight.ClearField("raw_data")
    constant = onnx.helper.make_node("Constant", [], [weight.name], value=weight)
    network.graph.node.insert(0, constant)
    (tmp_path / "a.onnx").write_bytes(network.SerializeToString())
    ended = validate(tmp_path, model)
    refused(ended, "a.onnx", "another file", "onnx.save(onnx.load(path), other_path)")
    onnx.save(onnx.load(tmp_path / "a.onnx"), tmp_path / "b.onnx")
    (tmp_path / "a.data").unlink()
    model.write_text(model.read_text().replace("a.onnx", "b.onnx"))
    assert to_run(ok(validate(tmp_path, model))) == [12]


def _graph(holder: Any) -> Any:
    """A graph to put tensors in: a function has none of its own, but its nodes can."""
    return holder if isinstance(holder, onnx.GraphProto) else _attribute(holder).g


def _attribute(holder: Any) -> Any:
    return holder.node.add().attribute.add()


# Every place of an ONNX file that holds nodes, graphs in graphs, and tensors.
ROOTS: list[Callable[[Any], Any]] = [
    lambda model: model.graph,
    lambda model: model.functions.add(),
    lambda model: model.training_info.add().initialization,
    lambda model: model.training_info.add().algorithm,
]
INNER: list[Callable[[Any], Any]] = [
    lambda holder: _attribute(holder).g,
    lambda holder: _attribute(holder).graphs.add(),
]
TENSORS: list[Callable[[Any], Any]] = [
    lambda holder: _graph(holder).initializer.add(),
    lambda holder: _graph(holder).sparse_initializer.add().values,
    lambda holder: _graph(holder).sparse_initializer.add().indices,
    lambda holder: _attribute(holder).t,
    lambda holder: _attribute(holder).tensors.add(),
    lambda holder: _attribute(holder).sparse_tensor.values,
    lambda holder: _attribute(holder).sparse_tensors.add().indices,
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelCard:
    return cards.card(str(make_model(tmp_path_factory.mktemp("tiny"), "a", TAGS)))


@settings(deadline=None)
@given(
    root=st.sampled_from(ROOTS),
    inner=st.lists(st.sampled_from(INNER), max_size=3),
    place=st.sampled_from(TENSORS),
)
def test_weights_in_another_file_are_refused_wherever_they_hang(
    tiny: ModelCard, root: Callable[[Any], Any], inner: list[Callable[[Any], Any]], place: Any
) -> None:
    network = onnx.load(tiny.path.with_suffix(".onnx"))
    holder = root(network)
    for step in inner:
        holder = step(holder)
    tensor = place(holder)
    card = replace(tiny, file="changed.onnx")
    file = tiny.path.with_name(card.file)
    tensor.name = "inside"
    file.write_bytes(network.SerializeToString())
    refuse_external_weights(card, file)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    file.write_bytes(network.SerializeToString())
    with pytest.raises(UserError, match="another file"):
        refuse_external_weights(card, file)


def with_outputs(path: Path, outputs: dict[str, tuple[str, Any]], last: bool) -> None:
    """Give an ONNX file outputs: name -> the operator that makes it of the scores, its type."""
    network = onnx.load(path)
    scores = network.graph.output.pop()
    network.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0]), "zero"))
    network.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(12, bool), "kept"))
    inputs = {
        "Unsqueeze": ["scores", "zero"],
        "Gather": ["scores", "zero"],
        "Compress": ["scores", "kept"],
    }
    options: dict[str, dict[str, Any]] = {
        "Cast": {"to": onnx.TensorProto.INT64},
        "Gather": {"axis": 1},
        "Compress": {"axis": 1},
    }
    for name, (operator, kind) in outputs.items():
        node = onnx.helper.make_node(
            operator, inputs.get(operator, ["scores"]), [name], **options.get(operator, {})
        )
        network.graph.node.append(node)
        network.graph.output.append(onnx.helper.make_value_info(name, kind))
    network.graph.output.insert(len(outputs) if last else 0, scores)
    onnx.save(network, path)


def floats(*shape: int | str) -> Any:
    return onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, shape)


@pytest.mark.parametrize("last", [False, True])
def test_the_only_output_that_fits_the_tags_holds_the_scores(tmp_path: Path, last: bool) -> None:
    make_data(tmp_path, 12)
    models = [make_model(tmp_path, name, TAGS, seed=3) for name in "ab"]
    others = {
        "narrow": ("Gather", floats("n", 1)),
        "deep": ("Unsqueeze", floats(1, "n", 12)),
        "whole": ("Cast", onnx.helper.make_tensor_type_proto(onnx.TensorProto.INT64, ("n", 12))),
        "listed": ("SequenceConstruct", onnx.helper.make_sequence_type_proto(floats("n", 12))),
    }
    with_outputs(tmp_path / "b.onnx", others, last)
    ok(validate(tmp_path, *models))
    first, second = (saved(tmp_path, name)["predictions"] for name in "ab")
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(("operator", "width"), [("Neg", 12), ("Compress", "width")])
def test_two_outputs_that_fit_the_tags_are_refused(
    tmp_path: Path, operator: str, width: int | str, last: bool
) -> None:
    make_data(tmp_path, 12)
    model = make_model(tmp_path, "a", TAGS)
    outputs = {"narrow": ("Gather", floats("n", 1)), "second": (operator, floats("n", width))}
    with_outputs(tmp_path / "a.onnx", outputs, last)
    ended = validate(tmp_path, model)
    refused(ended, "a: any", "'scores'", f"'second' tensor(float) (n, {width})", "12 tags")
    assert "narrow" not in ended.err


def test_no_output_that_fits_the_tags_is_refused(tmp_path: Path) -> None:
    make_data(tmp_path, 12)
    model = make_model(tmp_path, "a", TAGS)
    with_outputs(tmp_path / "a.onnx", {"narrow": ("Gather", floats("n", 1))}, last=True)
    (tmp_path / "a.txt").write_text("\n".join(TAGS[:7]))
    refused(validate(tmp_path, model), "1 and 12 outputs", "7 tags", "'tags'")


class Stub:
    """A network whose answers to a batch are what a test wants."""

    batch: int | None = None
    runs_on = "a stub"

    def __init__(self, answer: Callable[[int], torch.Tensor]) -> None:
        self._answer = answer

    def outputs(self, images: torch.Tensor) -> torch.Tensor:
        return self._answer(len(images))


@pytest.mark.parametrize("batch", [None, 5])
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda n: torch.full((n + 1, 12), 0.5), "(5, 12)"),
        (lambda n: torch.full((2 * n, 12), 0.5), "(8, 12)"),
        (lambda n: torch.full((n - 1, 12), 0.5), "(3, 12)"),
        (lambda n: torch.full((1, 12), 0.5), "(1, 12)"),
        (lambda n: torch.full((0, 12), 0.5), "(0, 12)"),
        (lambda n: torch.full((n, 11), 0.5), "(4, 11)"),
        (lambda n: torch.full((n,), 0.5), "(4,)"),
        (lambda n: torch.full((n, 12, 1), 0.5), "(4, 12, 1)"),
        (lambda n: torch.tensor(0.5), "()"),
        (lambda n: torch.full((n, 12), 0.5, dtype=torch.float64), "float64"),
        (lambda n: torch.ones((n, 12), dtype=torch.int64), "int64"),
    ],
)
def test_answers_of_another_form_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: Callable[[int], torch.Tensor],
    words: str,
    batch: int | None,
) -> None:
    make_data(tmp_path, 12)
    model = make_model(tmp_path, "odd", TAGS)
    stub = Stub(answer)
    stub.batch = batch
    monkeypatch.setattr(CardTagger, "open", lambda *_: stub)
    ended = validate(tmp_path, model, more=(*QUICK, "--batch-size", 4))
    refused(ended, "odd: for", words if batch is None else "for 5 images", "'file'")
    assert not list(tmp_path.rglob("*.pt"))


@pytest.mark.parametrize("operator", ["Concat", "ReduceMean"])
def test_an_onnx_file_that_answers_with_other_rows_is_refused(
    tmp_path: Path, operator: str
) -> None:
    make_data(tmp_path, 12)
    model = make_model(tmp_path, "odd", TAGS)
    network = onnx.load(tmp_path / "odd.onnx")
    inputs = ["scores", "scores"] if operator == "Concat" else ["scores"]
    options: dict[str, Any] = {"axis": 0} if operator == "Concat" else {"axes": [0]}
    network.graph.node.append(onnx.helper.make_node(operator, inputs, ["out"], **options))
    network.graph.output.pop()
    network.graph.output.append(onnx.helper.make_tensor_value_info("out", 1, ["m", 12]))
    onnx.save(network, tmp_path / "odd.onnx")
    rows = 8 if operator == "Concat" else 1
    ended = validate(tmp_path, model, more=(*QUICK, "--batch-size", 4))
    refused(ended, "odd: for 4 images the network gives float32", f"({rows}, 12)", "(4, 12)")
    assert not list(tmp_path.rglob("*.pt"))


CATEGORY_WORDS = {
    "general": ["0", "0.0", " 0 ", "00", "general", "General", " GENERAL"],
    "character": ["4", "4.0", " 4 ", "4.", "character", "Character"],
    "copyright": ["3", "3.00", "copyright"],
    "artist": ["1", "1.0", "Artist"],
    "meta": ["5", "5.0", "META "],
    "rating": ["9", "9.0", "rating"],
}


def test_categories_are_numbers_or_words(tmp_path: Path) -> None:
    pairs = [(name, text) for name, texts in CATEGORY_WORDS.items() for text in texts]
    lines = "".join(f"tag_{row},{text}\n" for row, (_, text) in enumerate(pairs))
    path = tmp_path / "tags.csv"
    path.write_text("name,category\n" + lines)
    assert cards.read_tags(path)[1] == [name for name, _ in pairs]


@pytest.mark.parametrize("text", ["2", "4.5", "-4", "", "generall", "nan", "٤", "4,0", "1e0", "10"])
def test_a_category_that_is_none_names_file_and_row(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tags.csv"
    path.write_text(f'name,category\nfine,0\n\nodd,"{text}"\n', encoding="utf-8")
    with pytest.raises(UserError) as error:
        cards.read_tags(path)
    assert f"{path} row 4: category {text!r}" in str(error.value)


def test_thresholds_by_category_hold_for_categories_in_words(tmp_path: Path) -> None:
    make_data(tmp_path, 30)
    found = []
    for category in ("4", "4.0", "Character"):
        rows = "".join(f"{tag},{category if tag == 'tag_0' else 0}\n" for tag in TAGS)
        (tmp_path / "a.csv").write_text("name,category\n" + rows)
        card = {"tags": "a.csv", "threshold": {"general": 0.2, "character": 0.99}}
        model = make_model(tmp_path, "a", TAGS, card=card, bias=1.0)
        ok(validate(tmp_path, model))
        results = json.loads((tmp_path / "metrics.json").read_text())
        recall = dict(
            zip(results["tag_names"], results["models"][0]["per_tag"]["recall"], strict=True)
        )
        assert recall["tag_0"] == 0 and recall["tag_11"] == 1
        found.append(recall)
    assert found[0] == found[1] == found[2]


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


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    make_data(tmp_path, 12)
    model = make_model(tmp_path, "a", TAGS)
    image = sorted((tmp_path / "resized").glob("*.webp"))[5]
    image.write_bytes(image.read_bytes()[:-40])
    refused(validate(tmp_path, model), image.name, "trainable.py")


@pytest.mark.slow
def test_models_from_the_hub(tmp_path: Path) -> None:
    make_data(tmp_path, 12)
    model = make_model(tmp_path, "a", TAGS, card={"source": "some/tagger", "revision": "v2.0"})
    repository = tmp_path / "hub" / "some" / "tagger"
    repository.mkdir(parents=True)
    for name in ("a.onnx", "a.txt"):
        (tmp_path / name).rename(repository / name)
    with serve(hub=tmp_path / "hub") as server:
        hub = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "cache")}
        args = ("--data", tmp_path, "--models", model, *QUICK)
        ended = run("validate.py", *args, env={**hub, "HF_HUB_OFFLINE": "1"})
        refused(ended, "some/tagger", "HF_HUB_OFFLINE")
        ok(run("validate.py", *args, env=hub))
        asked = len(server.requests)
        ok(run("validate.py", *args, env={**hub, "HF_HUB_OFFLINE": "1"}))
        assert len(server.requests) == asked
        # A file that was cut on the disk: what the error says to do mends it.
        (file,) = (path.resolve() for path in (tmp_path / "cache").rglob("a.onnx"))
        file.write_bytes(file.read_bytes()[:900])
        refused(run("validate.py", *args, "--fresh", env=hub), "a.onnx", f"delete {file} and run")
        file.unlink()
        ok(run("validate.py", *args, "--fresh", env=hub))
        model.write_text(model.read_text().replace("v2.0", "v9"))
        refused(run("validate.py", *args, env=hub), "v9")
