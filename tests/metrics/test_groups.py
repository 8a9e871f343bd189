"""Groups of tags and posts, curves, calibration, thresholds and example posts."""

import json

from arena.metrics import TestSet, bootstrap, by_rating, figures
from tests.metrics.helpers import Array, best_threshold, cases, evaluate, plain, sample, values_of

import numpy as np
import pytest
from hypothesis import given, settings


def test_groups_of_tags_and_posts_equal_the_figures_of_those_alone() -> None:
    scores, truth = sample(2000, 12)
    random = np.random.default_rng(1)
    ratings = random.choice(["g", "s", "e"], 2000)
    truth[:, 0] &= ratings != "g"  # A tag that is on no general post.
    categories = ["general", "artist", "meta"] * 4
    entry, _ = evaluate(scores, truth, 0.4, categories=categories)

    def expected(posts: Array, tags: Array) -> tuple[dict[str, float], dict[str, float]]:
        inside = np.ix_(posts, tags)
        each = figures.per_tag(scores[inside], truth[inside], 0.4)
        macro = {name: float(each[name].mean()) for name in ("precision", "recall", "f1", "ap")}
        return macro, plain(scores[inside].ravel() >= np.float32(0.4), truth[inside].ravel())

    everyone, all_tags = np.arange(2000), np.arange(12)
    groups = [(entry["by_category"][c], everyone, np.array(categories) == c) for c in categories]
    groups += [
        (group, everyone, (truth.sum(0) >= group["low"]) & (truth.sum(0) <= group["high"]))
        for group in entry["by_frequency"]
    ]
    assert sum(group["tags"] for group in entry["by_frequency"]) == 12
    for group, posts, tags in groups:
        tags = np.flatnonzero(tags)
        macro, micro = expected(posts, tags)
        assert group["tags"] == len(tags) > 0
        assert values_of(group["macro"], macro) == pytest.approx(macro)
        assert values_of(group["micro"]) == pytest.approx(micro)
    assert list(entry["by_category"]) == ["artist", "general", "meta"]
    totals, ids = truth.sum(axis=1), np.arange(2000)
    none = bootstrap.no_resamples(2000)
    test = TestSet(truth, ids, categories, ratings.tolist(), totals, none, ids)
    rated = by_rating(test, scores, 0.4)
    assert list(rated) == ["e", "g", "s"]
    for rating, group in rated.items():
        posts = np.flatnonzero(ratings == rating)
        macro, _ = expected(posts, np.flatnonzero(truth[posts].any(axis=0)))
        assert group["posts"] == len(posts)
        assert group["tags"] == (11 if rating == "g" else 12)
        assert values_of(group["macro"], macro) == pytest.approx(macro)
        assert values_of(group["micro"]) == pytest.approx(expected(posts, all_tags)[1])


def test_curves_and_calibration_points() -> None:
    scores, truth = sample(400, 7)
    entry, _ = evaluate(scores, truth, 0.4)
    curves = entry["curves"]
    assert curves["threshold"] == [step / 256 for step in range(1, 256)]
    for place in (0, 40, 128, 254):
        cut = curves["threshold"][place]
        each = figures.per_tag(scores, truth, cut)
        micro = plain((scores >= cut).ravel(), truth.ravel())
        for name in ("precision", "recall", "f1"):
            assert curves[f"macro_{name}"][place] == pytest.approx(each[name].mean())
            assert curves[f"micro_{name}"][place] == pytest.approx(micro[name])
    assert sum(bin["count"] for bin in entry["calibration"]) == scores.size
    for bin in entry["calibration"]:
        inside = (scores >= bin["low"]) & (scores < bin["high"])
        assert bin["count"] == inside.sum()
        assert bin["mean_score"] == pytest.approx(scores[inside].mean(dtype=float))
        assert bin["positive_rate"] == pytest.approx(truth[inside].mean())


@settings(deadline=None)
@given(cases())
def test_telling_posts_and_best_thresholds(case: tuple[Array, Array, float]) -> None:
    scores, truth, threshold = case
    entry, _ = evaluate(scores, truth, threshold)
    posts = range(len(scores))
    json.dumps(entry, allow_nan=False)
    for tag in range(scores.shape[1]):
        column, positive = scores[:, tag], truth[:, tag]
        alarms = sorted((post for post in posts if not positive[post]), key=lambda p: -column[p])
        misses = sorted((post for post in posts if positive[post]), key=lambda p: column[p])
        for name, expected in (("false_alarms", alarms), ("misses", misses)):
            found = entry["examples"][name][tag]
            assert [post for post, _ in found] == [1000 + post for post in expected[:5]]
            assert [s for _, s in found] == [round(float(column[p]), 4) for p in expected[:5]]
        cut = best_threshold(column, positive)
        assert entry["per_tag"]["best_threshold"][tag] == (cut if positive.any() else None)
        assert entry["per_tag"]["best_f1"][tag] == pytest.approx(
            plain(column >= cut, positive)["f1"]
        )


def test_own_threshold_is_named_only_where_there_is_one() -> None:
    scores, truth = sample(50, 3)
    assert evaluate(scores, truth, 0.35)[0]["overall"]["own"]["threshold"] == 0.35
    several = evaluate(scores, truth, np.array([0.35, 0.35, 0.5]))[0]
    assert several["overall"]["own"]["threshold"] is None
    same = evaluate(scores, truth, np.array([0.35, 0.35, 0.35]))[0]
    assert same["overall"]["own"]["threshold"] == 0.35


def test_score_histograms_are_numpys() -> None:
    scores, truth = sample(500, 7)
    scores[:4, 2] = (0, 1, 1 / 32, np.nextafter(np.float32(1 / 32), np.float32(0)))
    entry, _ = evaluate(scores, truth, 0.4)
    for side, there in (("positive", truth), ("negative", ~truth)):
        for tag, counted in enumerate(entry["score_histogram"][side]):
            expected, _ = np.histogram(scores[there[:, tag], tag], 32, (0, 1))
            assert counted == expected.tolist()


def test_intervals_of_a_group_of_all_tags_are_those_over_all_tags() -> None:
    scores, truth = sample(300, 120)
    found, _ = evaluate(scores, truth, 0.4, samples=bootstrap.resamples(300, 100, 0))
    own, group = found["overall"]["own"], found["by_category"]["general"]
    assert group["macro"]["ap"] == pytest.approx(found["overall"]["ap"]["macro"])
    for way, name in (("macro", "f1"), ("macro", "recall"), ("micro", "f1"), ("micro", "mcc")):
        assert group[way][name]["low"] < group[way][name]["value"]
        assert group[way][name] == pytest.approx(own[way][name])
    assert group["macro"]["precision"]["low"] is None
