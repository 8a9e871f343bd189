"""Several validate.py processes as one, when torchrun starts them, and the device of each.

Alone, a process is number 0 of 1, and what is here for several does nothing. They need not share a
machine or a disk: arena.validate.exchange has what that takes.
"""

import os
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

from arena.cli import UserError, plain, warn
from arena.validate import heartbeat
from arena.validate.heartbeat import Heartbeat

import numpy as np
import torch.distributed
from torch.distributed.rendezvous import rendezvous

T = TypeVar("T")
MIN_DRIVER = 580  # NVIDIA's first for CUDA 13, which torch and ONNX Runtime are built with.
DRIVER_FILE = Path("/proc/driver/nvidia/version")
GPU_FAILURE = re.compile("CUDA (driver )?error|CUBLAS_STATUS|CUDNN_STATUS|cuDNN error|NVRTC")


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


def name() -> str:
    """What to call this process."""
    return heartbeat.process_name(rank(), _number("GROUP_RANK", 0))


@contextmanager
def group() -> Iterator[None]:
    """The time in which the processes may talk to each other.

    Nobody leaves before process 0 has come to the end of the block: torchrun ends all processes as
    soon as one of them ends badly. One that ends badly on another machine, or falls silent, ends
    the others too (arena.validate.heartbeat). On every way out the group is taken apart, as a
    process that ends with it in place is aborted by its own threads.
    """
    if world_size() == 1:
        yield
        return
    with _explain_no_meeting():
        store, number, count = next(rendezvous("env://"))
    beat = Heartbeat(store.clone(), number, _number("GROUP_RANK", 0), count)
    done = False
    try:
        with _explain_no_meeting():
            # One process may wait hours for another's share on a CPU.
            torch.distributed.init_process_group(
                "gloo", timeout=timedelta(days=30), store=store, rank=number, world_size=count
            )
        yield
        barrier()
        done = True
    finally:
        beat.leave(done=done)
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


@contextmanager
def _explain_no_meeting() -> Iterator[None]:
    """Turn what torch raises where the processes cannot reach each other into one line."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"torchrun's processes cannot reach each other ({reason}): see that all machines can be"
            " reached from the others, and give GLOO_SOCKET_IFNAME the name of its interface"
        ) from None


@contextmanager
def _all_needed() -> Iterator[None]:
    """The time in which no process may end. Raises UserError when one of them has ended."""
    try:
        yield
    except RuntimeError:
        # The heartbeat finds out which one, and then ends this process: sleep lasts longer.
        time.sleep(2 * (heartbeat.SILENT + heartbeat.GRACE))
        raise UserError("another process of this run has ended: what it said tells why") from None


def barrier() -> None:
    """Wait until every process is here. Raises UserError when one of them has ended."""
    from_lead(lambda: None)


def from_lead(make: Callable[[], T]) -> T:
    """What process 0 makes, in every process. Raises UserError when one of them has ended."""
    if world_size() == 1:
        return make()
    values = [make() if rank() == 0 else None]
    with _all_needed():
        torch.distributed.barrier()
        torch.distributed.broadcast_object_list(values, src=0)
    return cast(T, values[0])


def gather(value: T) -> list[T]:
    """Every process's value, in every process. Raises UserError when one of them has ended."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    with _all_needed():
        torch.distributed.all_gather_object(values, value)
    return values


def send(value: object) -> None:
    """Give process 0 a value. Raises UserError when it has ended."""
    with _all_needed():
        torch.distributed.send_object_list([value], 0)


def receive(process: int) -> Any:
    """What a process sends to this one, which is process 0. Raises UserError when it has ended."""
    values: list[Any] = [None]
    with _all_needed():
        torch.distributed.recv_object_list(values, process)
    return values[0]


def send_array(array: np.ndarray) -> None:
    """Give process 0 the numbers of an array. Raises UserError when it has ended."""
    with _all_needed():
        torch.distributed.send(torch.from_numpy(array), 0)


