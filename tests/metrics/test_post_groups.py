"""Figures by the age and the rating of the posts, against scikit-learn and counts written out."""

from itertools import pairwise

from arena.metrics import Decided, TestSet, bootstrap, by_age, by_rating
from tests.metrics.helpers import Array, cases, centred, drawn, plain, sample

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score


def expected(scores: Array, truth: Array, predicted: Array) -> dict[str, dict[str, float]]:
    """Macro figures over the tags that are there, micro figures over all pairs."""
    there = np.flatnonzero(truth.any(axis=0))
    each = [
        plain(predicted[:, tag], truth[:, tag])
        | {"ap": float(average_precision_score(truth[:, tag], scores[:, tag]))}
        for tag in there
    ]
    names = ("precision", "recall", "f1", "mcc", "ap")
    micro = plain(predicted.ravel(), truth.ravel())
    micro["ap"] = (
        float(average_precision_score(truth.ravel(), scores.ravel())) if truth.any() else 0.0
    )
    macro = {name: float(np.mean([tag[name] for tag in each])) if each else 0.0 for name in names}
    return {"macro": macro, "micro": micro}


@settings(deadline=None, max_examples=30)
@given(cases())
def test_slices_are_figures_of_their_posts_alone(case: tuple[Array, Array, float]) -> None:
    scores, truth, threshold = case
    ids = np.random.default_rng(len(scores)).permutation(len(scores)) * 7 + 1000
    test = TestSet(
        truth,
        ids,
        ["general"] * truth.shape[1],
        [""] * len(ids),
        truth.sum(axis=1),
        bootstrap.no_resamples(len(ids)),
        np.arange(len(ids)),
    )
    found = by_age(test, scores, threshold)
    assert len(found) == min(10, len(ids))
    sizes = [each["posts"] for each in found]
    assert sum(sizes) == len(ids) and max(sizes) - min(sizes) <= 1
    assert all(one["last"] < other["first"] for one, other in pairwise(found))
    for each in found:
        rows = np.flatnonzero((ids >= each["first"]) & (ids <= each["last"]))
        assert len(rows) == each["posts"]
        assert each["tags"] == int(truth[rows].any(axis=0).sum())
        wanted = expected(scores[rows], truth[rows], scores[rows] >= np.float32(threshold))
        for way in ("macro", "micro"):
            values = {name: figure["value"] for name, figure in each[way].items()}
            assert values == pytest.approx(wanted[way])


def test_intervals_and_tags_that_no_threshold_decides() -> None:
    scores, truth = sample(400, 6)
    samples = bootstrap.resamples(400, 100, 3)
    few = np.array([1, 4])
    predicted = np.random.default_rng(0).random((400, 2)) < 0.4
    decided = Decided(np.full(6, 0.3), few, predicted)
    above = scores >= np.float32(0.3)
    above[:, few] = predicted
    for place, each in enumerate(by_age(TestSet.plain(truth, samples), scores, decided)):
        rows = np.arange(40 * place, 40 * place + 40)
        wanted = expected(scores[rows], truth[rows], above[rows])
        for way in ("macro", "micro"):
            values = {name: figure["value"] for name, figure in each[way].items()}
            assert values == pytest.approx(wanted[way])
        found = []
        for column in drawn(samples)[rows].T:
            times = np.repeat(rows, column)
            found.append(plain(above[times].ravel(), truth[times].ravel())["f1"])
        f1 = each["micro"]["f1"]
        assert [f1["low"], f1["high"]] == pytest.approx(centred(np.array(found), f1["value"]))
        assert each["micro"]["ap"]["low"] is None and each["macro"]["f1"]["low"] is None


@settings(deadline=None, max_examples=30)
@given(cases(), st.integers(0, 99))
def test_posts_of_a_rating_have_the_figures_of_those_alone(
    case: tuple[Array, Array, float], seed: int
) -> None:
    scores, truth, threshold = case
    posts = len(scores)
    random = np.random.default_rng(seed)
    ratings = random.choice(["", "g", "s", "e"], posts)
    clusters = bootstrap.numbered(random.integers(0, posts, posts))
    samples = bootstrap.resamples(posts, 5, seed, clusters)
    ids, categories = np.arange(posts), ["general"] * truth.shape[1]
    test = TestSet(truth, ids, categories, ratings, truth.sum(axis=1), samples, clusters)
    found = by_rating(test, scores, threshold)
    assert found.keys() == {*ratings.tolist()} - {""}
    for rating, group in found.items():
        rows = np.flatnonzero(ratings == rating)
        predicted = scores >= np.float32(threshold)
        wanted = expected(scores[rows], truth[rows], predicted[rows])
        del wanted["micro"]["ap"]
        assert group["posts"] == len(rows) and group["tags"] == truth[rows].any(axis=0).sum()
        for way in ("macro", "micro"):
            values = {name: figure["value"] for name, figure in group[way].items()}
            assert values == pytest.approx(wanted[way])
        assert all(figure["low"] is None for figure in group["macro"].values())
        for name in ("precision", "recall", "f1"):
            drawn_again = [
                plain(predicted[times].ravel(), truth[times].ravel())[name]
                for times in (np.repeat(rows, column) for column in drawn(samples)[rows].T)
            ]
            figure = group["micro"][name]
            if np.std(drawn_again) < 1e-9:
                assert figure["low"] is figure["high"] is None
            else:
                of_these = centred(np.array(drawn_again), figure["value"])
                assert [figure["low"], figure["high"]] == pytest.approx(of_these)


def test_training_on_old_posts_is_a_step() -> None:
    scores, truth = sample(1000, 8)
    learnt = scores.copy()
    learnt[:500] = 0.5 * scores[:500] + 0.5 * truth[:500]
    test = TestSet.plain(truth)
    gains = [
        one["micro"]["ap"]["value"] - other["micro"]["ap"]["value"]
        for one, other in zip(by_age(test, learnt, 0.4), by_age(test, scores, 0.4), strict=True)
    ]
    assert min(gains[:5]) > 0.01 and gains[5:] == [0] * 5
