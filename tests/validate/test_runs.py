"""What a run of validate.py computes and writes, and over which posts."""

import hashlib
import json
from pathlib import Path
from typing import Any

from arena.validate import selection
from demo.tiny import SIZE, make_data, make_model, make_onnx, write_mappings
from tests.helpers import refused
from tests.validate.helpers import LOGITS_IMAGE, QUICK, TAGS, ok, saved, validate

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score, precision_recall_fscore_support


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
    listed = hashlib.sha256(lines.encode()).hexdigest()
    posts_told = {"count": 60, "min_id": ids[0], "max_id": ids[-1], "sha256": listed}
    assert posts_told.items() <= metrics["posts"].items()
    assert f"60 posts, min id {ids[0]}, max id {ids[-1]}" in ended.out


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
    old.write_text(old.read_text().replace("last_post_id", "# last_post_id"))
    refused(
        validate(tmp_path, old, new, more=(*QUICK, "--unseen-only")),
        f"each of the 40: run download.py --unseen-by {new} --data {tmp_path}, then trainable.py",
    )


def test_families_of_posts_that_a_model_may_have_seen(tmp_path: Path) -> None:
    posts = make_data(tmp_path, 40)
    newest = posts[14]["id"]
    parent_of = {
        20: posts[3]["id"],  # Its parent was seen,
        21: posts[20]["id"],  # so its child counts as well,
        22: posts[20]["id"],  # and another, although post 20 itself has no image.
        23: newest - 1,  # This parent is not here, but may have been seen.
        24: posts[39]["id"],
        25: newest + 1,
        4: newest + 2,  # A seen post whose parent is not here: its sibling counts.
        26: newest + 2,
    }
    for number, parent in parent_of.items():
        posts[number]["parent_id"] = parent
    (tmp_path / "posts.jsonl").write_text("".join(json.dumps(post) + "\n" for post in posts))
    (tmp_path / "resized" / f"{posts[20]['id']}.webp").unlink()
    model = make_model(tmp_path, "new", TAGS, card={"last_post_id": newest, "label": "New"})
    ended = ok(validate(tmp_path, model))
    said = f"New may have been trained on 19 of the 39 posts (ids up to {newest}; 4 of them only"
    assert f"{said} because of a parent, child or sibling)" in ended.err
    (entry,) = json.loads((tmp_path / "metrics.json").read_text())["models"]
    assert entry["maybe_seen"] == 19
    ended = ok(validate(tmp_path, model, more=(*QUICK, "--unseen-only")))
    assert "may have been" not in ended.err
    ids = (tmp_path / "validation_post_ids.txt").read_text().split()
    left = [post for number, post in enumerate(posts) if number >= 15 and number not in parent_of]
    unrelated = [posts[24], posts[25]]
    wanted = sorted(post["id"] for post in [*left, *unrelated] if post is not posts[20])
    assert ids == [str(post_id) for post_id in wanted]


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


def test_more_posts_than_can_be_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    posts = make_data(tmp_path, 30)
    model = make_model(tmp_path, "a", TAGS)
    monkeypatch.setattr(selection, "MOST_POSTS", 20)
    refused(validate(tmp_path, model), "30 posts are more than the 20", "--posts")
    listed = tmp_path / "all.txt"
    listed.write_text("\n".join(str(post["id"]) for post in posts))
    more = (*QUICK, "--post-ids", listed)
    refused(validate(tmp_path, model, more=more), "30 posts are more than the 20", "--post-ids")
    ok(validate(tmp_path, model, more=(*QUICK, "--posts", 20)))
