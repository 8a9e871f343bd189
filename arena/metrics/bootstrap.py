"""The bootstrap over clusters of posts: counting once for many samples of the posts.

Posts that belong together are no independent observations: what one of them says the others say
too. So whole clusters are drawn, with replacement, as many as there are; a post by itself is a
cluster of one. A resample is a count per post of how often it was drawn, and how many posts it
holds varies, as it does with other posts.
All resamples together are a small matrix of weights, a row for what is drawn together, and whatever
is counted over posts becomes, for every sample at once, a sum of that matrix's rows. The posts as
they are (all ones) are a sample too, so that a figure and its resamples come out of the same sums.
Sample 0 is always all posts.

Example: of four posts 0, 1, 2, 3 the resample 1, 3, 3, 0 has the weights 1, 1, 0, 2. If posts 0 and
3 carry a tag, it is on 2 posts of sample 0 and on 1 + 2 = 3 of the resample's.

Efron and Tibshirani, An Introduction to the Bootstrap, 1993: chapter 6 for the spread. Davison and
Hinkley, Bootstrap Methods and their Application, 1997: section 3.8 for clusters.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from arena.metrics.blocks import Array, Matrix, by_posts, by_tags
from arena.metrics.formulas import f1, rates, safe_divide

import numpy as np
import torch

CONFIDENCE = 0.95
REACH = 1.96  # Standard deviations: 95% of a normal distribution lie within.
NO_SPREAD = 1e-9  # Below, what differs between resamples is rounding.
RARE = 32  # Predictions of a tag up to which `missed_variance` looks at it.
FEW = 4  # Predictions of a tag that is like those predicted once.
# Weights of Good and Toulmin's terms: the chance of at least k heads in 5 tosses, k = 1 to 5.
DAMPED = np.array([31, 26, 16, 6, 1]) / 32
GRID = (np.arange(1, 256) / 256).astype(np.float32)  # Global thresholds: exact in float32.
FIGURES = ("precision", "recall", "f1", "mcc")
CALIBRATION_BINS = 16
MOST_UNITS = 1 << 17  # Their weights are small, and a spread of so many is known to 0.2%.
MOST_CUTS = 1 << 21  # Thresholds of all pairs together.
COARSE = np.uint32(0xFFFFFE00)  # Of a score's 32 bits: its sign, exponent and 14 more.
RECALL_STEPS = 1024  # Steps of recall in which the resamples' micro AP is added up.
EXACT_HALF = 2048  # Half precision holds every whole number up to here.
CELLS = 1 << 18  # Cuts x samples counted at a time: a megabyte an array, to stay in the cache.
MIN_WIDTH = 8  # Samples counted at a time, at least,
MOST_CELLS = 1 << 21  # unless they would take more than some arrays of so many cells.


@dataclass(frozen=True)
class Samples:
    """All posts, which are sample 0, and resamples of them.

    A post's weight in each sample, uint8, is that of its unit, which is drawn as a whole:
    weights[unit[post]]. `unit` int32 (posts,) counts from 0, `weights` is (units, samples).
    """

    unit: Array
    weights: Array

    @property
    def count(self) -> int:
        """How many samples there are: one more than resamples."""
        return int(self.weights.shape[1])

    def of(self, posts: Array) -> "Samples":
        """The same samples of some of the posts, as their numbers or a bool for each."""
        return Samples(self.unit[posts], self.weights)

    def sums(self, counted: Array) -> Array:
        """What is counted of each post (…, posts), added up in every sample: (…, samples).

        Whole numbers exactly, in float64.
        """
        of_units = np.zeros((*counted.shape[:-1], len(self.weights)))
        for row in np.ndindex(counted.shape[:-1]):
            of_units[row] = np.bincount(self.unit, counted[row], len(self.weights))
        found = np.zeros((*counted.shape[:-1], self.count))
        for start in range(0, len(self.weights), 1 << 14):  # Little of the weights as float64.
            some = slice(start, start + (1 << 14))
            found += of_units[..., some] @ self.weights[some].astype(np.float64)
        return found


def resamples(posts: int, count: int, seed: int, clusters: Array | None = None) -> Samples:
    """All posts and `count` resamples of them.

    `clusters` int (posts,) has the same number for posts that are drawn together; without it each
    is drawn by itself. Example: clusters 7, 7, 4 are two to draw from, so the resample "twice the
    first" has the weights 2 and 0 of units 0, 0 and 1.

    Of more than MOST_UNITS clusters each unit is several of them, chosen at random: sums of
    independent clusters are as independent, and vary as much as the clusters together (Wolter,
    Introduction to Variance Estimation, 2007, chapter 2, random groups).
    """
    of_post = np.arange(posts) if clusters is None else numbered(clusters)
    units = int(of_post.max(initial=-1)) + 1
    random = np.random.default_rng(seed)
    if units > MOST_UNITS:
        of_post = (random.permutation(units) % MOST_UNITS)[of_post]
        units = MOST_UNITS
    weights = np.ones((count + 1, units), np.uint8)
    for row in weights[1:]:
        row[:] = np.bincount(random.integers(units, size=units), minlength=units)
    return Samples(of_post.astype(np.int32), np.ascontiguousarray(weights.T))


def no_resamples(posts: int) -> Samples:
    """All posts and no resample."""
    return Samples(np.zeros(posts, np.int32), np.ones((1, 1), np.uint8))


def numbered(clusters: Array) -> Array:
    """The clusters (posts,) by the order of their first posts: int64 (posts,) from 0 on."""
    _, first, number = np.unique(clusters, return_index=True, return_inverse=True)
    place = np.empty(len(first), np.int64)
    place[np.argsort(first)] = np.arange(len(first))
    ordered: Array = place[number]
    return ordered


def interval(
    values: Array, value: float, reach: float = REACH
) -> tuple[float | None, float | None]:
    """A figure's 95% interval from its resamples (resamples,): its value ± `reach` times their
    spread, 1.96 for an interval by itself.

    It says how far the same figure would move with other posts of the same number. Only the spread
    of the resamples is used, not where they lie: a resample holds about 63% of the posts, some of
    them twice, which moves the average precision or F1 of every rare tag the same way. Over
    thousands of tags that shift stays and the spread shrinks, so that no percentile of the
    resamples is near the figure. Example: values 0.50, 0.52, 0.54 have the spread 0.02, so a figure
    of 0.45 has the interval 0.4108 to 0.4892.

    (None, None) without resamples, and where they do not differ.
    """
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    if spread <= NO_SPREAD:
        return None, None
    return value - reach * spread, value + reach * spread


class Predicted(NamedTuple):
    """What is predicted of each tag: int64 (tags,), sums over the clusters of posts where it is.

    `clusters` counts those. With r right ones of m predictions in a cluster, `right` is the sum of
    r, `predicted` of m, and the last three of r r, m m and r m. Where each post is a cluster by
    itself, `predicted` is also `clusters` and `mm`, and `right` all else.
    """

    clusters: Array
    right: Array
    predicted: Array
    rr: Array
    mm: Array
    rm: Array

    @classmethod
    def of(cls, above: Array, truth: Array, clusters: Array) -> "Predicted":
        """Count predictions `above` of `truth`, bool (tags, posts) both; `clusters` (posts,) from 0
        to below the number of posts."""
        tags, posts = above.shape
        tag, post = np.nonzero(above)
        key = tag * posts + clusters[post]
        if not (clusters[1:] >= clusters[:-1]).all():
            order = np.argsort(key, kind="stable")
            key, tag, post = key[order], tag[order], post[order]
        starts = np.flatnonzero(np.diff(key, prepend=-1))
        m = np.diff(starts, append=len(key))
        hits = np.concatenate([[0], np.cumsum(truth[tag, post])])
        r = hits[starts + m] - hits[starts]
        of_tag = tag[starts]

        def summed(values: Array) -> Array:
            return np.bincount(of_tag, values, minlength=tags).astype(np.int64)

        return cls(
            np.bincount(of_tag, minlength=tags),
            *map(summed, (r, m, r * r, m * m, r * m)),
        )

    @classmethod
    def joined(cls, parts: Sequence["Predicted"]) -> "Predicted":
        """That of the tags of one part after another; of no part, of no tag."""
        if not parts:
            return cls(*np.zeros((len(cls._fields), 0), np.int64))
        return cls(*map(np.concatenate, zip(*parts, strict=True)))


def missed_variance(tags: Predicted) -> float:
    """How much more macro precision varies with other posts than resamples show: a variance.

    Precision is 0 for a tag that is predicted nowhere. With other posts some of those tags would be
    predicted, and some that are predicted once or twice would not; but a tag that is predicted
    nowhere is so in every resample. Over thousands of rare tags that hides a third of the variance.

    A tag's precision p varies by p (1 - p) / n over its n predictions, and by p² q (1 - q) with its
    chance q of none. The sum of q (1 - q) over tags is the number of tags that as many further
    posts would add to those predicted so far, which is estimated without knowing any q by
    f1 - f2 + f3 - …, where fk tags are predicted k times (Good and Toulmin, Biometrika 43, 1956),
    later terms damped (Efron and Thisted, Biometrika 63, 1976). Both p (1 - p) and p² have unbiased
    estimates from n = 2 on; for tags predicted once the mean of those predicted 2 to FEW times is
    taken. Example: four tags, predicted on 0, 1, 1 and 2 posts, all rightly. f1 - f2 is 2 - 1, so
    about one more of them would be predicted with twice the posts.

    With clusters all of that is about clusters: n counts those in which the tag is predicted, as
    incidence counts do in ecology (Chao, Biometrics 43, 1987), since posts arrive and stay away by
    clusters. Where a cluster's predictions are all right or all wrong, n of them tell as much as n
    posts; where they differ, a cluster tells more, and p (1 - p) is multiplied by what is left: the
    variance of the ratio of sums over that of n such clusters (Cochran, Sampling Techniques, 1977,
    chapter 6). It is 1 for clusters of one post.

    What resamples show is the same two terms for n drawn from a Poisson distribution around the
    tag's own n, and is taken off.
    """
    some = (tags.clusters > 0) & (tags.clusters <= RARE)
    n = tags.clusters[some]
    right, all_of_it, rr, mm, rm = (each[some].astype(float) for each in tags[1:])
    if not len(n):
        return 0.0
    wrong = all_of_it - right
    # The sum over clusters of (r M - R m)², with R right of all M: R (M - R) M for single posts.
    apart = rr * all_of_it**2 - 2 * rm * all_of_it * right + mm * right**2
    left = safe_divide(n * apart, all_of_it**2 * right * wrong)
    pairs = np.maximum(n * (n - 1), 1) * (all_of_it / n) ** 2
    mixed, square = right * wrong / pairs * left, safe_divide(right**2 - rr, all_of_it**2 - mm)
    few = (n >= 2) & (n <= FEW)
    mixed[n == 1], square[n == 1] = (
        (mixed[few].mean(), square[few].mean()) if few.any() else (0.25, 0.25)
    )
    terms = np.zeros(RARE + 1)
    terms[1 : len(DAMPED) + 1] = DAMPED * (-1.0) ** np.arange(len(DAMPED))
    samples = (mixed / n).sum() + (square * terms[n]).sum()

    k = np.arange(1, 3 * RARE)
    log_factorial = np.log(k).cumsum()
    of_n = np.arange(RARE + 1)[:, None]
    chance = np.exp(k * np.log(np.maximum(of_n, 1)) - of_n - log_factorial)
    p, none = right / all_of_it, np.exp(-n)
    resampled = p * (1 - p) * left * (chance / k).sum(axis=1)[n] + p**2 * none * (1 - none)
    return float(max(0.0, samples - resampled.sum())) / len(tags.clusters) ** 2


def widened(values: Array, variance: float) -> Array:
    """Resamples (resamples,) with their mean kept and their variance larger by `variance`."""
    spread = values.var(ddof=1)
    if not spread > NO_SPREAD**2:
        return values
    return scaled(values, np.sqrt(1 + variance / spread))


def scaled(values: Array, factor: float) -> Array:
    """Resamples (resamples,) with their mean kept, spread `factor` times as far."""
    if factor == 1:
        return values
    found: Array = values.mean() + (values - values.mean()) * factor
    return found


class HalfCounts(NamedTuple):
    """What was counted in each half of the posts, [:, 0] in one and [:, 1] in the other.

    `support` (tags, 2) is how many posts of the half carry the tag; `grid_tp` and `grid_predicted`
    float32 (tags, 2, thresholds) are the counts in the half at each threshold of GRID. `tp` and
    `predicted` (tags, 2) are counted in the other half, at the threshold with the tag's highest F1
    in this one; both are 0 where no post of this half carries the tag.
    """

    support: Array
    grid_tp: Array
    grid_predicted: Array
    tp: Array
    predicted: Array

    @classmethod
    def none(cls, tags: int) -> "HalfCounts":
        """Before anything is counted."""
        grid_tp, grid_predicted = np.zeros((2, tags, 2, len(GRID)), np.float32)
        support, tp, predicted = np.zeros((3, tags, 2))
        return cls(support, grid_tp, grid_predicted, tp, predicted)


@dataclass(slots=True)
class Counts:
    """What was counted for every tag in every sample: arrays (tags, samples), float64.

    `total` (samples,) is the number of posts, `support` how many carry the tag, `ap` its average
    precision. `own` holds (true positives, predicted) at the given threshold. `best` holds them,
    (tags, 1), for sample 0 alone, at the threshold with the tag's highest F1, which is
    `best_threshold` (tags,). `halves` is what each half of the posts gives for cross-fitting.
    `grid` (4 figures, thresholds, samples) is the mean of FIGURES over tags at each threshold of
    GRID, and `grid_tp`, `grid_predicted` (thresholds, samples) are the counts there summed over
    tags.
    """

    total: Array
    support: Array
    ap: Array
    own: tuple[Array, Array]
    best: tuple[Array, Array]
    halves: HalfCounts
    best_threshold: Array
    grid: Array
    grid_tp: Array
    grid_predicted: Array


def halves(clusters: Array) -> Array:
    """The half (0 or 1) each post belongs to for cross-fitting: int8 (posts,).

    A cluster's posts are on one side. The `clusters` (posts,), numbered in the order of their first
    posts, go each to the side with fewer posts so far, largest first and of equals the first:
    single posts take turns.
    """
    sizes = np.bincount(clusters)
    order = np.argsort(-sizes, kind="stable")
    side = np.empty(len(sizes), np.int8)
    posts = [0, 0]
    several = int((sizes > 1).sum())
    for cluster in order[:several].tolist():
        side[cluster] = here = int(posts[1] < posts[0])
        posts[here] += int(sizes[cluster])
    # What is left are single posts: first those that make the sides even, then in turn.
    single = np.arange(len(sizes) - several)
    lacking = abs(posts[0] - posts[1])
    even = (single - lacking) % 2
    side[order[several:]] = np.where(single < lacking, int(posts[1] < posts[0]), even)
    half: Array = side[clusters]
    return half


@dataclass(slots=True)
class _Ranked:
    """Posts with the highest score first, and how many of them each threshold predicts.

    A cut is a threshold: it takes in the posts from the first to the last that reaches it. The
    weights of the posts' `units` are added up from each of `starts` to the next, and `rows` says
    after how many of those sums each cut ends.

    Example: posts 2, 0, 3, 1 have the scores .9, .8, .8, .1, and the cuts are .85 and .5. They take
    in 1 and 3 posts, so `starts` is 0, 1, 3 (the last sum is never asked for), `rows` is 1, 2. In a
    sample with the weights 1, 1, 0, 2 of posts 0 to 3 the sums are 0, 3, 1: the cuts take in 0 and
    0 + 3 = 3.
    """

    units: torch.Tensor
    starts: torch.Tensor
    rows: Array

    @classmethod
    def at(cls, posts: Array, unit: Array, falling: Array, cuts: Array, step: int) -> "_Ranked":
        """Rank `posts`, ordered already.

        `unit` and `falling` (all posts,) are their units, and their scores, negated, so that they
        ascend; `cuts` ascending are negated thresholds. No sum is of more than `step` posts, so
        that half precision holds it.
        """
        ends = np.searchsorted(falling[posts], cuts, "right")
        is_start = np.zeros(len(posts) + 1, np.bool_)
        is_start[ends] = True
        is_start[::step] = True
        starts = np.flatnonzero(is_start[:-1]).astype(np.int32)
        rows = np.searchsorted(starts, ends)
        return cls(torch.from_numpy(unit[posts]), torch.from_numpy(starts), rows)

    def counts(self, weights: torch.Tensor) -> Array:
        """How many posts each cut takes in, in every sample: float32 (cuts, samples).

        Rows are fetched and added in half precision, a fraction of the traffic of any other way.
        """
        running = np.zeros((len(self.starts) + 1, weights.shape[1]), np.float32)
        if len(self.starts):
            sums = torch.nn.functional.embedding_bag(self.units, weights, self.starts, mode="sum")
            torch.cumsum(sums, 0, dtype=torch.float32, out=torch.from_numpy(running[1:]))
        return running.take(self.rows, axis=0)


@dataclass(slots=True)
class _Tag:
    """One tag's posts ranked, and where among its cuts are the ones of each kind.

    `own` is the given threshold's place, `grid` those of GRID, `found` those of the scores of posts
    with the tag, which are `found_scores`. `predicted` and `positive` rank all posts and those with
    the tag, each as two halves for cross-fitting.
    """

    own: int
    grid: Array
    found: Array
    found_scores: Array
    predicted: list[_Ranked]
    positive: list[_Ranked]

    @classmethod
    def of(
        cls, scores: Array, truth: Array, threshold: Any, unit: Array, half: Array, step: int
    ) -> "_Tag":
        """Rank one tag's scores (posts,), down to the lowest cut that anything is counted at."""
        falling = -scores  # Ascending order of these is descending order of scores.
        found = np.unique(falling[truth])
        cuts = np.unique(np.concatenate([found, -GRID, [-threshold]]))
        posts = _ordered(falling, cuts[-1])
        sides = [posts[half[posts] == side] for side in (0, 1)]
        return cls(
            int(np.searchsorted(cuts, -threshold)),
            np.searchsorted(cuts, -GRID),
            np.searchsorted(cuts, found),
            -found,
            [_Ranked.at(side, unit, falling, cuts, step) for side in sides],
            [_Ranked.at(side[truth[side]], unit, falling, cuts, step) for side in sides],
        )

    def count(self, weights: torch.Tensor) -> dict[str, Array]:
        """The tag's counts in every sample, by Counts' names; weights (units, samples)."""
        predicted = self.predicted[0].counts(weights) + self.predicted[1].counts(weights)
        tp = self.positive[0].counts(weights) + self.positive[1].counts(weights)
        total = tp[-1]
        counted = {
            "support": total,
            "own_tp": tp[self.own],
            "own_predicted": predicted[self.own],
            "grid_tp": tp[self.grid],
            "grid_predicted": predicted[self.grid],
        }
        counted["ap"] = _average_precision(tp[self.found], predicted[self.found])
        return counted

    def choose(self, once: torch.Tensor) -> tuple[dict[str, float], dict[str, Any]]:
        """What is counted at thresholds chosen from the posts, by Counts' names, and in each half
        of them, by HalfCounts' names. `once` (units, 1) weighs each post once.

        F1 is highest at the score of one of the positives (a threshold between two of them
        predicts more and finds no more), so those are all that need trying; of equals, in single
        precision, the highest is taken. A half without a positive gives no threshold.
        """
        predicted = np.stack([ranked.counts(once)[:, 0] for ranked in self.predicted])
        tp = np.stack([ranked.counts(once)[:, 0] for ranked in self.positive])
        support = tp[:, -1]
        halves: dict[str, Any] = {
            "support": support,
            "grid_tp": tp[:, self.grid],
            "grid_predicted": predicted[:, self.grid],
        }
        predicted, tp = predicted[:, self.found], tp[:, self.found]
        chosen = {"best_tp": 0.0, "best_predicted": 0.0, "best_threshold": np.inf}
        halves["tp"], halves["predicted"] = np.zeros((2, 2))
        if not len(self.found):
            return chosen, halves
        for here, there in ((0, 1), (1, 0)):
            if support[here]:
                best = f1(tp[here], predicted[here], support[here]).argmax()
                halves["tp"][here] = tp[there, best]
                halves["predicted"][here] = predicted[there, best]
        both_tp, both_predicted = tp[0] + tp[1], predicted[0] + predicted[1]
        best = f1(both_tp, both_predicted, support[0] + support[1]).argmax()
        chosen["best_tp"], chosen["best_predicted"] = both_tp[best], both_predicted[best]
        chosen["best_threshold"] = self.found_scores[best]
        return chosen, halves


