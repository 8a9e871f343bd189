"""Scores of every model for every post, worked out once and kept in `<model>_predictions.pt`.

That file is the cache. While a run goes on, finished batches are kept as small files of the same
form in `<model>_predictions.parts/<fingerprint>/`; at the end they are merged into the one file.
Every file is whole under its name, so a killed run loses only what it had not yet written.

A fingerprint stands for all that decides the scores of an image: weights and image settings. A
file of another fingerprint is never overwritten: it is kept as
`<model>-<fingerprint>_predictions.pt` and comes back when its weights do.


A batch is `batch_size` consecutive posts of those that a model lacks, in ascending order, and only
whole batches are kept: a resumed run therefore forms the very batches an undisturbed one would.
"""

import errno
import os
import pickle
import re
import shutil
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import models
from arena import files
from arena.cli import UserError, progress, say, warn
from arena.metrics.figures import Decided
from arena.validate import distributed
from arena.validate.preprocess import Prepared, content_hash, geometry, prepare
from models import Network
from models.card import ModelCard

import numpy as np
import torch

FLUSH_SECONDS = 15  # With the batch under way, what a kill loses must stay under 30 seconds.
FLUSH_BYTES = 256_000_000
ROWS = 1024  # Copied at a time.
TOLERANCE = 1e-4  # Half precision may leave 0..1 by a rounding.


class Batch(NamedTuple):
    """Scores (posts, tags) of one batch, with each post's id and resized file: int64 (posts, 3)."""

    post_ids: np.ndarray
    images: np.ndarray
    scores: np.ndarray


class Common(NamedTuple):
    """A model's scores, float32 (posts, tags), and what decides them: a threshold for each tag,
    (tags,), but for the `decided` ones, whose outputs have different thresholds."""

    scores: np.ndarray
    thresholds: np.ndarray
    decided: Decided | None


@dataclass
class Work:
    """One model's share of a run: its posts still without scores, and scores not yet written."""

    model: ModelCard
    tags: list[str]
    data: Path
    fingerprint: str
    missing: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    network: Network | None = None
    batch: int = 1
    waiting: list[tuple[int, tuple[int, int], Prepared]] = field(default_factory=list)
    finished: list[Batch] = field(default_factory=list)
    checked: bool = False


class DamagedError(UserError):
    """A file under the name of a predictions file that is none, or not a whole one."""


def path_of(data: Path, model: ModelCard) -> Path:
    """Where a model's predictions are kept."""
    return data / f"{model.name}_predictions.pt"


def aside_of(data: Path, model: ModelCard, fingerprint: str) -> Path:
    """Where predictions of a fingerprint are kept while the model has another."""
    return data / f"{model.name}-{fingerprint[:16]}_predictions.pt"


def parts_of(data: Path, model: ModelCard, fingerprint: str) -> Path:
    """The folder of what an unfinished run has worked out for a model."""
    return data / f"{model.name}_predictions.parts" / fingerprint[:16]


# What the system, not the file, is to blame for. torch tells both by RuntimeError.
SYSTEM_ERRORS = (errno.ENOMEM, errno.EIO, errno.ENODEV, errno.EMFILE, errno.ENFILE)


def load(path: Path) -> dict[str, Any]:
    """A predictions file, its scores memory-mapped.

    `predictions` float32 (posts, tags), `post_ids` int64 (posts,), `tags` list of str, `model`,
    `fingerprint`, and `images` int64 (posts, 3): each resized file's bytes, mtime_ns and hash.
    Raises DamagedError when it is not one of ours, and UserError when it cannot be read now.
    """
    try:
        held = torch.load(path, weights_only=True, mmap=True, map_location="cpu")
        rows, columns = held["predictions"].shape
        fine = (
            held["predictions"].dtype == torch.float32
            and held["post_ids"].dtype == held["images"].dtype == torch.int64
            and held["post_ids"].shape == (rows,)
            and held["images"].shape == (rows, 3)
            and len(held["tags"]) == columns
            and re.fullmatch("[0-9a-f]{64}", held["fingerprint"]) is not None
        )
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, TypeError, KeyError,
            AttributeError, IndexError) as error:  # fmt: skip
        for code in SYSTEM_ERRORS:
            if os.strerror(code) in str(error):
                raise _unreadable_now(path, os.strerror(code)) from None
        fine = False
    except MemoryError:
        raise _unreadable_now(path, os.strerror(errno.ENOMEM)) from None
    if not fine:
        raise DamagedError(
            f"{path} is not a predictions file that validate.py wrote whole: move it elsewhere, or"
            " give --fresh to delete it"
        )
    return dict(held)


