"""Which (post, tag) pairs to have judged: strata, how many of each, and the draw.

Danbooru's tags have gaps, so people judge a sample of pairs, and audit.py estimates figures from
it. The pool is every pair that a post has as a tag or that a model predicts; a pair that is neither
is in no figure.

Each pair has a permanent random number from 0 to 1, made of the post's ID and the tag alone
(Ohlsson, Coordination of samples using permanent random numbers, 1995). A stratum's pairs with the
lowest numbers are drawn, and the lowest number that is not drawn is the stratum's threshold, which
stands for the probability of being drawn: a sum of drawn values, each divided by its threshold, has
the stratum's sum as its expectation, and no two terms are correlated (Duffield, Lund and Thorup,
Journal of the ACM 54, 2007, as priority sampling with equal weights). As a pair keeps its number, a
pair is in the union of several designs where its number is below the highest threshold that any of
them gave it: that is its probability then (Cohen and Kaplan, PODS 2009). A pair that an earlier
design drew need not be asked again.

How many judgements a stratum gets follows Neyman (Journal of the Royal Statistical Society 97,
1934): its pairs, times how unsure a pair's truth is, times how much a pair moves the models' F1 and
the differences between them (Sawade, Landwehr and Scheffer, NIPS 2010).
"""

import hashlib
from dataclasses import dataclass
from typing import Any

from arena.metrics.blocks import Array

import numpy as np

# Guesses at the spread of a pair's truth: without the tag; with it, predicted; with it alone.
UNSURE, UNSURE_TAGGED, UNSURE_ALONE = 0.5, 0.15, 0.35
FLOOR = 5  # Pairs that every cell gets, if there are so many and the sample is large.
PART = 8  # Pairs that a part of a cell must get to be a stratum of its own.
STEP = np.uint64(0x9E3779B97F4A7C15)  # The constants of SplitMix64.
FIRST, SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


@dataclass(frozen=True)
class Pool:
    """The pairs that a post has as a tag or a model predicts.

    `cluster` int (pairs,) numbers the posts that belong together; `category` int (pairs,) is the
    tag's; `tagged` bool (pairs,); `predicted` bool (pairs, models); `score` uint8 (pairs,) is the
    highest score of any model, 255 for 1. Raises ValueError for arrays that do not fit, and for a
    pair that is neither tagged nor predicted.
    """

    cluster: Array
    category: Array
    tagged: Array
    predicted: Array
    score: Array

    def __post_init__(self) -> None:
        lengths = {len(each) for each in vars(self).values()}
        if len(lengths) != 1 or self.predicted.ndim != 2:
            raise ValueError(f"the pool's arrays do not fit each other: {lengths} pairs")
        if not (self.tagged | self.predicted.any(axis=1)).all():
            raise ValueError("a pair of the pool is neither tagged nor predicted")

    def __len__(self) -> int:
        return len(self.tagged)

    def cells(self) -> Array:
        """Who predicts each pair and whether it is tagged, as a number: int64 (pairs,).

        Twice the number of `who`, plus 1 where it is tagged.
        """
        models = self.predicted.shape[1]
        count = self.predicted.sum(axis=1)
        who = np.where(count == 1, 1 + self.predicted.argmax(axis=1), 0)
        who[count > 1] = models + 1
        who[(count == models) & (count > 1)] = models + 2
        cells: Array = 2 * who + self.tagged
        return cells

    def who(self, cell: int) -> tuple[str, int | None]:
        """Who predicts the pairs of a cell: `none`, `one` and which, `several` or `all`."""
        who, models = cell // 2, self.predicted.shape[1]
        if who in (0, models + 1, models + 2):
            return {0: "none", models + 1: "several", models + 2: "all"}[who], None
        return "one", who - 1


@dataclass(frozen=True)
class Stratum:
    """Pairs of the pool that are equally likely to be drawn.

    `predicted_by` is `none`, `one` (`model` says which, else it is None), `several` or `all`.
    `new`: no earlier design could draw these pairs. `score` is `low` or `high` (of the cell's), or
    `any`; `categories` are numbers, empty for any. Of its `pairs`, `drawn` are in the design.
    """

    predicted_by: str
    model: int | None
    tagged: bool
    new: bool
    score: str
    categories: list[int]
    pairs: int
    drawn: int
    threshold: float


@dataclass(frozen=True)
class Draw:
    """What a design draws from a pool.

    `pairs` int (n,) are the places in the pool of all pairs below their threshold, ascending, and
    `threshold` float (n,) is theirs; `new` bool (n,) are those that no earlier design drew.
    """

    pairs: Array
    threshold: Array
    new: Array
    strata: list[Stratum]


def tag_key(tag: str, seed: int) -> int:
    """64 random bits for a tag."""
    text = f"{seed} {tag}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def numbers(post_ids: Array, tag_keys: Array) -> Array:
    """Each pair's permanent random number, 0 <= number < 1: float64 (pairs,).

    `post_ids` int64 (pairs,), `tag_keys` uint64 (pairs,) from tag_key. A post's place in the
    sequence that SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) makes from the tag's key.
    """
    with np.errstate(over="ignore"):
        mixed = tag_keys + post_ids.astype(np.uint64) * STEP
        mixed = (mixed ^ (mixed >> np.uint64(30))) * FIRST
        mixed = (mixed ^ (mixed >> np.uint64(27))) * SECOND
        mixed ^= mixed >> np.uint64(31)
    found: Array = (mixed >> np.uint64(11)) * 2.0**-53
    return found


