"""A newcomer's mistakes: each is one line whose advice helps."""

import itertools
import json
from pathlib import Path
from typing import Any

from arena.metrics.formulas import chance_average_precision
from arena.validate import ground_truth
from demo.tiny import make_data, make_model
from tests.helpers import call, refused
from tests.validate.helpers import QUICK, TAGS, assert_alike, ok, saved, validate

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

pytestmark = pytest.mark.slow


def warned(err: str, *words: str) -> None:
    assert any(all(word in line for word in words) for line in err.splitlines()), err


def test_the_first_step_that_is_missing_is_named(tmp_path: Path) -> None:
    refused(call("validate.py", "--data", tmp_path), f"run download.py --data {tmp_path}")
    (tmp_path / "posts.jsonl").touch()
    refused(call("validate.py", "--data", tmp_path), "run download.py --tags-only")


def test_a_file_of_ones_own_model_is_not_export_sws(tmp_path: Path) -> None:
    make_data(tmp_path, 12)
    model = make_model(tmp_path, "mine", TAGS)
    (tmp_path / "mine.txt").rename(tmp_path / "elsewhere.txt")
    ended = validate(tmp_path, model)
    refused(ended, "mine.txt is missing", "put it there", "mine.toml")
    assert "export_sw" not in ended.err
    exported = make_model(tmp_path, "wd-v1-4-vit-tagger-v2", TAGS)
    (tmp_path / "wd-v1-4-vit-tagger-v2.txt").unlink()
    refused(validate(tmp_path, exported), "run export_sw.py --data")


def test_a_damaged_tags_file_says_which_key_names_it(tmp_path: Path) -> None:
    make_data(tmp_path, 12)
    model = make_model(tmp_path, "mine", TAGS, card={"tags": "mine.csv"})
    (tmp_path / "mine.csv").write_text("name,category\na,0\nb\n")
    refused(validate(tmp_path, model), "mine.csv row 3", "'tags'", "mine.toml")


def test_spaces_and_homes_in_a_list_of_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_data(tmp_path, 12)
    make_model(tmp_path, "a", TAGS)
    make_model(tmp_path, "b", TAGS, seed=2)
    monkeypatch.setenv("HOME", str(tmp_path))
    given = ("--models", "~/a.toml, ~/b.toml ,", *QUICK)
    ok(call("validate.py", "--data", tmp_path, *given))
    assert (tmp_path / "a_predictions.pt").exists() and (tmp_path / "b_predictions.pt").exists()


@pytest.mark.parametrize(
    ("given", "meant"),
    [("JoyTag", "joytag"), ("SmilingWolf", "wd-v1-4-vit-tagger-v2"), ("joytags", "joytag")],
)
def test_a_label_in_place_of_a_name(tmp_path: Path, given: str, meant: str) -> None:
    make_data(tmp_path, 12)
    refused(validate(tmp_path, given), f"did you mean {meant}?")


def test_tags_with_spaces_are_read_with_underscores(tmp_path: Path) -> None:
    make_data(tmp_path, 12)
    plain, spaced = make_model(tmp_path, "a", TAGS), make_model(tmp_path, "b", TAGS)
    (tmp_path / "b.txt").write_text("\n".join(tag.replace("_", " ") for tag in TAGS))
    ended = ok(validate(tmp_path, plain, spaced))
    assert "b: 12 tags, such as 'tag 0', are read with _ for spaces" in ended.out
    one, other = json.loads((tmp_path / "metrics.json").read_text())["models"]
    assert_alike(other["per_tag"], one["per_tag"])


def test_tags_that_are_on_no_post(tmp_path: Path) -> None:
    make_data(tmp_path, 12)
    strange = make_model(tmp_path, "strange", [f"other{n}" for n in range(12)])
    refused(validate(tmp_path, strange), "none of strange's 12 tags", "'other0'", "'tags'")
    mixed = make_model(tmp_path, "mixed", [*TAGS[:3], *(f"other{n}" for n in range(9))])
    warned(ok(validate(tmp_path, mixed)).err, "mixed: 10 of its 12 tags", "'other0'", "'tag_")
    usual = make_model(tmp_path, "usual", [*TAGS, *(f"other{n}" for n in range(30))])
    assert "usual:" not in ok(validate(tmp_path, usual)).err


