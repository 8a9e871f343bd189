"""How much each post moves the headline figures, and from that the design effect of clusters.

A figure's influence (posts,) says by how much it rises, to first order, for each further copy of
the post, in parts of the whole: its derivative with respect to the post's weight. Over all posts
it sums to 0, and the sum of its squares is the figure's variance over independent posts. Where
posts are drawn by clusters the variance is the sum of the squares of the clusters' sums: the linear
approximation of what resamples show, without any (Davison and Hinkley, Bootstrap Methods and their
Application, 1997, section 2.7). It gives the ratio of the two well, which is what it is used for.
"""

from collections.abc import Callable

from arena.metrics.blocks import Array, Matrix, by_tags
from arena.metrics.formulas import f1, safe_divide

import numpy as np
import torch

HEADLINE = ("precision", "recall", "f1", "ap")


def influences(
    scores: Matrix, truth: Matrix, above: Callable[[slice, Array], Array]
) -> dict[str, Array]:
    """The influence of each post on the HEADLINE figures' means over tags: float64 (posts,) each.

    scores float32 and truth bool are (posts, tags). `above` says what is predicted of a block of
    tags: bool (tags of the block, posts), from the block's slice and its scores of that shape.
    """
    posts, tags = scores.shape

    def block(part: slice, scores: Array, truth: Array) -> Array:
        predicted = above(part, scores)
        right = predicted & truth
        tp, n, k = (np.count_nonzero(each, axis=1) for each in (right, predicted, truth))
        zero = np.zeros(len(tp))
        # The derivatives of tp / n, tp / k and 2 tp / (n + k) by tp, n and k, one of each a tag.
        by = np.array(
            [
                [safe_divide(1, n), safe_divide(1, k), safe_divide(2, n + k)],
                [-safe_divide(safe_divide(tp, n), n), zero, -safe_divide(f1(tp, n, k), n + k)],
                [zero, -safe_divide(safe_divide(tp, k), k), -safe_divide(f1(tp, n, k), n + k)],
            ]
        )
        found = np.zeros((len(HEADLINE), posts))
        for derivative, counted in zip(by, (right, predicted, truth), strict=True):
            factors = torch.from_numpy(derivative.astype(np.float32))
            found[:3] += (factors @ torch.from_numpy(counted.astype(np.float32))).numpy()
        for column, positive in zip(scores, truth, strict=True):
            reached, influence = of_average_precision(column, positive)
            found[3, reached] += influence
        return found

    total = np.zeros((len(HEADLINE), posts))
    for _, found in by_tags(scores, truth, block):
        total += found
    return dict(zip(HEADLINE, total / tags, strict=True))


def of_average_precision(scores: Array, truth: Array) -> tuple[Array, Array]:
    """(posts, the influence of each of them on one tag's average precision); it is 0 for others.

    scores and truth (posts,). AP is the mean over the k positives of P_j, the precision at positive
    j's score. A post at or above that score changes it by (right - P_j) / n_j, with n_j the posts
    there; a positive changes the mean by (P_j - AP) / k as well.
    """
    positives = np.sort(scores[truth])
    if not len(positives):
        return np.zeros(0, np.int64), np.zeros(0)
    posts = np.flatnonzero(scores >= positives[0])
    values, right = scores[posts], truth[posts]
    n = len(posts) - np.searchsorted(np.sort(values), positives)
    precision = (len(positives) - np.searchsorted(positives, positives)) / n
    right_share = np.concatenate([[0], np.cumsum(1 / n)])
    all_share = np.concatenate([[0], np.cumsum(precision / n)])
    reached = np.searchsorted(positives, values, "right")
    influence = right * right_share[reached] - all_share[reached]
    influence[right] += precision[reached[right] - 1] - precision.mean()
    return posts, influence / len(positives)


def design_effect(influence: Array, clusters: Array) -> float | None:
    """Variance with clusters over variance of as many independent posts, known as deff (Kish,
    Survey Sampling, 1965): of a figure's influence (posts,) and int clusters (posts,) from 0 on.

    None where no post moves the figure. Intervals are wider by its root.
    """
    alone = float(influence @ influence)
    if alone <= np.finfo(float).eps ** 2:
        return None
    together = np.bincount(clusters, influence)
    return float(together @ together) / alone
