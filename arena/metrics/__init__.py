"""Metrics: from arrays of scores and truth to named numbers. Needs nothing else of the arena."""

from arena.metrics.age import by_age
from arena.metrics.figures import (
    Decided,
    Evaluation,
    TestSet,
    compare,
    compare_tags,
    evaluate,
    per_tag,
)

__all__ = [
    "Decided",
    "Evaluation",
    "TestSet",
    "by_age",
    "compare",
    "compare_tags",
    "evaluate",
    "per_tag",
]
