"""What the models would score if the tags were complete, estimated from judged pairs.

sampling.py draws the pairs. Each sum that a figure is made of is estimated by the difference
estimator with the groups' means for a model (Särndal, Swensson and Wretman, Model Assisted Survey
Sampling, 1992, chapters 6 and 7): over all pairs of the pool, the share of true pairs among the
judged ones of their group, plus, over the judged pairs, what the judgement differs from that share,
divided by the pair's probability. Within a group the weights are scaled to the group's number of
pairs (Hájek's ratio form), which also makes up for pairs that nobody has judged, or that nobody
could: they count as a random part of their group.

The figures are those of all (post, tag) pairs together (micro). Recall is over the pool: a true
pair that no model predicts and the post lacks is not in it, so it is an upper bound, named pooled
recall, and the share of missing tags a lower one.

Intervals say the same as those of figures.py: how far the figure would move with other posts of
the same number, here with as many other judgements as well. Each figure is a quotient of sums over
clusters of posts; to the first order it moves by the sum of the clusters' parts in it, the judged
residuals among them, and the variance is that of the clusters' parts (the ultimate cluster
estimator: Hansen, Hurwitz and Madow, 1953; Särndal and others, section 4.6). Ten pairs of a group
that were all judged alike would show no variance: for it alone half a pair is added to each group
that is true as often as the judged pairs of its kind, among which half a true and half a false one
are counted more (after Agresti and Coull, The American Statistician 52, 1998).
"""

import math
from dataclasses import dataclass
from itertools import combinations

from arena.metrics.blocks import Array
from arena.metrics.bootstrap import REACH
from arena.metrics.figures import Figure
from arena.metrics.sampling import Pool

import numpy as np

GROUP = 10  # Judged pairs from which on a group has a share of its own.
PSEUDO = 0.5  # Pairs that are added to a group for its variance.
ENOUGH = 30  # Judged pairs from which on a category has figures, half of them with the tag or not.
WANTED = 0.01  # Half an interval's width that is good enough.
FIGURES = ("precision", "pooled_recall", "f1")


@dataclass(frozen=True)
class Sums:
    """Sums over pairs by cluster and category, for each model and for the tags.

    The pairs are selected in several ways: those that a model predicts, for each model; all; and
    those that are tags. The columns are the true pairs of each selection, then all pairs of each.
    `parts` float (clusters, categories, columns) is the estimate; `known` is what it would be
    without the judged residuals; `shared` (groups, categories, columns) is how much each sum moves
    with a group's share of true pairs, whose variance is `unseen` (groups,) more than the residuals
    show. `judged` int (categories, 2) counts judged pairs, without and with the tag.
    """

    parts: Array
    known: Array
    shared: Array
    unseen: Array
    judged: Array

    @property
    def models(self) -> int:
        """How many models."""
        return int(self.parts.shape[2]) // 2 - 2

    def of(self, category: int) -> "Sums | None":
        """The sums of one category, None where too few of its pairs are judged."""
        judged = self.judged[category]
        if judged.sum() < ENOUGH or judged.min() < ENOUGH / 2:
            return None
        some = slice(category, category + 1)
        parts, known, shared = self.parts[:, some], self.known[:, some], self.shared[:, some]
        return Sums(parts, known, shared, self.unseen, self.judged[some])


@dataclass(frozen=True)
class Ratio:
    """An estimated quotient.

    `influence` (clusters,) is each cluster's part in it, `shared` (groups,) how much it moves with
    a group's share of true pairs, whose variance is `unseen` (groups,) more than influences show.
    About `judging` of its variance comes from the judgements' number, and `posts` of it does not.
    """

    value: float
    influence: Array
    shared: Array
    unseen: Array
    judging: float
    posts: float

    def figure(self) -> Figure:
        """The value with its 95% interval."""
        return _figure(self.value, self.variance, 0.0)

    def share(self) -> Figure:
        """The same for a share that may be near 0: value ± 1.96 standard deviations on the scale
        of log odds, as an interval around so rare a thing leans (Brown, Cai and DasGupta,
        Statistical Science 16, 2001)."""
        odds = self.value * (1 - self.value)
        if not odds or not self.variance:
            return self.figure()
        middle = np.log(self.value / (1 - self.value))
        reach = REACH * self.variance**0.5 / odds
        ends = middle - reach, middle + reach
        low, high = (float(1 + np.tanh(end / 2)) / 2 for end in ends)  # The logistic function.
        return {"value": self.value, "low": low, "high": high}

    @property
    def variance(self) -> float:
        """The variance of the value, to the first order."""
        return max(0.0, _variance(self.influence) + float(self.shared**2 @ self.unseen))