@pytest.mark.parametrize("posts", [90, 400])
def test_a_model_that_ranks_like_chance(tmp_path: Path, posts: int) -> None:
    rng = np.random.default_rng(0)
    make_data(tmp_path, posts)
    rare = [json.loads(line) for line in (tmp_path / "posts.jsonl").read_text().splitlines()]
    for post in rare:
        post["tag_string"] = " ".join(tag for tag in TAGS if rng.random() < 0.05) or "solo"
    (tmp_path / "posts.jsonl").write_text("".join(json.dumps(post) + "\n" for post in rare))
    model = make_model(tmp_path, "dice", TAGS)
    err = ok(validate(tmp_path, model)).err
    if posts < 100:
        assert "random" not in err
    else:
        warned(err, "dice", "near that of random scores", "order", "--check dice")


@pytest.mark.parametrize("support", range(1, 8))
def test_the_average_precision_of_chance_is_the_mean_over_all_orders(support: int) -> None:
    orders = itertools.combinations(range(7), support)
    found = [
        average_precision_score(np.isin(np.arange(7), order), -np.arange(7.0)) for order in orders
    ]
    assert chance_average_precision(support, 7) == pytest.approx(np.mean(found))


def test_another_tags_file_after_a_finished_run(tmp_path: Path) -> None:
    make_data(tmp_path, 12)
    model = make_model(tmp_path, "a", TAGS)
    ok(validate(tmp_path, model))
    (tmp_path / "a.txt").write_text("\n".join(["new", *TAGS[1:]]))
    ended = ok(validate(tmp_path, model))
    assert "0 posts to run" in ended.out
    assert saved(tmp_path, "a")["tags"] == ["new", *TAGS[1:]]
    (tmp_path / "a.txt").write_text("\n".join([*TAGS, "more"]))
    refused(validate(tmp_path, model), "12 scores", "13 tags", "'tags'")


def crafted(found: dict[str, Any], kind: str) -> dict[str, Any]:
    scores, ids, images = (found[key] for key in ("predictions", "post_ids", "images"))
    many = 5_000_000_000
    return (
        found
        | {
            "requires_grad": {"predictions": scores.requires_grad_()},
            "sparse": {"predictions": scores.to_sparse()},
            "narrow": {"predictions": scores[:, :5].contiguous()},
            "billions of rows": {
                "predictions": scores[:1].expand(many, -1),
                "post_ids": ids[:1].expand(many),
                "images": images[:1].expand(many, -1),
            },
            "billions of ids": {"post_ids": ids[:1].expand(many)},
            "strided": {"predictions": torch.zeros((24, 12))[::2]},
            "complex": {"predictions": scores.to(torch.complex64)},
            "no tensor": {"predictions": scores.tolist()},
            "tags of numbers": {"tags": list(range(12))},
            "tags of one text": {"tags": "x" * 12},
            "a key less": {"images": None},
        }[kind]
    )


@pytest.mark.parametrize(
    "kind",
    [
        "requires_grad",
        "sparse",
        "narrow",
        "billions of rows",
        "billions of ids",
        "strided",
        "complex",
        "no tensor",
        "tags of numbers",
        "tags of one text",
        "a key less",
    ],
)
def test_crafted_predictions_are_one_line(tmp_path: Path, kind: str) -> None:
    make_data(tmp_path, 12)
    model = make_model(tmp_path, "a", TAGS)
    ok(validate(tmp_path, model))
    path = tmp_path / "a_predictions.pt"
    torch.save(crafted(torch.load(path, weights_only=True), kind), path)
    refused(validate(tmp_path, model), str(path), "move it elsewhere", "--fresh")
    ok(validate(tmp_path, model, more=(*QUICK, "--fresh")))


@pytest.mark.parametrize("tenths", [0, 2, 4, 9])
def test_predictions_cut_short_are_one_line_and_fresh_removes_them(
    tmp_path: Path, tenths: int
) -> None:
    make_data(tmp_path, 40, tags=300)
    model = make_model(tmp_path, "a", [f"tag_{n}" for n in range(300)])
    ok(validate(tmp_path, model))
    path = tmp_path / "a_predictions.pt"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * tenths // 10])
    refused(validate(tmp_path, model), str(path), "--fresh")
    ok(validate(tmp_path, model, more=(*QUICK, "--fresh")))


def test_files_that_the_original_library_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_data(tmp_path, 12)

    class Original:
        def __init__(self, folder: Path) -> None:
            for name in ("tag_blacklist.txt", "tag_deprecations.txt"):
                (folder / name).read_text()

    monkeypatch.setattr(ground_truth, "TagMappings", Original)
    ended = validate(tmp_path, make_model(tmp_path, "a", TAGS))
    refused(ended, "tag_blacklist.txt is missing", "empty file")
    assert "download.py" not in ended.err