def weight(pool: Pool) -> Array:
    """How much of the sample each pair is worth, by Neyman: float64 (pairs,).

    A prediction's being right moves a model's F1 by about as much as a miss's being one, so a pair
    moves each model by 1, and each pair of models by 2 where they disagree. With k of m models
    predicting it, k (m - k) of the m (m - 1) / 2 pairs of models disagree.
    """
    models = pool.predicted.shape[1]
    count = pool.predicted.sum(axis=1)
    apart = count * (models - count) / max(1, models * (models - 1) / 2)
    tagged = np.where(count > 0, UNSURE_TAGGED, UNSURE_ALONE)
    found: Array = np.sqrt(1 + 4 * apart) * np.where(pool.tagged, tagged, UNSURE)
    return found


def allocate(weights: Array, pairs: Array, floor: Array, size: int) -> Array:
    """How many of each stratum's `pairs` to draw, in proportion to `weights`: int64 (strata,).

    All are (strata,). Each stratum gives at least `floor`; together they give `size`, or all pairs
    where those are fewer. Raises ValueError where `size` is too small for the floors.
    """
    if size < floor.sum():
        raise ValueError(f"{size} pairs are fewer than the {floor.sum()} that the strata need")
    if size >= pairs.sum():
        return pairs.astype(np.int64)
    low, high = 0.0, float((pairs / weights).max())
    for _ in range(60):
        middle = (low + high) / 2
        enough = np.clip(middle * weights, floor, pairs).sum() >= size
        low, high = (low, middle) if enough else (middle, high)
    exact = np.clip(high * weights, floor, pairs)
    whole = np.maximum(np.floor(exact + 1e-9), floor).astype(np.int64)
    room = np.where(whole < pairs, exact - whole, -np.inf)
    whole[np.argsort(-room, kind="stable")[: size - whole.sum()]] += 1
    return whole


def draw(pool: Pool, number: Array, drawn: Array, reached: Array, size: int) -> Draw:
    """Draw `size` pairs that were not drawn earlier, or a few more.

    `number` float (pairs,) is each pair's own, `drawn` bool (pairs,) were drawn earlier, `reached`
    bool (pairs,) could have been. The design is one of its own, of as many pairs as it takes for
    `size` of them to be new: what is drawn from a stratum does not hang on which of its pairs were
    drawn earlier, without which the thresholds of two designs would say nothing together. Every
    stratum gives a pair, so that all of the pool has a threshold above 0. Raises ValueError where
    `size` is too small for that.
    """
    worth = weight(pool)
    codes, place, pairs = np.unique(
        2 * pool.cells() + ~reached, return_inverse=True, return_counts=True
    )
    floor = np.minimum(pairs, max(1, min(FLOOR, size // (3 * len(codes)))))
    total = min(size + int(drawn.sum()), len(pool))
    given = allocate(np.bincount(place, worth), pairs, floor, total)

    stratum = np.empty(len(pool), np.int64)
    kinds: list[dict[str, Any]] = []
    for cell, (code, n) in enumerate(zip(codes.tolist(), given.tolist(), strict=True)):
        members = np.flatnonzero(place == cell)
        by, model = pool.who(code // 2)
        kind = {"predicted_by": by, "model": model, "tagged": bool(code // 2 % 2)}
        kind["new"] = bool(code % 2)
        for score, categories, chosen in _parts(pool, members, n):
            stratum[chosen] = len(kinds)
            kinds.append({**kind, "score": score, "categories": categories})
    pairs, weights = np.bincount(stratum), np.bincount(stratum, worth)
    order = np.lexsort((number, stratum))
    starts = np.cumsum(pairs) - pairs
    fresh = np.concatenate([[0], np.cumsum(~drawn[order])])

    def design(total: int) -> tuple[Array, int]:
        """How many pairs each stratum gives to a design of `total`, and how many of all are new."""
        chosen = allocate(weights, pairs, np.ones_like(pairs), total)
        return chosen, int((fresh[starts + chosen] - fresh[starts]).sum())

    low, high = len(kinds) - 1, len(pool) if drawn.any() else max(size, len(kinds))
    while high - low > 1 and drawn.any():
        middle = (low + high) // 2
        low, high = (low, middle) if design(middle)[1] >= size else (middle, high)
    chosen, _ = design(high)
    threshold = np.ones(len(kinds))
    some = chosen < pairs
    threshold[some] = number[order[(starts + chosen)[some]]]
    own = threshold[stratum]
    inside = np.flatnonzero(number < own)
    strata = [
        Stratum(**kind, pairs=int(n), drawn=int(k), threshold=float(t))
        for kind, n, k, t in zip(kinds, pairs, chosen, threshold, strict=True)
    ]
    return Draw(inside, own[inside], ~drawn[inside], strata)


def _parts(pool: Pool, members: Array, size: int) -> list[tuple[str, list[int], Array]]:
    """Parts of a cell by score and category, of which each gets PART of the cell's `size` pairs:
    (score, categories, members). Categories that are too few stay together.
    """
    parts: list[tuple[str, list[int], Array]] = []
    halves = [("any", members)]
    score = pool.score[members]
    high = score > np.median(score)
    if size * high.mean() >= PART and size * (~high).mean() >= PART:
        halves = [("low", members[~high]), ("high", members[high])]
    for name, half in halves:
        category = pool.category[half]
        found, counts = np.unique(category, return_counts=True)
        large = size * counts / len(members) >= PART
        parts += [(name, [int(one)], half[category == one]) for one in found[large]]
        if not large.all():
            rest = np.isin(category, found[~large])
            few = [] if not large.any() else found[~large].tolist()
            parts.append((name, few, half[rest]))
    return parts