def groups(pool: Pool, judged: Array) -> Array:
    """Each pair's group, int64 (pairs,): pairs that are about equally often true, and at least
    GROUP of which are judged. `judged` int (n,) are places in the pool.

    By who predicts a pair and whether it is tagged, its category and whether its score is above the
    cell's median; where too few are judged, without the last of these, and so on.
    """
    cells = pool.cells()
    middle = np.zeros(cells.max() + 1)
    for cell in np.unique(cells):
        middle[cell] = np.median(pool.score[cells == cell])
    high = pool.score > middle[cells]
    categories = int(pool.category.max()) + 1
    with_category = cells * categories + pool.category
    found = np.full(len(pool), -1)
    made = 0
    levels = (
        2 * with_category + high,
        with_category,
        2 * cells + high,
        cells,
        _kinds(pool),
        pool.tagged,
    )
    for level in levels:
        open_ = found < 0
        if not open_.any():
            break
        codes, place = np.unique(level, return_inverse=True)
        counts = np.bincount(place[judged[open_[judged]]], minlength=len(codes))
        fine = open_ & (counts >= GROUP)[place]
        names, number = np.unique(place[fine], return_inverse=True)
        found[fine] = made + number
        made += len(names)
    if (rest := found < 0).any():
        if rest[judged].any() or not made:
            found[rest] = made
        else:  # Where nothing is judged: like most others that are, or are not, tagged.
            for tagged in (False, True):
                like = found[~rest & (pool.tagged == tagged)]
                usual = np.bincount(like if len(like) else found[~rest]).argmax()
                found[rest & (pool.tagged == tagged)] = usual
    return np.unique(found, return_inverse=True)[1]


def _kinds(pool: Pool) -> Array:
    """Whether none, one or more models predict each pair, and whether it is tagged, (pairs,)."""
    kinds: Array = 2 * np.minimum(pool.predicted.sum(axis=1), 2) + pool.tagged
    return kinds


def sums(pool: Pool, judged: Array, threshold: Array, truth: Array, categories: int) -> Sums:
    """The sums that figures are made of.

    `judged` int (n,) are places in the pool, each once, with the probability `threshold` (n,) that
    they were drawn with and the `truth` (n,) that was judged: 0, 1, or between where judges differ.
    Raises ValueError where nothing is judged, and for a probability or a truth outside 0 to 1.
    """
    if not len(judged):
        raise ValueError("no pair is judged")
    if not ((threshold > 0) & (threshold <= 1) & (truth >= 0) & (truth <= 1)).all():
        raise ValueError("a probability or a truth is not from 0 to 1")
    group = groups(pool, judged)
    many = int(group.max()) + 1
    where = group[judged]
    sizes = np.bincount(group, minlength=many)
    weights = 1 / threshold
    weights *= (sizes / np.maximum(np.bincount(where, weights, many), 1e-300))[where]
    share = np.bincount(where, weights * truth, many) / sizes
    residual = weights * (truth - share[where])

    cluster_count = int(pool.cluster.max()) + 1
    shape = (cluster_count, categories)
    size = cluster_count * categories
    place = pool.cluster * categories + pool.category
    in_group = group * categories + pool.category
    expected = share[group]
    selections = [*pool.predicted.T, np.ones(len(pool), bool), pool.tagged]
    count = len(selections)
    columns = 2 * count
    known, residuals = np.zeros((2, size, columns))
    shared = np.zeros((many * categories, columns))
    for column, chosen in enumerate(selections):
        inside = chosen[judged]
        known[:, column] = np.bincount(place[chosen], expected[chosen], size)
        known[:, count + column] = np.bincount(place[chosen], minlength=size)
        shared[:, column] = np.bincount(in_group[chosen], minlength=many * categories)
        residuals[:, column] = np.bincount(place[judged[inside]], residual[inside], size)
    effective = np.bincount(where, weights, many) ** 2 / np.bincount(where, weights**2, many)
    kind = _kinds(pool)[judged]
    of_kind = (np.bincount(kind, truth) + 0.5) / (np.bincount(kind) + 1)
    usual = np.bincount(where, of_kind[kind], many) / np.bincount(where, minlength=many)
    smooth = (effective * share + PSEUDO * usual) / (effective + PSEUDO)
    unseen = smooth * (1 - smooth) / np.maximum(effective - 1, 1) - share * (1 - share) / effective
    numbers = np.zeros((categories, 2), np.int64)
    np.add.at(numbers, (pool.category[judged], pool.tagged[judged].astype(int)), 1)
    wide = (*shape, columns)
    return Sums(
        (known + residuals).reshape(wide),
        known.reshape(wide),
        shared.reshape(many, categories, columns),
        unseen,
        numbers,
    )


def without_errors(found: Sums, accuracy: float) -> Sums:
    """The sums with what judges get wrong taken out, who are right with any pair equally often.

    Of n pairs with t true ones, such judges call (1 - accuracy) n + (2 accuracy - 1) t true (Rogan
    and Gladen, American Journal of Epidemiology 107, 1978). Raises ValueError where they guess.
    """
    if not 0.5 < accuracy <= 1:
        raise ValueError(f"judges that are right {accuracy:.0%} of the time say nothing")
    count = found.models + 2
    parts, known, shared = found.parts.copy(), found.known.copy(), found.shared.copy()
    for each in (parts, known):
        each[:, :, :count] -= (1 - accuracy) * each[:, :, count:]
    for each in (parts, known, shared):
        each[:, :, :count] /= 2 * accuracy - 1
    return Sums(parts, known, shared, found.unseen, found.judged)


