"""Fitted thresholds, figures of images and of rare tags, against plain references."""

import csv
import io
from typing import Any

from arena.metrics import bootstrap, compare, compare_tags, terms
from arena.metrics.formulas import thresholds
from arena.metrics.terms import Fit
from arena.report import text
from tests.metrics.helpers import (
    Array,
    ap,
    cases,
    centred,
    cross_fitted,
    drawn,
    evaluate,
    evaluation,
    f1_of_posts,
    fitted,
    plain,
    sample,
)

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_recall_curve


def fits(
    scores: Array, truth: Array, half: Array, categories: list[str], fewest: int
) -> dict[str, Fit]:
    once = bootstrap.no_resamples(len(scores))
    counts = bootstrap.count(scores, truth, thresholds(0.5, len(categories)), once, half)
    return terms.fits(counts, categories, fewest)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(cases(), st.integers(0, 6), st.integers(0, 99))
def test_thresholds_and_what_they_give_on_the_other_half_equal_brute_force(
    case: tuple[Array, Array, float], fewest: int, seed: int
) -> None:
    scores, truth, _ = case
    half = np.random.default_rng(seed).integers(0, 2, len(scores))  # One may be empty.
    categories = [("general", "character")[tag % 2] for tag in range(scores.shape[1])]
    found = fits(scores, truth, half, categories, fewest)
    assert list(found) == ["one", "category", "tag"]
    for kind, fit in found.items():
        cut = fitted(scores, truth, kind, categories, fewest)
        assert fit.threshold.tolist() == cut
        for predicted, tp, every in (
            (scores >= np.array(cut, np.float32), fit.tp, fit.predicted),
            (
                cross_fitted(scores, truth, half, kind, categories, fewest),
                fit.crossed_tp,
                fit.crossed_predicted,
            ),
        ):
            assert tp.tolist() == (predicted & truth).sum(axis=0).tolist()
            assert every.tolist() == predicted.sum(axis=0).tolist()


def test_near_duplicates_on_both_sides_of_a_cross_fit_flatter_it() -> None:
    random = np.random.default_rng(0)
    posts, tags = 300, 200
    truth = np.repeat(random.random((posts, tags)) < 0.1, 2, axis=0)
    scores = np.repeat(random.random((posts, tags), np.float32), 2, axis=0)  # They know nothing.
    apart, together = np.arange(2 * posts) % 2, np.arange(2 * posts) // 2 % 2

    def macro_f1(half: Array) -> float:
        predicted = fits(scores, truth, half, ["general"] * tags, 0)["tag"]
        return float(
            np.mean(2 * predicted.crossed_tp / (predicted.crossed_predicted + truth.sum(axis=0)))
        )

    at_random = f1_score(truth, np.ones_like(truth), average="macro")  # All that can be had.
    assert macro_f1(together) < at_random < 0.9 * macro_f1(apart)


def test_recall_at_a_precision_when_there_are_more_scores_than_steps() -> None:
    scores, truth = sample(3000, 20)
    samples = bootstrap.resamples(3000, 5, 1)
    entry, table = evaluate(scores, truth, 0.4, samples=samples)

    def expected(rows: Array) -> dict[str, float]:
        precision, recall, _ = precision_recall_curve(truth[rows].ravel(), scores[rows].ravel())
        at = {f"recall_at_precision_{p:.2f}": recall[precision >= p].max() for p in (0.9, 0.8)}
        return at | {"precision_at_recall_0.50": precision[recall >= 0.5].max()}

    overall = entry["overall"]
    for name, value in expected(np.arange(3000)).items():
        assert overall[name[:-5]][name[-4:]]["value"] == pytest.approx(value, abs=1e-12)
    for number in range(5):
        for name, value in expected(np.repeat(np.arange(3000), drawn(samples)[:, number])).items():
            assert table[name][number] == pytest.approx(value, abs=2e-3)


def test_figures_of_images_and_gaps_on_common_tags_have_intervals() -> None:
    scores, truth = sample(2000, 9)
    samples = bootstrap.resamples(2000, 100, 1)
    overall = evaluate(scores, truth, 0.4, samples=samples)[0]["overall"]
    rows = [np.repeat(np.arange(2000), times) for times in drawn(samples).T]
    predicted = scores >= np.float32(0.4)

    def check(figure: dict[str, float], of: Any) -> None:
        value = of(np.arange(2000))
        assert figure["value"] == pytest.approx(value)
        resampled = np.array([of(each) for each in rows])
        assert [figure["low"], figure["high"]] == pytest.approx(centred(resampled, value))

    check(
        overall["per_image"]["f1"],
        lambda posts: f1_of_posts(truth[posts], predicted[posts]),
    )
    counts = truth.sum(axis=0)
    assert overall["min_count"].keys() == {"10", "30", "100", "300"}
    for least in (10, 100, 300):
        inside = np.flatnonzero(counts >= least)
        assert least == 10 or 0 < len(inside) < 9
        found = overall["min_count"][str(least)]
        assert found["f1"] == {
            "value": pytest.approx(
                np.mean([plain(predicted[:, tag], truth[:, tag])["f1"] for tag in inside])
            ),
            "low": None,  # Of one model; the gap of two has an interval.
            "high": None,
        }
        assert found["ap"]["value"] == pytest.approx(
            np.mean([ap(scores[:, tag], truth[:, tag]) for tag in inside])
        )


