"""What tags imply: which tags imply each other, and which posts carry a tag by what others imply.

What implications add is never written out for all posts, as along one long chain of them it grows
with the square of the tags. It is worked out tag by tag wherever it is needed.
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np

# Of tags that imply each other (mostly it is one tag), and the other tags that they imply directly.
Group = tuple[list[int], list[int]]


def groups(number_of: dict[str, int], direct: Mapping[str, set[str]]) -> list[Group]:
    """The groups of the tags in `number_of` that imply or are implied, each before those that it
    implies. Tags that are only implied get a number of their own."""
    edges: dict[int, list[int]] = {}
    tags = list(number_of)
    while tags:
        tag = tags.pop()
        for implied in sorted(direct.get(tag, ())):
            if implied not in number_of:
                number_of[implied] = len(number_of)
                tags.append(implied)
            edges.setdefault(number_of[tag], []).append(number_of[implied])
    found = _components(edges)
    group_of = {tag: place for place, group in enumerate(found) for tag in group}
    return [
        (
            group,
            [to for tag in group for to in edges.get(tag, ()) if group_of[to] != group_of[tag]],
        )
        for group in found
    ]


def _components(edges: Mapping[int, list[int]]) -> list[list[int]]:
    """A graph's strongly connected components, each before those it leads to (Kosaraju)."""
    seen: set[int] = set()
    finished: list[int] = []
    for root in edges:
        stack = [root]
        while stack:
            node = stack.pop()
            if node < 0:  # All that it leads to is finished.
                finished.append(~node)
            elif node not in seen:
                seen.add(node)
                stack.append(~node)
                stack += edges.get(node, [])
    sources: dict[int, list[int]] = {}
    for node, targets in edges.items():
        for target in targets:
            sources.setdefault(target, []).append(node)
    found: list[list[int]] = []
    for root in reversed(finished):
        group: list[int] = []
        stack = [root]
        while stack:
            node = stack.pop()
            if node in seen:  # Not yet in a group.
                seen.remove(node)
                group.append(node)
                stack += sources.get(node, [])
        if group:
            found.append(group)
    return found


def carriers(
    groups: list[Group], rows: np.ndarray, numbers: np.ndarray, posts: int
) -> Iterator[tuple[list[int], np.ndarray]]:
    """The tags of each group with the rows, of so many posts, of those that carry them: ascending,
    each once. A group on none of the posts is left out.

    `rows` and `numbers` (pairs,) say which posts carry which of the groups' tags by themselves, the
    rows of each tag ascending. What is worked out for a group is let go as soon as that is so for
    all that it implies.
    """
    order = np.argsort(numbers, kind="stable")
    rows = rows[order]
    tags, firsts = np.unique(numbers[order], return_index=True)
    ends = pairwise([*firsts.tolist(), len(rows)])
    part_of = dict(zip(tags.tolist(), ends, strict=True))
    arriving: dict[int, list[np.ndarray]] = {}
    for group, implied in groups:
        parts = [rows[slice(*part_of[tag])] for tag in group if tag in part_of]
        for tag in group:
            parts += arriving.pop(tag, ())
        if not parts:
            continue
        found = _union(parts, posts)
        for tag in implied:
            arriving.setdefault(tag, []).append(found)
        yield group, found


def _union(parts: list[np.ndarray], posts: int) -> np.ndarray:
    """The rows, of so many posts, that are in any of the parts: ascending, each once."""
    parts = list({id(part): part for part in parts}.values())
    if len(parts) < 2:
        return parts[0]
    if sum(map(len, parts)) < posts / 16:  # Then sorting is faster than a look at every post.
        return np.unique(np.concatenate(parts))
    found = np.zeros(posts, bool)
    for part in parts:
        found[part] = True
    return np.flatnonzero(found)