def ratio(found: Sums, above: dict[int, float], below: dict[int, float]) -> Ratio:
    """The quotient of two sums of columns, each times a number: `above` by `below`."""
    columns = found.parts.shape[2]
    up, down = np.zeros((2, columns))
    for vector, given in ((up, above), (down, below)):
        for column, times in given.items():
            vector[column] = times
    by_cluster, known = found.parts.sum(axis=1), found.known.sum(axis=1)
    total = by_cluster.sum(axis=0)
    bottom = float(total @ down)
    if not bottom > 0:
        nothing = np.zeros(len(by_cluster))
        return Ratio(0.0, nothing, np.zeros_like(found.unseen), found.unseen, 0.0, 0.0)
    value = float(total @ up) / bottom
    direction = (up - value * down) / bottom
    shared = found.shared.sum(axis=1) @ direction
    return Ratio(
        value=min(1.0, max(0.0, value)),
        influence=by_cluster @ direction,
        shared=shared,
        unseen=found.unseen,
        judging=float((((by_cluster - known) @ direction) ** 2).sum() + shared**2 @ found.unseen),
        posts=_variance(known @ direction),
    )


def difference(a: Ratio, b: Ratio) -> Figure:
    """One quotient minus another of the same sums, with its 95% interval."""
    unseen = float((a.shared - b.shared) ** 2 @ a.unseen)
    variance = max(0.0, _variance(a.influence - b.influence) + unseen)
    return _figure(a.value - b.value, variance, -1.0)


def model_ratios(found: Sums) -> list[dict[str, Ratio]]:
    """Precision, pooled recall and F1 of each model."""
    models = found.models
    count = models + 2
    return [
        {
            "precision": ratio(found, {model: 1}, {count + model: 1}),
            "pooled_recall": ratio(found, {model: 1}, {models: 1}),
            "f1": ratio(found, {model: 2}, {count + model: 1, models: 1}),
        }
        for model in range(models)
    ]


def site(found: Sums) -> dict[str, Figure]:
    """The shares of `missing` tags, of the pool's true pairs, and of `wrong` ones, of the tags."""
    true, true_tags = found.models, found.models + 1
    tags = 2 * true_tags + 1
    return {
        "missing": ratio(found, {true: 1, true_tags: -1}, {true: 1}).share(),
        "wrong": ratio(found, {tags: 1, true_tags: -1}, {tags: 1}).share(),
    }


def pairs_of_models(ratios: list[dict[str, Ratio]]) -> list[tuple[int, int, dict[str, Figure]]]:
    """(a, b, differences of a and b) for each pair of models."""
    return [
        (a, b, {name: difference(ratios[a][name], ratios[b][name]) for name in FIGURES})
        for a, b in combinations(range(len(ratios)), 2)
    ]


def further(ratios: list[dict[str, Ratio]], judged: int) -> int | None:
    """How many more pairs to judge until every F1's interval is within WANTED of its value; None
    where no number is enough, as the posts are too few.

    The judgements' variance falls with their number; that of the posts stays.
    """
    allowed = (WANTED / REACH) ** 2
    needed = 0
    for each in ratios:
        f1 = each["f1"]
        if f1.posts >= allowed:
            return None
        needed = max(needed, int(np.ceil(judged * f1.judging / (allowed - f1.posts))))
    return max(0, needed - judged)


def kappa(a: Array, b: Array) -> float | None:
    """Cohen's kappa of two judges' answers, bool (n,): the share they agree on beyond chance, None
    where chance alone makes them agree (Educational and Psychological Measurement 20, 1960)."""
    if not len(a):
        return None
    agreed = float((a == b).mean())
    chance = float(a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean()))
    return None if chance >= 1 else (agreed - chance) / (1 - chance)


def accuracy(disagreed: float) -> float:
    """How often a judge is right, from how often two differ: a with 2 a (1 - a) = `disagreed`.

    Takes both to be right equally often, with every pair, and independently; at least one half.
    """
    return (1 + math.sqrt(max(0.0, 1 - 2 * disagreed))) / 2


def _variance(parts: Array) -> float:
    """The variance of a sum over clusters that could have been others."""
    clusters = len(parts)
    return float(parts.var() * clusters**2) / max(1, clusters - 1)


def _figure(value: float, variance: float, least: float) -> Figure:
    reach = REACH * variance**0.5
    if not reach:
        return {"value": value, "low": None, "high": None}
    return {"value": value, "low": max(least, value - reach), "high": min(1.0, value + reach)}
