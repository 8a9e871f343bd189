"""All figures of one model, and of a pair, as they stand in metrics.json.

formulas.py has the formulas and their sources. A macro figure is the mean over tags of the tags'
own figures; a micro figure is that of all (post, tag) pairs counted together.

Intervals come from a bootstrap over clusters of posts (bootstrap.py). The threshold at which
precision equals recall is found again in every resample, since finding it is part of such a figure.
Macro precision varies more than resamples show, and its resamples are widened by what they miss.
Some figures have no interval (NO_INTERVAL).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, TypedDict

from arena.metrics import bootstrap, rare, terms
from arena.metrics.blocks import Array, Matrix, by_posts, by_tags, some_tags
from arena.metrics.bootstrap import (
    FIGURES,
    GRID,
    REACH,
    Counts,
    Predicted,
    Samples,
    interval,
    no_resamples,
    pick,
)
from arena.metrics.formulas import average_precision, check, f1, rates, safe_divide, thresholds
from arena.metrics.images import per_image
from arena.metrics.influence import HEADLINE, design_effects, influences
from arena.metrics.tag_groups import Sums

import numpy as np

EXAMPLES = 5  # Posts shown per tag and kind.
BINS = 32  # Of equal width, for each tag's scores.
MOST_POSTS = 1 << 24  # Single precision counts every post up to here.
# Tags are grouped by the posts they are on, in half decades.
FREQUENCIES = (0, *(base * 10**power for power in range(1, 8) for base in (1, 3)))
PRECISIONS, RECALLS = (0.9, 0.8), (0.5,)  # Levels at which the other of the two is told.
PER_TAG = ("precision", "recall", "f1", "ap", "mcc")
# Where figures are whose bootstrap intervals do not hold what they say: at thresholds that are the
# best on some of the posts, and two more (bench/README.md has the measurements).
NO_INTERVAL = (
    ("best",),
    ("per_tag_best",),
    ("cross_fit",),
    ("calibration_error",),
    ("own", "macro", "mcc"),
)

# Of one model these have no interval: with other posts `min_count` would be over other tags, which
# moves it more than resamples show, and precision so high up is too lopsided. Both move two models
# alike, so that the interval of their difference holds (bench/README.md).
INTERVAL_OF_PAIRS = ("min_count", "precision_at_recall")

# Macro precision gets an interval from so many tags on: what resamples miss of its spread is
# estimated from tags that are predicted rarely, and of few tags there are too few.
MIN_TAGS_PRECISION = 100

Path = tuple[str, ...]  # Where a figure is in the results: ("equal", "macro", "f1").
# Means over tags that vary more than resamples of clusters show, by the HEADLINE figure that says
# by how much: where precision equals recall the tags' clusters are much the same.
WIDER: dict[Path, str] = {
    **{(section, "macro", name): name for section in ("own", "equal") for name in ("recall", "f1")},
    ("equal", "macro", "mcc"): "f1",
    ("ap", "macro"): "ap",
    **{("min_count", str(least), name): name for least in rare.MIN_COUNTS for name in ("f1", "ap")},
}


class Figure(TypedDict):
    """A figure in the results, with its 95% interval; None where it has none."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class TestSet:
    """What every model is scored on, checked once.

    `truth` bool (posts, tags): which post carries which tag. `post_ids` int (posts,). `categories`
    one for each tag. `ratings` one for each post, empty for none. `tag_totals` int (posts,): how
    many tags each post carries, of any vocabulary. `samples` come from bootstrap.resamples, or
    no_resamples for no intervals. `clusters` int (posts,) are those that the samples were drawn
    by, numbered from 0 in the order of their first posts. `groups` int (tags,):
    tags of one number are added up together in an evaluation's `sums`; None for one group of all.
    Raises ValueError for arrays that do not fit each other, and for no posts or no tags.
    """

    __test__ = False  # No test of pytest's.

    truth: Matrix
    post_ids: Array
    categories: Sequence[str]
    ratings: Sequence[str] | Array
    tag_totals: Array
    samples: Samples
    clusters: Array
    groups: Array | None = None

    def __post_init__(self) -> None:
        posts, tags = check(self.truth, self.truth)
        if not tags:
            raise ValueError("there is no tag to score")
        if len(self.categories) != tags:
            raise ValueError(f"{len(self.categories)} categories for {tags} tags")
        if self.groups is not None and len(self.groups) != tags:
            raise ValueError(f"{len(self.groups)} groups for {tags} tags")
        by_post = self.post_ids, self.ratings, self.tag_totals, self.samples.unit, self.clusters
        lengths = {len(each) for each in by_post}
        if lengths != {posts}:
            raise ValueError(
                f"post_ids, ratings, tag_totals, samples, clusters: {lengths}, not {posts} posts"
            )
        most = self.samples.sums(np.ones(posts)).max()
        if most > MOST_POSTS:
            raise ValueError(
                f"{most:.0f} posts in a sample are more than the {MOST_POSTS} that are counted"
                " exactly"
            )
        highest = np.maximum.accumulate(self.clusters)
        new = np.diff(highest, prepend=-1)
        if (new > 1).any() or self.clusters.min() < 0:
            raise ValueError("clusters must be numbered from 0 in the order of their first posts")
        of_clusters = self.samples.unit[new == 1]
        if (self.samples.unit != of_clusters[self.clusters]).any():
            raise ValueError("the posts of a cluster must be of one unit of the samples")

    @property
    def alone(self) -> bool:
        """Whether each post is a cluster by itself."""
        return int(self.clusters[-1]) == len(self.clusters) - 1

    @classmethod
    def plain(cls, truth: Array, samples: Samples | None = None) -> "TestSet":
        """A test set of which nothing is known but the truth: one category, no ratings, and each
        post by itself."""
        posts, tags = truth.shape
        totals = truth.sum(axis=1)
        given = samples or no_resamples(posts)
        ids = np.arange(posts)
        return cls(truth, ids, ["general"] * tags, [""] * posts, totals, given, ids)


