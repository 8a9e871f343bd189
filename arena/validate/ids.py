"""Ids of posts in arrays, looked up in little memory: there may be ten million."""

import numpy as np

IDS_AT_ONCE = 1 << 16  # Looked up, or handled one by one.


def each_once(post_ids: np.ndarray) -> np.ndarray:
    """The ids (n,), ascending, each once. np.unique would take many times as much memory."""
    ids = np.sort(post_ids)
    found: np.ndarray = ids[np.append(True, ids[1:] != ids[:-1])[: len(ids)]]
    return found


def rows_of(held: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The place of each of the ids `wanted` (n,) in `held` (posts,): int32 (n,), -1 where it is not
    there; of one that is there twice the last."""
    found = np.full(len(wanted), -1, np.int32)
    if len(held):
        order = None if (held[1:] >= held[:-1]).all() else np.argsort(held, kind="stable")
        for start in range(0, len(wanted), IDS_AT_ONCE):
            some = wanted[start : start + IDS_AT_ONCE]
            place = np.searchsorted(held, some, side="right", sorter=order) - 1
            row = place if order is None else order[place]
            found[start : start + len(some)] = np.where(held[row] == some, row, -1)
    return found


def without(post_ids: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The ids (n,) that are not among the others."""
    return post_ids[rows_of(others, post_ids) < 0]
