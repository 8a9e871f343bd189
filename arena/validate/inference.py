"""Running taggers over the posts that they lack, each image decoded once for all of them.

A batch is `batch` consecutive posts of those that a tagger lacks, in ascending order, and only
whole batches are kept: a resumed run therefore forms the very batches an undisturbed one would. The
last one is filled up, as scores differ a little between batches of different sizes.

On a GPU nothing waits for anything else: threads decode and resize images, the networks run on a
stream of their own, the scores of one batch are checked while the next is under way, and one more
thread writes them.
"""

import functools
import operator
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from arena.cli import UserError, progress, say, warn
from arena.post_ids import PostIds
from arena.tagger import Network
from arena.validate import distributed, exchange, speed
from arena.validate.given import Given
from arena.validate.ids import each_once
from arena.validate.predictions import Batch, Cache, image_state
from arena.validate.preprocess import (
    Preprocessed,
    geometry,
    normalise,
    padding,
    preprocess,
)
from arena.validate.speed import GpuMemory, Run, Timing

import numpy as np
import torch

CPU_BATCH = 4  # On a CPU larger batches gain nothing, and a kill would lose more.
GPU_BATCH = 32  # A ViT-B fills a GPU with less, and needs 14 to 20 GB with 128.
FLUSH_SECONDS = 15  # With the batch under way, what a kill loses must stay under 30 seconds.
FLUSH_BYTES = 256_000_000
TOLERANCE = 1e-4  # Half precision may leave 0..1 by a rounding.


@dataclass(frozen=True)
class Plan:
    """What one tagger still lacks: posts without a score, ids ascending."""

    cache: Cache
    missing: np.ndarray


def fill(
    models: Sequence[Cache | Given],
    post_ids: np.ndarray,
    batch_size: int | None,
    workers: int,
    device: torch.device,
    keepers: set[int],
) -> Run:
    """Work out every score that the caches among the models lack for the posts, and merge them in.

    `keepers` are as exchange.folder gives them. Where an image was not the one that was scored (it
    changed meanwhile, or another process sees other copies), process 0 scores it again. Raises
    UserError when that does not help either.
    """
    caches = [model for model in models if isinstance(model, Cache)]
    size = batch_size or default_batch(device)
    exchange.check(caches, post_ids, keepers)
    exchange.collect(caches, post_ids, keepers)
    plans = plan(caches, post_ids)
    posts, seconds = 0, 0.0
    for alone in (False, True):
        complete = not any(len(each.missing) for each in plans)
        tell(plans, device, len(post_ids))
        with distributed.explain_gpu_errors(), distributed.stream(device):
            began = time.monotonic()
            runners = open_networks(plans, size, device)
            run(runners, workers, device, alone=alone)
        distributed.barrier()
        exchange.collect(caches, post_ids, keepers)
        if not complete:
            posts += len(each_once(np.concatenate([each.missing for each in plans])))
            seconds += time.monotonic() - began
        done = Run(
            posts=posts,
            seconds=seconds,
            images_per_second=speed.rate(posts, seconds),
            host_memory=speed.host_memory(),
        )
        runners.clear()  # Networks need the memory no longer, and merging does.
        if distributed.rank() == 0:
            for cache in caches:
                cache.merge(post_ids)
        if complete:
            return done
        plans = plan(caches, post_ids)
        changed = each_once(np.concatenate([each.missing for each in plans]))
        if not len(changed):
            return done
        first = caches[0].data.resized_image(int(changed[0]))
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


def default_batch(device: torch.device) -> int:
    """How many images a batch has on a device."""
    return CPU_BATCH if device.type == "cpu" else GPU_BATCH


def plan(caches: Sequence[Cache], post_ids: np.ndarray) -> list[Plan]:
    """What each cache lacks, as process 0 sees it: files may differ on another machine."""
    return [
        Plan(cache, distributed.from_lead(partial(cache.missing, post_ids))) for cache in caches
    ]


def open_networks(plans: Sequence[Plan], batch_size: int, device: torch.device) -> list["Runner"]:
    """A runner for every tagger with posts to run, all before hours are spent on one."""
    runners = []
    memory = GpuMemory(device)
    models = sum(bool(len(each.missing)) for each in plans)
    for each in plans:
        if not len(each.missing):
            continue
        tagger = each.cache.tagger
        network = tagger.open(device, each.cache.precision)
        if network.batch and network.batch < batch_size:
            warn(
                f"{tagger.name}: its network takes {network.batch} image(s) at a time only, which"
                " is slow: an export with a dynamic batch would not be"
            )
        size = network.batch or batch_size
        runners.append(Runner(each, network, size, device, memory, models))
    return runners


