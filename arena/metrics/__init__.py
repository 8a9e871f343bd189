"""Metrics: from arrays of scores and truth to named numbers. Needs nothing else of the arena.

import numpy as np
from arena.metrics import TestSet, bootstrap, compare, evaluate, per_tag

random = np.random.default_rng(0)
truth = random.random((500, 20)) < 0.1  # bool (posts, tags)
noise = random.random((2, *truth.shape))
scores, others = (0.4 * truth + 0.6 * noise).astype(np.float32)  # of two models, 0 to 1
test = TestSet.plain(truth, bootstrap.resamples(posts=500, count=200, seed=0))
one, other = evaluate(test, scores, 0.5), evaluate(test, others, 0.5)  # 0.5: the threshold
print(one.results["overall"]["own"]["macro"]["f1"])  # {"value": …, "low": …, "high": …}
print(compare(one, other)["ap"]["macro"])
print(per_tag(scores, truth, 0.5)["ap"][:3])
"""

from arena.metrics.figures import (
    Decided,
    Evaluation,
    TestSet,
    compare,
    compare_tags,
    compared_design_effects,
    evaluate,
    per_tag,
)
from arena.metrics.post_groups import by_age, by_rating
from arena.metrics.several import may_be_best, simultaneous

__all__ = [
    "Decided",
    "Evaluation",
    "TestSet",
    "by_age",
    "by_rating",
    "compare",
    "compare_tags",
    "compared_design_effects",
    "evaluate",
    "may_be_best",
    "per_tag",
    "simultaneous",
]