@dataclass(frozen=True)
class Evaluation:
    """One model's figures.

    `values` has every figure by its path; `resamples` (resamples,) those of the figures that have
    an interval, if only in a pair (INTERVAL_OF_PAIRS). `influence` float64 (posts, 4) is that of
    each post on the HEADLINE figures, None where there is no resample or each post is its own
    cluster. `results` is the model's part of metrics.json. `sums` are for sets of tags that are
    made of whole groups of the test set's.
    """

    values: dict[Path, float]
    resamples: dict[Path, Array]
    influence: Matrix | None
    results: dict[str, Any]
    sums: Sums


class Decided(NamedTuple):
    """Thresholds where a few tags have several outputs with different ones, so that no threshold of
    the tag's score decides: `threshold` (tags,) decides all other tags; `tags` int (n,) are the
    columns of those few, `predicted` bool (posts, n) says where they are predicted."""

    threshold: Array
    tags: Array
    predicted: Array


def per_tag(scores: Matrix, truth: Matrix, threshold: float | Array) -> dict[str, Array]:
    """Each tag's precision, recall, f1, ap, mcc (float64) and support (int64): arrays (tags,).

    scores float32 and truth bool are (posts, tags), arrays (memory-mapped or a slice of columns if
    need be) or Tiles; `threshold` is one number or one for each tag. AP is 0 for a tag on no post,
    MCC is 0 where either prediction or truth is the same for all posts. Raises ValueError for
    shapes that do not fit, for no posts at all, and for a score that is not a number.
    """
    posts, tags = check(scores, truth)
    cut = thresholds(threshold, tags)
    tp, predicted, support = np.zeros((3, tags), np.int64)
    ap = np.zeros(tags)

    def block(part: slice, scores: Array, truth: Array) -> None:
        tp[part], predicted[part] = _predictions(scores, truth, cut[part])
        support[part] = np.count_nonzero(truth, axis=1)
        ap[part] = [average_precision(*tag) for tag in zip(scores, truth, strict=True)]

    for _ in by_tags(scores, truth, block):
        pass
    return {**rates(tp, predicted, support, posts), "ap": ap, "support": support}


