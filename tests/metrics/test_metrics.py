"""Metrics against scikit-learn and a brute-force reference; the bootstrap against a loop that
builds each resample row by row."""

import json
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

from arena.metrics import Decided, Evaluation, TestSet, blocks, bootstrap, compare, figures

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    matthews_corrcoef,
    precision_recall_fscore_support,
)

Array = np.ndarray[Any, Any]
LEVELS = np.array([0, 1e-6, 0.25, 0.3, 0.5, 0.5, 0.7, 255 / 256, 1], np.float32)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Array, Array, float]:
    """(scores, truth, threshold): ties, empty and full tags, constant scores, a single post."""
    posts, tags = draw(st.integers(1, 25)), draw(st.integers(1, 5))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = (posts, tags)
    scores = random.random(shape, np.float32)
    if draw(st.booleans()):
        scores = random.choice(LEVELS, shape)
    truth = random.random(shape) < draw(st.sampled_from([0.1, 0.5, 0.9]))
    for tag in range(tags):
        kind = draw(st.sampled_from(["random", "random", "empty", "full", "constant"]))
        if kind == "constant":
            scores[:, tag] = random.choice(LEVELS)
        elif kind != "random":
            truth[:, tag] = kind == "full"
    return scores, truth, draw(st.sampled_from([0.3, 0.5, 0.0, 0.999, 1.5]))


def name_of(path: tuple[str, ...]) -> str:
    """A figure's path as one word: macro_f1 (at the own threshold), equal_macro_f1, macro_ap."""
    if path[0] == "ap":
        return f"{path[1]}_ap"
    return "_".join(path[1:] if path[0] == "own" else path)


def evaluation(scores: Array, truth: Array, threshold: Any, **given: Any) -> Evaluation:
    """metrics.evaluate with something for whatever is not given."""
    posts, tags = scores.shape
    known = truth.sum(axis=1)
    test = TestSet(
        truth,
        given.get("post_ids", np.arange(posts) + 1000),
        given.get("categories", ["general"] * tags),
        given.get("ratings", ["g"] * posts),
        given.get("total", known + 1),
        given.get("weights", np.empty((posts, 0), np.uint8)),
    )
    return figures.evaluate(test, scores, threshold, given.get("known"))


def evaluate(
    scores: Array, truth: Array, threshold: Any, **given: Any
) -> tuple[dict[str, Any], dict[str, Array]]:
    """The results of an evaluation, and its resamples by name."""
    found = evaluation(scores, truth, threshold, **given)
    return found.results, {name_of(path): values for path, values in found.resamples.items()}


def values_of(found: dict[str, Any], names: Iterable[str] | None = None) -> dict[str, float]:
    """The values of figures, of those named or of all."""
    return {name: found[name]["value"] for name in names or found}


def flat(tree: dict[str, Any], path: tuple[str, ...] = ()) -> dict[str, float]:
    """All figures of an `overall` by name."""
    if "value" in tree:
        return {name_of(path): tree["value"]}
    branches = [flat(tree[key], (*path, key)) for key in tree if key != "threshold"]
    return {name: value for branch in branches for name, value in branch.items()}


def plain(predicted: Array, truth: Array) -> dict[str, float]:
    """Precision, recall, F1 and MCC of one list of predictions, from the four counts in words."""
    tp = int((predicted & truth).sum())
    fp = int((predicted & ~truth).sum())
    fn = int((~predicted & truth).sum())
    tn = int((~predicted & ~truth).sum())
    precision = tp / (tp + fp) if tp + fp else 0.0
    recall = tp / (tp + fn) if tp + fn else 0.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    spread = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    mcc = (tp * tn - fp * fn) / spread**0.5 if spread else 0.0
    return {"precision": precision, "recall": recall, "f1": f1, "mcc": mcc}


def best_threshold(scores: Array, truth: Array) -> float:
    """The highest threshold with the highest F1, in exact fractions; infinite with no positive."""
    best, chosen = Fraction(-1), float("inf")
    for cut in sorted(set(scores[truth].tolist()), reverse=True):
        predicted = scores >= cut
        f1 = Fraction(2 * int((predicted & truth).sum()), int(predicted.sum() + truth.sum()))
        if f1 > best:
            best, chosen = f1, cut
    return chosen


