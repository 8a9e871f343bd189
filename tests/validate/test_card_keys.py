"""Keys that a card may leave out, and thresholds in a column of the tags file."""

import json
from pathlib import Path
from typing import Any

from demo.tiny import make_data, make_model
from tests.helpers import call, refused
from tests.validate.helpers import QUICK, TAGS, assert_alike, ok, saved, validate
from tests.validate.test_outputs import floats, with_outputs

import numpy as np
import pytest


def model(data: Path, name: str, lacking: tuple[str, ...] = (), **card: Any) -> Path:
    """A tiny tagger whose card has these keys, and lacks some."""
    path = make_model(data, name, TAGS, card=card)
    lines = [line for line in path.read_text().splitlines() if line.split(" =")[0] not in lacking]
    path.write_text("\n".join(lines) + "\n")
    return path


def results(data: Path) -> Any:
    return json.loads((data / "metrics.json").read_text())


def test_the_named_output_holds_the_scores(tmp_path: Path) -> None:
    make_data(tmp_path, 12)
    plain, named = model(tmp_path, "a"), model(tmp_path, "b", output="scores")
    with_outputs(tmp_path / "b.onnx", {"second": ("Neg", floats("n", 12))}, last=True)
    ok(validate(tmp_path, plain, named))
    first, second = (saved(tmp_path, name)["predictions"] for name in "ab")
    assert_alike(second, first)
    named.write_text(named.read_text().replace('output = "scores"', 'output = "third"'))
    refused(validate(tmp_path, named), "no output 'third'", "'scores'", "'second'", "b.toml")


def test_tags_from_elsewhere(tmp_path: Path) -> None:
    make_data(tmp_path, 12)
    path = model(tmp_path, "a", tags_source="./lists")
    (tmp_path / "lists").mkdir()
    (tmp_path / "a.txt").rename(tmp_path / "lists" / "a.txt")
    ok(validate(tmp_path, path))
    path.write_text(path.read_text().replace('"./lists"', '"some/where"'))
    refused(validate(tmp_path, path), "'tags_revision' is missing")


def test_a_threshold_for_each_tag(tmp_path: Path) -> None:
    make_data(tmp_path, 40)
    thresholds = np.random.default_rng(0).uniform(0.3, 0.7, 12).round(3)
    rows = [f"{tag},0,{value}" for tag, value in zip(TAGS, thresholds, strict=True)]
    (tmp_path / "a.csv").write_text("name,category,best\n" + "\n".join(rows))
    path = make_model(tmp_path, "a", TAGS, card={"tags": "a.csv", "threshold": "best"})
    ok(validate(tmp_path, path))
    found, kept = results(tmp_path), saved(tmp_path, "a")
    assert found["models"][0]["threshold"] == "best"
    recall = dict(zip(found["tag_names"], found["models"][0]["per_tag"]["recall"], strict=True))
    posts = [json.loads(line) for line in (tmp_path / "posts.jsonl").read_text().splitlines()]
    tags_of = {post["id"]: post["tag_string"].split() for post in posts}
    for column, tag in enumerate(TAGS):
        has = np.array([tag in tags_of[post_id] for post_id in kept["post_ids"]])
        reached = kept["predictions"][:, column] >= np.float32(thresholds[column])
        if has.any():
            assert recall[tag] == pytest.approx((reached & has).sum() / has.sum())


def test_a_cutoff_that_is_not_known(tmp_path: Path) -> None:
    make_data(tmp_path, 12)
    ended = ok(validate(tmp_path, model(tmp_path, "a", lacking=("last_post_id",))))
    assert "it is not known which posts Tiny was trained on" in ended.err
    assert "| Tiny? " in ended.out and "? it is not known" in ended.out
    (entry,) = results(tmp_path)["models"]
    assert entry["last_post_id"] is None and entry["maybe_seen"] is None
    table = call("validate.py", "--data", tmp_path, "--list-models").out
    assert "wd-vit-tagger-v3" in table


def test_posts_that_were_held_out_are_unseen(tmp_path: Path) -> None:
    posts = make_data(tmp_path, 400, first=6_700_000)  # Ids go up by 3: 1,200 in all.
    path = model(tmp_path, "a", last_post_id=9_000_000, held_out=[900, 999])
    ended = ok(validate(tmp_path, path, more=(*QUICK, "--unseen-only")))
    kept = saved(tmp_path, "a")["post_ids"]
    expected = [post["id"] for post in posts if 900 <= post["id"] % 1000 <= 999]
    assert kept.tolist() == expected and "may have been trained" not in ended.err
    ended = ok(validate(tmp_path, path))
    assert f"may have been trained on {400 - len(expected)} of the 400 posts" in ended.err
    assert results(tmp_path)["models"][0]["held_out"] == [900, 999]


def test_posts_that_chose_a_checkpoint_are_told(tmp_path: Path) -> None:
    posts = make_data(tmp_path, 400, first=6_700_000)
    path = model(
        tmp_path, "a", last_post_id=6_701_000, held_out=[900, 999], validated_on=[950, 999]
    )
    ended = ok(validate(tmp_path, path, more=(*QUICK, "--unseen-only")))
    kept = [post["id"] for post in posts if post["id"] > 6_701_000 or post["id"] % 1000 >= 900]
    assert saved(tmp_path, "a")["post_ids"].tolist() == kept
    chose = sum(post_id < 6_701_000 and post_id % 1000 >= 950 for post_id in kept)
    words = f"{chose} of the {len(kept)} posts (id % 1000 from 950 to 999) may have chosen Tiny's"
    (line,) = ended.err.splitlines()
    assert words in line and "they are not left out" in line
    path.write_text(path.read_text().replace("6701000", "6000000"))
    assert ok(validate(tmp_path, path, more=(*QUICK, "--unseen-only"))).err == ""


@pytest.mark.parametrize("value", [[900], [999, 900], [0, 1000], [-1, 5], [0.5, 9], []])
def test_a_window_that_is_none(tmp_path: Path, value: list[float]) -> None:
    make_data(tmp_path, 12)
    refused(validate(tmp_path, model(tmp_path, "a", held_out=value)), "'held_out'", "[900, 999]")


def test_other_stands_for_the_categories_that_are_not_named(tmp_path: Path) -> None:
    make_data(tmp_path, 30)
    kinds = {"tag_0": "character", "tag_1": "quality"}
    rows = [f"{tag},{kinds.get(tag, 'general')}" for tag in TAGS]
    (tmp_path / "a.csv").write_text("name,category\n" + "\n".join(rows))
    card = {"tags": "a.csv", "threshold": {"character": 0.99, "other": 0.2}}
    path = make_model(tmp_path, "a", TAGS, card=card, bias=1.0)
    ok(validate(tmp_path, path))
    found = results(tmp_path)
    recall = dict(zip(found["tag_names"], found["models"][0]["per_tag"]["recall"], strict=True))
    assert recall["tag_0"] == 0 and recall["tag_1"] == recall["tag_11"] == 1
    path.write_text(path.read_text().replace("other = ", "general = "))
    refused(validate(tmp_path, path), "a.toml: key 'threshold' has no quality", "other")