def _predictions(scores: Array, truth: Array, cut: Array) -> tuple[Array, Array]:
    """Right and all predictions of each tag, of scores and truth (tags, posts) and cut (tags,)."""
    above = scores >= cut[:, None]
    return np.count_nonzero(above & truth, axis=1), np.count_nonzero(above, axis=1)


def examples(scores: Matrix, truth: Matrix, post_ids: Array) -> dict[str, list[list[Any]]]:
    """Per tag, up to EXAMPLES [post ID, score]: `false_alarms` are the highest-scored posts without
    the tag, `misses` the lowest-scored with it; of equal scores the earlier post."""

    def first(posts: Array, keys: Array, column: Array) -> list[list[Any]]:
        if len(posts) > EXAMPLES:
            near = keys <= np.partition(keys, EXAMPLES - 1)[EXAMPLES - 1]
            posts, keys = posts[near], keys[near]
        posts = posts[np.argsort(keys, kind="stable")[:EXAMPLES]]
        return [[int(post_ids[post]), round(float(column[post]), 4)] for post in posts]

    def block(part: slice, scores: Array, truth: Array) -> list[tuple[list[Any], list[Any]]]:
        found = []
        for column, positive in zip(scores, truth, strict=True):
            without, having = np.flatnonzero(~positive), np.flatnonzero(positive)
            found.append(
                (first(without, -column[without], column), first(having, column[having], column))
            )
        return found

    pairs = [pair for _, block in by_tags(scores, truth, block) for pair in block]
    return {
        "false_alarms": [alarms for alarms, _ in pairs],
        "misses": [misses for _, misses in pairs],
    }


def histograms(scores: Matrix, truth: Matrix) -> dict[str, list[list[int]]]:
    """Per tag, how many scores lie in each of BINS bins of equal width from 0 to 1, 1 in the last:
    `positive` of posts with the tag, `negative` without. scores (posts, tags) are from 0 to 1.

    From both follows the tag's precision and recall at each edge between bins.
    """
    posts, tags = scores.shape

    def block(part: slice, scores: Array, truth: Array) -> tuple[Array, Array]:
        # Nearly all scores lie in the first bin, which is what the others leave.
        there = np.flatnonzero(scores >= np.float32(1 / BINS))
        found = np.minimum(scores.ravel()[there] * np.float32(BINS), BINS - 1).astype(np.intp)
        found += (there % tags * 2 + truth.ravel()[there]) * BINS
        return np.bincount(found, minlength=2 * BINS * tags), np.count_nonzero(truth, axis=0)

    total, support = np.zeros(2 * BINS * tags, np.int64), np.zeros(tags, np.int64)
    for _, (counted, carriers) in by_posts(scores, truth, block):
        total += counted
        support += carriers
    negative, positive = total.reshape(tags, 2, BINS).transpose(1, 0, 2)
    positive[:, 0] = support - positive.sum(axis=1)
    negative[:, 0] = posts - support - negative.sum(axis=1)
    return {"positive": positive.tolist(), "negative": negative.tolist()}