def reference(
    scores: Array, truth: Array, threshold: float, half: Array, known: Array, total: Array
) -> dict[str, float]:
    """Every figure of `overall` by evaluate's names, one tag and one threshold at a time."""
    tags = range(scores.shape[1])
    figures: dict[str, float] = {}

    def macro(section: str, predicted: Array) -> None:
        each = [plain(predicted[:, tag], truth[:, tag]) for tag in tags]
        for name in each[0]:
            figures[f"{section}macro_{name}"] = float(np.mean([tag[name] for tag in each]))

    def both(section: str, predicted: Array) -> None:
        macro(section, predicted)
        for name, value in plain(predicted.ravel(), truth.ravel()).items():
            figures[f"{section}micro_{name}"] = value

    both("", scores >= np.float32(threshold))
    grid = [step / 256 for step in range(1, 256)]
    both("equal_", scores >= min(grid, key=lambda cut: abs((scores >= cut).sum() - truth.sum())))
    macro_f1 = []
    for cut in grid:
        each = [plain((scores >= cut)[:, tag], truth[:, tag])["f1"] for tag in tags]
        macro_f1.append(round(float(np.mean(each)), 12))
    both("best_", scores >= grid[int(np.argmax(macro_f1))])
    macro(
        "per_tag_best_",
        scores >= np.array([best_threshold(scores[:, tag], truth[:, tag]) for tag in tags]),
    )
    crossed = np.zeros_like(truth)
    for here in (0, 1):
        for tag in tags:
            cut = best_threshold(scores[half == here, tag], truth[half == here, tag])
            crossed[half != here, tag] = scores[half != here, tag] >= cut
    macro("cross_fit_", crossed)
    figures["macro_ap"] = float(np.mean([ap(scores[:, tag], truth[:, tag]) for tag in tags]))
    figures["micro_ap"] = ap(scores.ravel(), truth.ravel())
    figures["coverage"] = known.sum() / total.sum()
    error = 0.0
    for low in np.arange(16) / 16:
        inside = (scores >= low) & ((scores < low + 1 / 16) | (low == 15 / 16))
        if inside.any():
            gap = scores[inside].astype(float).mean() - truth[inside].mean()
            error += abs(gap) * inside.mean()
    figures["calibration_error"] = error
    return figures


def ap(scores: Array, truth: Array) -> float:
    return float(average_precision_score(truth, scores)) if truth.any() else 0.0


@pytest.mark.slow
@settings(deadline=None)
@given(cases())
def test_per_tag_equals_scikit_learn(case: tuple[Array, Array, float]) -> None:
    scores, truth, threshold = case
    found = figures.per_tag(scores, truth, threshold)
    assert list(found) == ["precision", "recall", "f1", "mcc", "ap", "support"]
    for tag in range(scores.shape[1]):
        predicted = scores[:, tag] >= np.float32(threshold)
        precision, recall, f1, _ = precision_recall_fscore_support(
            truth[:, tag], predicted, average="binary", zero_division=0
        )
        expected = {
            "precision": precision,
            "recall": recall,
            "f1": f1,
            "mcc": matthews_corrcoef(truth[:, tag], predicted),
            "ap": ap(scores[:, tag], truth[:, tag]),
            "support": truth[:, tag].sum(),
        }
        for name, value in expected.items():
            assert found[name][tag] == pytest.approx(value, abs=1e-9), name


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(cases(), st.integers(0, 99))
def test_every_figure_and_every_resample_equals_brute_force(
    case: tuple[Array, Array, float], seed: int
) -> None:
    scores, truth, threshold = case
    posts = len(scores)
    weights = bootstrap.resamples(posts, 3, seed)
    known = truth.sum(axis=1)
    total = known + 1 + np.arange(posts) % 3
    entry, table = evaluate(scores, truth, threshold, known=known, total=total, weights=weights)
    half = np.arange(posts) % 2
    expected = reference(scores, truth, threshold, half, known, total)
    assert flat(entry["overall"]) == pytest.approx(expected, abs=1e-9)
    starts = ("best_", "per_tag_best_", "cross_fit_", "calibration_error", "macro_mcc")
    bare = {name for name in expected if name.startswith(starts)}
    bare |= set(WIDENED)  # Of few tags.
    assert len(bare) == 20 and table.keys() == expected.keys() - bare
    for number in range(3):
        rows = np.repeat(np.arange(posts), weights[:, number])
        expected = reference(
            scores[rows], truth[rows], threshold, half[rows], known[rows], total[rows]
        )
        found = {name: values[number] for name, values in table.items() if name not in WIDENED}
        expected = {name: expected[name] for name in found}
        assert found == pytest.approx(expected, abs=1e-9)


WIDENED = ("macro_precision", "equal_macro_precision")  # Beyond what their resamples say.


def sample(posts: int, tags: int, seed: int = 0) -> tuple[Array, Array]:
    """Scores of a passable tagger and the truth, tags from rare to common."""
    random = np.random.default_rng(seed)
    truth = random.random((posts, tags)) < np.geomspace(0.02, 0.7, tags)
    logits = random.normal(size=truth.shape) * 2 - 4 + 5 * truth
    return (1 / (1 + np.exp(-logits))).astype(np.float32), truth


