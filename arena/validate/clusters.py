"""Clusters: which posts belong together, so that they are drawn together and not apart.

A set of variants of one picture, or an artist's posts of one week, are much alike in their tags and
in what models make of them: they tell less than as many posts by anybody.
"""

from typing import NamedTuple

from arena.cli import warn
from arena.families import families
from arena.metrics.bootstrap import numbered
from arena.validate.ground_truth import GroundTruth

import numpy as np

UNITS = ("artist", "family", "none")
# In the site's category of artists, but nobody: the site has the names of artists who asked for
# removal imply the first, and the others say that the artist is yet to be found.
NOBODY = {"banned_artist", "artist_request", "artist_unknown", "unknown_artist"}
LARGEST = 0.01  # Of the posts, in a component that artists join.


class Clusters(NamedTuple):
    """The cluster of each post, int64 (posts,), numbered from 0 in the order of their first posts,
    and how many posts were left with their families because artists join too many."""

    of_post: np.ndarray
    chained: int

    @property
    def groups(self) -> int:
        """How many clusters there are."""
        return int(self.of_post.max()) + 1

    @property
    def largest(self) -> int:
        """How many posts the largest has."""
        return int(np.bincount(self.of_post).max())


def clusters(truth: GroundTruth, unit: str) -> Clusters:
    """The clusters of the posts, by one of UNITS: `artist` joins posts of one family or with an
    artist in common, `family` those of one family, `none` no posts.

    A post with two artists joins the posts of both, and by such posts artists chain. Where a
    component so made has more than LARGEST of all posts, its posts are joined by family alone, and
    a line says so.
    """
    posts = len(truth.post_ids)
    if unit == "none":
        return Clusters(np.arange(posts), 0)
    family = _families(truth)
    if unit == "family":
        return Clusters(family, 0)
    count = int(family.max()) + 1
    post, artist = truth.artists(NOBODY)
    both = joined(count + len(truth.tags), family[post], count + artist)[family]
    _, component, sizes = np.unique(both, return_inverse=True, return_counts=True)
    large = (sizes > LARGEST * posts)[component]
    # Only what artists joined is taken apart: a family stays whole however large it is.
    pieces = np.zeros(len(sizes), np.int64)
    np.add.at(pieces, component[np.unique(family, return_index=True)[1]], 1)
    large &= pieces[component] > 1
    found = numbered(np.where(large, family, count + component))
    chained = int(large.sum())
    if chained:
        warn(
            f"for the intervals {chained} of the {posts} posts are drawn by family, not by artist:"
            f" artists join them to groups of more than {LARGEST:.0%} of all posts"
        )
    return Clusters(found, chained)


def _families(truth: GroundTruth) -> np.ndarray:
    """The family of each post, int64 (posts,), numbered from 0 in the order of their first posts;
    links of posts that are not scored join those that are."""
    children, parents = truth.links
    ids = np.union1d(truth.post_ids, children)
    parent_ids = np.zeros(len(ids), np.int64)
    parent_ids[np.searchsorted(ids, children)] = parents
    found = families(ids, parent_ids)
    return numbered(found[np.searchsorted(ids, truth.post_ids)])


def joined(nodes: int, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The connected components of a graph: int64 (nodes,), the same number for a component's nodes.

    `a` and `b` int (links,) are the nodes, 0 to `nodes` - 1, that each link joins.
    """
    above = list(range(nodes))

    def root(node: int) -> int:
        while above[node] != node:
            above[node] = node = above[above[node]]
        return node

    for one, other in zip(a.tolist(), b.tolist(), strict=True):
        above[root(one)] = root(other)
    return np.array([root(node) for node in range(nodes)], np.int64)
