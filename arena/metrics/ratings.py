"""How often a model gives a post its rating, which is one of a few: accuracy, F1, confusion."""

from typing import Any

from arena.metrics.blocks import Array
from arena.metrics.bootstrap import Samples
from arena.metrics.figures import figure
from arena.metrics.formulas import f1, safe_divide

import numpy as np


def evaluate(scores: Array, truth: Array, samples: Samples) -> dict[str, Any]:
    """A model's rating is the one with the highest score, of equal scores the first.

    `scores` float32 (posts, ratings); `truth` int (posts,) is the post's rating, -1 for none, which
    leaves the post out. Gives `posts`, `accuracy`, `macro_f1` (the mean over the ratings that any
    of the posts has; scikit-learn's f1_score with these as labels) and `confusion`, a row for each
    rating of the posts with the number of posts by the model's rating. Raises ValueError where no
    post has a rating.
    """
    rated = truth >= 0
    if not rated.any():
        raise ValueError("no post has a rating")
    classes = scores.shape[1]
    cell = truth[rated] * classes + scores[rated].argmax(axis=1)
    # A post is in one cell of the confusion matrix: count them by cell in every sample.
    one_hot = cell == np.arange(classes * classes)[:, None]
    table = samples.of(rated).sums(one_hot).reshape(classes, classes, -1)
    right, true, given = np.einsum("iij->ij", table), table.sum(axis=1), table.sum(axis=0)
    there = true[:, 0] > 0
    accuracy = safe_divide(right.sum(axis=0), true.sum(axis=0))
    macro = f1(right, given, true)[there].mean(axis=0)
    return {
        "posts": int(rated.sum()),
        "accuracy": figure(accuracy[0], accuracy[1:]),
        "macro_f1": figure(macro[0], macro[1:]),
        "confusion": table[:, :, 0].astype(int).tolist(),
    }
