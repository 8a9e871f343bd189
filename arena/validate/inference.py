"""Running taggers over the posts that they lack, each image decoded once for all of them.

A batch is `batch` consecutive posts of those that a tagger lacks, in ascending order, and only
whole batches are kept: a resumed run therefore forms the very batches an undisturbed one would.
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from arena.cli import UserError, progress, say, warn
from arena.tagger import Network
from arena.validate import distributed
from arena.validate.predictions import Batch, Cache, image_state
from arena.validate.preprocess import Preprocessed, geometry, normalise, preprocess

import numpy as np
import torch

CPU_BATCH = 4  # On a CPU larger batches gain nothing, and a kill would lose more.
GPU_BATCH = 128
FLUSH_SECONDS = 15  # With the batch under way, what a kill loses must stay under 30 seconds.
FLUSH_BYTES = 256_000_000
TOLERANCE = 1e-4  # Half precision may leave 0..1 by a rounding.


@dataclass(frozen=True)
class Plan:
    """What one tagger still lacks: posts without a score, ids ascending."""

    cache: Cache
    missing: np.ndarray


def fill(
    caches: Sequence[Cache],
    post_ids: np.ndarray,
    *,
    batch_size: int | None,
    workers: int,
    device: torch.device,
) -> None:
    """Work out every score that the caches lack for the posts, and merge them in.

    Where an image was not the one that was scored (it changed meanwhile, or another process sees
    other copies), process 0 scores it again. Raises UserError when that does not help either.
    """
    size = batch_size or (CPU_BATCH if device.type == "cpu" else GPU_BATCH)
    data = caches[0].data
    plans = plan(caches, post_ids)
    for alone in (False, True):
        complete = not any(len(each.missing) for each in plans)
        with distributed.explain_gpu_errors():
            runners = open_networks(plans, size, device)
        tell(plans, runners, len(post_ids))
        with distributed.explain_gpu_errors():
            run(list(runners.values()), workers, device, alone=alone)
        distributed.barrier()
        runners.clear()  # Networks need the memory no longer, and merging does.
        if distributed.rank() == 0:
            for cache in caches:
                cache.merge(post_ids)
        if complete:
            return
        plans = plan(caches, post_ids)
        changed = sorted(set().union(*(each.missing.tolist() for each in plans)))
        if not changed:
            return
        first = data.resized_image(changed[0])
        if not alone:
            warn(
                f"{len(changed)} images are not those that were scored (such as {first}): they"
                " changed meanwhile, or another process sees other copies; process 0 scores them"
                " again"
            )
    raise UserError(
        f"{first} and {len(changed) - 1} more images change while they are scored: wait for what"
        " writes to resized/, then run the same command again"
    )


def plan(caches: Sequence[Cache], post_ids: np.ndarray) -> list[Plan]:
    """What each cache lacks, as process 0 sees it: files may differ on another machine."""
    lead = distributed.rank() == 0
    return [
        Plan(cache, distributed.share(cache.missing(post_ids) if lead else post_ids))
        for cache in caches
    ]


def open_networks(
    plans: Sequence[Plan], batch_size: int, device: torch.device
) -> dict[str, "Runner"]:
    """A runner for every tagger with posts to run, by its name: before hours are spent on one."""
    runners = {}
    for each in plans:
        if not len(each.missing):
            continue
        tagger = each.cache.tagger
        network = tagger.open(device)
        if network.batch and network.batch < batch_size:
            warn(
                f"{tagger.name}: its network takes {network.batch} image(s) at a time only, which"
                " is slow: an export with a dynamic batch would not be"
            )
        runners[tagger.name] = Runner(each, network, network.batch or batch_size)
    return runners


def tell(plans: Sequence[Plan], runners: dict[str, "Runner"], posts: int) -> None:
    """Say how many posts each tagger has to run, and where."""
    if distributed.rank():
        return
    for each in plans:
        tagger = each.cache.tagger
        where = f", {runners[tagger.name].network.runs_on}" if tagger.name in runners else ""
        cached = posts - len(each.missing)
        say(f"{tagger.label}: {len(each.missing)} posts to run, {cached} cached{where}")


def run(
    runners: Sequence["Runner"], workers: int, device: torch.device, *, alone: bool = False
) -> None:
    """Run every tagger over the posts it lacks, decoding each image once for all of them.

    Processes share the batches, or process 0 runs all of them `alone`. Finished batches are on
    disk when this returns or is interrupted.
    """
    mine = {runner: set(runner.share(alone).tolist()) for runner in runners}
    todo = sorted(set().union(*mine.values()))
    if not todo:
        return
    data = runners[0].cache.data
    ahead = max(4 * workers, 2 * max(runner.batch for runner in runners))

    def task(post_id: int) -> tuple[tuple[int, int], Preprocessed]:
        wanted = {geometry(runner.tagger.image) for runner in runners if post_id in mine[runner]}
        path = data.resized_image(post_id)
        return image_state(path), preprocess(path, wanted, device)

    # One thread each: together the workers fill the machine.
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    try:
        with progress(total=len(todo), unit="post", desc="inference") as bar:
            flushed = time.monotonic()
            images = _in_order(pool, task, todo, ahead)
            for post_id, (state, preprocessed) in zip(todo, images, strict=True):
                for runner in runners:
                    if post_id in mine[runner]:
                        runner.add(post_id, state, preprocessed)
                bar.update()
                finished = sum(runner.finished_bytes for runner in runners)
                if time.monotonic() - flushed > FLUSH_SECONDS or finished > FLUSH_BYTES:
                    for runner in runners:
                        runner.flush()
                    flushed = time.monotonic()
            for runner in runners:
                runner.run_batch()
    finally:
        pool.shutdown(cancel_futures=True)
        for runner in runners:
            runner.flush()


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


class Runner:
    """One tagger's network at work: images that wait for a batch, and scores not yet written."""

    def __init__(self, plan: Plan, network: Network, batch: int) -> None:
        self.plan, self.cache, self.tagger = plan, plan.cache, plan.cache.tagger
        self.network = network
        self.batch = batch
        self._waiting: list[tuple[int, tuple[int, int], Preprocessed]] = []
        self._finished: list[Batch] = []
        self._checked = False

    @property
    def finished_bytes(self) -> int:
        """How much the scores take that are not yet written."""
        return sum(batch.scores.nbytes for batch in self._finished)

    def share(self, alone: bool) -> np.ndarray:
        """The posts of this process's batches: every world-size-th one, or process 0 has all."""
        missing = self.plan.missing
        batch_of = np.arange(len(missing)) // self.batch
        processes = 1 if alone else distributed.world_size()
        mine: np.ndarray = missing[batch_of % processes == distributed.rank()]
        return mine

    def add(self, post_id: int, state: tuple[int, int], preprocessed: Preprocessed) -> None:
        """Take one more image, and run the batch that it fills."""
        self._waiting.append((post_id, state, preprocessed))
        if len(self._waiting) == self.batch:
            self.run_batch()

    def run_batch(self) -> None:
        """Run the waiting images, if any, as one batch and keep their scores."""
        if not self._waiting:
            return
        settings = self.tagger.image
        squares = [made.squares[geometry(settings)] for _, _, made in self._waiting]
        if squares[0].is_cuda:
            for square in squares:
                square.record_stream(torch.cuda.current_stream())
        if self.network.batch:
            squares += squares[-1:] * (self.network.batch - len(squares))
        raw = self.network.outputs(normalise(torch.stack(squares), settings))
        self._check_form(raw, len(squares))
        raw = raw[: len(self._waiting)]
        scores = (torch.sigmoid(raw) if self.tagger.activation == "sigmoid" else raw).numpy()
        self._check_values(raw.numpy(), scores)
        self._finished.append(
            Batch(
                np.array([post_id for post_id, _, _ in self._waiting]),
                np.array([(*state, made.content) for _, state, made in self._waiting]),
                scores.clip(0, 1),
            )
        )
        self._waiting.clear()

    def flush(self) -> None:
        """Write the finished batches to a part of their own."""
        if self._finished:
            columns = zip(*self._finished, strict=True)
            self.cache.add(Batch(*(np.concatenate(parts) for parts in columns)))
            self._finished.clear()

    def _check_form(self, raw: torch.Tensor, images: int) -> None:
        """Stop where an answer is not one float32 score for each image and tag."""
        tagger = self.tagger
        if raw.dtype != torch.float32 or raw.shape != (images, len(tagger.tags)):
            kind = str(raw.dtype).removeprefix("torch.")
            raise UserError(
                f"{tagger.name}: for {images} images the network gives {kind} {tuple(raw.shape)},"
                f" not float32 {images, len(tagger.tags)}, a score for each image and each of its"
                f" tags: {tagger.remedy('file', 'tags')}"
            )

    def _check_values(self, raw: np.ndarray, scores: np.ndarray) -> None:
        """Stop at scores that cannot be right, before hours are spent on them."""
        tagger = self.tagger
        if not np.isfinite(scores).all():
            bad = self._waiting[int(np.argmin(np.isfinite(scores).all(axis=1)))][0]
            keys = "image.scale", "image.mean", "image.std", "file"
            raise UserError(
                f"{tagger.name}: scores that are no numbers for post {bad}: {tagger.remedy(*keys)}"
            )
        if scores.min() < -TOLERANCE or scores.max() > 1 + TOLERANCE:
            raise UserError(
                f"{tagger.name}: scores from {scores.min():.3g} to {scores.max():.3g} are not"
                " within 0 to 1, as the network gives logits: set activation ="
                f' "sigmoid": {tagger.remedy("activation")}'
            )
        first = not self._checked and tagger.activation == "sigmoid"
        if first and 0 <= raw.min() <= raw.max() <= 1:
            raise UserError(
                f"{tagger.name}: the network's outputs are within 0 to 1 already, so a sigmoid"
                " would leave all scores at 0.5 to 0.73: set activation ="
                f' "none": {tagger.remedy("activation")}'
            )
        self._checked = True
