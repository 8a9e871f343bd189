"""Models of different vocabularies in one run: what metrics.json says beyond the common tags."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from demo.tiny import make_data, make_model, write_mappings
from tests.validate.helpers import TAGS, ok, saved, validate

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
)

MIN_COUNT = 20
RATINGS = ["general", "sensitive", "questionable", "explicit"]


def csv(path: Path, rows: list[tuple[str, int]]) -> str:
    """A tags file of names and Danbooru's numbers of categories; its name."""
    path.write_text("name,category\n" + "".join(f"{name},{number}\n" for name, number in rows))
    return path.name


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]], str]:
    """A run of four models and two means, the posts, and what was printed."""
    folder = tmp_path_factory.mktemp("run")
    posts = make_data(folder, 60)
    for post in posts[::7]:
        post["rating"] = None
    lines = [json.dumps(post) + "\n" for post in posts]
    (folder / "posts.jsonl").write_text("".join(lines))
    write_mappings(folder, [("old_3", "tag_3")], [("tag_0", "tag_1"), ("tag_9", "tag_10")])
    thresholds = {"general": 0.5, "character": 0.55, "rating": 0.5}
    # Two outputs of one tag, each with its own threshold; ratings; a tag that no post has.
    rows = [(name, 9) for name in RATINGS] + [("tag_3", 0), ("old_3", 4)]
    rows += [(tag, 0) for tag in TAGS if tag not in ("tag_3", "tag_7")] + [("nowhere", 0)]
    a = make_model(
        folder,
        "a",
        [name for name, _ in rows],
        card={"label": "A", "tags": csv(folder / "a.csv", rows), "threshold": thresholds},
        seed=1,
    )
    # The site's old ratings, in a file without categories.
    old = ["rating:safe", "rating:questionable", "rating:explicit"]
    b = make_model(folder, "b", [*TAGS[1:], *old], card={"label": "B"}, seed=2)
    c = make_model(folder, "c", [*TAGS[4:], "rating:safe"], card={"label": "C"}, seed=3)
    prefixed = [f"rating:{name}" for name in RATINGS]
    d = make_model(folder, "d", [*prefixed, *TAGS[4:]], card={"label": "D"}, seed=4)
    more = ("--bootstrap", 100, "--min-count", MIN_COUNT)
    return folder, posts, ok(validate(folder, a, b, c, d, "a+d", "b+c", more=more)).out


class Expected:
    """What the run should have found, one post and tag at a time."""

    def __init__(self, folder: Path, posts: list[dict[str, Any]]) -> None:
        self.carried = []
        votes: dict[str, Counter[str]] = {}
        for post in posts:
            tags = set(post["tag_string"].split())
            tags |= {to for tag, to in (("tag_0", "tag_1"), ("tag_9", "tag_10")) if tag in tags}
            self.carried.append(tags)
            for category in ("general", "character"):
                for tag in post[f"tag_string_{category}"].split():
                    votes.setdefault(tag, Counter())[category] += 1
        self.tags = sorted(set().union(*self.carried))
        self.truth = np.array([[tag in tags for tag in self.tags] for tags in self.carried])
        self.category = [votes[tag].most_common(1)[0][0] for tag in self.tags]
        self.frequent = self.truth.sum(axis=0) >= MIN_COUNT
        self.files = {name: saved(folder, name) for name in "abcd"}
        self.cuts = {name: [0.5] * len(held["tags"]) for name, held in self.files.items()}
        self.cuts["a"][5] = 0.55
        for mean in ("a+d", "b+c"):
            parts = mean.split("+")
            known = list(dict.fromkeys(tag for name in parts for tag in self.files[name]["tags"]))
            every = [
                np.mean([self.scores(name, tag) for name in parts if self.columns(name, tag)], 0)
                for tag in known
            ]
            self.files[mean] = {"tags": known, "predictions": np.array(every).T}
            # Of a tag with two outputs in a part, the first one's threshold counts.
            self.cuts[mean] = [0.5] * len(known)

    def columns(self, model: str, tag: str) -> list[int]:
        return [i for i, name in enumerate(self.files[model]["tags"]) if name == tag]

    def scores(self, model: str, tag: str) -> np.ndarray:
        """(posts,)."""
        found: np.ndarray = self.files[model]["predictions"][:, self.columns(model, tag)].max(1)
        return found

    def predicted(self, model: str) -> np.ndarray:
        """bool (posts, tags): of `self.tags`, then of the others that it knows."""
        scores, names = self.files[model]["predictions"], self.files[model]["tags"]
        cuts, ratings = self.cuts[model], {*RATINGS, "safe"}
        others = [
            n for n in names if n not in self.tags and n.removeprefix("rating:") not in ratings
        ]
        every = [*self.tags, *dict.fromkeys(others)]
        found = np.zeros((len(scores), len(every)), bool)
        for place, tag in enumerate(every):
            for column in self.columns(model, tag):
                found[:, place] |= scores[:, column] >= np.float32(cuts[column])
        return found

    def knows(self, model: str) -> np.ndarray:
        return np.array([bool(self.columns(model, tag)) for tag in self.tags])

    def ap(self, model: str, place: Any) -> float:
        scores = self.scores(model, self.tags[place])
        return float(average_precision_score(self.truth[:, place], scores))