def _unreadable_now(path: Path, reason: str) -> UserError:
    size = path.stat().st_size / 1e9
    return UserError(
        f"cannot read {path} ({size:.1f} GB): {reason}. The file is kept: free memory or raise its"
        " limit (ulimit -v), then run the same command again"
    )


def plan(model: ModelCard, tags: list[str], data: Path) -> Work:
    """A model's share of a run, before it is known which posts it lacks: see `lacking`.

    `tags` are the canonical tags of its outputs. Reads the model's weights for its fingerprint.
    """
    return Work(model, tags, data, models.fingerprint(model, data))


def forget(work: Work) -> None:
    """Remove a model's predictions, those of its present fingerprint only."""
    for path in (path_of(work.data, work.model), _aside(work)):
        try:
            if path.exists() and load(path)["fingerprint"] == work.fingerprint:
                path.unlink()
        except DamagedError:
            path.unlink()
    shutil.rmtree(_parts(work), ignore_errors=True)


def _aside(work: Work) -> Path:
    return aside_of(work.data, work.model, work.fingerprint)


def _parts(work: Work) -> Path:
    return parts_of(work.data, work.model, work.fingerprint)


def _sources(work: Work) -> list[Path]:
    """The files that hold scores of the model's present fingerprint, oldest first."""
    found = []
    path = path_of(work.data, work.model)
    for source in (_aside(work), path, *sorted(_parts(work).glob("*.pt"))):
        if not source.exists():
            continue
        held = load(source)
        if held["fingerprint"] != work.fingerprint:
            continue
        if len(held["tags"]) != len(work.tags):
            raise UserError(
                f"{work.model.name}: the network gives {len(held['tags'])} scores an image ("
                f"{source}), but {work.model.tags} has {len(work.tags)} tags: change 'tags' in"
                f" {work.model.path}"
            )
        found.append(source)
    return found


def lacking(work: Work, post_ids: np.ndarray) -> np.ndarray:
    """Which of the posts (ids, ascending) have no score of their resized image as it is now."""
    _, sure = _chosen_rows(work, _sources(work), post_ids)
    return np.array([post for post in post_ids.tolist() if post not in sure], dtype=np.int64)


def _chosen_rows(
    work: Work, sources: Sequence[Path], wanted: np.ndarray
) -> tuple[dict[int, tuple[int, int]], set[int]]:
    """For every post in `sources` the (number of the source, row) that counts, and those of the
    posts in `wanted` whose row was made from their image as it is now.

    Of a post's rows, one of its image as it is now; where there is none the last, as nothing is
    thrown away. Names and times of parts are no guide: clocks are set back, and another machine may
    see older copies of resized/.
    """
    place: dict[int, tuple[int, int]] = {}
    asked, sure = set(wanted.tolist()), set[int]()
    states: dict[int, tuple[int, int]] = {}
    for number, source in enumerate(sources):
        held = load(source)
        for row, (post_id, (size, mtime, content)) in enumerate(
            zip(held["post_ids"].tolist(), held["images"].tolist(), strict=True)
        ):
            if post_id in sure:
                continue
            place[post_id] = number, row
            if post_id in asked:
                image = resized(work.data, post_id)
                if post_id not in states:
                    states[post_id] = _state(image)
                if states[post_id] == (size, mtime) or _hash(image) == content:
                    sure.add(post_id)
    return place, sure


