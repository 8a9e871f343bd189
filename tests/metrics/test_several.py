"""Several models at once: the quantile of the largest difference, and who may be the best."""

from itertools import combinations

from arena.metrics import bootstrap, may_be_best, simultaneous
from arena.metrics.bootstrap import Predicted
from arena.metrics.figures import Evaluation, figure
from arena.metrics.several import max_t
from arena.metrics.tag_groups import Sums
from tests.metrics.helpers import Array

import numpy as np
import pytest
from scipy.stats import studentized_range

PATH = ("ap", "macro")


def given(values: list[float], resamples: Array) -> list[Evaluation]:
    none = np.zeros((0, 1))
    sums = Sums.of(none[:, 0], none, none, none, none, Predicted(*[none[:, 0]] * 6), {})
    return [
        Evaluation({PATH: value}, {PATH: drawn}, None, {}, sums)
        for value, drawn in zip(values, resamples, strict=True)
    ]


@pytest.mark.parametrize("models", [3, 5, 9])
def test_the_reach_of_uncorrelated_models_is_tukeys(models: int) -> None:
    values = np.random.default_rng(0).standard_normal((models, 200_000))
    expected = studentized_range.ppf(0.95, models, np.inf) / 2**0.5
    assert max_t(values) == pytest.approx(expected, abs=0.03)


def test_the_reach_of_correlated_models_is_that_of_a_plain_simulation() -> None:
    random = np.random.default_rng(1)
    mixing = random.normal(size=(4, 4)) * np.array([1, 0.2, 2, 1])[:, None]

    def drawn(times: int) -> Array:
        made: Array = mixing @ random.standard_normal((4, times)) + random.standard_normal(times)
        return made

    truth = drawn(200_000)
    largest = np.max([np.abs(a - b) / (a - b).std() for a, b in combinations(truth, 2)], axis=0)
    few = [max_t(drawn(200)) for _ in range(6)]
    assert np.mean(few) == pytest.approx(np.quantile(largest, 0.95), abs=0.04)
    assert np.std(few) < 0.04  # The largest of 200 resamples themselves scatter by 0.1.
    assert max_t(truth[:, :200]) == max_t(truth[:, :200])


def test_of_two_models_nothing_is_wider() -> None:
    resamples = np.random.default_rng(0).normal(size=(2, 200))
    a, b = given([0.5, 0.4], resamples)
    (found,) = simultaneous([a, b], PATH)
    assert found == figure(0.5 - 0.4, resamples[0] - resamples[1])
    assert simultaneous([a], PATH) == []


def test_intervals_of_all_pairs_reach_equally_many_spreads() -> None:
    resamples = np.random.default_rng(0).normal(size=(4, 200)) * [[1], [2], [3], [4]]
    values = [0.1, 0.2, 0.3, 0.4]
    reach = max_t(resamples)
    assert 2.3 < reach < 2.9
    found = simultaneous(given(values, resamples), PATH)
    for (a, b), each in zip(combinations(range(4), 2), found, strict=True):
        spread = (resamples[a] - resamples[b]).std(ddof=1)
        assert each["value"] == pytest.approx(values[a] - values[b])
        assert [each["low"], each["high"]] == pytest.approx(
            [each["value"] - reach * spread, each["value"] + reach * spread]
        )


def test_models_that_do_not_differ_and_no_resamples_give_no_interval() -> None:
    one = np.random.default_rng(0).normal(size=200)
    found = simultaneous(given([0.1, 0.1, 0.2], np.array([one, one, 2 * one])), PATH)
    assert [each["low"] is None for each in found] == [True, False, False]
    bare = simultaneous(given([0.1, 0.1, 0.2], np.empty((3, 0))), PATH)
    assert all(each["low"] is None for each in bare)
    assert max_t(np.array([one] * 3)) == bootstrap.REACH


def test_who_may_be_the_best() -> None:
    values = [0.40, 0.50, 0.49, 0.30]
    resamples = np.random.default_rng(0).normal(0, 0.01, (4, 200))
    found = simultaneous(given(values, resamples), PATH)
    assert may_be_best(values, found) == [1, 2]
    assert may_be_best(values, found, enough=False) == [1, 2, 0, 3]
    bare = simultaneous(given(values, np.empty((4, 0))), PATH)
    assert may_be_best(values, bare) == [1, 2, 0, 3]
    assert may_be_best([0.3], []) == [0]
