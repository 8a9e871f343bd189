"""How much each post moves the headline figures: from that the design effect of clusters, and how
much more figures vary than resamples of few clusters show.

A figure's influence (posts,) says by how much it rises, to first order, for each further copy of
the post, in parts of the whole: its derivative with respect to the post's weight. Over all posts
it sums to 0, and the sum of its squares is the figure's variance over independent posts. Where
posts are drawn by clusters the variance is the sum of the squares of the clusters' sums: the linear
approximation of what resamples show, without any (Davison and Hinkley, Bootstrap Methods and their
Application, 1997, section 2.7). It gives the ratio of the two well, which is what it is used for.
"""

from collections.abc import Callable
from typing import NamedTuple

from arena.metrics.blocks import Array, Matrix, by_tags, most_at_once, rows
from arena.metrics.bootstrap import NO_SPREAD, REACH
from arena.metrics.formulas import f1, safe_divide

import numpy as np

HEADLINE = ("precision", "recall", "f1", "ap")
POSTS_AT_ONCE = 1 << 16
LEAST = 0.02  # Of its variance, that a cluster's residual must still show to tell anything.


class Influences(NamedTuple):
    """How the means over tags of the HEADLINE figures are moved: by each post, float64 (posts, 4),
    and how many times as far as resamples of clusters show their intervals must reach, at least 1
    (`wider`): as they spread further, and as that spread is itself known from few clusters. It is
    not told of precision, whose resamples bootstrap.missed_variance looks after."""

    of_posts: Array
    wider: dict[str, float]


def influences(
    scores: Matrix, truth: Matrix, above: Callable[[slice, Array], Array], clusters: Array
) -> Influences:
    """The influences of posts, which belong to `clusters` int (posts,) from 0 on.

    scores float32 and truth bool are (posts, tags). `above` says what is predicted of a block of
    tags: bool (tags of the block, posts), from the block's slice and its scores of that shape.
    """
    posts, tags = scores.shape
    units = int(clusters.max()) + 1

    def nothing() -> tuple[Array, Array, Array]:
        """What is added up: the influences, and what `residuals` gives of recall, F1 and AP."""
        further = len(HEADLINE) - 1
        return np.zeros((posts, len(HEADLINE))), np.zeros((further, units)), np.zeros(further)

    def block(part: slice, scores: Array, truth: Array) -> tuple[Array, Array, Array]:
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
        found, more, own = sums if in_place else nothing()
        for tag, positive in enumerate(truth):
            some = np.flatnonzero(positive | predicted[tag]).astype(np.int32)
            counted = np.stack([right[tag, some], predicted[tag, some], positive[some]])
            moved = by[:, :, tag].T @ counted
            found[some, :3] += moved.T
            reached, in_ap = of_average_precision(scores[tag], positive)
            found[reached, 3] += in_ap
            near = np.isin(clusters[reached], clusters[positive])
            for row, (of, moves, size) in enumerate(
                (
                    (some, moved[1], counted[2]),
                    (some, moved[2], counted[1:].sum(axis=0)),
                    (reached[near], in_ap[near], positive[reached[near]]),
                )
            ):
                places, each, of_tag = residuals(clusters[of], moves, size)
                more[row, places] += each
                own[row] += of_tag
        return found, more, own

    sums = total, more, own = nothing()
    # One block after the other adds up by itself: another such array would be as large as all else.
    in_place = most_at_once(posts) == 1
    for _, found in by_tags(scores, truth, block):
        for whole, part in () if in_place else zip(sums, found, strict=True):
            whole += part
    wider = {}
    for row, name in enumerate(HEADLINE[1:]):
        together = np.bincount(clusters, total[:, row + 1])
        true = together + more[row]
        shown, should = float(together @ together), float(true @ true + own[row])
        wider[name] = 1.0
        if shown > NO_SPREAD**2:
            wider[name] = max(1.0, should / shown) ** 0.5 * student(freedom(true))
    total /= tags
    return Influences(total, wider)


def freedom(moves: Array) -> float:
    """How many degrees of freedom a spread has that comes from what clusters move, (clusters,).

    A sum of n squares of variance v and fourth moment m is as uncertain as a chi-square of
    2 n / (m / v² - 1) degrees (Satterthwaite, Biometrics Bulletin 2, 1946): of a normal
    distribution's n it has n. Of few tags, which are on few posts, a few clusters decide. What is
    far off is so in the figure and in its spread together, so that this is rather too few.
    """
    squares = moves**2
    share = float(squares @ squares) / float(squares.sum()) ** 2
    return 2 / max(share - 1 / len(moves), np.finfo(float).eps)


