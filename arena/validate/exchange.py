"""What torchrun's processes need of each other where they do not share the data folder.

Each writes its parts in its own folder. The first process of a folder is its keeper, and gives
process 0 the scores that that one lacks, a block at a time. Whether processes share a folder is
found out, not asked: they look for the marks that each leaves in its own.
"""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from arena import files
from arena.cli import UserError
from arena.data_folder import DataFolder
from arena.validate import distributed
from arena.validate.ids import without
from arena.validate.predictions import Cache, Merged, image_state, rows_at_once, stored
from arena.validate.preprocess import content_hash
from arena.validate.tensor_file import Streamed

import numpy as np

SAMPLE = 64  # Images of which more than the size is compared before the networks run.


@contextmanager
def folder(data: DataFolder) -> Iterator[set[int]]:
    """Hold the data folder for this run; gives the keepers of all the folders of the run.

    Raises UserError where another run holds it.
    """
    keepers = _keepers(data)
    if distributed.rank() not in keepers:
        yield keepers
        return
    with files.lock(data, "validate"):
        for left in data.marks:  # By a run that was killed.
            left.unlink(missing_ok=True)
        yield keepers


def _keepers(data: DataFolder) -> set[int]:
    """The first process of each data folder of the run."""
    if distributed.world_size() == 1:
        return {0}
    files.check_folder(data)
    rank, processes = distributed.rank(), range(distributed.world_size())
    # A new name for each run, as other machines' file systems remember what was not there.
    run = distributed.from_lead(secrets.token_hex)
    mine = data.mark(run, rank)
    mine.touch()
    try:
        distributed.barrier()
        there = (each for each in processes if each == rank or data.mark(run, each).exists())
        return set(distributed.gather(next(there)))
    finally:
        mine.unlink(missing_ok=True)


def check(caches: Sequence[Cache], post_ids: np.ndarray, keepers: set[int]) -> None:
    """Raise UserError where the models or the resized images of a process are not process 0's.

    Of images, the sizes of all and the content of some are compared; collect compares the rest.
    """
    for cache in caches:
        fingerprints = distributed.gather((distributed.name(), cache.fingerprint))
        for who, fingerprint in fingerprints:
            if fingerprint != fingerprints[0][1]:
                raise UserError(
                    f"{who} has other weights or settings of {cache.tagger.label} than process 0:"
                    " copy the model's files to its machine"
                )
    if not caches or len(keepers) == 1:
        return
    data = caches[0].data
    some = post_ids[np.linspace(0, len(post_ids) - 1, min(SAMPLE, len(post_ids))).astype(int)]
    own = _sizes(data, post_ids), _hashes(data, some)
    sizes, hashes = distributed.from_lead(lambda: own)
    wrong = sorted({*post_ids[sizes != own[0]].tolist(), *some[hashes != own[1]].tolist()})
    for who, differing in distributed.gather((distributed.name(), wrong)):
        if differing:
            raise _differ(who, differing)


def _sizes(data: DataFolder, post_ids: np.ndarray) -> np.ndarray:
    """The bytes of posts' resized images: int64 (posts,), -1 where there is none."""
    paths = (data.resized_image(int(post_id)) for post_id in post_ids)
    sizes = (path.stat().st_size if path.is_file() else -1 for path in paths)
    return np.fromiter(sizes, np.int64, len(post_ids))


def _hashes(data: DataFolder, post_ids: np.ndarray) -> np.ndarray:
    """A hash of each of the posts' resized images: int64 (posts,), -1 where there is none."""
    paths = (data.resized_image(int(post_id)) for post_id in post_ids)
    hashes = (content_hash(path.read_bytes()) if path.is_file() else -1 for path in paths)
    return np.fromiter(hashes, np.int64, len(post_ids))


def _differ(who: str, post_ids: Sequence[int]) -> UserError:
    return UserError(
        f"the resized images of {who} are not those of process 0 for {len(post_ids)} posts, such as"
        f" {post_ids[0]}: copy resized/ to its machine again, then run the same command again"
    )


def collect(caches: Sequence[Cache], post_ids: np.ndarray, keepers: set[int]) -> None:
    """Bring to process 0's folder the scores of the posts that it lacks and another folder has.

    Parts of other folders are removed when process 0 has all that is in them. Raises UserError
    where a row was not made from the image that process 0 has.
    """
    others = sorted(keepers - {0})
    if not others:
        return
    for cache in caches:
        lacking = distributed.from_lead(partial(cache.missing, post_ids))
        for keeper in others:
            sent = lacking[:0]
            if distributed.rank() == keeper:
                _send(cache.held(lacking))
            elif distributed.rank() == 0:
                sent = _receive(cache, keeper)
            # After this all that was sent is on process 0's disk.
            lacking = distributed.from_lead(partial(without, lacking, sent))
        if distributed.rank() in others:
            cache.drop_parts(without(post_ids, lacking))


def _send(held: Merged) -> None:
    """Give scores to process 0."""
    half = held.scores.dtype == np.float16
    distributed.send((distributed.name(), held.post_ids, held.images, held.speed, half))
    for block in held.scores.blocks:
        distributed.send_array(block)


def _receive(cache: Cache, keeper: int) -> np.ndarray:
    """Keep as a part what a keeper sends; returns the ids of the posts, int64 (posts,)."""
    post_ids: np.ndarray
    who, post_ids, images, speed, half = distributed.receive(keeper)
    if not len(post_ids):
        return post_ids
    own = np.empty((len(post_ids), 3), np.int64)
    # With its own times, by which process 0 knows its images without reading them.
    for row, post_id in enumerate(post_ids):
        own[row, :2] = image_state(cache.data.resized_image(int(post_id)))
    own[:, 2] = _hashes(cache.data, post_ids)
    wrong = post_ids[(own[:, [0, 2]] != images[:, [0, 2]]).any(axis=1)]
    if len(wrong):
        raise _differ(who, wrong.tolist())
    shape = len(post_ids), len(cache.tagger.tags)
    scores = Streamed(shape, stored(cache.half or half), _blocks(keeper, *shape, stored(half)))
    cache.add(Merged(post_ids, own, scores, speed))
    return post_ids


def _blocks(keeper: int, posts: int, outputs: int, kind: np.dtype[Any]) -> Iterator[np.ndarray]:
    """The scores that a keeper sends, of this type (n, outputs), some posts at a time."""
    size = rows_at_once(outputs)
    for start in range(0, posts, size):
        block = np.empty((min(size, posts - start), outputs), kind)
        yield distributed.receive_array(keeper, block)
