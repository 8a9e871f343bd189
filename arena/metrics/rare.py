"""How far a result rests on rare tags: the headline on fewer of them, and tags won and lost."""

from typing import TypedDict

from arena.metrics.blocks import Array
from arena.metrics.bootstrap import Counts
from arena.metrics.formulas import f1

import numpy as np

MIN_COUNTS = (10, 30, 100, 300)
SAME = 1e-9  # Figures nearer to each other differ by rounding alone.


class Record(TypedDict):
    """On how many tags one model is better than another; the first three are all tags."""

    wins: int
    losses: int
    ties: int
    both_zero: int  # Of the ties, those at zero.


def by_min_count(counts: Counts) -> dict[tuple[str, str], Array]:
    """Macro F1 at the own threshold and macro AP over the tags on at least so many posts, in every
    sample: ("30", "f1") is (samples,). None where no tag is on so many.

    Which tags these are is decided by all posts, in every resample too.
    """
    each = {"f1": f1(*counts.own, counts.support), "ap": counts.ap}
    return {
        (str(least), name): values[inside].mean(axis=0)
        for least in MIN_COUNTS
        if (inside := counts.support[:, 0] >= least).any()
        for name, values in each.items()
    }


def record(a: Array, b: Array) -> Record:
    """Wins, losses and ties of a against b, from a figure of each tag: (tags,)."""
    ahead = a - b
    same = np.abs(ahead) <= SAME
    return {
        "wins": int((ahead > SAME).sum()),
        "losses": int((ahead < -SAME).sum()),
        "ties": int(same.sum()),
        "both_zero": int((same & (a <= SAME)).sum()),
    }
