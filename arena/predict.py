"""Scores of every model for every post, worked out once and kept in `<model>_predictions.pt`.

That file is the cache. While a run goes on, finished batches are kept as small files of the same
form in `<model>_predictions.parts/`; at the end they are merged into the one file. Every file is
whole under its name, so a killed run loses only what it had not yet written.

A batch is `batch_size` consecutive posts of those that a model lacks, in ascending order, and only
whole batches are kept: a resumed run therefore forms the very batches an undisturbed one would.
"""

import pickle
import shutil
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import models
from arena import cluster, files
from arena.cli import UserError, progress, warn
from arena.metrics import Decided
from arena.prepare import Prepared, content_hash, geometry, prepare
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
    folder: Path
    fingerprint: str
    missing: np.ndarray
    network: Network | None = None
    batch: int = 1
    waiting: list[tuple[int, tuple[int, int], Prepared]] = field(default_factory=list)
    finished: list[Batch] = field(default_factory=list)
    checked: bool = False


def path_of(data: Path, model: ModelCard) -> Path:
    """Where a model's predictions are kept."""
    return data / f"{model.name}_predictions.pt"


def parts_of(data: Path, model: ModelCard) -> Path:
    """The folder of what an unfinished run has worked out for a model."""
    return data / f"{model.name}_predictions.parts"


def load(path: Path) -> dict[str, Any]:
    """A predictions file, its scores memory-mapped. UserError when it is not one of ours.

    `predictions` float32 (posts, tags), `post_ids` int64 (posts,), `tags` list of str, `model`,
    `fingerprint`, and `images` int64 (posts, 3): each resized file's bytes, mtime_ns and hash.
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
            and isinstance(held["fingerprint"], str)
        )
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, TypeError, KeyError,
            AttributeError, IndexError):  # fmt: skip
        fine = False
    if not fine:
        raise UserError(
            f"{path} is not a predictions file that validate.py wrote whole: delete it, or give"
            " --fresh"
        )
    return dict(held)


def forget(model: ModelCard, data: Path) -> None:
    """Remove a model's predictions."""
    path_of(data, model).unlink(missing_ok=True)
    shutil.rmtree(parts_of(data, model), ignore_errors=True)


def plan(model: ModelCard, tags: list[str], post_ids: np.ndarray, data: Path) -> Work:
    """Find which of the posts `model` still has to see. `tags` are its canonical tags.

    A cached score counts if the model's fingerprint is the same and the post's resized file has
    its size and time, or failing that its content.
    """
    path, folder = path_of(data, model), parts_of(data, model)
    fingerprint = models.fingerprint(model, data)
    valid: set[int] = set()
    wanted = set(post_ids.tolist())
    for held in _held([path, *sorted(folder.glob("*.pt"))], fingerprint):
        for post_id, (size, mtime, content) in zip(
            held["post_ids"].tolist(), held["images"].tolist(), strict=True
        ):
            if post_id in wanted:
                image = resized(data, post_id)
                same = _state(image) == (size, mtime) or _hash(image) == content
                (valid.add if same else valid.discard)(post_id)
    missing = np.array([post for post in post_ids.tolist() if post not in valid], dtype=np.int64)
    return Work(model, tags, folder, fingerprint, missing)


def resized(data: Path, post_id: int) -> Path:
    """A post's resized image."""
    return data / "resized" / f"{post_id}.webp"


def _state(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns


def _hash(path: Path) -> int:
    return content_hash(path.read_bytes())


def _held(paths: Iterable[Path], fingerprint: str) -> Iterator[dict[str, Any]]:
    """The predictions of a model's cache and parts, oldest first; those of other weights not."""
    for file in paths:
        if file.exists() and (held := load(file))["fingerprint"] == fingerprint:
            yield held


def open_networks(work: Sequence[Work], data: Path, batch_size: int, device: torch.device) -> None:
    """Load the network of every model that has posts to run, before hours are spent on one."""
    for each in work:
        if len(each.missing):
            each.network = models.open_network(each.model, data, len(each.tags), device)
            each.batch = each.network.batch or batch_size
            if each.network.batch and each.network.batch < batch_size:
                warn(
                    f"{each.model.name}: {each.model.file} takes {each.network.batch} image(s) at"
                    " a time only, which is slow: an export with a dynamic batch would not be"
                )


def run(work: Sequence[Work], data: Path, workers: int, device: torch.device) -> None:
    """Run every model over the posts it lacks, decoding each image once for all of them.

    Finished batches are on disk when this returns or is interrupted.
    """
    mine = {each.model.name: set(_share(each).tolist()) for each in work}
    todo = sorted(set().union(*mine.values()))
    if not todo:
        return
    ahead = max(4 * workers, 2 * max(each.batch for each in work))

    def task(post_id: int) -> tuple[tuple[int, int], Prepared]:
        wanted = {geometry(each.model.image) for each in work if post_id in mine[each.model.name]}
        path = resized(data, post_id)
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


def _share(work: Work) -> np.ndarray:
    """The posts of this process's batches: every world-size-th one."""
    batch_of = np.arange(len(work.missing)) // work.batch
    mine: np.ndarray = work.missing[batch_of % cluster.world_size() == cluster.rank()]
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
            each.folder.mkdir(exist_ok=True)
            name = f"{time.time_ns():020d}-{cluster.rank()}.pt"
            whole = Batch(*(np.concatenate(parts) for parts in zip(*each.finished, strict=True)))
            save(each.folder / name, each, whole)
            each.finished.clear()


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


def merge(work: Work, data: Path) -> None:
    """Bring a model's cache and parts together in its predictions file, posts ascending.

    Of two rows for a post the newer stands. Rows of posts that this run did not ask for are kept.
    """
    path = path_of(data, work.model)
    parts = sorted(work.folder.glob("*.pt"))
    if not parts and path.exists():
        held = load(path)
        if held["tags"] == work.tags and held["fingerprint"] == work.fingerprint:
            return
        del held
    place: dict[int, tuple[int, int]] = {}
    sources = list(_held([path, *parts], work.fingerprint))
    for number, held in enumerate(sources):
        for row, post_id in enumerate(held["post_ids"].tolist()):
            place[post_id] = (number, row)
    post_ids = np.array(sorted(place), dtype=np.int64)
    where = np.array([place[post_id] for post_id in post_ids.tolist()]).reshape(-1, 2)
    scores = np.empty((len(post_ids), len(work.tags)), np.float32)
    images = np.empty((len(post_ids), 3), np.int64)
    sources.reverse()
    for number in range(len(sources)):
        held = sources.pop()  # So that it is unmapped before the next is read.
        rows = np.flatnonzero(where[:, 0] == number)
        for start in range(0, len(rows), ROWS):  # A copy of all at once would double the memory.
            some = rows[start : start + ROWS]
            scores[some] = held["predictions"].numpy()[where[some, 1]]
            images[some] = held["images"].numpy()[where[some, 1]]
    del held
    save(path, work, Batch(post_ids, images, scores))
    # Only what was read: on a shared disk another machine's part may show up late.
    for part in parts:
        part.unlink()
    files.sweep(work.folder)
    if work.folder.exists() and not any(work.folder.iterdir()):
        work.folder.rmdir()


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