def _ordered(falling: Array, last: Any) -> Array:
    """The posts that reach the cut `last`, the highest score first: int32 (n,). `falling` (posts,)
    are all scores, negated."""
    posts = np.flatnonzero(falling <= last).astype(np.int32)
    found: Array = posts[np.argsort(falling[posts])]
    return found


def _average_precision(tp: Array, predicted: Array) -> Array:
    """AP in every sample (samples,), from the counts at each distinct score of a positive, highest
    first: (cuts, samples) each. 0 for no positive."""
    if not len(tp):
        return np.zeros(tp.shape[1])
    steps = np.diff(tp, axis=0, prepend=0)
    precision = safe_divide(tp.astype(np.float64), predicted)
    average: Array = safe_divide(np.einsum("ij,ij->j", steps, precision), tp[-1])
    return average


def pick(table: Array, row: Array) -> Array:
    """table[row[j], j] for each column j."""
    return table[row, np.arange(table.shape[1])]


def count(scores: Matrix, truth: Matrix, threshold: Array, samples: Samples, half: Array) -> Counts:
    """Count every tag in every sample; `threshold` (tags,), `half` (posts,) as `halves` gives
    it."""
    tags, columns = scores.shape[1], samples.count
    table, step = _halved(samples)
    total = samples.sums(np.ones(len(half)))
    once = table[:, :1].contiguous()
    kept = {
        name: np.empty((tags, columns)) for name in ("support", "ap", "own_tp", "own_predicted")
    }
    names = ["best_tp", "best_predicted", "best_threshold"]
    chosen = {name: np.empty((tags, 1)) for name in names}
    of_halves = HalfCounts.none(tags)
    grid = np.zeros((len(FIGURES), len(GRID), columns))
    grid_tp, grid_predicted = np.zeros((2, len(GRID), columns))

    def block(part: slice, scores: Array, truth: Array) -> list[Array]:
        sums = np.zeros((len(FIGURES), len(GRID), columns))
        sum_tp, sum_predicted = np.zeros((2, len(GRID), columns))
        for tag, column, positive in zip(range(part.start, part.stop), scores, truth, strict=True):
            ranked = _Tag.of(column, positive, threshold[tag], samples.unit, half, step)
            at_best, in_halves = ranked.choose(once)
            for name, value in at_best.items():
                chosen[name][tag] = value
            for name, value in in_halves.items():
                getattr(of_halves, name)[tag] = value
            # A tag on many posts has as many cuts: take the samples a few at a time.
            width = _width(len(ranked.found) + len(GRID))
            for first in range(0, columns, width):
                some = slice(first, min(first + width, columns))
                counted = ranked.count(table if width >= columns else table[:, some].contiguous())
                for name, values in kept.items():
                    values[tag, some] = counted[name]
                at_grid = counted["grid_tp"], counted["grid_predicted"]
                figures = rates(*at_grid, counted["support"], total[some])
                for figure, name in zip(sums, FIGURES, strict=True):
                    figure[:, some] += figures[name]
                sum_tp[:, some] += at_grid[0]
                sum_predicted[:, some] += at_grid[1]
        return [sums, sum_tp, sum_predicted]

    for _, (sums, sum_tp, sum_predicted) in by_tags(scores, truth, block):
        grid += sums
        grid_tp += sum_tp
        grid_predicted += sum_predicted
    return Counts(
        total,
        kept["support"],
        kept["ap"],
        (kept["own_tp"], kept["own_predicted"]),
        (chosen["best_tp"], chosen["best_predicted"]),
        of_halves,
        chosen["best_threshold"][:, 0],
        grid / tags,
        grid_tp,
        grid_predicted,
    )