def receive_array(process: int, array: np.ndarray) -> np.ndarray:
    """The array, filled with the numbers that a process sends to this one, which is process 0.
    Raises UserError when it has ended."""
    with _all_needed():
        torch.distributed.recv(torch.from_numpy(array), process)
    return array


@contextmanager
def explain_gpu_errors() -> Iterator[None]:
    """Turn what torch raises when a GPU gives out into one line."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise UserError(
            "the GPU's memory is too small even for one image: free it, lower --workers, give fewer"
            " --models, or give --device cpu"
        ) from None
    except RuntimeError as error:
        # Failures of cuBLAS and cuDNN have no class of their own.
        if not isinstance(error, torch.AcceleratorError) and not GPU_FAILURE.search(str(error)):
            raise
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"the GPU failed ({reason}): see with nvidia-smi whether another program uses it up,"
            " restart its driver, or give --device cpu"
        ) from None


def pick_device(wanted: str) -> torch.device:
    """The CPU, or this process's GPU, as asked (auto, cpu or cuda) and as there is.

    Warns where auto comes to the CPU although there is a GPU.
    """
    if wanted == "cpu":
        return torch.device("cpu")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        there = torch.cuda.is_available()
    if not there:
        why = _why_no_gpu([str(each.message) for each in told])
        if wanted == "cuda":
            remedy = f"{why}, or" if why else "there is no NVIDIA GPU here:"
            raise UserError(f"--device cuda: {remedy} give --device cpu")
        if why:
            warn(f"it runs on the CPU, which may take days: {why}")
        return torch.device("cpu")
    if local_rank() >= torch.cuda.device_count():
        raise UserError(
            f"there are {torch.cuda.device_count()} GPUs for more processes: give torchrun"
            f" --nproc-per-node={torch.cuda.device_count()}, or --device cpu"
        )
    device = torch.device("cuda", local_rank())
    with explain_gpu_errors():
        torch.cuda.set_device(device)
    # Products are exact where they are not asked to be fast: those of resizing always.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return device


def _why_no_gpu(told: Sequence[str]) -> str:
    """Why torch finds no CUDA GPU, from what it said; empty where there is no NVIDIA driver."""
    found = _driver()
    if not found:
        return ""
    if torch.version.cuda is None:
        return (
            f"there is an NVIDIA driver ({found}), but this torch has no CUDA: install the torch"
            " of requirements.txt from its usual index"
        )
    if int(found.partition(".")[0]) < MIN_DRIVER:
        return f"the NVIDIA driver is {found}, and torch needs {MIN_DRIVER} or newer: update it"
    reason = f" ({plain(told[-1].splitlines()[0])})" if told else ""
    return (
        f"there is an NVIDIA driver ({found}), but torch finds no GPU{reason}: see what nvidia-smi"
        " says, and CUDA_VISIBLE_DEVICES"
    )


def _driver() -> str:
    """The version of the NVIDIA driver that is loaded, such as 580.65.06; empty without one."""
    try:
        found = re.search(r"\b\d{2,4}\.\d+(\.\d+)?\b", DRIVER_FILE.read_text())
    except OSError:
        return ""
    return found[0] if found else ""


def device_name(device: torch.device) -> str:
    """The name that people know a device by: CPU, or the GPU's."""
    return "CPU" if device.type == "cpu" else torch.cuda.get_device_name(device)


def start_thread(device: torch.device) -> None:
    """Make a thread ready to decode images for a device.

    One thread each: together they fill the machine. And the current GPU is each thread's own:
    without this all but the first process would use the first GPU as well.
    """
    torch.set_num_threads(1)
    if device.type == "cuda":
        torch.cuda.set_device(device)


def stream(device: torch.device) -> AbstractContextManager[object]:
    """The time in which networks run on a stream of their own, which ONNX Runtime can share.

    The default stream has no number by which to share it.
    """
    if device.type == "cpu":
        return nullcontext()
    return torch.cuda.stream(torch.cuda.Stream(device))