def test_memory_maps_column_slices_and_a_threshold_for_each_tag(tmp_path: Path) -> None:
    scores, truth = sample(200, 9)
    np.save(tmp_path / "scores.npy", scores)
    mapped = np.load(tmp_path / "scores.npy", mmap_mode="r")[:, 1:8:2]
    cut = np.array([0.2, 0.4, 0.6, 0.8])
    found = figures.per_tag(mapped, truth[:, 1:8:2], cut)
    for place, tag in enumerate((1, 3, 5, 7)):
        alone = figures.per_tag(
            scores[:, tag : tag + 1].copy(), truth[:, tag : tag + 1].copy(), float(cut[place])
        )
        assert all(found[name][place] == alone[name][0] for name in found)


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, truth = sample(300, 11)
    weights = bootstrap.resamples(300, 20, 5)
    whole = evaluate(scores, truth, 0.4, weights=weights)
    monkeypatch.setattr(blocks, "TAGS_PER_BLOCK", 2)
    monkeypatch.setattr(blocks, "POSTS_PER_STEP", 7)
    monkeypatch.setattr(blocks, "PAIRS_PER_BLOCK", 100)
    monkeypatch.setattr(bootstrap, "CELLS", 1500)
    parts = evaluate(scores, truth, 0.4, weights=weights)
    for name, values in whole[1].items():
        np.testing.assert_allclose(parts[1][name], values, rtol=0, atol=1e-12)
    assert flat(parts[0]["overall"]) == pytest.approx(flat(whole[0]["overall"]))
    assert parts[0]["examples"] == whole[0]["examples"]


def test_the_same_seed_gives_the_same_numbers_and_another_does_not() -> None:
    scores, truth = sample(150, 6)
    first, again, other = (
        evaluate(scores, truth, 0.4, weights=bootstrap.resamples(150, 30, seed))
        for seed in (1, 1, 2)
    )
    assert json.dumps(first[0]) == json.dumps(again[0])
    assert all((first[1][name] == again[1][name]).all() for name in first[1])
    assert json.dumps(first[0]) != json.dumps(other[0])


def test_resamples_draw_as_many_posts_as_there_are() -> None:
    weights = bootstrap.resamples(1000, 40, 3)
    assert weights.dtype == np.uint8 and weights.shape == (1000, 40)
    assert (weights.sum(axis=0, dtype=int) == 1000).all()
    assert len(np.unique(weights, axis=1).T) == 40


def centred(values: Array, value: float) -> list[float]:
    """value ± 1.96 standard deviations of the resamples, by the definition."""
    mean = sum(values) / len(values)
    spread = (sum((each - mean) ** 2 for each in values) / (len(values) - 1)) ** 0.5
    return [value - 1.96 * spread, value + 1.96 * spread]


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
    bare = ("best", "macro"), ("best", "micro"), ("per_tag_best", "macro"), ("cross_fit", "macro")
    for section, mean in bare:
        for figure in entry["overall"][section][mean].values():
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
        missed.append(bootstrap.missed_variance(tp, tp + fp))
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
    missed = bootstrap.missed_variance((predicted & truth).sum(axis=0), predicted.sum(axis=0))
    assert missed > 0
    assert table["macro_precision"].mean() == pytest.approx(raw.mean())
    assert table["macro_precision"].var(ddof=1) == pytest.approx(raw.var(ddof=1) + missed)


def test_tags_that_are_never_predicted_or_always_often_miss_nothing() -> None:
    assert bootstrap.missed_variance(np.zeros(5), np.zeros(5)) == 0
    assert bootstrap.missed_variance(np.full(5, 200), np.full(5, 300)) == 0


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


def test_groups_of_tags_and_posts_equal_the_figures_of_those_alone() -> None:
    scores, truth = sample(2000, 12)
    random = np.random.default_rng(1)
    ratings = random.choice(["g", "s", "e"], 2000)
    truth[:, 0] &= ratings != "g"  # A tag that is on no general post.
    categories = ["general", "artist", "meta"] * 4
    entry, _ = evaluate(scores, truth, 0.4, categories=categories, ratings=ratings.tolist())

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
    assert list(entry["by_rating"]) == ["e", "g", "s"]
    for rating, group in entry["by_rating"].items():
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


