"""Posts that belong together: drawn together, on one side of the cross-fit, and what it changes."""

from typing import Any

from arena.metrics import (
    TestSet,
    blocks,
    bootstrap,
    compare,
    compared_design_effects,
    evaluate,
)
from arena.metrics.influence import (
    HEADLINE,
    design_effects,
    freedom,
    influences,
    of_average_precision,
    residuals,
    student,
)
from tests.metrics.helpers import Array, ap, cases, drawn, evaluation

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t

numbers = st.lists(st.integers(-3, 12), min_size=1, max_size=40).map(np.array)


def old_resamples(posts: int, count: int, seed: int) -> Array:
    """The resamples of independent posts, by their definition."""
    random = np.random.default_rng(seed)
    draws = [random.integers(posts, size=posts) for _ in range(count)]
    return np.array([[(draw == post).sum() for draw in draws] for post in range(posts)])


@given(st.integers(1, 30), st.integers(0, 9))
def test_single_posts_are_drawn_as_ever(posts: int, seed: int) -> None:
    expected = old_resamples(posts, 4, seed)
    other_names = np.random.default_rng(seed).permutation(1000)[:posts]
    for clusters in (None, np.arange(posts), other_names):
        assert (drawn(bootstrap.resamples(posts, 4, seed, clusters)) == expected).all()


@given(numbers, st.integers(0, 9))
def test_clusters_are_drawn_whole_and_as_many_as_there_are(clusters: Array, seed: int) -> None:
    weights = drawn(bootstrap.resamples(len(clusters), 5, seed, clusters))
    firsts = [int(np.flatnonzero(clusters == each)[0]) for each in set(clusters.tolist())]
    for each in set(clusters.tolist()):
        assert (weights[clusters == each] == weights[clusters == each][0]).all()
    assert (weights[firsts].sum(axis=0, dtype=int) == len(firsts)).all()
    assert (weights[sorted(firsts)] == old_resamples(len(firsts), 5, seed)).all()


