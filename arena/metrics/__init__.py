"""Metrics: from arrays of scores and truth to named numbers. Needs nothing else of the arena."""

from arena.metrics.figures import compare, evaluate, per_tag

__all__ = ["compare", "evaluate", "per_tag"]
