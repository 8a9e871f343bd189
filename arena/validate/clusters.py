"""Clusters: which posts belong together, so that they are drawn together and not apart.

A set of variants of one picture, or an artist's posts of one week, are much alike in their tags and
in what models make of them: they tell less than as many posts by anybody.
"""

from typing import NamedTuple

from arena.cli import warn
from arena.families import families
from arena.validate.ground_truth import GroundTruth

import numpy as np

UNITS = ("artist", "family", "none")
# In the site's category of artists, but nobody: the site has the names of artists who asked for
# removal imply the first, and the others say that the artist is yet to be found.
NOBODY = {"banned_artist", "artist_request", "artist_unknown", "unknown_artist"}
LINKS_AT_ONCE = 1 << 16
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
        return Clusters(family.astype(np.int64), 0)
    count = int(family.max()) + 1
    post, artist = truth.artists(NOBODY)
    post, artist = family[post], np.add(artist, count, out=artist)
    # Of each family the first one that artists join it to, which is itself or came before it.
    first = joined(count + len(truth.tags), post, artist)[:count]
    del post, artist
    pieces, sizes = np.bincount(first), np.bincount(first[family])
    # Only what artists joined is taken apart: a family stays whole however large it is.
    large = ((sizes > LARGEST * posts) & (pieces > 1))[first]
    number = _numbered(np.where(large, np.arange(count, dtype=np.int32), first))
    chained = int(large[family].sum())
    if chained:
        warn(
            f"for the intervals {chained} of the {posts} posts are drawn by family, not by artist:"
            f" artists join them to groups of more than {LARGEST:.0%} of all posts"
        )
    return Clusters(number.astype(np.int64)[family], chained)


def _families(truth: GroundTruth) -> np.ndarray:
    """The family of each post, int32 (posts,), numbered from 0 in the order of their first posts;
    links of posts that are not scored join those that are."""
    ids = truth.post_ids
    members, family = np.concatenate(truth.links), np.tile(families(*truth.links), 2)
    row = np.searchsorted(ids, members)
    scored = row < len(ids)
    scored[scored] = ids[row[scored]] == members[scored]
    row, family = row[scored], family[scored]
    first = np.full(family.max(initial=-1) + 1, len(ids), np.int32)
    np.minimum.at(first, family, row.astype(np.int32))
    found = np.arange(len(ids), dtype=np.int32)
    found[row] = first[family]
    return _numbered(found)


def _numbered(first: np.ndarray) -> np.ndarray:
    """The number of what each thing belongs to, from 0 in the order of the first things: int32
    (things,). `first` int32 (things,) is the place of the first that belongs to the same."""
    numbers = np.cumsum(first == np.arange(len(first), dtype=np.int32), dtype=np.int32)
    numbers -= 1
    found: np.ndarray = numbers[first]
    return found


def joined(nodes: int, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The connected components of a graph: int32 (nodes,), of each node the lowest of its own.

    `a` and `b` int32 (links,) are the nodes, 0 to `nodes` - 1, that each link joins.
    """
    lowest = np.arange(nodes, dtype=np.int32)
    while len(a):
        # Of two linked components the one whose lowest node is higher is led to the other's.
        for start in range(0, len(a), LINKS_AT_ONCE):
            ends = a[start : start + LINKS_AT_ONCE], b[start : start + LINKS_AT_ONCE]
            np.minimum.at(lowest, np.maximum(*ends), np.minimum(*ends))
        while not np.array_equal(further := lowest[lowest], lowest):
            lowest = further
        a, b = lowest[a], lowest[b]
        apart = a != b
        a, b = a[apart], b[apart]
    return lowest
