"""Calls in processes of their own, so that a call can die without taking the run with it.

Each process has a pipe to itself. Wherever it is killed, even in the middle of an answer, its own
pipe ends and nothing else does. (In a pool whose processes share one queue, a process that dies
while it has the queue's lock stops all the others for good.)

Every worker process imports this module, so it must stay without torch.
"""

import itertools
import multiprocessing
import signal
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from arena.cli import UserError

Task = TypeVar("Task")
Answer = TypeVar("Answer")

# A fresh interpreter each: a forked one would hold the other workers' pipes and the lock file.
SPAWN = multiprocessing.get_context("spawn")
MAX_FAILED_STARTS = 3  # Processes in a row that end before they are ready.

# The signal that ends a call that takes too long. Its timer counts processor time, so waiting for a
# slow disk, or being stopped, costs none; RLIMIT_CPU would add up all the calls of a process.
TIME_IS_UP = signal.SIGPROF


@dataclass(frozen=True, slots=True)
class Died:
    """In place of an answer: the process was ended by this signal, or (None) by itself."""

    signal: int | None


@dataclass(slots=True)
class _Worker(Generic[Task]):
    """A process, whether it has said that it is ready, and the task it is at."""

    process: BaseProcess
    ready: bool = False
    task: Task | None = None


def call_each(
    function: Callable[[Task], Answer],
    tasks: Iterable[Task],
    count: int,
    *,
    prepare: Callable[[], None],
    seconds: int,
) -> Generator[tuple[Task, Answer | Died], None, None]:
    """Call `function` with every task in `count` processes: (task, answer), as they are finished.

    `prepare` is called once in each process. A call that takes more than `seconds` of processor
    time ends its process, and its answer is Died(TIME_IS_UP). Tasks are taken only as processes
    become free, and there are never more processes than tasks. When the caller closes this iterator
    the processes are killed; when the caller itself is killed they end after their present call.
    Raises UserError when processes keep ending before they can take a task.
    """
    waiting = iter(tasks)
    first = list(itertools.islice(waiting, count))
    waiting = itertools.chain(first, waiting)
    processes: list[BaseProcess] = []
    working: dict[Connection, _Worker[Task]] = {}
    unready = 0

    def start() -> None:
        ours, theirs = SPAWN.Pipe()
        process = SPAWN.Process(
            target=_serve, args=(theirs, function, prepare, seconds), daemon=True
        )
        # Ctrl-C reaches the whole process group. Only the caller acts on it: a blocked signal
        # stays blocked in the new process, from its first instruction. Python starts its resource
        # tracker with the first process, and unblocks the signal there: so it starts before.
        resource_tracker.ensure_running()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
            processes.append(process)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()
        working[ours] = _Worker(process)

    if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:
        # Whoever started this ignores it; then the system keeps to itself how a process ended.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        for _ in first:
            start()
        while working:
            for pipe in wait(list(working)):
                assert isinstance(pipe, Connection)
                worker = working[pipe]
                answer: Any
                try:
                    answer = pipe.recv()
                except (EOFError, OSError):
                    worker.process.join()
                    code = worker.process.exitcode
                    answer = Died(-code if code is not None and code < 0 else None)
                    del working[pipe]
                    pipe.close()
                    unready = 0 if worker.ready else unready + 1
                    if unready == MAX_FAILED_STARTS:
                        raise UserError(
                            f"worker processes end as they start (exit code {code}): is there "
                            "enough free memory? Try fewer with --workers"
                        ) from None
                    start()
                    if worker.task is not None:
                        yield worker.task, answer
                    continue
                worker.ready = True
                done, worker.task = worker.task, next(waiting, None)
                if worker.task is None:
                    del working[pipe]
                    pipe.close()
                else:
                    # A process may have been killed since it answered: the next round sees that.

                    with suppress(BrokenPipeError, ConnectionResetError):
                        pipe.send(worker.task)
                if done is not None:
                    yield done, answer
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.join()


def _serve(
    pipe: Connection,
    function: Callable[[Any], Any],
    prepare: Callable[[], None],
    seconds: int,
) -> None:
    """What a process does: say that it is ready, then answer tasks until the pipe ends."""
    # A signal that was ignored or blocked where the run was started is so here too.
    signal.signal(TIME_IS_UP, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {TIME_IS_UP})
    prepare()
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        pipe.send(None)
        while True:
            task = pipe.recv()
            signal.setitimer(signal.ITIMER_PROF, seconds)
            answer = function(task)
            signal.setitimer(signal.ITIMER_PROF, 0)
            pipe.send(answer)
