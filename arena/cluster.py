"""Several validate.py processes as one, when torchrun starts them; alone, all of this is idle."""

import os
from datetime import timedelta

import torch.distributed


def rank() -> int:
    """This process's number, 0 for the one that writes and prints."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """This process's number on its machine: the GPU it uses."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def world_size() -> int:
    """How many processes share the work."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def barrier() -> None:
    """Wait until every process is here."""
    if world_size() > 1:
        if not torch.distributed.is_initialized():
            # One process may wait hours for another's share on a CPU.
            torch.distributed.init_process_group("gloo", timeout=timedelta(days=30))
        torch.distributed.barrier()
