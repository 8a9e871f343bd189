"""Several validate.py processes as one, when torchrun starts them; alone, all of this is idle."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

from arena.cli import UserError

import torch.distributed

T = TypeVar("T")


def _number(name: str, alone: int) -> int:
    # Schedulers export RANK and WORLD_SIZE too; only torchrun's own mean that we are several.
    return int(os.environ[name]) if "TORCHELASTIC_RUN_ID" in os.environ else alone


def rank() -> int:
    """This process's number, 0 for the one that writes and prints."""
    return _number("RANK", 0)


def local_rank() -> int:
    """This process's number on its machine: the GPU it uses."""
    return _number("LOCAL_RANK", 0)


def local_size() -> int:
    """How many processes share this machine."""
    return _number("LOCAL_WORLD_SIZE", 1)


def world_size() -> int:
    """How many processes share the work."""
    return _number("WORLD_SIZE", 1)


@contextmanager
def group() -> Iterator[None]:
    """The time in which the processes may talk to each other.

    Nobody leaves before process 0 has come to the end of the block: torchrun ends all processes as
    soon as one of them ends badly. On every way out the group is taken apart, as a process that
    ends with it in place is aborted by its own threads.
    """
    if world_size() == 1:
        yield
        return
    # One process may wait hours for another's share on a CPU.
    torch.distributed.init_process_group("gloo", timeout=timedelta(days=30))
    try:
        yield
        barrier()
    finally:
        torch.distributed.destroy_process_group()


def barrier() -> None:
    """Wait until every process is here. Raises UserError when one of them has ended."""
    share(None)


def share(value: T) -> T:
    """Process 0's value, in every process. Raises UserError when one of them has ended."""
    if world_size() == 1:
        return value
    values = [value]
    try:
        torch.distributed.barrier()
        torch.distributed.broadcast_object_list(values, src=0)
    except RuntimeError:
        raise UserError("another process of this run has ended: what it said tells why") from None
    return values[0]
