"""Resamples, intervals and pairs, with simulations whose truth is known."""

from arena.metrics import blocks, bootstrap, compare
from tests.metrics.helpers import (
    Array,
    ap,
    cases,
    centred,
    drawn,
    evaluate,
    evaluation,
    flat,
    plain,
    sample,
)

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


def alone(right: Array, predicted: Array) -> bootstrap.Predicted:
    """What is predicted of each tag where each post is a cluster by itself."""
    return bootstrap.Predicted(predicted, right, predicted, right, predicted, right)


def test_resamples_draw_as_many_posts_as_there_are() -> None:
    samples = bootstrap.resamples(1000, 40, 3)
    assert samples.weights.shape == (1000, 41) and (samples.weights[:, 0] == 1).all()
    weights = drawn(samples)
    assert weights.dtype == np.uint8 and weights.shape == (1000, 40)
    assert (weights.sum(axis=0, dtype=int) == 1000).all()
    assert len(np.unique(weights, axis=1).T) == 40


def test_intervals_are_the_value_and_the_spread_of_its_resamples() -> None:
    scores, truth = sample(200, 5)
    entry, table = evaluate(scores, truth, 0.4, samples=bootstrap.resamples(200, 100, 1))
    for figure, name in (
        (entry["overall"]["own"]["macro"]["f1"], "macro_f1"),
        (entry["overall"]["equal"]["micro"]["recall"], "equal_micro_recall"),
        (entry["overall"]["ap"]["micro"], "micro_ap"),
        (entry["overall"]["coverage"], "coverage"),
    ):
        assert [figure["low"], figure["high"]] == pytest.approx(
            centred(table[name], figure["value"])
        )
        assert figure["low"] < figure["value"] < figure["high"]
    overall = entry["overall"]
    bare = [overall["best"]["macro"], overall["best"]["micro"], overall["per_tag_best"]["macro"]]
    bare += [found[mean] for found in overall["cross_fit"].values() for mean in ("macro", "micro")]
    assert len(bare) == 9
    for means in bare:
        for figure in means.values():
            assert figure["low"] is figure["high"] is None
    assert all(values.shape == (100,) for values in table.values())


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=40).map(np.array),
    st.floats(0, 1),
)
def test_an_interval_contains_its_value_wherever_the_resamples_lie(
    values: Array, value: float
) -> None:
    low, high = bootstrap.interval(values, value)
    if values.std() < 1e-10:
        assert low is high is None
    if low is not None and high is not None:
        assert low < value < high
        assert [low, high] == pytest.approx(centred(values, value))


@pytest.mark.slow
@pytest.mark.parametrize("strength", [(0.0, 0.5), (0.2, 0.9), (0.8, 1.0)])
def test_macro_precision_varies_as_resamples_and_what_they_miss_say(
    strength: tuple[float, float],
) -> None:
    random = np.random.default_rng(0)
    tags = 2000
    rate = np.geomspace(0.05, 30, tags)  # Predictions of a tag in a sample.
    right = random.uniform(*strength, tags)

    def precision(tp: Array, fp: Array) -> Array:
        each: Array = tp / np.maximum(tp + fp, 1)
        return np.asarray(each.mean(axis=-1))

    def poisson(tp: Array, fp: Array, times: int) -> tuple[Array, Array]:
        return random.poisson(tp, (times, tags)), random.poisson(fp, (times, tags))

    truth = precision(*poisson(rate * right, rate * (1 - right), 2000)).var()
    resampled, missed = [], []
    for _ in range(60):
        tp, fp = random.poisson(rate * right), random.poisson(rate * (1 - right))
        resampled.append(precision(*poisson(tp, fp, 60)).var(ddof=1))
        missed.append(bootstrap.missed_variance(alone(tp, tp + fp)))
    assert np.mean(resampled) < 0.85 * truth
    assert np.mean(resampled) + np.mean(missed) == pytest.approx(truth, rel=0.1)


def test_resamples_are_widened_about_their_mean() -> None:
    scores, truth = sample(300, tags := 110)
    scores[:, ::2] *= np.arange(300)[:, None] % 60 == 0  # Every other tag is predicted rarely.
    samples = bootstrap.resamples(300, 100, 1)
    _, table = evaluate(scores, truth, 0.6, samples=samples)
    predicted = scores >= np.float32(0.6)
    raw = np.array(
        [
            np.mean(
                [plain(predicted[rows, tag], truth[rows, tag])["precision"] for tag in range(tags)]
            )
            for rows in (np.repeat(np.arange(300), times) for times in drawn(samples).T)
        ]
    )
    missed = bootstrap.missed_variance(
        alone((predicted & truth).sum(axis=0), predicted.sum(axis=0))
    )
    assert missed > 0
    assert table["macro_precision"].mean() == pytest.approx(raw.mean())
    assert table["macro_precision"].var(ddof=1) == pytest.approx(raw.var(ddof=1) + missed)


def test_tags_that_are_never_predicted_or_always_often_miss_nothing() -> None:
    assert bootstrap.missed_variance(alone(np.zeros(5, int), np.zeros(5, int))) == 0
    assert bootstrap.missed_variance(alone(np.full(5, 200), np.full(5, 300))) == 0