def _overall(counts: Counts) -> tuple[dict[Path, Array], dict[str, float]]:
    """The figures counted per tag, (samples,) each, and the thresholds chosen for all posts.

    `equal` is where as many pairs are predicted as are true, as nearly as GRID comes to it (then
    micro precision = micro recall); `best` has the highest macro F1. Of equals the lowest.
    """
    total, support = counts.total, counts.support
    pairs, true = total * len(support), support.sum(axis=0)
    figures: dict[Path, Array] = {}
    for section, (tp, predicted) in {
        "own": counts.own,
        "per_tag_best": counts.best,
    }.items():
        width = tp.shape[1]
        each = rates(tp, predicted, support[:, :width], total[:width])
        for name, values in each.items():
            figures[section, "macro", name] = values.mean(axis=0)
    tp, predicted = (counted.sum(axis=0) for counted in counts.own)
    for name, values in rates(tp, predicted, true, pairs).items():
        figures["own", "micro", name] = values
    figures |= {("min_count", *path): of for path, of in rare.by_min_count(counts).items()}

    grid = dict(zip(FIGURES, counts.grid, strict=True))
    micro = rates(counts.grid_tp, counts.grid_predicted, true, pairs)
    # Rounded, so that the order of adding up cannot choose between equal thresholds.
    at = {
        "equal": np.abs(counts.grid_predicted - true).argmin(axis=0),
        "best": grid["f1"].round(12).argmax(axis=0),
    }
    for section, rows in at.items():
        for name in FIGURES:
            figures[section, "macro", name] = pick(grid[name], rows)
            figures[section, "micro", name] = pick(micro[name], rows)
    figures["ap", "macro"] = counts.ap.mean(axis=0)
    return figures, {section: float(GRID[rows[0]]) for section, rows in at.items()}


def _cross_fit(fits: Mapping[str, terms.Fit], counts: Counts) -> dict[Path, Array]:
    """The figures of thresholds that are fitted on one half and scored on the other, (1,) each."""
    support, total = counts.support[:, :1], counts.total[:1]
    figures: dict[Path, Array] = {}
    for kind, fit in fits.items():
        tp, predicted = fit.crossed_tp[:, None], fit.crossed_predicted[:, None]
        macro = rates(tp, predicted, support, total)
        sums = [counted.sum(axis=0) for counted in (tp, predicted, support)]
        micro = rates(sums[0], sums[1], sums[2], total * len(support))
        for name in FIGURES:
            figures["cross_fit", kind, "macro", name] = macro[name].mean(axis=0)
            figures["cross_fit", kind, "micro", name] = micro[name]
    return figures


def _tuned(
    fits: Mapping[str, terms.Fit], counts: Counts, categories: Sequence[str]
) -> dict[str, Any]:
    """The thresholds that serve many tags, as `tuned` has them."""
    support, of = counts.support[:, 0], np.asarray(categories)

    def entry(fit: terms.Fit, inside: Array) -> dict[str, Any]:
        same, crossed = _tuned_f1(fit, support)
        return {
            "threshold": float(fit.threshold[inside][0]),
            "f1": float(same[inside].mean()),
            "cross_fit_f1": float(crossed[inside].mean()),
            "positives": int(support[inside].sum()),
        }

    return {
        "fewest_positives": terms.FEWEST,
        "one": entry(fits["one"], np.ones(len(of), np.bool_)),
        "category": {
            str(category): entry(fits["category"], of == category) for category in np.unique(of)
        },
    }


def _tuned_f1(fit: terms.Fit, support: Array) -> tuple[Array, Array]:
    """Each tag's F1 on the posts that thresholds are fitted on, and cross-fitted: (tags,)."""
    return f1(fit.tp, fit.predicted, support), f1(fit.crossed_tp, fit.crossed_predicted, support)


def has_interval(path: Path, tags: int) -> bool:
    """Whether a figure over so many tags gets an interval."""
    if path[1:] == ("macro", "precision") and tags < MIN_TAGS_PRECISION:
        return False
    return not any(path[: len(start)] == start for start in NO_INTERVAL)


def figure(value: Any, resamples: Array | None = None, reach: float = REACH) -> Figure:
    """A figure as it is in the results, with the interval that its resamples give, of as many
    spreads to either side as `reach` says."""
    low, high = (None, None) if resamples is None else interval(resamples, float(value), reach)
    return {"value": float(value), "low": low, "high": high}


