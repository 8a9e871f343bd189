"""Corrected figures: against plain counts, a plainly written estimator, and their own spread."""

from typing import Any

from arena.metrics import audit, sampling
from bench.audit import Setting, counted, estimated, trial
from tests.metrics.test_sampling import pool_of

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

Array = np.ndarray[Any, Any]


@settings(deadline=None, max_examples=40)
@given(st.integers(20, 300), st.integers(2, 4), st.integers(0, 2**32))
def test_with_all_pairs_judged_figures_are_plain_counts(pairs: int, models: int, seed: int) -> None:
    pool = pool_of(pairs, models, seed)
    truth = np.random.default_rng(seed).random(pairs) < 0.6
    if not truth.any():
        return
    everything, sure = np.arange(pairs), np.ones(pairs)
    found = audit.sums(pool, everything, sure, truth.astype(float), 5)
    ratios = audit.model_ratios(found)
    for model, ratio in enumerate(ratios):
        predicted = pool.predicted[:, model]
        right = (predicted & truth).sum()
        wanted = [
            right / max(1, predicted.sum()),
            right / truth.sum(),
            2 * right / (predicted.sum() + truth.sum()),
        ]
        assert [ratio[name].value for name in audit.FIGURES] == pytest.approx(wanted)
    site = audit.site(found)
    wrong = (pool.tagged & ~truth).sum() / max(1, pool.tagged.sum())
    assert site["wrong"]["value"] == pytest.approx(wrong)
    missing = (truth & ~pool.tagged).sum() / truth.sum()
    assert site["missing"]["value"] == pytest.approx(missing)
    for category in range(5):
        inside = pool.category == category
        some = found.of(category)
        tagged = pool.tagged[inside]
        enough = (
            len(tagged) >= audit.ENOUGH and 2 * min(tagged.sum(), (~tagged).sum()) >= audit.ENOUGH
        )
        assert (some is not None) == enough
        if some:
            (ratio, *_) = audit.model_ratios(some)
            predicted = pool.predicted[:, 0] & inside
            precision = (predicted & truth).sum() / max(1, predicted.sum())
            assert ratio["precision"].value == pytest.approx(precision)
    for a, b, apart in audit.pairs_of_models(ratios):
        assert apart["f1"]["value"] == pytest.approx(ratios[a]["f1"].value - ratios[b]["f1"].value)


def test_the_estimate_is_the_groups_shares_and_the_weighted_residuals() -> None:
    """The estimator's definition, pair by pair; and its variance without a second order."""
    pool = pool_of(600, 2, 3)
    random = np.random.default_rng(4)
    none = np.zeros(600, bool)
    sample = sampling.draw(pool, random.random(600), none, none, 150)
    truth = random.random(150).round()
    found = audit.sums(pool, sample.pairs, sample.threshold, truth, 5)
    group = audit.groups(pool, sample.pairs)
    judged = dict(
        zip(sample.pairs.tolist(), zip(sample.threshold, truth, strict=True), strict=True)
    )
    weight, share = {}, {}
    for number in set(group.tolist()):
        members = np.flatnonzero(group == number)
        inside = [place for place in members.tolist() if place in judged]
        assert len(inside) >= audit.GROUP
        total = sum(1 / judged[place][0] for place in inside)
        for place in inside:
            weight[place] = len(members) / total / judged[place][0]
        share[number] = sum(weight[place] * judged[place][1] for place in inside) / len(members)
    for model in range(2):
        clusters = np.zeros((pool.cluster.max() + 1, 2))
        for place in range(600):
            if pool.predicted[place, model]:
                expected = share[group[place]]
                clusters[pool.cluster[place], 0] += expected
                clusters[pool.cluster[place], 1] += 1
                if place in judged:
                    residual = weight[place] * (judged[place][1] - expected)
                    clusters[pool.cluster[place], 0] += residual
        right, predicted = clusters.sum(axis=0)
        ratio = audit.model_ratios(found)[model]["precision"]
        assert ratio.value == pytest.approx(right / predicted)
        parts = (clusters[:, 0] - ratio.value * clusters[:, 1]) / predicted
        assert ratio.influence == pytest.approx(parts)


