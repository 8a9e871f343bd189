"""Resamples, intervals and pairs, with simulations whose truth is known."""

from arena.metrics import bootstrap, compare
from tests.metrics.helpers import Array, ap, centred, evaluate, evaluation, flat, plain, sample

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st


def alone(right: Array, predicted: Array) -> bootstrap.Predicted:
    """What is predicted of each tag where each post is a cluster by itself."""
    return bootstrap.Predicted(predicted, right, predicted, right, predicted, right)


def test_resamples_draw_as_many_posts_as_there_are() -> None:
    weights = bootstrap.resamples(1000, 40, 3)
    assert weights.dtype == np.uint8 and weights.shape == (1000, 40)
    assert (weights.sum(axis=0, dtype=int) == 1000).all()
    assert len(np.unique(weights, axis=1).T) == 40


def test_intervals_are_the_value_and_the_spread_of_its_resamples() -> None:
    scores, truth = sample(200, 5)
    entry, table = evaluate(scores, truth, 0.4, weights=bootstrap.resamples(200, 100, 1))
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
    weights = bootstrap.resamples(300, 100, 1)
    _, table = evaluate(scores, truth, 0.6, weights=weights)
    predicted = scores >= np.float32(0.6)
    raw = np.array(
        [
            np.mean(
                [plain(predicted[rows, tag], truth[rows, tag])["precision"] for tag in range(tags)]
            )
            for rows in (np.repeat(np.arange(300), drawn) for drawn in weights.T)
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
    full, _ = evaluate(scores, truth, 0.4, weights=bootstrap.resamples(200, 10, 1))
    assert flat(bare["overall"]) == flat(full["overall"])
    assert bare["overall"]["own"]["macro"]["f1"]["low"] is None
    assert all(values.shape == (0,) for values in table.values())
    one = evaluation(scores, truth, 0.4)
    assert compare(one, one)["ap"]["macro"] == {"value": 0.0, "low": None, "high": None}


def test_a_pair_is_compared_resample_by_resample() -> None:
    scores, truth = sample(200, 5)
    weights = bootstrap.resamples(200, 100, 1)
    a = evaluation(scores, truth, 0.4, weights=weights)
    b = evaluation(np.sqrt(scores), truth, 0.5, weights=weights)
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
    weights = bootstrap.resamples(posts, 4, 1)
    entry, table = evaluate(scores, truth, 0.4, weights=weights)
    expected = [weights[truth[:, 0], number].sum(dtype=int) / posts for number in range(4)]
    assert table["micro_precision"].tolist() == expected  # Of one tag: macro is the same.
    assert table["macro_ap"] == pytest.approx(expected, abs=1e-12)
    assert entry["overall"]["own"]["macro"]["precision"]["value"] == truth.mean()


def test_micro_ap_of_resamples_when_there_are_more_scores_than_steps() -> None:
    scores, truth = sample(3000, 20)
    assert len(np.unique(scores[truth])) > 4 * bootstrap.RECALL_STEPS
    weights = bootstrap.resamples(3000, 5, 1)
    entry, table = evaluate(scores, truth, 0.4, weights=weights)
    exact = ap(scores.ravel(), truth.ravel())
    assert entry["overall"]["ap"]["micro"]["value"] == pytest.approx(exact, abs=1e-9)
    for number in range(5):
        rows = np.repeat(np.arange(3000), weights[:, number])
        exact = ap(scores[rows].ravel(), truth[rows].ravel())
        assert table["micro_ap"][number] == pytest.approx(exact, abs=5e-5)