def test_resamples_that_do_not_differ_but_for_rounding_give_no_interval() -> None:
    # 0.1 + 0.2 is not 0.3: equal figures added up in another order.
    assert bootstrap.interval(np.array([0.1 + 0.2, 0.3, 0.3]), 0.3) == (None, None)


def test_without_a_bootstrap_there_are_no_intervals_and_the_same_values() -> None:
    scores, truth = sample(200, 5)
    bare, table = evaluate(scores, truth, 0.4)
    full, _ = evaluate(scores, truth, 0.4, samples=bootstrap.resamples(200, 10, 1))
    assert flat(bare["overall"]) == pytest.approx(flat(full["overall"]), abs=1e-12)
    assert bare["overall"]["own"]["macro"]["f1"]["low"] is None
    assert all(values.shape == (0,) for values in table.values())
    one = evaluation(scores, truth, 0.4)
    assert compare(one, one)["ap"]["macro"] == {"value": 0.0, "low": None, "high": None}


def test_a_pair_is_compared_resample_by_resample() -> None:
    scores, truth = sample(200, 5)
    samples = bootstrap.resamples(200, 100, 1)
    a = evaluation(scores, truth, 0.4, samples=samples)
    b = evaluation(np.sqrt(scores), truth, 0.5, samples=samples)
    pair = compare(a, b)
    assert flat(pair).keys() == flat(a.results["overall"]).keys()
    found = pair["own"]["macro"]["f1"]
    path = ("own", "macro", "f1")
    value = a.values[path] - b.values[path]
    assert found["value"] == pytest.approx(value)
    resampled = a.resamples[path] - b.resamples[path]
    assert [found["low"], found["high"]] == pytest.approx(centred(resampled, value))
    # AP and each tag's best threshold do not change when scores keep their order.
    same = {"value": 0.0, "low": None, "high": None}
    assert pair["ap"]["macro"] == same
    assert pair["per_tag_best"]["macro"]["f1"] == same


def test_sums_stay_exact_past_what_half_precision_holds() -> None:
    posts = 20_000
    scores = np.full((posts, 1), 0.5, np.float32)
    truth = np.ones((posts, 1), bool)
    truth[7::3] = False
    samples = bootstrap.resamples(posts, 4, 1)
    entry, table = evaluate(scores, truth, 0.4, samples=samples)
    expected = [drawn(samples)[truth[:, 0], number].sum(dtype=int) / posts for number in range(4)]
    assert table["micro_precision"].tolist() == expected  # Of one tag: macro is the same.
    # Its spread is a few millionths wider.
    assert table["macro_ap"] == pytest.approx(expected, abs=1e-6)
    assert entry["overall"]["own"]["macro"]["precision"]["value"] == truth.mean()


def test_micro_ap_of_resamples_when_there_are_more_scores_than_steps() -> None:
    scores, truth = sample(3000, 20)
    assert len(np.unique(scores[truth])) > 4 * bootstrap.RECALL_STEPS
    samples = bootstrap.resamples(3000, 5, 1)
    entry, table = evaluate(scores, truth, 0.4, samples=samples)
    exact = ap(scores.ravel(), truth.ravel())
    assert entry["overall"]["ap"]["micro"]["value"] == pytest.approx(exact, abs=1e-9)
    for number in range(5):
        rows = np.repeat(np.arange(3000), drawn(samples)[:, number])
        exact = ap(scores[rows].ravel(), truth[rows].ravel())
        assert table["micro_ap"][number] == pytest.approx(exact, abs=5e-5)


@settings(deadline=None, max_examples=30)
@given(cases(), st.integers(0, 9))
def test_so_many_scores_that_they_are_rounded(case: tuple[Array, Array, float], seed: int) -> None:
    scores, truth, _ = case
    samples = bootstrap.resamples(len(scores), 3, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "MOST_CUTS", 1)
        patch.setattr(blocks, "PAIRS_PER_BLOCK", 4)
        curve = bootstrap.micro_curve(scores, truth, samples)
    found = curve.read(bootstrap.micro_ap)
    times = [np.ones(len(scores), int), *drawn(samples).T]
    rows = [np.repeat(np.arange(len(scores)), each) for each in times]

    def expected(cuts: Array) -> list[float]:
        """With each score counted at the highest of the cuts that it reaches."""
        place = np.searchsorted(np.unique(cuts), scores, "right")
        return [ap(place[some].ravel(), truth[some].ravel()) for some in rows]

    exact = scores[truth]
    rounded = (exact.view(np.uint32) & bootstrap.COARSE).view(np.float32)
    # Few scores are left as they are.
    assert any(found == pytest.approx(expected(cuts), abs=1e-6) for cuts in (rounded, exact))
    assert len(np.unique(exact)) < 20 or curve.tp.shape[1] == len(np.unique(rounded))


def test_rounded_scores_change_micro_ap_in_the_fifth_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, truth = sample(20_000, 20)
    samples = bootstrap.no_resamples(len(scores))
    exact = bootstrap.micro_curve(scores, truth, samples)
    monkeypatch.setattr(bootstrap, "MOST_CUTS", 1 << 10)
    rounded = bootstrap.micro_curve(scores, truth, samples)
    assert rounded.tp.shape[1] < exact.tp.shape[1]
    found = rounded.read(bootstrap.micro_ap)[0]
    assert found == pytest.approx(ap(scores.ravel(), truth.ravel()), abs=2e-5)
