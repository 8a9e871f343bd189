"""Figures beyond the common tags, against scikit-learn one tag, sample and model at a time."""

from typing import Any

from arena.metrics import TestSet, bootstrap, evaluate, ratings, vocabularies
from arena.metrics.tag_groups import Sums
from tests.metrics.helpers import Array, ap, centred, widened

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
)

MODELS = 3
NAMES = ("precision", "recall", "f1", "ap")


def rates(predicted: Array, truth: Array, average: str | None = None) -> Array:
    """Precision, recall and F1 by scikit-learn: of each tag, (3, tags), or averaged, (3,)."""
    # It takes a single column for two classes, so one that is empty is added.
    empty = np.zeros((len(truth), 1), bool)
    found = precision_recall_fscore_support(
        np.hstack([truth, empty]),
        np.hstack([predicted, empty]),
        average=average,
        labels=range(truth.shape[1]),
        zero_division=0,
    )
    return np.array(found[:3])


def check(found: Any, values: list[float], name: str = "") -> None:
    """That a figure is the first of the values and its interval that of the others. The mean
    `precision` of few tags has none."""
    assert found["value"] == pytest.approx(values[0], abs=1e-9)
    if name == "precision":
        assert found["low"] is found["high"] is None
    elif np.std(values[1:]) > 1e-6:
        assert [found["low"], found["high"]] == pytest.approx(
            centred(np.array(values[1:]), values[0])
        )


class Drawn:
    """Posts, tags and models: which model knows which tag, and how each is scored."""

    def __init__(self, seed: int, levels: bool) -> None:
        random = np.random.default_rng(seed)
        self.posts, self.tags = int(random.integers(3, 25)), int(random.integers(1, 9))
        shape = (self.posts, self.tags)
        self.truth = random.random(shape) < random.choice([0.1, 0.4, 0.9])
        self.scores = [random.random(shape, np.float32) for _ in range(MODELS)]
        if levels:
            self.scores = [np.round(scores, 1) for scores in self.scores]
        self.category = random.integers(0, 2, self.tags)
        self.known = random.random((MODELS, self.tags)) < 0.6
        self.known[:, 0] = True  # Something is common.
        self.common = np.flatnonzero(self.known.all(axis=0))
        self.samples = bootstrap.resamples(self.posts, 4, seed)
        self.rows = [np.repeat(np.arange(self.posts), column) for column in self.samples.weights.T]
        # A group is who knows a tag, and its category.
        self.group = self.known.T @ (1 << np.arange(MODELS)) * 2 + self.category

    def sums(self, model: int) -> Sums:
        """As validate.py makes them: the common tags by evaluate, the others by themselves."""
        common, scores = self.common, self.scores[model]
        test = TestSet(
            self.truth[:, common],
            np.arange(self.posts),
            ["general"] * len(common),
            [""] * self.posts,
            self.truth.sum(axis=1),
            self.samples,
            np.arange(self.posts),
            self.group[common],
        )
        further = np.setdiff1d(np.flatnonzero(self.known[model]), common)
        truth = self.truth[:, further]
        rest = vocabularies.count(
            self.group[further],
            scores[:, further] >= np.float32(0.5),
            truth,
            self.samples,
            np.arange(len(truth)),
            bootstrap.average_precisions(scores[:, further], truth, self.samples),
        )
        return evaluate(test, scores[:, common], 0.5).sums.plus(rest)

    def groups(self, inside: Array) -> Array:
        """The groups of the tags that are `inside` (a bool a tag)."""
        return np.unique(self.group[inside])

    def figures(self, model: int, tags: Array) -> list[Array]:
        """What each tag reaches in every sample, by scikit-learn: (tags, 4) each."""
        found = []
        for rows in self.rows:
            scores, truth = self.scores[model][rows][:, tags], self.truth[rows][:, tags]
            each = [ap(scores[:, tag], truth[:, tag]) for tag in range(len(tags))]
            found.append(np.vstack([rates(scores >= np.float32(0.5), truth), each]).T)
        return found


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_a_pair_on_the_tags_that_both_know(seed: int, levels: bool) -> None:
    drawn = Drawn(seed, levels)
    both = drawn.known[0] & drawn.known[1]
    figures = [drawn.figures(model, np.flatnonzero(both)) for model in (0, 1)]
    sums = drawn.sums(0), drawn.sums(1)
    for wanted in (both, both & (drawn.category == 0)):
        if not wanted.any():
            continue
        found = vocabularies.shared(*sums, drawn.groups(wanted))
        assert found["tags"] == wanted.sum()
        a, b = (np.array([each[wanted[both]].mean(axis=0) for each in side]) for side in figures)
        for values, of_model in zip((a, b), sums, strict=True):
            for name, factor in of_model.wider.items():
                of_name = values[1:, NAMES.index(name)]
                of_name[:] = widened(of_name, factor)
        for side, values in {"a": a, "b": b, "difference": a - b}.items():
            for place, name in enumerate(NAMES):
                check(found[side]["macro"][name], values[:, place].tolist(), name)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_a_model_against_all_tags(seed: int, levels: bool) -> None:
    drawn = Drawn(seed, levels)
    found = vocabularies.all_tags(drawn.sums(0), drawn.groups(drawn.known[0]), drawn.tags)
    assert (found["tags"], found["known"]) == (drawn.tags, drawn.known[0].sum())
    # A tag that it does not know is one that it never predicts.
    predicted = (drawn.scores[0] >= np.float32(0.5)) & drawn.known[0]
    truth = drawn.truth
    counted = vocabularies.micro(
        (predicted & truth).sum(axis=1), predicted.sum(axis=1), truth.sum(axis=1), drawn.samples
    )
    assert list(found["macro"]) == list(counted) == list(NAMES[:3])
    macro, micro = (
        np.array([rates(predicted[rows], truth[rows], average) for rows in drawn.rows])
        for average in ("macro", "micro")
    )
    wider = drawn.sums(0).wider
    for place, name in enumerate(counted):
        macro[1:, place] = widened(macro[1:, place], wider.get(name, 1.0))
        check(found["macro"][name], macro[:, place].tolist(), name)
        check(counted[name], micro[:, place].tolist())