def resized(data: Path, post_id: int) -> Path:
    """A post's resized image."""
    return data / "resized" / f"{post_id}.webp"


def _state(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns


def _hash(path: Path) -> int:
    return content_hash(path.read_bytes())


def open_networks(work: Sequence[Work], batch_size: int, device: torch.device) -> None:
    """Load the network of every model that has posts to run, before hours are spent on one."""
    for each in work:
        if len(each.missing):
            each.network = models.open_network(each.model, each.data, len(each.tags), device)
            each.batch = each.network.batch or batch_size
            if each.network.batch and each.network.batch < batch_size:
                warn(
                    f"{each.model.name}: {each.model.file} takes {each.network.batch} image(s) at"
                    " a time only, which is slow: an export with a dynamic batch would not be"
                )


def run(work: Sequence[Work], workers: int, device: torch.device, *, alone: bool = False) -> None:
    """Run every model over the posts it lacks, decoding each image once for all of them.

    Processes share the batches, or process 0 runs all of them `alone`. Finished batches are on
    disk when this returns or is interrupted.
    """
    mine = {each.model.name: set(_share(each, alone).tolist()) for each in work}
    todo = sorted(set().union(*mine.values()))
    if not todo:
        return
    ahead = max(4 * workers, 2 * max(each.batch for each in work))

    def task(post_id: int) -> tuple[tuple[int, int], Prepared]:
        wanted = {geometry(each.model.image) for each in work if post_id in mine[each.model.name]}
        path = resized(work[0].data, post_id)
        return _state(path), prepare(path, wanted, device)

    # One thread each: together the workers fill the machine.
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    try:
        with progress(total=len(todo), unit="post", desc="inference") as bar:
            flushed = time.monotonic()
            for post_id, (state, prepared) in zip(
                todo, _in_order(pool, task, todo, ahead), strict=True
            ):
                for each in work:
                    if post_id in mine[each.model.name]:
                        _add(each, post_id, state, prepared)
                bar.update()
                if time.monotonic() - flushed > FLUSH_SECONDS or _waiting(work) > FLUSH_BYTES:
                    _flush(work)
                    flushed = time.monotonic()
            for each in work:
                _run_batch(each)
    finally:
        pool.shutdown(cancel_futures=True)
        _flush(work)


def _share(work: Work, alone: bool) -> np.ndarray:
    """The posts of this process's batches: every world-size-th one, or process 0 has all."""
    batch_of = np.arange(len(work.missing)) // work.batch
    processes = 1 if alone else distributed.world_size()
    mine: np.ndarray = work.missing[batch_of % processes == distributed.rank()]
    return mine


def _in_order(
    pool: ThreadPoolExecutor, task: Any, items: Iterable[int], ahead: int
) -> Iterator[Any]:
    """pool.map with at most `ahead` results waiting, so that memory stays flat."""
    futures: deque[Future[Any]] = deque()
    for item in items:
        futures.append(pool.submit(task, item))
        if len(futures) >= ahead:
            yield futures.popleft().result()
    while futures:
        yield futures.popleft().result()


def _add(work: Work, post_id: int, state: tuple[int, int], prepared: Prepared) -> None:
    work.waiting.append((post_id, state, prepared))
    if len(work.waiting) == work.batch:
        _run_batch(work)


def _run_batch(work: Work) -> None:
    """Run the waiting posts as one batch and keep their scores."""
    if not work.waiting or work.network is None:
        return
    settings = work.model.image
    squares = [prepared.squares[geometry(settings)] for _, _, prepared in work.waiting]
    if squares[0].is_cuda:
        for square in squares:
            square.record_stream(torch.cuda.current_stream())
    if work.network.batch:
        squares += squares[-1:] * (work.network.batch - len(squares))
    raw = work.network.outputs(models.normalise(torch.stack(squares), settings))
    _check_form(work, raw, len(squares))
    raw = raw[: len(work.waiting)]
    scores = (torch.sigmoid(raw) if work.model.activation == "sigmoid" else raw).numpy()
    _check(work, raw.numpy(), scores)
    work.finished.append(
        Batch(
            np.array([post_id for post_id, _, _ in work.waiting]),
            np.array([(*state, prepared.content) for _, state, prepared in work.waiting]),
            scores.clip(0, 1),
        )
    )
    work.waiting.clear()


def _check_form(work: Work, raw: torch.Tensor, images: int) -> None:
    """Stop where an answer is not one float32 score for each image and tag."""
    if raw.dtype != torch.float32 or raw.shape != (images, len(work.tags)):
        kind = str(raw.dtype).removeprefix("torch.")
        raise UserError(
            f"{work.model.name}: for {images} images the network gives {kind} {tuple(raw.shape)},"
            f" not float32 {images, len(work.tags)}, a score for each image and each tag of"
            f" {work.model.tags}: change 'file' or 'tags' in {work.model.path}"
        )


def _check(work: Work, raw: np.ndarray, scores: np.ndarray) -> None:
    """Stop at scores that cannot be right, before hours are spent on them."""
    name, path = work.model.name, work.model.path
    if not np.isfinite(scores).all():
        bad = work.waiting[int(np.argmin(np.isfinite(scores).all(axis=1)))][0]
        raise UserError(
            f"{name}: scores that are no numbers for post {bad}: check 'image.scale',"
            f" 'image.mean' and 'image.std' in {path}, and the file {work.model.file}"
        )
    if scores.min() < -TOLERANCE or scores.max() > 1 + TOLERANCE:
        raise UserError(
            f"{name}: scores from {scores.min():.3g} to {scores.max():.3g} are not within 0 to 1:"
            f' the network gives logits; set activation = "sigmoid" in {path}'
        )
    if (
        not work.checked
        and work.model.activation == "sigmoid"
        and raw.min() >= 0
        and raw.max() <= 1
    ):
        raise UserError(
            f"{name}: the network's outputs are within 0 to 1 already, so a sigmoid would leave"
            f' all scores at 0.5 to 0.73: set activation = "none" in {path}'
        )
    work.checked = True


def _waiting(work: Iterable[Work]) -> int:
    return sum(batch.scores.nbytes for each in work for batch in each.finished)


def _flush(work: Iterable[Work]) -> None:
    """Write the finished batches of every model to a part of its own."""
    for each in work:
        if each.finished:
            whole = Batch(*(np.concatenate(parts) for parts in zip(*each.finished, strict=True)))
            save(_new_part(_parts(each)), each, whole)
            each.finished.clear()


def _new_part(folder: Path) -> Path:
    """A name for one more part in a folder of parts, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{time.time_ns():020d}-{distributed.rank()}.pt"


def save(path: Path, work: Work, batch: Batch) -> None:
    """Write a predictions file."""
    files.save_tensors(
        path,
        {
            "predictions": torch.from_numpy(batch.scores),
            "post_ids": torch.from_numpy(batch.post_ids),
            "images": torch.from_numpy(batch.images),
            "tags": work.tags,
            "model": work.model.name,
            "fingerprint": work.fingerprint,
        },
    )


def merge(work: Work, post_ids: np.ndarray) -> None:
    """Bring all there is of a model's fingerprint together in its predictions file, ids ascending.

    `post_ids` are this run's; rows of other posts are kept. A file of another fingerprint under
    that name is put aside first.
    """
    path = path_of(work.data, work.model)
    sources = _sources(work)
    if path not in sources and path.exists():
        _put_aside(work)
    if len(sources) == 1 and load(sources[0])["tags"] == work.tags:
        if sources[0] != path:
            sources[0].rename(path)
    else:
        save(path, work, _gathered(work, sources, post_ids))
    # Only what was read: on a shared disk another machine's part may show up late.
    for source in sources:
        if source != path:
            source.unlink(missing_ok=True)
    for folder in (_parts(work), _parts(work).parent):
        if folder.exists():
            files.sweep(folder)
            if not any(folder.iterdir()):
                folder.rmdir()


def _gathered(work: Work, sources: Sequence[Path], post_ids: np.ndarray) -> Batch:
    """The rows that count of all sources, as one batch."""
    place, _ = _chosen_rows(work, sources, post_ids)
    ids = np.array(sorted(place), dtype=np.int64)
    where = np.array([place[post_id] for post_id in ids.tolist()]).reshape(-1, 2)
    scores = np.empty((len(ids), len(work.tags)), np.float32)
    images = np.empty((len(ids), 3), np.int64)
    for number, source in enumerate(sources):
        held = load(source)  # One at a time: its pages count as this process's memory.
        rows = np.flatnonzero(where[:, 0] == number)
        for start in range(0, len(rows), ROWS):  # A copy of all at once would double the memory.
            some = rows[start : start + ROWS]
            scores[some] = held["predictions"].numpy()[where[some, 1]]
            images[some] = held["images"].numpy()[where[some, 1]]
        del held
    return Batch(ids, images, scores)


def _put_aside(work: Work) -> None:
    """Keep a predictions file of other weights or settings under a name of its own."""
    path = path_of(work.data, work.model)
    fingerprint = load(path)["fingerprint"]
    aside = aside_of(work.data, work.model, fingerprint)
    if aside.exists():
        aside = _new_part(parts_of(work.data, work.model, fingerprint))
    path.rename(aside)
    say(f"{work.model.label}: predictions of other weights or settings are kept as {aside.name}")


def common_scores(
    path: Path, post_ids: np.ndarray, tags: Sequence[str], thresholds: np.ndarray
) -> Common:
    """A model's scores for these posts and tags, from its predictions; `thresholds` (outputs,).

    Where several outputs carry one tag, the highest score counts, and the tag is predicted where
    any of them reaches its own threshold.
    """
    held = load(path)
    row_of = {post_id: row for row, post_id in enumerate(held["post_ids"].tolist())}
    if lacking := sum(post_id not in row_of for post_id in post_ids.tolist()):
        raise UserError(f"{path} lacks {lacking} posts: run the same command again")
    rows = np.array([row_of[post_id] for post_id in post_ids.tolist()])
    columns_of: dict[str, list[int]] = {}
    for column, tag in enumerate(held["tags"]):
        columns_of.setdefault(tag, []).append(column)
    first = np.array([columns_of[tag][0] for tag in tags])
    cuts = thresholds.astype(np.float32)
    apart = [place for place, tag in enumerate(tags) if len({*cuts[columns_of[tag]].tolist()}) > 1]
    predicted = np.empty((len(rows), len(apart)), np.bool_)
    predictions = held["predictions"].numpy()
    scores = np.empty((len(rows), len(tags)), np.float32)
    for start in range(0, len(rows), ROWS):
        block = predictions[rows[start : start + ROWS]]
        if not (block.min() >= 0 and block.max() <= 1):  # Nor is a NaN.
            raise UserError(f"{path} holds scores outside 0 to 1: delete it, or give --fresh")
        out = scores[start : start + ROWS]
        np.take(block, first, axis=1, out=out)
        for place, tag in enumerate(tags):
            for column in columns_of[tag][1:]:
                np.maximum(out[:, place], block[:, column], out=out[:, place])
        for number, place in enumerate(apart):
            outputs = columns_of[tags[place]]
            reached = block[:, outputs] >= cuts[outputs]
            predicted[start : start + ROWS, number] = reached.any(axis=1)
    decided = Decided(np.array(apart), predicted) if apart else None
    return Common(scores, thresholds[first], decided)