def _halved(samples: Samples) -> tuple[torch.Tensor, int]:
    """The weights in half precision, and how many posts' can be added in it exactly."""
    step = EXACT_HALF // max(1, int(samples.weights.max(initial=1)))
    return torch.from_numpy(samples.weights).to(torch.float16), step


def _width(cuts: int) -> int:
    """In how many samples a tag with so many cuts is counted at a time."""
    cuts = max(1, cuts)
    return max(1, min(max(MIN_WIDTH, CELLS // cuts), MOST_CELLS // cuts))


def average_precisions(scores: Matrix, truth: Matrix, samples: Samples) -> Array:
    """Each tag's average precision in every sample, and nothing else: float64 (tags, samples)."""
    found = np.empty((scores.shape[1], samples.count))
    table, step = _halved(samples)

    def block(part: slice, scores: Array, truth: Array) -> None:
        for tag, column, positive in zip(range(part.start, part.stop), scores, truth, strict=True):
            falling = -column
            cuts = np.unique(falling[positive])
            posts = _ordered(falling, cuts[-1] if len(cuts) else -np.inf)
            predicted = _Ranked.at(posts, samples.unit, falling, cuts, step)
            right = _Ranked.at(posts[positive[posts]], samples.unit, falling, cuts, step)
            width = _width(len(cuts))
            for first in range(0, samples.count, width):
                some = table[:, first : first + width].contiguous()
                tp, above = right.counts(some), predicted.counts(some)
                found[tag, first : first + width] = _average_precision(tp, above)

    for _ in by_tags(scores, truth, block):
        pass
    return found


def _weighed(weights: Array, counted: Array) -> Array:
    """What is counted per post (…, posts, bins), summed in every sample: (…, samples, bins).

    In the precision of `counted`, and by torch, which keeps to one thread in each of the pool's;
    NumPy's BLAS would start its own.
    """
    return (torch.from_numpy(weights.T.astype(counted.dtype)) @ torch.from_numpy(counted)).numpy()


def calibrate(scores: Matrix, truth: Matrix, samples: Samples) -> tuple[Array, Array, Array]:
    """Count, sum of scores and positives of every bin of scores: float64 (samples, bins) each.

    The bins are CALIBRATION_BINS equal parts of 0 to 1, over all (post, tag) pairs. Raises
    ValueError for a score outside 0 to 1.
    """
    sums = np.zeros((3, samples.count, CALIBRATION_BINS))

    def block(part: slice, scores: Array, truth: Array) -> Array:
        if not (scores.min() >= 0 and scores.max() <= 1):
            post, tag = np.argwhere(~((scores >= 0) & (scores <= 1)))[0]
            value = scores[post, tag]
            raise ValueError(f"the score of post {part.start + post}, tag {tag} is {value}")
        bins = np.minimum((scores * CALIBRATION_BINS).astype(np.intp), CALIBRATION_BINS - 1)
        bins += np.arange(len(scores))[:, None] * CALIBRATION_BINS
        values = None, scores, truth
        counted = [
            np.bincount(
                bins.ravel(),
                None if value is None else value.ravel(),
                minlength=len(scores) * CALIBRATION_BINS,
            ).reshape(len(scores), CALIBRATION_BINS)
            for value in values
        ]
        return _weighed(samples.weights[samples.unit[part]], np.stack(counted))

    for _, counted in by_posts(scores, truth, block):
        sums += counted
    return sums[0], sums[1], sums[2]


class MicroCurve(NamedTuple):
    """Right and all predictions among all (post, tag) pairs, at falling thresholds.

    `tp` and `predicted` (1, thresholds) are those of sample 0 at every score of a positive, which
    is where precision and recall change for the better. `stepped_tp` and `stepped_predicted`
    (samples, steps) are those of every sample at no more than RECALL_STEPS of these scores, as all
    of them would be counted in every resample; `coarse` where some are left out.
    """

    tp: Array
    predicted: Array
    stepped_tp: Array
    stepped_predicted: Array
    coarse: bool

    def read(self, figure: Callable[[Array, Array, bool], Array]) -> Array:
        """A figure in every sample: (samples,).

        `figure(tp, predicted, coarse)` gives it for each row of a curve, (rows, thresholds). That
        of sample 0 is exact. The error of its stepped curve is known, as both of its curves are,
        and is subtracted from every resample.
        """
        exact = figure(self.tp, self.predicted, False)
        stepped = figure(self.stepped_tp, self.stepped_predicted, self.coarse)
        return np.concatenate([exact, stepped[1:] + exact - stepped[:1]])


def micro_curve(scores: Matrix, truth: Matrix, samples: Samples) -> MicroCurve:
    """The curve of precision over recall of all (post, tag) pairs as one list."""
    cuts, right = _positive_scores(scores, truth)
    if not len(cuts):
        none, nowhere = np.zeros((1, 1)), np.zeros((samples.count, 1))
        return MicroCurve(none, none, nowhere, nowhere, False)

    def reached(part: slice, scores: Array, truth: Array) -> tuple[Array, Array]:
        last = np.searchsorted(cuts, np.sort(scores[scores >= cuts[0]]), "right") - 1
        starts = np.flatnonzero(np.diff(last, prepend=-1))
        return last[starts], np.diff(starts, append=len(last))

    # A score is counted at the highest cut that it reaches, as there may be millions of cuts.
    above = np.zeros(len(cuts))
    for _, (last, counted) in by_posts(scores, truth, reached):
        above[last] += counted
    exact = np.cumsum(right[::-1], dtype=float)[None], np.cumsum(above[::-1])[None]
    if samples.count == 1:
        return MicroCurve(*exact, *exact, False)

    places = np.arange(RECALL_STEPS) * int(right.sum()) // RECALL_STEPS
    steps = np.unique(cuts[np.searchsorted(np.cumsum(right), places, "right")])
    coarse = len(cuts) > RECALL_STEPS
    if not coarse:
        steps = cuts

    def binned(part: slice, scores: Array, truth: Array) -> Array:
        bins = np.searchsorted(steps, scores, "right")
        bins += np.arange(len(scores))[:, None] * (len(steps) + 1)
        shape = len(scores), len(steps) + 1
        counted = [
            np.bincount(kept.ravel(), minlength=shape[0] * shape[1]).reshape(shape)
            for kept in (bins[truth], bins)
        ]
        of_posts = samples.weights[samples.unit[part]]
        return _weighed(of_posts, np.stack(counted).astype(np.float32))

    sums = np.zeros((2, samples.count, len(steps) + 1))
    for _, counted in by_posts(scores, truth, binned):
        sums += counted
    stepped = np.cumsum(sums[:, :, :0:-1], axis=2)
    return MicroCurve(*exact, stepped[0], stepped[1], coarse)


def micro_ap(tp: Array, predicted: Array, coarse: bool = False) -> Array:
    """Average precision of each row of a MicroCurve: (rows,)."""
    gained = np.diff(tp, axis=1, prepend=0)
    return np.asarray(safe_divide((gained * safe_divide(tp, predicted)).sum(axis=1), tp[:, -1]))


def _positive_scores(scores: Matrix, truth: Matrix) -> tuple[Array, Array]:
    """The distinct scores of all pairs of a post and a tag of it, ascending, and how many pairs
    have each: float32 and int64 (n,).

    Where they are more than MOST_CUTS or twice that, scores lose the bits that COARSE has not, so
    that none is lower by more than a 16,384th of itself: more would not fit the memory.
    """

    def block(part: slice, scores: Array, truth: Array) -> tuple[Array, Array]:
        return np.unique(scores[truth], return_counts=True)

    def merged(parts: list[tuple[Array, Array]]) -> tuple[Array, Array]:
        every, counted = (np.concatenate(each) for each in zip(*parts, strict=True))
        if cut:
            every = (every.view(np.uint32) & cut).view(np.float32)
        found, place = np.unique(every, return_inverse=True)
        return found, np.bincount(place, counted, len(found)).astype(np.int64)

    cut = np.uint32(0)
    parts, held = [(np.zeros(0, np.float32), np.zeros(0, np.int64))], 0
    for _, found in by_posts(scores, truth, block):
        parts.append(found)
        held += len(found[0])
        if held > 2 * MOST_CUTS:
            parts = [merged(parts)]
            if len(parts[0][0]) > MOST_CUTS:
                cut = COARSE
                parts = [merged(parts)]
            held = len(parts[0][0])
    return merged(parts)