@given(numbers, st.integers(1, 9), st.integers(0, 9))
def test_more_clusters_than_units_are_drawn_several_together(
    clusters: Array, most: int, seed: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "MOST_UNITS", most)
        samples = bootstrap.resamples(len(clusters), 5, seed, clusters)
    own = bootstrap.numbered(clusters)
    units = min(most, own.max() + 1)
    of_clusters = samples.unit[np.unique(own, return_index=True)[1]]
    assert (samples.unit == of_clusters[own]).all()
    assert samples.weights.shape == (units, 6) and (samples.weights[:, 0] == 1).all()
    assert (samples.weights.sum(axis=0, dtype=int) == units).all()
    sizes = np.bincount(of_clusters, minlength=units)
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.slow
def test_units_of_several_clusters_vary_as_the_clusters_do(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, truth, clusters = clustered(6000, 12, 2, 1)
    others = clustered(6000, 12, 2, 2)[0]
    spreads = []
    for most in (3000, 600):
        monkeypatch.setattr(bootstrap, "MOST_UNITS", most)
        samples = bootstrap.resamples(6000, 1500, 1, clusters)
        a, b = (
            evaluation(each, truth, 0.5, samples=samples, clusters=clusters)
            for each in (scores, others)
        )
        spreads.append({path: values.std() for path, values in a.resamples.items()})
        spreads[-1] |= {
            ("a - b", *path): (values - b.resamples[path]).std()
            for path, values in a.resamples.items()
        }
    for path, spread in spreads[0].items():
        if spread > 1e-9:  # By 600 units and 1,500 resamples known to 3.4%.
            assert spreads[1][path] == pytest.approx(spread, rel=0.12), path


@given(numbers)
def test_halves_keep_clusters_whole_and_are_as_even_as_they_can_be(clusters: Array) -> None:
    half = bootstrap.halves(bootstrap.numbered(clusters))
    sizes = [int((clusters == each).sum()) for each in set(clusters.tolist())]
    for each in set(clusters.tolist()):
        assert len(set(half[clusters == each].tolist())) == 1
    apart = abs(int((half == 0).sum()) - int((half == 1).sum()))
    assert apart <= max(sizes)
    if sizes.count(1) >= max(sizes):
        assert apart <= 1


@given(st.integers(1, 50))
def test_single_posts_take_turns(posts: int) -> None:
    assert bootstrap.halves(np.arange(posts)).tolist() == [post % 2 for post in range(posts)]


def test_clusters_that_do_not_fit_are_refused() -> None:
    truth = np.ones((4, 1), bool)
    clusters = np.array([0, 0, 1, 2])

    def test_set(clusters: Array, samples: bootstrap.Samples) -> TestSet:
        return TestSet(truth, np.arange(4), ["general"], [""] * 4, np.ones(4), samples, clusters)

    samples = bootstrap.resamples(4, 20, 0, clusters)
    assert not test_set(clusters, samples).alone
    with pytest.raises(ValueError, match="must be of one unit"):
        test_set(clusters, bootstrap.resamples(4, 20, 0))
    for wrong in (np.array([1, 1, 0, 2]), np.array([0, 0, 1, 3]), np.array([-1, -1, 0, 1])):
        with pytest.raises(ValueError, match="numbered from 0"):
            test_set(wrong, samples)
    with pytest.raises(ValueError, match="not 4 posts"):
        test_set(clusters[:3], samples)


@settings(max_examples=30, deadline=None)
@given(cases())
def test_a_posts_influence_is_the_figures_derivative_by_its_weight(
    case: tuple[Array, Array, float],
) -> None:
    scores, truth, threshold = case
    predicted = scores >= np.float32(threshold)
    posts, tags = scores.shape
    found = influences(
        scores, truth, lambda part, scores: scores >= np.float32(threshold), np.arange(posts)
    ).of_posts
    step = 1e-6

    def weighted(weights: Array) -> dict[str, float]:
        tp, n, k = (weights @ each for each in (predicted & truth, predicted, truth))
        with np.errstate(invalid="ignore"):
            figures = {"precision": tp / n, "recall": tp / k, "f1": 2 * tp / (n + k)}
        each = [plain_ap(scores[:, tag], truth[:, tag], weights) for tag in range(tags)]
        return {name: np.nan_to_num(f).mean() for name, f in figures.items()} | {
            "ap": float(np.mean(each))
        }

    for post in {0, posts // 2, posts - 1}:
        more, less = (np.ones(posts) + sign * step * (np.arange(posts) == post) for sign in (1, -1))
        up, down = weighted(more), weighted(less)
        for name, influence in zip(HEADLINE, found.T, strict=True):
            slope = (up[name] - down[name]) / (2 * step)
            assert influence[post] == pytest.approx(slope, abs=1e-5), name
    assert found.sum(axis=0) == pytest.approx(np.zeros(4), abs=1e-4)


def plain_ap(scores: Array, truth: Array, weights: Array) -> float:
    """Average precision with a weight for each post, by its definition."""
    if not truth.any():
        return 0.0
    reached = [scores >= cut for cut in scores[truth]]
    at = [weights[truth & posts].sum() / weights[posts].sum() for posts in reached]
    return float(np.average(at, weights=weights[truth]))


def clustered(
    posts: int, tags: int, size: int, seed: int, alike: float = 0.8
) -> tuple[Array, Array, Array]:
    """(scores, truth, clusters) of posts in clusters of `size` that are much alike."""
    random = np.random.default_rng(seed)
    clusters = np.arange(posts) // size
    first = clusters * size
    follows = random.random((posts, tags)) < alike
    draws = random.random((posts, tags))
    truth = np.where(follows, draws[first], draws) < 0.1
    noise = random.normal(size=(posts, tags))
    logits = 2 * np.where(follows, noise[first], noise) - 4 + 5 * truth
    return (1 / (1 + np.exp(-logits))).astype(np.float32), truth, clusters


def test_the_design_effect_is_what_resamples_show() -> None:
    scores, truth, clusters = clustered(1200, 12, 3, 1)
    together = bootstrap.resamples(1200, 1000, 1, clusters)
    by_post = evaluation(scores, truth, 0.5, samples=bootstrap.resamples(1200, 1000, 1))
    by_cluster = evaluation(scores, truth, 0.5, samples=together, clusters=clusters)
    assert set(by_post.results["design_effect"].values()) == {1.0}
    for name, path in (
        ("recall", ("own", "macro", "recall")),
        ("f1", ("own", "macro", "f1")),
        ("ap", ("ap", "macro")),
    ):
        ratio = by_cluster.resamples[path].var() / by_post.resamples[path].var()
        found = by_cluster.results["design_effect"][name]
        assert 1.5 < found == pytest.approx(ratio, rel=0.2), name


def test_the_design_effect_of_a_difference() -> None:
    scores, truth, clusters = clustered(600, 6, 3, 1)
    others = clustered(600, 6, 3, 2)[0]
    given: dict[str, Any] = {"clusters": clusters}
    samples = bootstrap.resamples(600, 20, 1, clusters)
    ids = np.arange(600)
    known = truth.sum(axis=1)
    test = TestSet(truth, ids, ["general"] * 6, [""] * 600, known, samples, **given)
    a, b = evaluate(test, scores, 0.5), evaluate(test, others, 0.5)
    assert isinstance(a.influence, np.ndarray) and isinstance(b.influence, np.ndarray)
    apart = (a.influence - b.influence)[:, HEADLINE.index("f1")]
    sums = [apart[clusters == cluster].sum() for cluster in range(200)]
    expected = sum(each**2 for each in sums) / (apart**2).sum()
    assert compared_design_effects(test, a, b)["f1"] == pytest.approx(expected)
    assert compared_design_effects(test, a, a)["f1"] is None
    assert compare(a, a)["own"]["macro"]["f1"]["low"] is None


def test_copies_have_the_variance_of_one() -> None:
    influence = np.random.default_rng(0).normal(size=(50, 4))
    influence[:, 1] = 0
    four, one = np.repeat(np.arange(50), 4), np.arange(50)
    for moves, clusters, effect in (
        (np.repeat(influence, 4, axis=0), four, 4),
        (influence, one, 1),
    ):
        found = design_effects(moves, clusters)
        assert found.pop("recall") is None
        assert found == pytest.approx(dict.fromkeys(("precision", "f1", "ap"), effect))


def test_influence_on_average_precision_of_a_tag_on_no_post() -> None:
    posts, influence = of_average_precision(np.ones(4, np.float32), np.zeros(4, bool))
    assert not len(posts) and not len(influence)
    assert ap(np.ones(4, np.float32), np.zeros(4, bool)) == 0


@settings(deadline=None)
@given(cases(), st.integers(0, 99))
def test_predictions_are_counted_by_cluster(case: tuple[Array, Array, float], seed: int) -> None:
    scores, truth, threshold = case
    posts, tags = scores.shape
    clusters = bootstrap.numbered(np.random.default_rng(seed).integers(0, posts, posts))
    above = scores >= np.float32(threshold)
    found = bootstrap.Predicted.of(above.T, truth.T, clusters)
    for tag in range(tags):
        groups = [np.flatnonzero((clusters == each) & above[:, tag]) for each in set(clusters)]
        m = [len(group) for group in groups if len(group)]
        r = [int(truth[group, tag].sum()) for group in groups if len(group)]
        expected = (
            len(m),
            sum(r),
            sum(m),
            sum(x * x for x in r),
            sum(x * x for x in m),
            sum(x * y for x, y in zip(r, m, strict=True)),
        )
        assert tuple(int(each[tag]) for each in found) == expected


def test_what_resamples_miss_of_copies_is_what_they_miss_of_one() -> None:
    random = np.random.default_rng(0)
    truth = random.random((300, 150)) < 0.5
    above = random.random((300, 150)) < np.geomspace(0.001, 0.05, 150)
    one = bootstrap.Predicted.of(above.T, truth.T, np.arange(300))
    above, truth = (np.repeat(each, 3, axis=0) for each in (above, truth))
    three = bootstrap.Predicted.of(above.T, truth.T, np.repeat(np.arange(300), 3))
    expected = bootstrap.missed_variance(one)
    assert expected > 0
    assert bootstrap.missed_variance(three) == pytest.approx(expected)


@pytest.mark.slow
def test_macro_precision_of_clusters_varies_as_resamples_and_what_they_miss_say() -> None:
    tags, groups, size, alike = 300, 120, 3, 0.8
    rate = np.geomspace(0.05, 30, tags) / (groups * size)
    right = np.random.default_rng(5).uniform(0.2, 0.9, tags)
    clusters = np.repeat(np.arange(groups), size)

    def posts(random: np.random.Generator) -> tuple[Array, Array]:
        shape = (groups * size, tags)
        follows = random.random(shape) < alike
        both = (random.random(shape), random.random(shape))
        above, hit = (np.where(follows, each[clusters * size], each) for each in both)
        return above < rate, hit < right

    def precision(tp: Array, n: Array) -> Array:
        return np.asarray((tp / np.maximum(n, 1)).mean(axis=-1))

    samples, shown, missed = [], [], []
    for seed in range(200):
        above, hit = posts(np.random.default_rng(seed))
        tp, n = (above & hit), above
        samples.append(precision(tp.sum(axis=0), n.sum(axis=0)))
        if seed < 30:
            weights = drawn(bootstrap.resamples(len(clusters), 60, seed, clusters)).T.astype("f4")
            resampled = precision(weights @ tp.astype(np.float32), weights @ n.astype(np.float32))
            shown.append(resampled.var(ddof=1))
            missed.append(bootstrap.missed_variance(bootstrap.Predicted.of(n.T, hit.T, clusters)))
    truth = np.var(samples, ddof=1)
    assert np.mean(shown) < 0.9 * truth
    assert np.mean(shown) + np.mean(missed) == pytest.approx(truth, rel=0.25)


@pytest.mark.parametrize("sizes", [[3, 3, 3, 3], [1, 2, 3, 6], [1, 1, 1, 9]])
def test_residuals_of_few_clusters_are_told_as_they_would_be_of_the_true_figure(
    sizes: list[int],
) -> None:
    clusters, size = np.repeat(np.arange(4), sizes), np.ones(sum(sizes))
    share = np.array(sizes) / sum(sizes)
    trials, random = 4000, np.random.default_rng(0)
    shown, true, own, crossed = 0.0, 0.0, 0.0, np.zeros(4)
    for _ in range(trials):
        # Of variance 1 and covariance 1/2 in two tags, the same for all posts of a cluster.
        both = random.standard_normal(4)
        moved = []
        for hit in (both, (both + 3**0.5 * random.standard_normal(4)) / 2):
            influence = (hit - share @ hit)[clusters] / sum(sizes)
            places, more, of_tag = residuals(clusters, influence, size)
            moved.append(np.bincount(clusters, influence) + more)
            assert places.tolist() == [0, 1, 2, 3]
        squares = float(moved[1] @ moved[1])
        shown += float((np.bincount(clusters, influence) ** 2).sum()) / trials
        true += (squares + of_tag) / trials
        own += squares / trials
        crossed += moved[0] * moved[1] / trials
    left = 1 - 2 * share + share @ share
    assert shown == pytest.approx((share**2 * left).sum(), rel=0.1)
    assert true == pytest.approx((share**2 * (1 - share)).sum(), rel=0.1)
    assert own > true >= shown * 0.99
    # Two tags' product is right to the first order in the shares.
    np.testing.assert_allclose(crossed, share**2 / 2 * left / (1 - share) ** 2, rtol=0.25)


def test_a_cluster_that_is_all_there_is_of_a_tag_is_left_as_it_is() -> None:
    for sizes in ([5], [99, 1]):
        clusters = np.repeat(np.arange(len(sizes)), sizes)
        influence = np.linspace(-1, 1, sum(sizes))
        _, more, own = residuals(clusters, influence, np.ones(sum(sizes)))
        assert more[0] == 0 and np.isfinite([*more, own]).all()


def test_a_normal_distributions_spread_has_as_many_degrees_of_freedom_as_numbers() -> None:
    moves = np.random.default_rng(0).standard_normal(100_000)
    assert freedom(moves) == pytest.approx(100_000, rel=0.05)
    assert freedom(np.ones(50)) > 1e9  # Every square is the same.
    assert freedom(np.eye(1000)[0]) == pytest.approx(2, rel=0.01)  # One cluster is all there is.


@pytest.mark.parametrize("degrees", [5, 8, 20, 50, 199, 5000])
def test_students_reach_is_scipys(degrees: float) -> None:
    assert 1.96 * student(degrees) == pytest.approx(t.ppf(0.975, degrees), rel=0.012)


def test_intervals_from_few_clusters_hold_by_their_freedom() -> None:
    random, held = np.random.default_rng(1), []
    for _ in range(20_000):
        values = random.standard_normal(15)
        moves = (values - values.mean()) * (15 / 14) ** 0.5
        spread = float(moves @ moves) ** 0.5
        reach = 1.96 * student(freedom(moves))
        held.append([abs(values.sum()) <= 1.96 * spread, abs(values.sum()) <= reach * spread])
    normal, by_freedom = np.mean(held, axis=0)
    assert normal < 0.936 < 0.943 < by_freedom < 0.957


def test_influences_of_so_many_posts_that_they_are_added_up_in_place() -> None:
    scores, truth, clusters = clustered(600, 70, 3, 1)

    def found() -> tuple[Array, dict[str, float]]:
        return influences(scores, truth, lambda part, scores: scores >= 0.5, clusters)

    expected = found()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "POSTS_AT_ONCE", 600)
        in_place = found()
    np.testing.assert_allclose(in_place[0], expected[0], rtol=0, atol=1e-15)
    assert in_place[1] == pytest.approx(expected[1], rel=1e-12)
    assert np.abs(expected[0]).max() > 1e-4
