"""Several validate.py processes as one, when torchrun starts them; alone, all of this is idle."""

import os
from datetime import timedelta
from typing import TypeVar

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


def barrier() -> None:
    """Wait until every process is here."""
    share(None)


def share(value: T) -> T:
    """Process 0's value, in every process."""
    if world_size() == 1:
        return value
    if not torch.distributed.is_initialized():
        # One process may wait hours for another's share on a CPU.
        torch.distributed.init_process_group("gloo", timeout=timedelta(days=30))
    torch.distributed.barrier()
    values = [value]
    torch.distributed.broadcast_object_list(values, src=0)
    return values[0]