def test_min_counts_that_no_tag_reaches_are_left_out() -> None:
    scores, truth = sample(50, 3)
    overall = evaluate(scores, truth, 0.4)[0]["overall"]
    assert overall["min_count"].keys() == {"10", "30"}
    overall = evaluate(scores, np.zeros_like(truth), 0.4)[0]["overall"]
    assert "min_count" not in overall


def test_a_pair_says_which_tags_are_won() -> None:
    truth = np.array([[1, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0]], bool)
    scores = np.zeros((3, 5), np.float32)
    a, b = scores.copy(), scores.copy()
    a[0, 0] = b[0, 1] = a[0, 2] = b[0, 2] = 1  # Tags 0 to 2: a, b, both have it right.
    b[0, 3] = 1  # Tag 3: b has it wrong and ranks the post that carries it last.
    one, other = evaluation(a, truth, 0.5), evaluation(b, truth, 0.5)
    assert compare_tags(one, other) == {
        "f1": {"wins": 1, "losses": 1, "ties": 3, "both_zero": 2},
        "ap": {"wins": 1, "losses": 1, "ties": 3, "both_zero": 1},
    }
    turned = compare_tags(other, one)["ap"]
    assert (turned["wins"], turned["losses"], turned["ties"]) == (1, 1, 3)


def test_the_gap_on_common_tags_is_that_of_these_tags_alone() -> None:
    scores, truth = sample(400, 12)
    samples = bootstrap.resamples(400, 100, 1)
    a, b = (evaluation(each, truth, 0.4, samples=samples) for each in (scores, np.sqrt(scores)))
    common = truth.sum(axis=0) >= 100
    assert 0 < common.sum() < 12
    alone = [
        evaluation(each[:, common], truth[:, common], 0.4, samples=samples)
        for each in (scores, np.sqrt(scores))
    ]
    expected = compare(*alone)
    found = compare(a, b)["min_count"]["100"]
    for name, of_these in (("f1", expected["own"]["macro"]["f1"]), ("ap", expected["ap"]["macro"])):
        assert found[name]["value"] == pytest.approx(of_these["value"])
        if of_these["low"] is None:  # AP, which both models have the same.
            assert found[name]["low"] is found[name]["high"] is None
        else:  # How much further than resamples it spreads is that of all tags.
            assert found[name] == pytest.approx(of_these, rel=0.02)
    assert found["f1"]["low"] < found["f1"]["value"] < found["f1"]["high"]


def test_thresholds_csv_gives_the_f1_that_it_says() -> None:
    scores, truth = sample(300, 8)
    names, categories = [f"tag {tag}" for tag in range(8)], ["general", "character"] * 4
    truth[:, 0] &= np.arange(300) < 150  # Few enough for its category's threshold.
    truth[:50, 1:] |= np.arange(50)[:, None] < 25
    entry, _ = evaluate(scores, truth, 0.4, categories=categories)
    counts = truth.sum(axis=0)
    assert counts[0] < terms.FEWEST <= counts[1:].min()
    model = {"name": "=m", **entry}
    given = {"models": [model], "tag_names": names, "tag_counts": counts.tolist()}
    rows = list(csv.DictReader(io.StringIO(text.thresholds_csv(given))))
    assert {row["model"] for row in rows} == {"'=m"}
    kinds = ["one", "category", "category", *["tag"] * 8]
    assert [row["kind"] for row in rows] == kinds
    assert [row["name"] for row in rows] == ["all", "character", "general", *names]
    assert [row["fitted_on"] for row in rows] == [*kinds[:3], "category", *["tag"] * 7]
    for row in rows:
        inside = [
            tag
            for tag in range(8)
            if row["kind"] == "one" or row["name"] in (names[tag], categories[tag])
        ]
        # As a program would: float64 beside float32.
        predicted = scores[:, inside].astype(float) >= float(row["threshold"])
        f1 = f1_score(truth[:, inside], predicted, average="macro") if len(inside) > 1 else 0.0
        if len(inside) == 1:
            f1 = f1_score(truth[:, inside[0]], predicted[:, 0])
        assert float(row["f1"]) == pytest.approx(f1, abs=6e-7)
        assert int(row["positives"]) == counts[inside].sum()
    for kind, several in (("one", rows[:1]), ("category", rows[1:3])):
        predicted = cross_fitted(scores, truth, np.arange(300) % 2, kind, categories, 0)
        for row in several:
            inside = [t for t in range(8) if kind == "one" or categories[t] == row["name"]]
            f1 = f1_score(truth[:, inside], predicted[:, inside], average="macro")
            assert float(row["cross_fit_f1"]) == pytest.approx(f1, abs=6e-7)