def nested(figures: dict[Path, Figure]) -> dict[str, Any]:
    """Figures by path as a dict of dicts: ("own", "macro", "f1") is in ["own"]["macro"]["f1"]."""
    tree: dict[str, Any] = {}
    for path, found in figures.items():
        branch = tree
        for step in path[:-1]:
            branch = branch.setdefault(step, {})
        branch[path[-1]] = found
    return tree


def _figures(values: dict[str, Any]) -> dict[str, Figure]:
    return {name: figure(value) for name, value in values.items()}


def _group(
    tag_figures: dict[str, Array],
    counts: Counts,
    inside: Array,
    wider: dict[str, float],
) -> dict[str, Any]:
    """Macro and micro figures over some of the tags (a bool a tag), at the own threshold.

    The intervals are those of the same figures over all tags, `wider` by as much; macro precision
    has none, as it would have to be widened by what it alone misses.
    """
    tp, predicted = (counted[inside] for counted in counts.own)
    support, total = counts.support[inside], counts.total
    each = rates(tp, predicted, support, total) | {"ap": counts.ap[inside]}
    pooled = rates(tp.sum(axis=0), predicted.sum(axis=0), support.sum(axis=0), total * len(tp))
    spread = {
        name: bootstrap.scaled(each[name].mean(axis=0)[1:], wider.get(name, 1))
        for name in ("recall", "f1", "ap")
    }
    return {
        "tags": len(tp),
        "macro": {
            name: figure(tag_figures[name][inside].mean(), spread.get(name)) for name in PER_TAG
        },
        "micro": {name: figure(values[0], values[1:]) for name, values in pooled.items()},
    }


def _curves(counts: Counts) -> dict[str, list[float]]:
    """Precision, recall and F1 at each threshold of GRID."""
    pairs, true = counts.total[0] * len(counts.support), counts.support[:, 0].sum()
    micro = rates(counts.grid_tp[:, 0], counts.grid_predicted[:, 0], true, pairs)
    macro = dict(zip(FIGURES, counts.grid[:, :, 0], strict=True))
    names = ("precision", "recall", "f1")
    return (
        {"threshold": GRID.tolist()}
        | {f"micro_{name}": micro[name].tolist() for name in names}
        | {f"macro_{name}": macro[name].tolist() for name in names}
    )


def above(part: slice, scores: Array, cut: Array, decided: Decided | None) -> Array:
    """Where the tags of `part` are predicted: bool (tags of the part, posts), as scores are."""
    predicted: Array = scores >= cut[part][:, None]
    if decided is not None:
        inside = (decided.tags >= part.start) & (decided.tags < part.stop)
        predicted[decided.tags[inside] - part.start] = decided.predicted[:, inside].T
    return predicted


def _decide(
    decided: Decided,
    truth: Matrix,
    samples: Samples,
    half: Array,
    tag_figures: dict[str, Array],
    counts: Counts,
) -> None:
    """Count the decided tags as they are predicted, in place of what their thresholds gave."""
    # A prediction is a score of its own, with one half for a threshold.
    scores, truth = decided.predicted, some_tags(truth, decided.tags)
    cut = thresholds(0.5, len(decided.tags))
    for name, values in per_tag(scores, truth, cut).items():
        if name != "ap":
            tag_figures[name][decided.tags] = values
    own = bootstrap.count(scores, truth, cut, samples, half).own
    for counted, values in zip(counts.own, own, strict=True):
        counted[decided.tags] = values


def _decided(decided: Decided | None, posts: int) -> tuple[Array, Array]:
    """The columns of the decided tags, int (n,), and where they are predicted, bool (posts, n)."""
    if decided is None:
        return np.empty(0, np.intp), np.empty((posts, 0), np.bool_)
    return decided.tags, decided.predicted