def test_on_the_common_tags_a_pair_has_the_headline_figures() -> None:
    # A tag has few predictions, so that resamples miss some of what precision varies.
    random = np.random.default_rng(0)
    truth = random.random((300, 120)) < 0.006
    scores = random.random((2, *truth.shape), np.float32) * np.where(truth, 1, 0.505)
    scores = scores.astype(np.float32)
    test = TestSet.plain(truth, bootstrap.resamples(300, 50, 0))
    one, other = evaluate(test, scores[0], 0.5), evaluate(test, scores[1], 0.5)
    predicted = scores[0] >= 0.5
    once = bootstrap.Predicted.of(predicted.T, truth.T, np.arange(300))
    assert bootstrap.missed_variance(once) > 1e-5
    found = vocabularies.shared(one.sums, other.sums, np.array([0]))
    for side, whole in (("a", one), ("b", other)):
        overall = whole.results["overall"]
        for name in NAMES:
            figure = overall["ap"]["macro"] if name == "ap" else overall["own"]["macro"][name]
            assert None not in figure.values()
            assert found[side]["macro"][name] == pytest.approx(figure, abs=1e-12)
    # Tags that nobody knows widen precision's interval no more than they share in the mean.
    more = vocabularies.all_tags(one.sums, np.array([0]), 240)["macro"]["precision"]
    precision = found["a"]["macro"]["precision"]
    assert [2 * more[key] for key in more] == pytest.approx([*precision.values()], abs=1e-9)


def test_average_precisions_of_no_and_of_all_posts() -> None:
    scores = np.array([[0.5, 0.5], [0.1, 0.2], [0.9, 0.2]], np.float32)
    truth = np.array([[False, True], [False, True], [False, True]])
    samples = bootstrap.no_resamples(3)
    assert bootstrap.average_precisions(scores, truth, samples).tolist() == [[0], [1]]


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 30), st.sampled_from([3, 4]), st.booleans())
def test_ratings_equal_scikit_learn(seed: int, posts: int, classes: int, levels: bool) -> None:
    random = np.random.default_rng(seed)
    scores = random.random((posts, classes), np.float32)
    if levels:
        scores = np.round(scores, 1)
    truth = random.integers(-1, classes, posts)
    truth[0] = random.integers(classes)
    samples = bootstrap.resamples(posts, 5, seed)
    found = ratings.evaluate(scores, truth, samples)
    kept = truth >= 0
    given, true = scores[kept].argmax(axis=1), truth[kept]
    labels = np.unique(true)
    assert found["posts"] == len(true)
    assert found["confusion"] == confusion_matrix(true, given, labels=range(classes)).tolist()
    accuracy, macro = [], []
    for column in samples.weights.T:
        rows = np.repeat(np.arange(posts), column)
        rows = rows[truth[rows] >= 0]
        if not len(rows):  # A resample of posts without a rating.
            accuracy.append(0.0)
            macro.append(0.0)
            continue
        given = scores[rows].argmax(axis=1)
        accuracy.append(float(accuracy_score(truth[rows], given)))
        macro.append(
            float(f1_score(truth[rows], given, labels=labels, average="macro", zero_division=0))
        )
    check(found["accuracy"], accuracy)
    check(found["macro_f1"], macro)


def test_ratings_of_no_post_are_refused() -> None:
    with pytest.raises(ValueError, match="no post has a rating"):
        ratings.evaluate(np.ones((2, 4), np.float32), np.array([-1, -1]), bootstrap.no_resamples(2))
