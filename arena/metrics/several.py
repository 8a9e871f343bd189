"""Several models at once: differences that hold together, and which models may be the best.

Of ten equal models some pair nearly always differs by more than a 95% interval of its own allows.
Simultaneous intervals are all right at once in 95% of cases: as wide as the largest of all pairs'
differences, each over its spread, makes necessary (max-T; Hothorn, Bretz and Westfall, Biometrical
Journal 50, 2008). So the chance that any of several equal models is called different is 5%.
"""

from collections.abc import Sequence
from itertools import combinations

from arena.metrics.blocks import Array
from arena.metrics.bootstrap import CONFIDENCE, NO_SPREAD, REACH
from arena.metrics.figures import Evaluation, Figure, Path, figure

import numpy as np

DRAWS = 1 << 17  # The quantile is then known to about 0.005.


def simultaneous(evaluations: Sequence[Evaluation], path: Path) -> list[Figure]:
    """The difference of each pair, in the order of itertools.combinations, with its simultaneous
    95% interval over all pairs. With two models that is the interval of their difference.

    Raises KeyError for a figure without resamples.
    """
    values = np.array([each.resamples[path] for each in evaluations])
    reach = max_t(values)
    return [
        figure(
            one.values[path] - other.values[path],
            one.resamples[path] - other.resamples[path],
            reach,
        )
        for one, other in combinations(evaluations, 2)
    ]


def max_t(values: Array) -> float:
    """How many spreads each pair's interval must reach for all pairs to hold at once in 95%.

    `values` (models, resamples) are a figure of each model in the same resamples. The 95% quantile
    of the largest |difference| / spread over all pairs. A few hundred resamples' own largest
    values give it only roughly. They give the models' covariances well; so it is that of a
    multivariate t distribution with those, by a simulation that is the same every time. t rather
    than normal, as the spreads come from so many resamples themselves. Example: of three
    uncorrelated models with equal spreads it is 2.34, Tukey's studentized range over root 2.
    """
    models, resamples = values.shape
    pairs = [
        (a, b, spread)
        for a, b in combinations(range(models), 2)
        if resamples > 1 and (spread := (values[a] - values[b]).std(ddof=1)) > NO_SPREAD
    ]
    if models < 3 or not pairs:
        return REACH
    variances, vectors = np.linalg.eigh(np.cov(values))
    random = np.random.default_rng(0)
    drawn = random.standard_normal((DRAWS, models)) * np.sqrt(np.maximum(variances, 0)) @ vectors.T
    largest = np.zeros(DRAWS)
    for a, b, spread in pairs:
        np.maximum(largest, np.abs(drawn[:, a] - drawn[:, b]) / spread, out=largest)
    freedom = resamples - 1
    largest /= np.sqrt(random.chisquare(freedom, DRAWS) / freedom)
    return max(REACH, float(np.quantile(largest, CONFIDENCE)))


def may_be_best(
    values: Sequence[float], differences: Sequence[Figure], *, enough: bool = True
) -> list[int]:
    """Which models cannot be told from the best, which comes first: places in `values`, best first.

    `values` (models,) are a figure of each model, `differences` all pairs' as `simultaneous` gives
    them. Those whose interval of the difference from the best leaves out zero are told from it,
    unless there are not `enough` posts for intervals to mean something.
    """
    order = sorted(range(len(values)), key=lambda place: -values[place])
    best = order[0]
    behind = {
        (set(pair) - {best}).pop()
        for pair, found in zip(combinations(range(len(values)), 2), differences, strict=True)
        if enough
        and best in pair
        and found["low"] is not None
        and found["high"] is not None
        and (found["low"] > 0 or found["high"] < 0)
    }
    return [place for place in order if place not in behind]
