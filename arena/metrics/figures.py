"""All figures of one model, and of a pair, as they stand in metrics.json.

formulas.py has the formulas and their sources. A macro figure is the mean over tags of the tags'
own figures; a micro figure is that of all (post, tag) pairs counted together.

Intervals come from a bootstrap over posts (bootstrap.py). The threshold at which precision
equals recall is found again in every resample, since finding it is part of such a figure. Macro
precision varies more than resamples show, and its resamples are widened by what they miss. Some
figures have no interval (NO_INTERVAL).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from arena.metrics import bootstrap
from arena.metrics.blocks import Array, by_tags
from arena.metrics.bootstrap import FIGURES, GRID, Counts, interval, pick
from arena.metrics.formulas import average_precision, check, f1, rates, safe_divide, thresholds

import numpy as np

TELLING = 5  # Posts shown per tag and kind.
MOST_POSTS = 1 << 24  # Single precision counts every post up to here.
# Tags are grouped by the posts they are on, in half decades.
FREQUENCIES = (0, *(base * 10**power for power in range(1, 8) for base in (1, 3)))
PER_TAG = ("precision", "recall", "f1", "ap", "mcc")
SECTIONS = ("own", "equal", "best", "per_tag_best", "cross_fit")
# Figures whose bootstrap intervals do not hold what they say: those at thresholds that are the best
# on some of the posts, and the calibration error (bench/README.md has the measurements).
NO_INTERVAL = ("best_", "per_tag_best_", "cross_fit_", "calibration_error")


class Decided(NamedTuple):
    """Tags that no threshold of their scores decides, since outputs with thresholds of their own
    stand for one tag: `tags` int (n,) are their columns of the scores, `predicted` bool (posts, n)
    says where they are predicted."""

    tags: Array
    predicted: Array


def per_tag(scores: Array, truth: Array, threshold: float | Array) -> dict[str, Array]:
    """Each tag's precision, recall, f1, ap, mcc (float64) and support (int64): arrays (tags,).

    scores float32 and truth bool are (posts, tags), memory-mapped or a slice of columns if need
    be; `threshold` is one number or one for each tag. AP is 0 for a tag on no post, MCC is 0
    where either prediction or truth is the same for all posts. Raises ValueError for shapes that
    do not fit, for no posts at all, and for a score that is not a number.
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


def telling(scores: Array, truth: Array, post_ids: Array) -> dict[str, list[list[Any]]]:
    """Per tag, up to TELLING [post ID, score]: `false_alarms` are the highest-scored posts without
    the tag, `misses` the lowest-scored with it; of equal scores the earlier post."""

    def first(posts: Array, keys: Array, column: Array) -> list[list[Any]]:
        if len(posts) > TELLING:
            near = keys <= np.partition(keys, TELLING - 1)[TELLING - 1]
            posts, keys = posts[near], keys[near]
        posts = posts[np.argsort(keys, kind="stable")[:TELLING]]
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


def flat(overall: dict[str, Any]) -> dict[str, float]:
    """An entry's `overall` as name -> value, by the names of evaluate's table.

    The figures at the own threshold are `macro_f1` and so on, those of another section
    `equal_macro_f1` and so on; the rest are named as they are.
    """
    return {
        _name(section, mean, figure): overall[section][mean][figure]["value"]
        for section in SECTIONS
        for mean in ("macro", "micro")
        for figure in FIGURES
        if mean in overall[section]
    } | {
        name: figure["value"]
        for name, figure in {**overall, **overall["ranking"]}.items()
        if "value" in figure
    }


def _name(section: str, mean: str, figure: str) -> str:
    return f"{mean}_{figure}" if section == "own" else f"{section}_{mean}_{figure}"


def _overall(counts: Counts, columns: int) -> tuple[dict[str, Array], dict[str, float]]:
    """The figures counted per tag, (weightings,) each, and the thresholds chosen for all posts.

    `equal` is where as many pairs are predicted as are true, as nearly as GRID comes to it (then
    micro precision = micro recall); `best` has the highest macro F1. Of equals the lowest.
    """
    some = slice(columns)
    total, support = counts.total[some], counts.support[:, some]
    pairs, true = total * len(support), support.sum(axis=0)
    figures = {}
    for section, (tp, predicted) in {
        "own": counts.own,
        "per_tag_best": counts.best,
        "cross_fit": counts.crossed,
    }.items():
        width = min(columns, tp.shape[1])
        each = rates(tp[:, :width], predicted[:, :width], support[:, :width], total[:width])
        for name, values in each.items():
            figures[_name(section, "macro", name)] = values.mean(axis=0)
    tp, predicted = (counted[:, some].sum(axis=0) for counted in counts.own)
    micro = rates(tp, predicted, true, pairs)
    figures |= {_name("own", "micro", name): values for name, values in micro.items()}

    grid = dict(zip(FIGURES, counts.grid[:, :, some], strict=True))
    micro = rates(counts.grid_tp[:, some], counts.grid_predicted[:, some], true, pairs)
    # Rounded, so that the order of adding up cannot choose between equal thresholds.
    at = {
        "equal": np.abs(counts.grid_predicted[:, some] - true).argmin(axis=0),
        "best": grid["f1"].round(12).argmax(axis=0),
    }
    for section, rows in at.items():
        for name in FIGURES:
            figures[_name(section, "macro", name)] = pick(grid[name], rows)
            figures[_name(section, "micro", name)] = pick(micro[name], rows)
    figures["macro_ap"] = counts.ap[:, some].mean(axis=0)
    return figures, {section: float(GRID[rows[0]]) for section, rows in at.items()}