def _calibration(pairs: Array, score: Array, positive: Array) -> list[dict[str, Any]]:
    """The calibration curve's points: bins of equal width that hold any pair."""
    return [
        {
            "low": place / len(pairs),
            "high": (place + 1) / len(pairs),
            "count": int(pairs[place]),
            "mean_score": float(score[place] / pairs[place]),
            "positive_rate": float(positive[place] / pairs[place]),
        }
        for place in range(len(pairs))
        if pairs[place]
    ]


def evaluate(
    test: TestSet, scores: Matrix, threshold: float | Array | Decided, known: Array | None = None
) -> Evaluation:
    """All figures of one model.

    scores float32 (posts, tags) from 0 to 1; `threshold` is one number, one for each tag (tags,),
    or what Decided says; `known` int (posts,) counts the post's tags that the model knows, by
    default those of the test set. Raises ValueError where per_tag does, and for scores outside 0
    to 1.
    """
    truth, samples = test.truth, test.samples
    posts, tags = check(scores, truth)
    decided = threshold if isinstance(threshold, Decided) else None
    given = threshold.threshold if isinstance(threshold, Decided) else threshold
    cut = thresholds(given, tags)
    if known is None:
        known = np.concatenate(
            [found for _, found in by_posts(truth, truth, lambda *block: block[2].sum(axis=1))]
        )

    tag_figures = per_tag(scores, truth, cut)
    bins = bootstrap.calibrate(scores, truth, samples)
    half = bootstrap.halves(test.clusters)
    counts = bootstrap.count(scores, truth, cut, samples, half)
    if decided is not None:
        _decide(decided, truth, samples, half, tag_figures, counts)
    figures, chosen = _overall(counts)
    fits = terms.fits(counts, test.categories)
    figures |= _cross_fit(fits, counts)
    predicted = _predicted(test, scores, cut, decided)
    if samples.count > 2 and tags >= MIN_TAGS_PRECISION:
        _widen(figures["own", "macro", "precision"], predicted)
        at_equal = _predicted(test, scores, thresholds(chosen["equal"], tags), None)
        _widen(figures["equal", "macro", "precision"], at_equal)
    micro = bootstrap.micro_curve(scores, truth, samples)
    figures["ap", "micro"] = micro.read(bootstrap.micro_ap)
    for level in PRECISIONS:
        recall = micro.read(partial(terms.recall_at_precision, level))
        figures["recall_at_precision", f"{level:.2f}"] = recall
    for level in RECALLS:
        precision = micro.read(partial(terms.precision_at_recall, level))
        figures["precision_at_recall", f"{level:.2f}"] = precision
    for name, of_posts in per_image(scores, truth, cut, *_decided(decided, posts)).items():
        of_units = np.bincount(samples.unit, of_posts, len(samples.weights))
        # One sample at a time, as sums of several at once are rounded otherwise.
        sums = [of_units @ drawn.astype(float) for drawn in samples.weights.T]
        figures["per_image", name] = np.array(sums) / counts.total
    figures["coverage",] = safe_divide(samples.sums(known), samples.sums(test.tag_totals))
    # |mean score - share of positives| of each bin, weighted by its share of all pairs.
    gaps = np.abs(bins[1] - bins[2]).sum(axis=1)
    figures["calibration_error",] = gaps / bins[0].sum(axis=1)

    influence, wider = None, {}
    if samples.count > 1:
        moved = influences(
            scores, truth, lambda part, scores: above(part, scores, cut, decided), test.clusters
        )
        influence, wider = None if test.alone else moved.of_posts, moved.wider
        for path in WIDER.keys() & figures.keys():
            figures[path][1:] = bootstrap.scaled(figures[path][1:], wider[WIDER[path]])
    values = {path: float(found[0]) for path, found in figures.items()}
    resamples = {path: found[1:] for path, found in figures.items() if has_interval(path, tags)}
    alone = {path: of for path, of in resamples.items() if path[0] not in INTERVAL_OF_PAIRS}
    overall = nested({path: figure(value, alone.get(path)) for path, value in values.items()})
    single = decided is None and bool((cut == cut[0]).all())
    own = float(np.ravel(given)[0]) if single else None
    for section, at in {"own": own, **chosen}.items():
        overall[section] = {"threshold": at, **overall[section]}

    support = tag_figures["support"]
    same_f1, cross_fit_f1 = _tuned_f1(fits["tag"], support)
    categories = np.array(test.categories)
    results = {
        "overall": overall,
        "design_effect": _design_effects(test, influence),
        "by_category": {
            category: _group(tag_figures, counts, categories == category, wider)
            for category in sorted(set(test.categories))
        },
        "by_frequency": [
            {
                "low": low,
                "high": high - 1,
                **_group(tag_figures, counts, inside, wider),
            }
            for low, high in pairwise(FREQUENCIES)
            if (inside := (support >= low) & (support < high)).any()
        ],
        "curves": _curves(counts),
        "calibration": _calibration(*(counted[0] for counted in bins)),
        "per_tag": {
            **{name: tag_figures[name].tolist() for name in (*PER_TAG, "support")},
            "best_threshold": [float(t) if np.isfinite(t) else None for t in counts.best_threshold],
            "best_f1": f1(counts.best[0][:, 0], counts.best[1][:, 0], support).tolist(),
            "tuned_threshold": fits["tag"].threshold.tolist(),
            "tuned_f1": same_f1.tolist(),
            "cross_fit_f1": cross_fit_f1.tolist(),
        },
        "tuned": _tuned(fits, counts, test.categories),
        "score_histogram": histograms(scores, truth),
        "examples": examples(scores, truth, test.post_ids),
    }
    groups = np.zeros(tags, int) if test.groups is None else test.groups
    of_groups = Sums.of(groups, counts.support, *counts.own, counts.ap, predicted, wider)
    return Evaluation(values, resamples, influence, results, of_groups)