@pytest.mark.parametrize(
    ("scores", "truth", "threshold", "message"),
    [
        (np.array([[0.1, np.nan]], np.float32), np.ones((1, 2), bool), 0.5, "post 0, tag 1"),
        (np.ones((2, 3), np.float32), np.ones((3, 2), bool), 0.5, "scores (2, 3)"),
        (np.ones((2, 3), np.float32), np.ones((2, 3), np.uint8), 0.5, "must be bool"),
        (np.ones((0, 3), np.float32), np.ones((0, 3), bool), 0.5, "no post"),
        (np.ones((2, 3), np.float32), np.ones((2, 3), bool), np.ones(2), "3 numbers"),
        (np.ones((2, 3), np.float32), np.ones((2, 3), bool), float("nan"), "3 numbers"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    scores: Array, truth: Array, threshold: Any, message: str
) -> None:
    def plainly(scores: Array, truth: Array, threshold: Any) -> Evaluation:
        return figures.evaluate(TestSet.plain(truth), scores, threshold)

    for score in (figures.per_tag, plainly):
        with pytest.raises(ValueError) as error:
            score(scores, truth, threshold)
        assert message in str(error.value)


def test_evaluate_refuses_logits_and_lengths_that_do_not_fit() -> None:
    scores, truth = sample(30, 3)
    with pytest.raises(ValueError, match=r"the score of post 4, tag 2 is 3\.5"):
        evaluate(np.where(np.arange(90).reshape(30, 3) == 14, np.float32(3.5), scores), truth, 0.4)
    with pytest.raises(ValueError, match="2 categories for 3 tags"):
        evaluate(scores, truth, 0.4, categories=["general"] * 2)
    with pytest.raises(ValueError, match="not 30 posts"):
        evaluate(scores, truth, 0.4, ratings=["g"] * 29)
    with pytest.raises(ValueError, match="no tag"):
        evaluate(scores[:, :0], truth[:, :0], 0.4)


@settings(max_examples=20, deadline=None)
@given(case=cases(), seed=st.integers(0, 2**32))
def test_decided_tags_are_counted_as_predicted_and_ranked_by_score(
    case: tuple[Array, Array, float], seed: int
) -> None:
    scores, truth, threshold = case
    posts, tags = scores.shape
    random = np.random.default_rng(seed)
    columns = np.sort(random.permutation(tags)[: random.integers(1, tags + 1)])
    given_threshold = np.full(tags, threshold, np.float32)
    decided = Decided(given_threshold, columns, random.random((posts, len(columns))) < 0.5)
    predicted = scores >= np.float32(threshold)
    predicted[:, columns] = decided.predicted
    weights = random.integers(0, 4, (posts, 3)).astype(np.uint8)
    weights[0] += 1
    given: dict[str, Any] = {
        "weights": weights,
        "categories": [("general", "character")[tag % 2] for tag in range(tags)],
        "ratings": [("g", "e")[post % 2] for post in range(posts)],
    }
    entry, table = evaluate(scores, truth, decided, **given)
    plainly, other = evaluate(scores, truth, threshold, **given)

    each = [plain(predicted[:, tag], truth[:, tag]) for tag in range(tags)]
    for name in ("precision", "recall", "f1", "mcc"):
        values = [figures[name] for figures in each]
        np.testing.assert_allclose(entry["per_tag"][name], values, atol=1e-9)
        own = entry["overall"]["own"]
        assert own["macro"][name]["value"] == pytest.approx(np.mean(values))
        pooled = plain(predicted.ravel(), truth.ravel())[name]
        assert own["micro"][name]["value"] == pytest.approx(pooled)
        for column in (
            range(3) if f"macro_{name}" in table and f"macro_{name}" not in WIDENED else ()
        ):
            rows = np.repeat(np.arange(posts), weights[:, column])
            drawn = [plain(predicted[rows, tag], truth[rows, tag])[name] for tag in range(tags)]
            assert table[f"macro_{name}"][column] == pytest.approx(np.mean(drawn))
        for rating, group in entry["by_rating"].items():
            rows = np.flatnonzero(np.array(given["ratings"]) == rating)
            pooled = plain(predicted[rows].ravel(), truth[rows].ravel())[name]
            assert group["micro"][name]["value"] == pytest.approx(pooled)
        for category, group in entry["by_category"].items():
            some = [tag for tag in range(tags) if given["categories"][tag] == category]
            pooled = plain(predicted[:, some].ravel(), truth[:, some].ravel())[name]
            assert group["micro"][name]["value"] == pytest.approx(pooled)
            of_some = np.mean([each[t][name] for t in some])
            assert group["macro"][name]["value"] == pytest.approx(of_some)

    # Whatever asks for no threshold, or for another one, is that of the scores.
    assert entry["overall"].pop("own")["threshold"] is None
    plainly["overall"].pop("own")
    for name in ("overall", "curves", "calibration", "examples"):
        assert entry[name] == plainly[name]
    for name in ("ap", "support", "best_threshold", "best_f1"):
        assert entry["per_tag"][name] == plainly["per_tag"][name]
    for name in table.keys() - {f"{m}_{f}" for m in ("macro", "micro") for f in bootstrap.FIGURES}:
        np.testing.assert_array_equal(table[name], other[name])