def _nested(figures: dict[str, Array], chosen: dict[str, float | None]) -> dict[str, Any]:
    """`overall` of metrics.json from all figures: the value first, then the resamples, if any."""

    def with_interval(name: str) -> dict[str, float | None]:
        value = float(figures[name][0])
        low, high = interval(figures[name][1:], value)
        return {"value": value, "low": low, "high": high}

    overall: dict[str, Any] = {}
    for section in SECTIONS:
        overall[section] = {"threshold": chosen[section]} if section in chosen else {}
        for mean in ("macro", "micro") if section in chosen else ("macro",):
            overall[section][mean] = {
                figure: with_interval(_name(section, mean, figure)) for figure in FIGURES
            }
    overall["ranking"] = {name: with_interval(name) for name in ("macro_ap", "micro_ap")}
    for name in ("coverage", "calibration_error"):
        overall[name] = with_interval(name)
    return overall


def _floats(figures: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in figures.items()}


def _group(tag_figures: dict[str, Array], counts: Counts, inside: Array) -> dict[str, Any]:
    """Macro and micro figures over some of the tags (a bool a tag), at the own threshold."""
    tp, predicted = (counted[inside, 0].sum() for counted in counts.own)
    support, pairs = counts.support[inside, 0].sum(), counts.total[0] * inside.sum()
    return {
        "tags": int(inside.sum()),
        "macro": _floats({name: tag_figures[name][inside].mean() for name in PER_TAG}),
        "micro": _floats(rates(tp, predicted, support, pairs)),
    }


def _rated(counts: Counts, column: int) -> dict[str, Any]:
    """Macro and micro figures over the posts of a weighting, at the own threshold.

    Macro is over the tags that are on any of these posts; micro is over all tags.
    """
    support, total = counts.support[:, column], counts.total[column]
    tp, predicted = (counted[:, column] for counted in counts.own)
    there = support > 0
    each = rates(tp, predicted, support, total) | {"ap": counts.ap[:, column]}
    macro = {name: each[name][there].mean() if there.any() else 0.0 for name in PER_TAG}
    micro = rates(tp.sum(), predicted.sum(), support.sum(), total * len(support))
    return {"tags": int(there.sum()), "macro": _floats(macro), "micro": _floats(micro)}


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


