"""Families of posts: those that parent links join, as a parent, its children and theirs.

They show the same picture with changes: a model trained on one of them has seen much of the others.
"""

import re
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from arena import jsonl, posts

import numpy as np

Array = np.ndarray[Any, Any]

# Most posts have no parent: only lines where this is found are parsed.
_HAS_PARENT = re.compile(rb'"parent_id"\s*:\s*[1-9]')


class Links(NamedTuple):
    """The posts that have a parent, each once, and those parents: int64 (links,) both."""

    children: Array
    parents: Array


NO_LINKS = Links(np.zeros(0, np.int64), np.zeros(0, np.int64))


def links(path: Path) -> Links:
    """The parent links of all posts of a posts.jsonl; none where there is no such file.

    A child that is not in the file is not known: a parent's record does not name its children.
    """
    children, parents = array("q"), array("q")
    if not path.is_file():
        return NO_LINKS
    with path.open("rb") as file:
        for _, line in jsonl.texts(file):
            if line is None or not _HAS_PARENT.search(line):
                continue
            try:
                post = jsonl.loads(line)
            except (ValueError, RecursionError):
                continue  # Whoever reads the posts themselves tells of such a line.
            if isinstance(post, dict) and (child := jsonl.post_id(post.get("id"))) is not None:
                parent = posts.parent_id(post)
                if parent is not None:
                    children.append(child)
                    parents.append(parent)
    # Of a post that stands there twice, the first line counts.
    found, first = np.unique(np.asarray(children), return_index=True)
    return Links(found, np.asarray(parents)[first])


def families(ids: Array, parent_ids: Array) -> Array:
    """The number of each post's family: int64 (posts,), from 0 without gaps.

    `ids` are posts, each once, and `parent_ids` their parents, 0 for none: int64 (posts,). Posts
    are of one family where a chain of parent links joins them, also through a parent that is itself
    none of the posts: children of one parent are siblings.
    """
    own, linked = np.asarray(ids, np.int64), np.asarray(parent_ids, np.int64)
    nodes, place = np.unique(np.concatenate([own, linked[linked > 0]]), return_inverse=True)
    node = place[: len(own)]
    up = np.arange(len(nodes))  # Where each node's links lead, up to `length` of them.
    up[node[linked > 0]] = place[len(own) :]
    lowest, length = np.arange(len(nodes)), 1  # The lowest node on the way there.
    lowest = np.minimum(lowest, up)
    # Twice as far each time, until everybody is at the top. Parents in a circle, which the site
    # refuses, have no top: once the whole circle is walked, its lowest node stands for it.
    while length < len(nodes) and not np.array_equal(up, further := up[up]):
        lowest = np.minimum(lowest, lowest[up])
        up, length = further, 2 * length
    _, family = np.unique(lowest[up][node], return_inverse=True)
    return family.astype(np.int64)


def may_have_seen(ids: Array, found: Links, alone: Callable[[Array], Array]) -> Array:
    """Whether each post, or one of its family, may have been trained on: bool (posts,).

    `ids` int64 (posts,) ascend, each once. `alone` says it of posts by their ids alone.
    """
    members = np.concatenate(found)
    family = np.tile(families(*found), 2)
    seen = np.zeros(len(members), bool)
    seen[family[alone(members)]] = True
    result, relatives = alone(ids), members[seen[family]]
    place = np.searchsorted(ids, relatives)
    inside = place < len(ids)
    place, relatives = place[inside], relatives[inside]
    result[place[ids[place] == relatives]] = True
    return result
