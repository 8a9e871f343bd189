"""How much each post moves the headline figures: from that the design effect of clusters, and what
resamples hide of clusters of different sizes.

A figure's influence (posts,) says by how much it rises, to first order, for each further copy of
the post, in parts of the whole: its derivative with respect to the post's weight. Over all posts
it sums to 0, and the sum of its squares is the figure's variance over independent posts. Where
posts are drawn by clusters the variance is the sum of the squares of the clusters' sums: the linear
approximation of what resamples show, without any (Davison and Hinkley, Bootstrap Methods and their
Application, 1997, section 2.7). It gives the ratio of the two well, which is what it is used for.
"""

from collections.abc import Callable
from typing import NamedTuple

from arena.metrics.blocks import Array, Matrix, by_tags
from arena.metrics.formulas import f1, safe_divide

import numpy as np
import torch

HEADLINE = ("precision", "recall", "f1", "ap")
LEAST = 0.02  # Of its variance that a cluster's residual must still show to be scaled up.


class Influences(NamedTuple):
    """How the means over tags of the HEADLINE figures are moved: by each post, float64 (posts,),
    and how much more by each cluster than its posts show (`hidden`), float64 (clusters,); nothing
    is hidden of precision, whose resamples bootstrap.missed_variance looks after."""

    of_posts: dict[str, Array]
    hidden: dict[str, Array]


def influences(
    scores: Matrix, truth: Matrix, above: Callable[[slice, Array], Array], clusters: Array
) -> Influences:
    """The influences of posts, and of their `clusters` int (posts,) from 0 on.

    scores float32 and truth bool are (posts, tags). `above` says what is predicted of a block of
    tags: bool (tags of the block, posts), from the block's slice and its scores of that shape.
    """
    posts, tags = scores.shape
    units = int(clusters.max()) + 1

    def block(part: slice, scores: Array, truth: Array) -> tuple[Array, Array]:
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
        more = np.zeros((len(HEADLINE), units))
        for tag, positive in enumerate(truth):
            some = np.flatnonzero(positive | predicted[tag])
            counted = np.stack([right[tag, some], predicted[tag, some], positive[some]])
            _, in_recall, in_f1 = by[:, :, tag].T @ counted
            reached, in_ap = of_average_precision(scores[tag], positive)
            found[3, reached] += in_ap
            near = np.isin(clusters[reached], clusters[positive])
            ranked = reached[near]
            for row, of_tag in enumerate(
                (
                    (clusters[some], in_recall, counted[2]),
                    (clusters[some], in_f1, counted[1:].sum(axis=0)),
                    (clusters[ranked], in_ap[near], positive[ranked]),
                ),
                1,
            ):
                places, values = hidden(*of_tag)
                more[row, places] += values
        return found, more

    total, hidden_total = np.zeros((len(HEADLINE), posts)), np.zeros((len(HEADLINE), units))
    for _, (found, more) in by_tags(scores, truth, block):
        total += found
        hidden_total += more
    return Influences(
        dict(zip(HEADLINE, total / tags, strict=True)),
        dict(zip(HEADLINE, hidden_total / tags, strict=True)),
    )


def hidden(clusters: Array, influence: Array, size: Array) -> tuple[Array, Array]:
    """(clusters, what is hidden of the influence of each of them on one tag's figure).

    `clusters`, `influence` and `size` (n,) are of the posts that move it; `size` is how much of the
    figure's denominator each of them is.

    A figure is a ratio of sums, and follows its large clusters, so what a cluster of the share h
    of the denominator differs from the figure by is smaller than from the true one: where all posts
    of a cluster are alike its variance is 1 - 2 h + sum(h²) of what it should be. For clusters of
    one size, 1 / n each, that is 1 - 1 / n, which resamples make up for, as how many clusters they
    have of a tag varies. For others 1 - h of it is what they make up for, and the root of the rest
    is what an influence must be multiplied by. So nothing is hidden where all clusters of a tag are
    of one size. Bell and McCaffrey, Survey Methodology 28, 2002, correct residuals of few clusters
    like this. A cluster that is nearly all there is of a tag is left as it is.
    """
    places, number = np.unique(clusters, return_inverse=True)
    share = safe_divide(np.bincount(number, size), size.sum())
    left = 1 - 2 * share + share @ share
    factor = np.sqrt(np.where(left > LEAST, (1 - share) / np.maximum(left, LEAST), 1))
    return places, np.bincount(number, influence) * (factor - 1)


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