@pytest.mark.slow
def test_intervals_are_as_wide_as_the_figures_spread() -> None:
    """Also where groups see few judgements: 40 simulated samples of posts and judgements."""
    trials = [trial(Setting(tags="rare"), seed) for seed in range(40)]
    for name in ("precision", "pooled recall", "F1", "F1, a - b", "missing"):
        true = np.mean([each.true[name] for each in trials])
        figures = [figure for each in trials if (figure := each.found[name])]
        values = np.array([figure["value"] for figure in figures])
        bounds = [(figure["low"], figure["high"]) for figure in figures]
        width = np.mean(
            [high - low for low, high in bounds if low is not None and high is not None]
        )
        assert width / (2 * 1.96 * values.std(ddof=1)) == pytest.approx(1, abs=0.4)
        assert abs(values.mean() - true) < 4 * values.std() / 40**0.5
        raw = np.mean([each.raw[name] for each in trials])
        if name == "precision":
            assert raw < true - 0.05 and abs(values.mean() - true) < 0.02


def test_taking_out_the_judges_errors_inverts_them() -> None:
    """Of judges that call each pair true as often as they would on average."""
    pool = pool_of(300, 2, 5)
    truth = np.random.default_rng(6).random(300) < 0.5
    right = 0.9
    said = np.where(truth, right, 1 - right)
    found = audit.sums(pool, np.arange(300), np.ones(300), said, 5)
    without_errors = estimated(audit.without_errors(found, right))
    for name, value in counted(pool, truth).items():
        if figure := without_errors[name]:
            assert figure["value"] == pytest.approx(value)
    with pytest.raises(ValueError, match="nothing"):
        audit.without_errors(found, 0.5)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_kappa_is_scikit_learns(answers: list[tuple[bool, bool]]) -> None:
    a, b = np.array(answers).T
    found = audit.kappa(a, b)
    if len({*a.tolist(), *b.tolist()}) == 1:
        assert found is None
    else:
        assert found == pytest.approx(cohen_kappa_score(a, b))


@given(st.floats(0.5, 1))
def test_accuracy_from_how_often_two_judges_differ(right: float) -> None:
    assert audit.accuracy(2 * right * (1 - right)) == pytest.approx(right, abs=1e-7)


def test_how_many_more_judgements_are_needed() -> None:
    """With that many, drawn from the same pool, the interval is about as wide as wanted."""
    pool = pool_of(40_000, 2, 7)
    random = np.random.default_rng(8)
    truth = (random.random(40_000) < 0.7).astype(float)
    number, none = random.random(40_000), np.zeros(40_000, bool)

    def f1_of(size: int) -> list[dict[str, audit.Ratio]]:
        sample = sampling.draw(pool, number, none, none, size)
        some = sample.pairs
        return audit.model_ratios(audit.sums(pool, some, sample.threshold, truth[some], 5))

    more = audit.further(f1_of(400), 400)
    assert more is not None and more > 400
    widest = 0.0
    for each in f1_of(400 + more):
        figure = each["f1"].figure()
        assert figure["low"] is not None and figure["high"] is not None
        widest = max(widest, (figure["high"] - figure["low"]) / 2)
    assert widest == pytest.approx(0.01, rel=0.15)
    assert audit.further(f1_of(2 * (400 + more)), 2 * (400 + more)) == 0


@pytest.mark.filterwarnings("error")
@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.sampled_from(["any", "tagged", "untagged"]), st.integers(0, 2**32))
def test_few_or_one_sided_judgements_give_figures(judged: int, which: str, seed: int) -> None:
    pool = pool_of(120, 3, seed)
    random = np.random.default_rng(seed)
    kinds = {"any": pool.tagged | True, "tagged": pool.tagged, "untagged": ~pool.tagged}
    some = random.permutation(np.flatnonzero(kinds[which]))[:judged]
    truth = random.random(len(some)).round()
    found = audit.sums(pool, some, random.uniform(0.01, 1, len(some)), truth, 5)
    figures = [ratio.figure() for each in audit.model_ratios(found) for ratio in each.values()]
    figures += [*audit.site(found).values()]
    for figure in figures:
        assert 0 <= figure["value"] <= 1
        if figure["low"] is not None and figure["high"] is not None:
            assert 0 <= figure["low"] <= figure["value"] <= figure["high"] <= 1
    audit.further(audit.model_ratios(found), len(some))


def test_judgements_that_are_none_are_refused() -> None:
    pool = pool_of(50, 2, 0)
    one = np.array([0])
    with pytest.raises(ValueError, match="no pair"):
        audit.sums(pool, one[:0], np.ones(0), np.ones(0), 5)
    for threshold, truth in ((0.0, 1.0), (1.5, 1.0), (np.nan, 1.0), (0.5, 2.0), (0.5, np.nan)):
        with pytest.raises(ValueError, match="0 to 1"):
            audit.sums(pool, one, np.array([threshold]), np.array([truth]), 5)