def test_each_model_against_all_tags(run: tuple[Path, list[dict[str, Any]], str]) -> None:
    folder, posts, _ = run
    metrics = json.loads((folder / "metrics.json").read_text())
    expected = Expected(folder, posts)
    for model in metrics["models"]:
        name, found = model["name"], model["all_tags"]
        predicted, truth = expected.predicted(name), expected.truth
        extra = predicted.shape[1] - truth.shape[1]
        padded = np.hstack([truth, np.zeros((len(truth), extra), bool)])
        p, r, f1, _ = precision_recall_fscore_support(padded, predicted, average="micro")
        for key, value in zip(("precision", "recall", "f1"), (p, r, f1), strict=True):
            assert found["micro"][key]["value"] == pytest.approx(value, abs=1e-9), (name, key)
        each = precision_recall_fscore_support(
            truth, predicted[:, : truth.shape[1]], average=None, zero_division=0
        )
        for inside, group in [
            (expected.frequent, found),
            *(
                (expected.frequent & (np.array(expected.category) == category), part)
                for category, part in found["by_category"].items()
            ),
        ]:
            assert group["tags"] == inside.sum()
            assert group["known"] == (inside & expected.knows(name)).sum()
            for key, values in zip(("precision", "recall", "f1"), each[:3], strict=True):
                assert group["macro"][key]["value"] == pytest.approx(values[inside].mean())
        assert found["micro"]["f1"]["low"] < found["micro"]["f1"]["value"]
    assert metrics["models"][2]["all_tags"]["known"] < metrics["models"][1]["all_tags"]["known"]


def test_each_pair_on_what_both_know(run: tuple[Path, list[dict[str, Any]], str]) -> None:
    folder, posts, _ = run
    metrics = json.loads((folder / "metrics.json").read_text())
    expected = Expected(folder, posts)
    counts = {}
    for pair in metrics["pairs"]:
        sides = {"a": pair["a"], "b": pair["b"]}
        both = expected.frequent & expected.knows(sides["a"]) & expected.knows(sides["b"])
        found = pair["shared"]
        counts[pair["a"] + pair["b"]] = found["tags"]
        for inside, group in [
            (both, found),
            *(
                (both & (np.array(expected.category) == category), part)
                for category, part in found["by_category"].items()
            ),
        ]:
            assert group["tags"] == inside.sum() > 0
            means = {}
            for side, model in sides.items():
                predicted = expected.predicted(model)[:, : len(expected.tags)]
                each = precision_recall_fscore_support(
                    expected.truth[:, inside],
                    predicted[:, inside],
                    average=None if inside.sum() > 1 else "binary",
                    zero_division=0,
                )
                aps = [expected.ap(model, place) for place in np.flatnonzero(inside)]
                means[side] = [float(np.mean(values)) for values in (*each[:3], aps)]
            means["difference"] = [a - b for a, b in zip(means["a"], means["b"], strict=True)]
            for side, values in means.items():
                figures = group[side]["macro"]
                assert [figure["value"] for figure in figures.values()] == pytest.approx(values)
        assert found["difference"]["macro"]["f1"]["low"] is not None
    assert counts["ab"] > counts["bc"] > counts["ac"] == metrics["tags"]["count"]
    assert counts["aa+d"] > counts["ad"]


