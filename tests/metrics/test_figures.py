"""Every figure against scikit-learn and a brute-force reference."""

import json
from pathlib import Path
from typing import Any

from arena.metrics import Decided, Evaluation, TestSet, blocks, bootstrap, figures, tiles
from tests.metrics.helpers import (
    WIDENED,
    Array,
    ap,
    cases,
    drawn,
    evaluate,
    evaluation,
    f1_of_posts,
    flat,
    plain,
    reference,
    sample,
    widened,
    wider,
)

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    matthews_corrcoef,
    precision_recall_fscore_support,
)


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
    clusters = bootstrap.numbered(np.random.default_rng(seed).integers(0, posts, posts))
    if seed % 2:
        clusters = np.arange(posts)
    samples = bootstrap.resamples(posts, 3, seed, clusters)
    known = truth.sum(axis=1)
    total = known + 1 + np.arange(posts) % 3
    entry, table = evaluate(
        scores, truth, threshold, known=known, total=total, samples=samples, clusters=clusters
    )
    half = np.arange(posts) % 2 if seed % 2 else bootstrap.halves(clusters)
    expected = reference(scores, truth, threshold, half, known, total)
    assert flat(entry["overall"]) == pytest.approx(expected, abs=1e-9)
    starts = ("best_", "per_tag_best_", "cross_fit_", "calibration_error", "macro_mcc")
    bare = {name for name in expected if name.startswith(starts)}
    bare |= set(WIDENED)  # Of few tags.
    assert len(bare) == 40 and table.keys() == expected.keys() - bare
    resampled = []
    for times in drawn(samples).T:
        rows = np.repeat(np.arange(posts), times)
        expected = reference(
            *(scores[rows], truth[rows], threshold, half[rows], known[rows], total[rows]),
            resampled_from=truth,
        )
        resampled.append({name: expected[name] for name in table.keys() - set(WIDENED)})
    factors = dict.fromkeys(resampled[0], 1.0) | wider(scores, truth, threshold, clusters)
    of_f1 = factors["macro_f1"]
    factors |= {"equal_macro_recall": factors["macro_recall"], "equal_macro_f1": of_f1}
    factors["equal_macro_mcc"] = of_f1
    for name in [name for name in factors if name.startswith("min_count_")]:
        factors[name] = factors["macro_f1" if name.endswith("f1") else "macro_ap"]
    for name, factor in factors.items():
        values = np.array([each[name] for each in resampled])
        expected_values = values.mean() + (values - values.mean()) * factor
        np.testing.assert_allclose(table[name], expected_values, rtol=0, atol=1e-9, err_msg=name)


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
    samples = bootstrap.resamples(300, 20, 5)
    whole = evaluate(scores, truth, 0.4, samples=samples)
    monkeypatch.setattr(tiles, "TAGS_PER_BLOCK", 2)
    monkeypatch.setattr(tiles, "POSTS_PER_STEP", 7)
    monkeypatch.setattr(blocks, "PAIRS_PER_BLOCK", 100)
    monkeypatch.setattr(bootstrap, "CELLS", 1500)
    parts = evaluate(scores, truth, 0.4, samples=samples)
    for name, values in whole[1].items():
        np.testing.assert_allclose(parts[1][name], values, rtol=0, atol=1e-12)
    assert flat(parts[0]["overall"]) == pytest.approx(flat(whole[0]["overall"]))
    assert parts[0]["examples"] == whole[0]["examples"]


def test_the_same_seed_gives_the_same_numbers_and_another_does_not() -> None:
    scores, truth = sample(150, 6)
    first, again, other = (
        evaluate(scores, truth, 0.4, samples=bootstrap.resamples(150, 30, seed))
        for seed in (1, 1, 2)
    )
    assert json.dumps(first[0]) == json.dumps(again[0])
    assert all((first[1][name] == again[1][name]).all() for name in first[1])
    assert json.dumps(first[0]) != json.dumps(other[0])


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
    with_all = np.column_stack([np.ones(posts, np.uint8), weights])
    given: dict[str, Any] = {
        "samples": bootstrap.Samples(np.arange(posts, dtype=np.int32), with_all),
        "categories": [("general", "character")[tag % 2] for tag in range(tags)],
    }
    resampled: dict[str, list[float]] = {}
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
            found = [plain(predicted[rows, tag], truth[rows, tag])[name] for tag in range(tags)]
            resampled.setdefault(name, []).append(float(np.mean(found)))
        for category, group in entry["by_category"].items():
            some = [tag for tag in range(tags) if given["categories"][tag] == category]
            pooled = plain(predicted[:, some].ravel(), truth[:, some].ravel())[name]
            assert group["micro"][name]["value"] == pytest.approx(pooled)
            of_some = np.mean([each[t][name] for t in some])
            assert group["macro"][name]["value"] == pytest.approx(of_some)

    spread = evaluation(scores, truth, decided, **given).sums.wider
    for name, values in resampled.items():
        of_name = widened(np.array(values), spread[name])
        np.testing.assert_allclose(table[f"macro_{name}"], of_name, atol=1e-9)

    # Whatever asks for no threshold, or for another one, is that of the scores.
    assert entry["overall"].pop("own")["threshold"] is None
    plainly["overall"].pop("own")
    images = entry["overall"].pop("per_image")
    assert images["f1"]["value"] == pytest.approx(f1_of_posts(truth, predicted))
    assert images["tags"]["value"] == pytest.approx(predicted.sum() / posts)
    assert images["false_tags"]["value"] == pytest.approx((predicted & ~truth).sum() / posts)
    plainly["overall"].pop("per_image")
    for least, found in entry["overall"].get("min_count", {}).items():
        inside = np.flatnonzero(truth.sum(axis=0) >= int(least))
        assert found.pop("f1")["value"] == pytest.approx(np.mean([each[t]["f1"] for t in inside]))
        plainly["overall"]["min_count"][least].pop("f1")
    for of_either in (entry, plainly):  # The spread is that at the own threshold.
        for figure in of_either["overall"]["equal"]["macro"].values():
            figure.update(low=None, high=None)
    for name in ("overall", "curves", "calibration", "examples"):
        assert entry[name] == plainly[name]
    for name in ("ap", "support", "best_threshold", "best_f1"):
        assert entry["per_tag"][name] == plainly["per_tag"][name]
    at_own = {f"{mean}_{name}" for mean in ("macro", "micro") for name in bootstrap.FIGURES}
    at_own |= {name for name in table if name.startswith("per_image") or name.endswith("0_f1")}
    # How far these spread is worked out at the own threshold.
    at_own |= {f"equal_macro_{name}" for name in bootstrap.FIGURES}
    for name in table.keys() - at_own:
        np.testing.assert_array_equal(table[name], other[name])
