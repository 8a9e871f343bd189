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


@contextmanager
def explain_gpu_errors() -> Iterator[None]:
    """Turn what torch raises when a GPU gives out into one line."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise UserError(
            "the GPU's memory is too small: lower --batch-size or --workers, or give fewer --models"
        ) from None
    except torch.AcceleratorError as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"the GPU failed ({reason}): free it, see to its driver, or give --device cpu"
        ) from None


def pick_device(wanted: str) -> torch.device:
    """The CPU, or this process's GPU, as asked and as there is."""
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise UserError("--device cuda: torch finds no CUDA GPU here: give --device cpu")
    if wanted == "cpu" or not there:
        return torch.device("cpu")
    if local_rank() >= torch.cuda.device_count():
        raise UserError(
            f"there are {torch.cuda.device_count()} GPUs for more processes: give torchrun"
            f" --nproc-per-node={torch.cuda.device_count()}, or --device cpu"
        )
    torch.cuda.set_device(local_rank())
    return torch.device("cuda", local_rank())
