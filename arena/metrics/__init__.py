"""Metrics: from arrays of scores and truth to named numbers. Needs nothing else of the arena."""

from arena.metrics.age import by_age
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
from arena.metrics.several import may_be_best, simultaneous

__all__ = [
    "Decided",
    "Evaluation",
    "TestSet",
    "by_age",
    "compare",
    "compare_tags",
    "compared_design_effects",
    "evaluate",
    "may_be_best",
    "per_tag",
    "simultaneous",
]
