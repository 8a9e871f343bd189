"""Where the interval of a model's figure ends for a reader: at what the figure can be.

An interval is the figure plus and minus a multiple of its spread (arena/metrics/bootstrap.py), so
that of a recall of 0.99 may reach 1.01. What lies beyond is no value that the figure could have, so
to leave it out leaves out no case. metrics.json has the interval whole, as the spread is half of
it. Differences of two models are not cut.
"""

import math
from collections.abc import Mapping
from typing import Any

FIGURE = {"value", "low", "high"}
SHARE = (0.0, 1.0)
LIMITS = {"mcc": (-1.0, 1.0), "tags": (0.0, math.inf), "false_tags": (0.0, math.inf)}
DIFFERENCES = {"difference", "pairs"}  # Keys of what is said of two models.


def cut(figure: Mapping[str, Any], limits: tuple[float, float] = SHARE) -> dict[str, Any]:
    """A figure whose interval ends within `limits`; a share's without."""
    if figure["low"] is None:
        return dict(figure)
    least, most = limits
    return {**figure, "low": max(figure["low"], least), "high": min(figure["high"], most)}


def all_cut(found: Any, limits: tuple[float, float] = SHARE) -> Any:
    """Results, or a piece of them, with the figures of single models cut."""
    if isinstance(found, dict):
        if found.keys() == FIGURE:
            return cut(found, limits)
        return {
            key: each if key in DIFFERENCES else all_cut(each, LIMITS.get(key, SHARE))
            for key, each in found.items()
        }
    # Lists of numbers are long, and have no figure.
    if isinstance(found, list) and found and isinstance(found[0], dict):
        return [all_cut(each) for each in found]
    return found
