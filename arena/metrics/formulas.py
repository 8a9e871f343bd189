"""The metrics' formulas, each with its source and its edge cases.

Throughout, scores are float32 (posts, tags), truth is bool (posts, tags), and a tag is predicted
on a post where its score is at or above the threshold, both taken as float32.
"""

from typing import Any

from arena.metrics.blocks import Array, Matrix

import numpy as np


def check(scores: Matrix, truth: Matrix) -> tuple[int, int]:
    """(posts, tags). Raises ValueError when the arrays do not fit each other or hold no post."""
    if len(scores.shape) != 2 or scores.shape != truth.shape:
        raise ValueError(f"scores {scores.shape} and truth {truth.shape} must be (posts, tags)")
    if truth.dtype != np.bool_:
        raise ValueError(f"truth must be bool, not {truth.dtype}")
    if not len(scores):
        raise ValueError("there is no post to score")
    return scores.shape[0], scores.shape[1]


def thresholds(threshold: float | Array, tags: int) -> Array:
    """The float32 threshold of every tag (tags,), from one number or one for each tag."""
    given = np.asarray(threshold, np.float32)
    if given.shape not in ((), (tags,)) or np.isnan(given).any():
        raise ValueError(f"threshold must be a number or {tags} numbers, one for each tag")
    return np.broadcast_to(given, (tags,))


def safe_divide(numerator: Any, denominator: Any) -> Any:
    """The quotient of counts; 0 where the denominator is 0, as the numerator is 0 there too."""
    return numerator / np.maximum(denominator, 1)


def f1(tp: Any, predicted: Any, support: Any) -> Any:
    """2 TP / (predicted + support), which is 2PR / (P + R); 0 where there is nothing to find.

    van Rijsbergen, Information Retrieval, 1979, with beta = 1.
    """
    return safe_divide(2 * tp, predicted + support)


def mcc(tp: Any, predicted: Any, support: Any, total: Any) -> Any:
    """Matthews' correlation of prediction and truth, 0 where either is the same everywhere.

    (TP TN - FP FN) / sqrt((TP+FP)(TP+FN)(TN+FP)(TN+FN)), written with the four counts at hand.
    Matthews, Biochimica et Biophysica Acta 405, 1975.
    """
    spread = predicted * (total - predicted) * support * (total - support)
    return safe_divide(total * tp - predicted * support, np.sqrt(spread))


def chance_average_precision(support: Any, total: int) -> Any:
    """The mean average precision of scores that know nothing: posts in a random order.

    With k of n posts that have the tag and H_n = 1 + 1/2 + ... + 1/n it is
    ((k - 1) / (n - 1) (n - H_n) + H_n) / n. Bestgen, Information Processing & Management 51, 2015.
    """
    harmonic = (1 / np.arange(1, total + 1)).sum()
    share = (np.asarray(support) - 1) / max(1, total - 1)
    return (share * (total - harmonic) + harmonic) / total


def rates(tp: Any, predicted: Any, support: Any, total: Any) -> dict[str, Any]:
    """Precision, recall, F1 and MCC from counts of posts, element by element, in float64.

    `tp` posts have the tag and are predicted to, `predicted` are predicted to, `support` have it,
    out of `total`. Precision is tp / predicted and recall tp / support; each figure is 0 where
    its denominator is (scikit-learn's zero_division=0).
    """
    tp, predicted, support = (np.asarray(given, np.float64) for given in (tp, predicted, support))
    return {
        "precision": safe_divide(tp, predicted),
        "recall": safe_divide(tp, support),
        "f1": f1(tp, predicted, support),
        "mcc": mcc(tp, predicted, support, total),
    }


def average_precision(scores: Array, truth: Array) -> float:
    """Average precision of one tag, from scores (posts,) and truth (posts,); 0 with no positive.

    The sum over thresholds of (R_k - R_{k-1}) P_k, equal scores in one step, as scikit-learn's
    average_precision_score. Recall steps up by one positive at a time, so the sum is the mean,
    over the positives, of the precision at each one's own score; posts scored below the lowest
    positive never count and are not sorted.
    """
    positives = np.sort(scores[truth])
    if not len(positives):
        return 0.0
    ranked = np.sort(scores[scores >= positives[0]])
    tp = len(positives) - np.searchsorted(positives, positives)
    predicted = len(ranked) - np.searchsorted(ranked, positives)
    return float((tp / predicted).mean())