def test_what_the_common_tags_lost(run: tuple[Path, list[dict[str, Any]], str]) -> None:
    folder, posts, _ = run
    metrics = json.loads((folder / "metrics.json").read_text())
    expected = Expected(folder, posts)
    known = {name: expected.knows(name) for name in "abcd"}
    counts: Counter[tuple[str, str]] = Counter()
    for place in np.flatnonzero(expected.frequent):
        lacking = "".join(name for name in "abcd" if not known[name][place])
        if lacking and lacking != "abcd":
            counts[lacking, expected.category[place]] += 1
    found = {("".join(e["models"]), e["category"]): e["tags"] for e in metrics["lost_tags"]}
    assert found == dict(counts)
    assert len(found) > 1
    numbers = [entry["tags"] for entry in metrics["lost_tags"]]
    assert numbers == sorted(numbers, reverse=True)


def test_ratings(run: tuple[Path, list[dict[str, Any]], str]) -> None:
    folder, posts, _ = run
    models = json.loads((folder / "metrics.json").read_text())["models"]
    assert models[2]["ratings"] is None  # One rating is not all.
    rated = np.array([post["rating"] is not None for post in posts])
    letters = [post["rating"] for post in posts if post["rating"]]
    assert models[5]["mean_of"] and models[5]["ratings"] is None
    of = {name: saved(folder, name)["predictions"][rated] for name in "abd"}
    four, three = ["g", "s", "q", "e"], ["gs", "q", "e"]
    for model, scores, names in (
        (models[0], of["a"][:, :4], four),
        (models[1], of["b"][:, 11:14], three),
        (models[3], of["d"][:, :4], four),
        (models[4], of["a"][:, :4] + of["d"][:, :4], four),
    ):
        true = [next(n for n, name in enumerate(names) if letter in name) for letter in letters]
        given = scores.argmax(axis=1)
        found = model["ratings"]
        assert (found["names"], found["posts"]) == (names, len(letters))
        assert found["accuracy"]["value"] == pytest.approx(accuracy_score(true, given))
        macro = f1_score(true, given, average="macro", labels=range(len(names)), zero_division=0)
        assert found["macro_f1"]["value"] == pytest.approx(macro)
        assert found["confusion"] == confusion_matrix(true, given).tolist()
        assert found["accuracy"]["low"] < found["accuracy"]["value"] < found["accuracy"]["high"]


def test_posts_without_ratings_and_one_model(tmp_path: Path) -> None:
    posts = make_data(tmp_path, 12)
    lines = [json.dumps({**post, "rating": "x"}) + "\n" for post in posts]
    (tmp_path / "posts.jsonl").write_text("".join(lines))
    names = [f"rating:{name}" for name in RATINGS]
    ok(validate(tmp_path, make_model(tmp_path, "a", [*TAGS, *names])))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    (model,) = metrics["models"]
    assert model["ratings"] is None
    assert metrics["lost_tags"] == metrics["pairs"] == []
    assert model["all_tags"]["tags"] == model["all_tags"]["known"] == metrics["tags"]["count"]