def _design_effects(
    test: TestSet, influence: Matrix | None, less: Matrix | None = None
) -> dict[str, float | None]:
    """The design effect of the HEADLINE figures, or of what they are more than another model's; 1
    where each post is a cluster by itself, None where there is no resample."""
    if test.alone:
        return dict.fromkeys(HEADLINE, 1.0)
    if influence is None:
        return dict.fromkeys(HEADLINE)
    return design_effects(influence, test.clusters, less)


def _predicted(test: TestSet, scores: Matrix, cut: Array, decided: Decided | None) -> Predicted:
    """What is predicted of each tag."""

    def block(part: slice, scores: Array, truth: Array) -> Predicted:
        return Predicted.of(above(part, scores, cut, decided), truth, test.clusters)

    return Predicted.joined([found for _, found in by_tags(scores, test.truth, block)])


def _widen(figures: Array, predicted: Predicted) -> None:
    """Make the resamples of macro precision, after its value, vary as much as it does with other
    posts."""
    figures[1:] = bootstrap.widened(figures[1:], bootstrap.missed_variance(predicted))


def compared_design_effects(test: TestSet, a: Evaluation, b: Evaluation) -> dict[str, float | None]:
    """The design effect of each HEADLINE figure of a minus that of b."""
    return _design_effects(test, a.influence, b.influence)


def compare(a: Evaluation, b: Evaluation) -> dict[str, Any]:
    """Each figure of a minus that of b, with its interval, as `overall` has them.

    The resamples must be of the same posts for both models.
    """
    return nested(
        {
            path: figure(
                value - b.values[path],
                a.resamples[path] - b.resamples[path] if path in a.resamples else None,
            )
            for path, value in a.values.items()
        }
    )


def compare_tags(a: Evaluation, b: Evaluation) -> dict[str, rare.Record]:
    """On how many tags a is better than b, by F1 at the own thresholds and by AP."""
    of = [
        {name: np.array(each.results["per_tag"][name]) for name in ("f1", "ap")} for each in (a, b)
    ]
    return {name: rare.record(of[0][name], of[1][name]) for name in of[0]}
