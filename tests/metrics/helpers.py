"""What the tests of the metrics share: cases, samples, and a brute-force reference."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

from arena.metrics import Evaluation, TestSet, bootstrap, figures
from arena.metrics.influence import LEAST

import numpy as np
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve

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


def drawn(samples: bootstrap.Samples) -> Array:
    """How often each post is in each resample: uint8 (posts, resamples)."""
    found: Array = samples.weights[samples.unit, 1:]
    return found


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
        given.get("samples", bootstrap.no_resamples(posts)),
        given.get("clusters", np.arange(posts)),
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


GRID = [step / 256 for step in range(1, 256)]


def fitted(
    scores: Array, truth: Array, kind: str, categories: Sequence[str], fewest: int
) -> list[float]:
    """The threshold of each tag that is best on these posts, in exact fractions: of `one` and
    `category` the lowest of GRID with the highest mean F1, of `tag` its own, or its category's
    where fewer than `fewest` posts carry it."""
    tags = range(scores.shape[1])
    group = ["" if kind == "one" else category for category in categories]
    predicted = scores >= np.array(GRID)[:, None, None]
    right = 2 * (predicted & truth).sum(axis=1)
    counted = np.stack([right, predicted.sum(axis=1) + truth.sum(axis=0)], axis=2).tolist()
    best: dict[str, float] = {}
    for name in set(group):
        sums: dict[str, Fraction] = {}  # By the counts: most of GRID gives the same.
        highest = Fraction(-1)
        for cut, of_tags in zip(GRID, counted, strict=True):
            pairs = [of_tags[tag] for tag in tags if group[tag] == name]
            if str(pairs) not in sums:
                sums[str(pairs)] = sum((Fraction(*pair) for pair in pairs if pair[1]), Fraction(0))
            if sums[str(pairs)] > highest:
                highest, best[name] = sums[str(pairs)], cut
    return [
        best_threshold(scores[:, tag], truth[:, tag])
        if kind == "tag" and truth[:, tag].sum() >= fewest
        else best[group[tag]]
        for tag in tags
    ]


def cross_fitted(
    scores: Array, truth: Array, half: Array, kind: str, categories: Sequence[str], fewest: int
) -> Array:
    """Where tags are predicted by the thresholds of the other half: bool (posts, tags)."""
    predicted = np.zeros_like(truth)
    for here in (0, 1):
        cut = fitted(scores[half == here], truth[half == here], kind, categories, fewest)
        predicted[half != here] = scores[half != here] >= np.array(cut, np.float32)
    return predicted


def wider(scores: Array, truth: Array, threshold: float, clusters: Array) -> dict[str, float]:
    """How much further figures spread than resamples show, one tag and cluster at a time."""
    names, units = ("macro_recall", "macro_f1", "macro_ap"), int(clusters.max()) + 1
    shown, true = ({name: np.zeros(units) for name in names} for _ in range(2))
    own = dict.fromkeys(names, 0.0)
    for column, positive in zip(scores.T, truth.T, strict=True):
        predicted = column >= np.float32(threshold)
        tp, k, n = int((predicted & positive).sum()), int(positive.sum()), int(predicted.sum())
        precision = {
            post: positive[column >= column[post]].mean()
            for post in np.flatnonzero(positive).tolist()
        }
        ap = np.mean(list(precision.values())) if k else 0.0
        influence, size = {name: np.zeros(units) for name in names}, np.zeros((3, units))
        for post, cluster in enumerate(clusters):
            right, has, given = (
                int(x) for x in (predicted[post] & positive[post], positive[post], predicted[post])
            )
            if k:
                influence["macro_recall"][cluster] += (right - tp / k * has) / k
                change = [
                    (has - at) / (column >= column[other]).sum()
                    for other, at in precision.items()
                    if column[post] >= column[other]
                ]
                above = precision[post] - ap if has else 0.0
                influence["macro_ap"][cluster] += (sum(change) + above) / k
            if n + k:
                f1 = 2 * tp / (n + k)
                influence["macro_f1"][cluster] += (2 * right - f1 * (has + given)) / (n + k)
            size[:, cluster] += has, has + given, has
        for name, sizes in zip(names, size, strict=True):
            share = sizes / max(1, sizes.sum())
            for cluster, (moves, h) in enumerate(zip(influence[name], share, strict=True)):
                left = 1 - 2 * h + (share**2).sum()
                tells = h > 0 and left > LEAST
                shown[name][cluster] += moves
                true[name][cluster] += moves / (1 - h) if tells else moves
                if tells:
                    own[name] += moves**2 * ((1 - h) / left - 1 / (1 - h) ** 2)
    found = {}
    for name in names:
        squares, should = (shown[name] ** 2).sum(), (true[name] ** 2).sum() + own[name]
        found[name] = 1.0
        if squares > 1e-18:
            fourth = (true[name] ** 4).sum() / (true[name] ** 2).sum() ** 2
            degrees = max(4.0, 2 / max(fourth - 1 / units, 1e-15))
            # Of the same two terms.
            reach = 1.96 + (1.96**3 + 1.96) / 4 / degrees
            reach += (5 * 1.96**5 + 16 * 1.96**3 + 3 * 1.96) / 96 / degrees**2
            found[name] = max(1.0, should / squares) ** 0.5 * reach / 1.96
    return found


def reference(
    scores: Array,
    truth: Array,
    threshold: float,
    half: Array,
    known: Array,
    total: Array,
    resampled_from: Array | None = None,
) -> dict[str, float]:
    """Every figure of `overall` by evaluate's names, one tag and one threshold at a time. Of posts
    that are resampled from others with the truth `resampled_from`, those that have an interval."""
    tags = range(scores.shape[1])
    counts = (truth if resampled_from is None else resampled_from).sum(axis=0)
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
    both("equal_", scores >= min(GRID, key=lambda cut: abs((scores >= cut).sum() - truth.sum())))
    macro_f1 = []
    for cut in GRID:
        each = [plain((scores >= cut)[:, tag], truth[:, tag])["f1"] for tag in tags]
        macro_f1.append(round(float(np.mean(each)), 12))
    both("best_", scores >= GRID[int(np.argmax(macro_f1))])
    macro(
        "per_tag_best_",
        scores >= np.array([best_threshold(scores[:, tag], truth[:, tag]) for tag in tags]),
    )
    for kind in ("one", "category", "tag") if resampled_from is None else ():
        general = ["general"] * len(tags)
        both(f"cross_fit_{kind}_", cross_fitted(scores, truth, half, kind, general, 20))
    figures["macro_ap"] = float(np.mean([ap(scores[:, tag], truth[:, tag]) for tag in tags]))
    figures["micro_ap"] = ap(scores.ravel(), truth.ravel())
    precision, recall = np.zeros(1), np.zeros(1)
    if truth.any():
        precision, recall, _ = precision_recall_curve(truth.ravel(), scores.ravel())
    for level in (0.9, 0.8):
        reached = recall[precision >= level]
        figures[f"recall_at_precision_{level:.2f}"] = reached.max(initial=0)
    figures["precision_at_recall_0.50"] = precision[recall >= 0.5].max(initial=0)
    predicted = scores >= np.float32(threshold)
    for least in (10, 30, 100, 300):
        inside = [tag for tag in tags if counts[tag] >= least]
        if inside:
            f1s = [plain(predicted[:, tag], truth[:, tag])["f1"] for tag in inside]
            aps = [ap(scores[:, tag], truth[:, tag]) for tag in inside]
            figures[f"min_count_{least}_f1"] = float(np.mean(f1s))
            figures[f"min_count_{least}_ap"] = float(np.mean(aps))
    figures["per_image_tags"] = predicted.sum() / len(scores)
    figures["per_image_false_tags"] = (predicted & ~truth).sum() / len(scores)
    figures["per_image_f1"] = f1_of_posts(truth, predicted)
    figures["coverage"] = known.sum() / total.sum()
    error = 0.0
    for low in np.arange(16) / 16:
        inside = (scores >= low) & ((scores < low + 1 / 16) | (low == 15 / 16))
        if inside.any():
            gap = scores[inside].astype(float).mean() - truth[inside].mean()
            error += abs(gap) * inside.mean()
    figures["calibration_error"] = error
    return figures


def f1_of_posts(truth: Array, predicted: Array) -> float:
    """The mean over posts of each post's F1, by scikit-learn. Beside a column that is never true
    nor predicted, as a single column is no matrix of labels to it."""
    none = np.zeros((len(truth), 1), bool)
    wide = [np.column_stack([each, none]) for each in (truth, predicted)]
    return float(f1_score(*wide, average="samples", zero_division=0))


def ap(scores: Array, truth: Array) -> float:
    return float(average_precision_score(truth, scores)) if truth.any() else 0.0


WIDENED = ("macro_precision", "equal_macro_precision")  # Beyond what their resamples say.


def sample(posts: int, tags: int, seed: int = 0) -> tuple[Array, Array]:
    """Scores of a passable tagger and the truth, tags from rare to common."""
    random = np.random.default_rng(seed)
    truth = random.random((posts, tags)) < np.geomspace(0.02, 0.7, tags)
    logits = random.normal(size=truth.shape) * 2 - 4 + 5 * truth
    return (1 / (1 + np.exp(-logits))).astype(np.float32), truth


def widened(values: Array, factor: float) -> Array:
    """Resamples (resamples,) spread `factor` times as far about their mean."""
    found: Array = values.mean() + (values - values.mean()) * factor
    return found


def centred(values: Array, value: float) -> list[float]:
    """value ± 1.96 standard deviations of the resamples, by the definition."""
    mean = sum(values) / len(values)
    spread = (sum((each - mean) ** 2 for each in values) / (len(values) - 1)) ** 0.5
    return [value - 1.96 * spread, value + 1.96 * spread]