def tell(plans: Sequence[Plan], device: torch.device, posts: int) -> None:
    """Say where the networks run and how exactly, and how many posts each has to run."""
    if distributed.rank() or not plans:
        return
    exactness = ", ".join(f"{each.cache.tagger.label} in {each.cache.precision}" for each in plans)
    say(f"Device: {distributed.device_name(device)}. Precision: {exactness}")
    for each in plans:
        cached = posts - len(each.missing)
        say(f"{each.cache.tagger.label}: {len(each.missing)} posts to run, {cached} cached")


def run(
    runners: Sequence["Runner"], workers: int, device: torch.device, *, alone: bool = False
) -> None:
    """Run every tagger over the posts it lacks, decoding each image once for all of them.

    Processes share the batches, or process 0 runs all of them `alone`. Finished batches are on
    disk when this returns or is interrupted.
    """
    mine = {runner: PostIds(map(int, runner.share(alone))) for runner in runners}
    todo = functools.reduce(operator.or_, mine.values(), PostIds())
    if not todo:
        return
    data = runners[0].cache.data
    ahead = max(4 * workers, 2 * max(runner.batch for runner in runners))

    def task(post_id: int) -> tuple[tuple[int, int], Preprocessed]:
        wanted = {geometry(runner.tagger.image) for runner in runners if post_id in mine[runner]}
        path = data.resized_image(post_id)
        return image_state(path), preprocess(path, wanted, device)

    pool = ThreadPoolExecutor(workers, initializer=distributed.start_thread, initargs=(device,))
    writer = ThreadPoolExecutor(1)
    bars = {
        runner: progress(
            desc=runner.tagger.label, unit="post", total=len(mine[runner]), position=place
        )
        for place, runner in enumerate(runners)
    }
    try:
        with closing_all(bars.values()):
            flushed = time.monotonic()
            images = _in_order(pool, task, todo, ahead)
            for post_id, (state, preprocessed) in zip(todo, images, strict=True):
                for runner in runners:
                    if post_id in mine[runner]:
                        runner.add(post_id, state, preprocessed)
                        bars[runner].update()
                finished = sum(runner.finished_bytes for runner in runners)
                if time.monotonic() - flushed > FLUSH_SECONDS or finished > FLUSH_BYTES:
                    for runner in runners:
                        runner.flush(writer)
                    flushed = time.monotonic()
            for runner in runners:
                runner.run_batch()
                runner.collect()
    finally:
        pool.shutdown(cancel_futures=True)
        with writer:
            for runner in runners:
                runner.flush(writer)
            for runner in runners:
                runner.written()


@contextmanager
def closing_all(bars: Iterable[Any]) -> Iterator[None]:
    """Close bars at the end of the block, the uppermost first, as the others move up."""
    try:
        yield
    finally:
        for bar in bars:
            bar.close()


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


class _Waiting(NamedTuple):
    """An image that waits for its batch: its post, its file's state, its squares."""

    post_id: int
    state: tuple[int, int]
    preprocessed: Preprocessed


class _UnderWay(NamedTuple):
    """A batch on a GPU: its images, its outputs in the host's memory once `ready` has passed."""

    images: list[_Waiting]
    outputs: torch.Tensor
    timing: Timing
    ready: torch.cuda.Event