def student(degrees: float) -> float:
    """How many times as far as a normal distribution Student's t reaches, of at least 4 degrees of
    freedom, to hold 95%. Two terms of Abramowitz and Stegun, Handbook of Mathematical Functions,
    1964, 26.7.5: 1.393 of 4, where 1.417 is right, and 1.042 of 30."""
    z, n = REACH, max(degrees, 4.0)
    return 1 + (z**2 + 1) / (4 * n) + (5 * z**4 + 16 * z**2 + 3) / (96 * n**2)


def residuals(clusters: Array, influence: Array, size: Array) -> tuple[Array, Array, float]:
    """(clusters, how much more each moves the true figure of one tag than its influence says, and
    what is to be added to the sum of the squares of both together).

    `clusters`, `influence` and `size` (n,) are of the posts that move it; `size` is how much of the
    figure's denominator each of them is.

    A figure is a ratio of sums, which its large clusters draw near to themselves: what one with the
    share h of the denominator differs from the figure by is 1 - h of what it differs from the true
    figure by. So two tags' residuals must be divided by 1 - h each before they are multiplied. One
    tag's own square is, where all posts of a cluster are alike, 1 - 2 h + sum(h²) of what it should
    be. For clusters of one size, 1 / n each, that is 1 - 1 / n, which resamples make up for, as how
    many clusters they have of a tag varies; of others they make up for 1 - h, and the rest is
    missing. Bell and McCaffrey, Survey Methodology 28, 2002, correct residuals of few clusters like
    this. A cluster that is nearly all there is of a tag tells nothing of it, and is left.
    """
    places, number = np.unique(clusters, return_inverse=True)
    moved = np.bincount(number, influence)
    share = safe_divide(np.bincount(number, size), size.sum())
    left = 1 - 2 * share + share @ share
    tells = left > LEAST
    true = np.where(tells, moved / np.maximum(1 - share, LEAST), moved)
    own = np.where(tells, (1 - share) / np.maximum(left, LEAST), 1) * moved**2
    return places, true - moved, float((own - true**2).sum())


def of_average_precision(scores: Array, truth: Array) -> tuple[Array, Array]:
    """(posts, the influence of each of them on one tag's average precision); it is 0 for others.

    scores and truth (posts,). AP is the mean over the k positives of P_j, the precision at positive
    j's score. A post at or above that score changes it by (right - P_j) / n_j, with n_j the posts
    there; a positive changes the mean by (P_j - AP) / k as well.
    """
    positives = np.sort(scores[truth])
    if not len(positives):
        return np.zeros(0, np.int32), np.zeros(0)
    posts = np.flatnonzero(scores >= positives[0]).astype(np.int32)
    values, right = scores[posts], truth[posts]
    n = len(posts) - np.searchsorted(np.sort(values), positives)
    precision = (len(positives) - np.searchsorted(positives, positives)) / n
    right_share = np.concatenate([[0], np.cumsum(1 / n)])
    all_share = np.concatenate([[0], np.cumsum(precision / n)])
    reached = np.searchsorted(positives, values, "right")
    influence = right * right_share[reached] - all_share[reached]
    influence[right] += precision[reached[right] - 1] - precision.mean()
    return posts, influence / len(positives)


def design_effects(
    influence: Matrix, clusters: Array, less: Matrix | None = None
) -> dict[str, float | None]:
    """Variance with clusters over variance of as many independent posts, known as deff (Kish,
    Survey Sampling, 1965), of each of HEADLINE: from the figures' influence (posts, 4) and int
    clusters (posts,) from 0 on; `less` another model's influence, of the difference of both.

    None where no post moves the figure. Intervals are wider by its root.
    """
    alone = np.zeros(len(HEADLINE))
    together = np.zeros((len(HEADLINE), int(clusters.max()) + 1))
    for start in range(0, len(clusters), POSTS_AT_ONCE):
        part = slice(start, min(start + POSTS_AT_ONCE, len(clusters)))
        moved = rows(influence, part) if less is None else rows(influence, part) - rows(less, part)
        alone += (moved**2).sum(axis=0)
        for sums, of_posts in zip(together, moved.T, strict=True):
            np.add.at(sums, clusters[part], of_posts)
    return {
        name: float(sums @ sums / single) if single > np.finfo(float).eps ** 2 else None
        for name, single, sums in zip(HEADLINE, alone, together, strict=True)
    }
