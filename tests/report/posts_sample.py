"""Invented posts to go with invented metrics: their tags, and what each model gives them."""

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from arena.report import posts
from arena.report.posts import ByPost

import numpy as np


@dataclass(frozen=True)
class Posts:
    """`ids` (posts,); `truth` bool (posts, tags); `predicted` bool (models, posts, tags); `chosen`,
    the rows on which models differ most."""

    ids: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray
    chosen: np.ndarray
    by_post: ByPost

    def sides(self, row: int, model: int) -> tuple[np.ndarray, ...]:
        """The tags of a post that a model gets right, misses, and gives falsely."""
        has, given = self.truth[row], self.predicted[model, row]
        return tuple(np.flatnonzero(each) for each in (has & given, has & ~given, given & ~has))

    def f1(self, row: int, model: int) -> float:
        right, missed, false = map(len, self.sides(row, model))
        return 2 * right / max(1, 2 * right + missed + false)


def posts_sample(metrics: dict[str, Any], folder: Path | None = None, *, count: int = 30) -> Posts:
    """Posts in two files, which are written to report_posts/ in `folder` if it is given. The first
    post has no tag and the last is given every tag by all models."""
    rng = np.random.default_rng(5)
    tags, models = len(metrics["tag_names"]), len(metrics["models"])
    low, high = metrics["posts"]["min_id"], metrics["posts"]["max_id"]
    ids = np.unique([low, *rng.integers(low, high, count), high])
    truth = rng.random((len(ids), tags)) < min(0.3, 12 / tags)
    flips = rng.random((models, *truth.shape)) < min(0.2, 8 / tags)
    predicted = truth ^ flips
    truth[0] = False
    predicted[:, -1] = True
    mistakes = predicted ^ truth
    apart = sum(
        ((a ^ b).sum(axis=1) for a, b in combinations(predicted, 2)), np.zeros(len(ids), int)
    )
    keys = -apart if models > 1 else -mistakes[0].sum(axis=1)
    chosen = np.argsort(keys, kind="stable")[:12]

    def records(rows: np.ndarray) -> str:
        bits = [np.packbits(each[rows], axis=1) for each in (truth, *mistakes)]
        return posts.records(ids[rows], bits[0], bits[1:])

    halves = np.array_split(np.arange(len(ids)), 2)
    scripts = [posts.script(int(ids[rows[0]]), records(rows)) for rows in halves]
    if folder:
        (folder / "report_posts").mkdir()
        for each in scripts:
            (folder / "report_posts" / each.name).write_text(each.text)
    named = [(each.first, each.name) for each in scripts]
    return Posts(ids, truth, predicted, chosen, ByPost(records(np.sort(chosen)), named))