class Runner:
    """One tagger's network at work: images that wait for a batch, and scores not yet written."""

    def __init__(
        self,
        plan: Plan,
        network: Network,
        batch: int,
        device: torch.device,
        memory: GpuMemory,
        models: int,
    ) -> None:
        self._memory, self._models = memory, models
        self.plan, self.cache, self.tagger = plan, plan.cache, plan.cache.tagger
        self.network = network
        self.batch = batch
        self._device = device
        self._waiting: list[_Waiting] = []
        self._under_way: _UnderWay | None = None
        self._finished: list[Batch] = []
        self._writing: tuple[Future[None], list[Batch]] | None = None
        self._checked = False

    @property
    def finished_bytes(self) -> int:
        """How much the scores take that nobody has begun to write."""
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
        self._waiting.append(_Waiting(post_id, state, preprocessed))
        if len(self._waiting) >= self.batch:
            self.run_batch()

    def run_batch(self) -> None:
        """Run the waiting images, if any, and keep their scores, or those of the batch before.

        Where they are too many for a GPU's memory, in batches half as large from now on.
        """
        asked = self.batch
        while self._waiting:
            images = self._waiting[: self.batch]
            try:
                where = self._padding(images) if self.network.wants_padding else None
                given = self._input(images)
                begin = speed.mark(self._device)
                outputs = self.network.outputs(given, where)
                timing = Timing(begin, speed.mark(self._device))
            except torch.OutOfMemoryError:
                if self.batch == 1 or self.network.batch:
                    raise
                self.batch = (self.batch + 1) // 2
                torch.cuda.empty_cache()
                continue
            del self._waiting[: self.batch]
            self._check_form(outputs)
            self._take(images, outputs[: len(images)], timing)
        if self.batch < asked:
            warn(
                f"{self.tagger.label}: batches of {asked} images do not fit into the GPU's memory:"
                f" it goes on with {self.batch} (--batch-size {self.batch} does so from the start)"
            )

    def collect(self) -> None:
        """Wait for the batch under way, if there is one, and keep its scores."""
        if self._under_way:
            images, outputs, timing, ready = self._under_way
            self._under_way = None
            ready.synchronize()
            self._keep(images, outputs, timing)

    def flush(self, writer: Executor) -> None:
        """Have the finished batches written to a part of their own."""
        self.written()
        if self._finished:
            batch = Batch.of(self._finished)
            self._writing = writer.submit(self.cache.add, batch), self._finished
            self._finished = []

    def written(self) -> None:
        """Wait for what is being written. Raises what that raised, and keeps its batches then."""
        if self._writing:
            writing, batches = self._writing
            self._writing = None
            try:
                writing.result()
            except BaseException:
                self._finished = batches + self._finished
                raise

    def _input(self, images: Sequence[_Waiting]) -> torch.Tensor:
        """The network's input for a whole batch: the last image fills up one that is not."""
        settings = self.tagger.image
        if self._device.type == "cuda":
            stream = torch.cuda.current_stream(self._device)
            for _, _, made in images:
                assert made.ready is not None
                stream.wait_event(made.ready)
                # Else a worker's next image could be written over this one.
                made.squares[geometry(settings)].record_stream(stream)
        squares = [made.squares[geometry(settings)] for _, _, made in images]
        squares += squares[-1:] * (self.batch - len(squares))
        return normalise(torch.stack(squares), settings)

    def _padding(self, images: Sequence[_Waiting]) -> torch.Tensor:
        """Where the squares of a whole batch hold no image: bool (n, size, size)."""
        wanted = geometry(self.tagger.image)
        shape = (self.batch, wanted.size, wanted.size)
        found = torch.ones(shape, dtype=torch.bool, device=self._device)
        for row in range(self.batch):
            made = images[min(row, len(images) - 1)].preprocessed
            left, top, right, bottom = padding(made.size, wanted)
            found[row, top:bottom, left:right] = False
        return found

    def _take(self, images: list[_Waiting], outputs: torch.Tensor, timing: Timing) -> None:
        """Keep a batch's scores; on a GPU those of the batch before, while this one runs."""
        if self._device.type == "cpu":
            self._keep(images, outputs, timing)
            return
        host = torch.empty(outputs.shape, dtype=outputs.dtype, pin_memory=True)
        host.copy_(outputs, non_blocking=True)
        ready = torch.cuda.Event(blocking=True)  # Waiting for it leaves the core to others.
        ready.record()
        self.collect()
        self._under_way = _UnderWay(images, host, timing, ready)

    def _keep(self, images: Sequence[_Waiting], raw: torch.Tensor, timing: Timing) -> None:
        """Check a batch's outputs and keep them as scores."""
        scores = (torch.sigmoid(raw) if self.tagger.activation == "sigmoid" else raw).numpy()
        self._check_values(images, raw.numpy(), scores)
        self._finished.append(
            Batch(
                np.array([post_id for post_id, _, _ in images]),
                np.array([(*state, made.content) for _, state, made in images]),
                scores.clip(0, 1),
                [
                    {
                        "posts": len(images),
                        "seconds": timing.seconds(),
                        "device": distributed.device_name(self._device),
                        "batch": self.batch,
                        "gpu_memory": self._memory.taken(),
                        "host_memory": speed.host_memory(),
                        "models": self._models,
                    }
                ],
            )
        )

    def _check_form(self, raw: torch.Tensor) -> None:
        """Stop where an answer is not one float32 score for each image and tag."""
        tagger, images = self.tagger, self.batch
        if raw.dtype != torch.float32 or raw.shape != (images, len(tagger.tags)):
            kind = str(raw.dtype).removeprefix("torch.")
            raise UserError(
                f"{tagger.name}: for {images} images the network gives {kind} {tuple(raw.shape)},"
                f" not float32 {images, len(tagger.tags)}, a score for each image and each of its"
                f" tags: {tagger.remedy('file', 'tags')}"
            )

    def _check_values(
        self, images: Sequence[_Waiting], raw: np.ndarray, scores: np.ndarray
    ) -> None:
        """Stop at scores that cannot be right, before hours are spent on them."""
        tagger = self.tagger
        if not np.isfinite(scores).all():
            bad = images[int(np.argmin(np.isfinite(scores).all(axis=1)))].post_id
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