def _decide(
    decided: Decided, truth: Array, weights: Array, tag_figures: dict[str, Array], counts: Counts
) -> None:
    """Count the decided tags as they are predicted, in place of what their thresholds gave."""
    # A prediction is a score of its own, with one half for a threshold.
    scores, truth = decided.predicted.astype(np.float32), truth[:, decided.tags]
    cut = thresholds(0.5, len(decided.tags))
    for name, values in per_tag(scores, truth, cut).items():
        if name != "ap":
            tag_figures[name][decided.tags] = values
    own = bootstrap.count(scores, truth, cut, weights).own
    for counted, values in zip(counts.own, own, strict=True):
        counted[decided.tags] = values


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
    scores: Array,
    truth: Array,
    threshold: float | Array,
    categories: Sequence[str],
    ratings: Sequence[str],
    known: Array,
    total: Array,
    post_ids: Array,
    weights: Array | None,
    decided: Decided | None = None,
) -> tuple[dict[str, Any], dict[str, Array]]:
    """All figures of one model, as its part of metrics.json, and every resample of those with an
    interval: name of the figure -> (resamples,).

    scores, truth, threshold as in per_tag, scores from 0 to 1; `categories` one a tag, `ratings`
    one a post (empty for none); `known` and `total` (posts,) count the post's true tags, of any
    vocabulary, that the model has and that there are; `weights` comes from bootstrap.resamples, or
    is None for no intervals; `decided` holds the tags whose `threshold` is not what decides at the
    own threshold. Raises ValueError where per_tag does, for lengths that do not fit, and for scores
    outside 0 to 1.
    """
    posts, tags = check(scores, truth)
    cut = thresholds(threshold, tags)
    if not tags:
        raise ValueError("there is no tag to score")
    if len(categories) != tags:
        raise ValueError(f"{len(categories)} categories for {tags} tags")
    if weights is None:
        weights = np.empty((posts, 0), np.uint8)
    lengths = {len(each) for each in (ratings, known, total, post_ids, weights)}
    if lengths != {posts}:
        raise ValueError(f"ratings, known, total, post_ids, weights: {lengths}, not {posts} posts")

    if posts > MOST_POSTS:
        raise ValueError(f"{posts} posts are more than the {MOST_POSTS} that are counted exactly")

    tag_figures = per_tag(scores, truth, cut)
    groups = {
        rating: np.array([given == rating for given in ratings])
        for rating in sorted(set(ratings) - {""})
    }
    # Weightings: all posts first, then the resamples, then each group of posts by itself.
    weighted = np.column_stack([np.ones(posts, np.uint8), weights])
    bins = bootstrap.calibrate(scores, truth, weighted)
    everything = np.column_stack([weighted, *(np.uint8(group) for group in groups.values())])
    counts = bootstrap.count(scores, truth, cut, everything)
    if decided is not None:
        _decide(decided, truth, everything, tag_figures, counts)
    figures, chosen = _overall(counts, weighted.shape[1])
    if weights.shape[1] > 1:
        equal = thresholds(chosen["equal"], tags)

        def at_equal(part: slice, scores: Array, truth: Array) -> tuple[Array, Array]:
            return _predictions(scores, truth, equal[part])

        blocks = [counted for _, counted in by_tags(scores, truth, at_equal)]
        at_own = np.stack([counted[:, 0] for counted in counts.own])
        for name, (right, predicted) in (
            ("macro_precision", at_own),
            ("equal_macro_precision", np.concatenate(blocks, axis=1)),
        ):
            missed = bootstrap.missed_variance(right, predicted)
            figures[name][1:] = bootstrap.widened(figures[name][1:], missed)
    figures["micro_ap"] = bootstrap.micro_ap(scores, truth, weighted)
    figures["coverage"] = safe_divide(
        known @ weighted.astype(float), total @ weighted.astype(float)
    )
    # |mean score - share of positives| of each bin, weighted by its share of all pairs.
    gaps = np.abs(bins[1] - bins[2]).sum(axis=1)
    figures["calibration_error"] = gaps / bins[0].sum(axis=1)
    for name in figures:
        if name.startswith(NO_INTERVAL):
            figures[name] = figures[name][:1]

    support = tag_figures["support"]
    single = decided is None and bool((cut == cut[0]).all())
    own = float(np.ravel(threshold)[0]) if single else None
    entry = {
        "overall": _nested(figures, {"own": own, **chosen}),
        "by_category": {
            category: _group(tag_figures, counts, np.array([c == category for c in categories]))
            for category in sorted(set(categories))
        },
        "by_rating": {
            rating: {"posts": int(group.sum()), **_rated(counts, column)}
            for column, (rating, group) in enumerate(groups.items(), weighted.shape[1])
        },
        "by_frequency": [
            {"low": low, "high": high - 1, **_group(tag_figures, counts, inside)}
            for low, high in pairwise(FREQUENCIES)
            if (inside := (support >= low) & (support < high)).any()
        ],
        "curves": _curves(counts),
        "calibration": _calibration(*(counted[0] for counted in bins)),
        "per_tag": {
            **{name: tag_figures[name].tolist() for name in (*PER_TAG, "support")},
            "best_threshold": [float(t) if np.isfinite(t) else None for t in counts.best_threshold],
            "best_f1": f1(counts.best[0][:, 0], counts.best[1][:, 0], support).tolist(),
        },
        "telling": telling(scores, truth, post_ids),
    }
    return entry, {name: values[1:] for name, values in figures.items() if len(values) > 1}


def compare(
    name_a: str,
    entry_a: dict[str, Any],
    table_a: dict[str, Array],
    name_b: str,
    entry_b: dict[str, Any],
    table_b: dict[str, Array],
) -> dict[str, Any]:
    """One pair of models: each figure of a minus that of b, and its interval from the resamples,
    which are of the same posts for both models."""
    values_a, values_b = flat(entry_a["overall"]), flat(entry_b["overall"])
    differences = {}
    for name in values_a:
        value = values_a[name] - values_b[name]
        resampled = table_a[name] - table_b[name] if name in table_a else np.empty(0)
        low, high = interval(resampled, value)
        differences[name] = {"value": value, "low": low, "high": high}
    return {"a": name_a, "b": name_b, "differences": differences}
