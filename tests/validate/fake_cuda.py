"""A GPU in name only: CPU tensors that count as a GPU's, and a watch over streams and events.

Every operation on such tensors happens at once, but is counted as work of the stream that is
current in its thread. Who knows of whose work is followed by vector clocks: a stream has seen its
own work, and what the events that it waited for had seen. Work on what another stream wrote and
this one has not seen is a race; so is memory that another stream uses without record_stream, as it
could be given away too early.
"""

import ctypes
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

FREE = 10**9  # Bytes of the GPU's memory that nobody has taken.


class RaceError(Exception):
    """What would go wrong on a GPU, though not each time."""


class Stream:
    """A stream, or with number 0 the host: what of each stream's work it has seen."""

    number = 0

    def __init__(self, device: torch.device | None = None, priority: int = 0) -> None:
        Stream.number += 1
        self.cuda_stream = Stream.number
        self.device, self.priority = device, priority
        self.seen = {self.cuda_stream: 0}

    def wait_event(self, event: "Event") -> None:
        for number, count in event.seen.items():
            self.seen[number] = max(count, self.seen.get(number, 0))

    def record_event(self) -> "Event":
        event = Event()
        event.record(self)
        return event


class Event:
    """A moment of a stream, and by that of all streams that it has waited for."""

    def __init__(self, blocking: bool = False, enable_timing: bool = False) -> None:
        self.blocking, self.timed = blocking, enable_timing
        self.seen: dict[int, int] = {}

    def record(self, stream: Stream | None = None) -> None:
        now = stream or current_stream()
        self.seen, self.at = dict(now.seen), time.perf_counter()

    def synchronize(self) -> None:
        _host.wait_event(self)

    def elapsed_time(self, end: "Event") -> float:
        """Milliseconds. Raises RaceError where the host has not waited for the end."""
        if not (self.timed and end.timed):
            raise RaceError("the time of an event that takes none")
        if any(_host.seen.get(number, 0) < count for number, count in end.seen.items()):
            raise RaceError("the host asks for the time of what has not ended")
        return 1000 * (end.at - self.at)


@dataclass
class Memory:
    """What is known of a tensor's memory on the GPU, or of pinned memory of the host."""

    tensor: torch.Tensor  # Keeps the memory from being used anew.
    owner: int
    pinned: bool = False
    written: tuple[int, int] = (0, 0)
    used_by: set[int] = field(default_factory=set)
    recorded: set[int] = field(default_factory=set)


_host = Stream()
_default = Stream()
_local = threading.local()


def current_stream(device: Any = None) -> Stream:
    found: Stream = getattr(_local, "stream", _default)
    return found


@contextmanager
def stream(chosen: Stream) -> Iterator[None]:
    before, _local.stream = current_stream(), chosen
    try:
        yield
    finally:
        _local.stream = before


class Gpu:
    """The GPU that a test has: its memory, and on which device each thread is."""

    def __init__(self, index: int = 0) -> None:
        self.device = torch.device("cuda", index)
        self.memory: dict[int, Memory] = {}
        self.priorities: set[int] = set()
        self.lock = threading.RLock()

    def set_device(self, device: torch.device) -> None:
        _local.device = device

    def of(self, tensor: torch.Tensor) -> Memory | None:
        return self.memory.get(tensor.untyped_storage().data_ptr())

    def keep(self, tensor: torch.Tensor, pinned: bool = False) -> None:
        """Count a tensor's memory as the GPU's, or as pinned."""
        key = tensor.untyped_storage().data_ptr()
        if key and key not in self.memory:
            self.memory[key] = Memory(tensor, current_stream().cuda_stream, pinned)

    def read(self, tensor: torch.Tensor) -> None:
        memory, now = self.of(tensor), current_stream()
        if memory is None or memory.pinned:
            return
        number, count = memory.written
        if now.seen.get(number, 0) < count:
            raise RaceError(f"stream {now.cuda_stream} has not waited for stream {number}")
        memory.used_by.add(now.cuda_stream)

    def write(self, tensor: torch.Tensor) -> None:
        memory, now = self.of(tensor), current_stream()
        if memory is not None:
            now.seen[now.cuda_stream] += 1
            memory.written = now.cuda_stream, now.seen[now.cuda_stream]
            self.priorities.add(now.priority)

    def host_reads(self, tensor: torch.Tensor) -> None:
        memory = self.of(tensor)
        if memory is None:
            return
        if not memory.pinned:
            raise RaceError("the host reads the GPU's memory")
        number, count = memory.written
        if count and _host.seen.get(number, 0) < count:
            raise RaceError("the host reads before the copy to it has ended")

    def check_freed(self) -> None:
        """Raise RaceError for memory that was used by a stream it was not recorded for."""
        for memory in self.memory.values():
            if (
                not memory.pinned
                and (strangers := memory.used_by - {memory.owner}) - memory.recorded
            ):
                raise RaceError(f"streams {strangers} used memory without record_stream")


class Mode(TorchFunctionMode):
    """Passes every operation of torch in this thread by the GPU."""

    def __init__(self, gpu: Gpu) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with self.gpu.lock:
            return self._count(func, args, dict(kwargs or {}))

    def _count(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        gpu = self.gpu
        name = getattr(func, "__name__", "")
        owner = getattr(func, "__self__", None)
        if name == "__get__":
            memory = gpu.of(args[0])
            on_gpu = memory is not None and not memory.pinned
            if owner is torch.Tensor.is_cuda:
                return on_gpu
            if owner is torch.Tensor.device:
                return gpu.device if on_gpu else torch.device("cpu")
            return func(*args, **kwargs)
        if func is torch.device or name in (
            "untyped_storage",
            "size",
            "dim",
            "stride",
            "is_contiguous",
            "__len__",
        ):
            return func(*args, **kwargs)
        if name == "numpy":
            gpu.host_reads(args[0])
            return func(*args, **kwargs)
        tensors = [each for each in tree_leaves((args, kwargs)) if torch.is_tensor(each)]
        pinned = bool(kwargs.pop("pin_memory", False)) or name == "pin_memory"
        moved = [each for each in tree_leaves((args, kwargs)) if _is_cuda(each)]
        args = tuple(torch.device("cpu") if _is_cuda(each) else each for each in args)
        kwargs = {k: torch.device("cpu") if _is_cuda(v) else v for k, v in kwargs.items()}
        held = [gpu.of(each) for each in tensors]
        on_gpu = bool(moved) or any(memory and not memory.pinned for memory in held)
        if (on_gpu or pinned) and getattr(_local, "device", None) != gpu.device:
            raise RaceError("this thread has not said which GPU is its own")
        for tensor in tensors:
            gpu.read(tensor)
        if name == "pin_memory":
            found = args[0].clone()
            pinned = pin(pinned)
        elif moved and name == "to":
            if not kwargs.get("non_blocking"):
                raise RaceError("a copy to the GPU that the thread waits for")
            if not any(memory and memory.pinned for memory in held):
                raise RaceError("a copy from memory that is not pinned")
            found = args[0].clone()
        else:
            found = func(*args, **kwargs)
        for tensor in tree_leaves(found):
            if torch.is_tensor(tensor):
                if on_gpu or pinned:
                    gpu.keep(tensor, pinned)
                if on_gpu:
                    gpu.write(tensor)
        return found


def record(memory: Memory | None, stream: Stream) -> None:
    """What record_stream does."""
    assert memory
    memory.recorded.add(stream.cuda_stream)


def pin(pinned: bool) -> bool:
    """Whether pin_memory gives pinned memory."""
    return pinned


def _is_cuda(value: Any) -> bool:
    return isinstance(value, torch.device) and value.type == "cuda"


@contextmanager
def watched(gpu: Gpu) -> Iterator[None]:
    """Count what this thread does as work for the GPU, and the executors' threads as well."""

    class Executor(ThreadPoolExecutor):
        def submit(self, work: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            def counted() -> Any:
                with Mode(gpu):
                    return work(*args, **kwargs)

            return super().submit(counted)

    with pytest.MonkeyPatch.context() as patch, Mode(gpu):
        patch.setattr("arena.validate.inference.ThreadPoolExecutor", Executor)
        # torch itself takes none but its own streams.
        patch.setattr(
            torch.Tensor, "record_stream", lambda tensor, stream: record(gpu.of(tensor), stream)
        )
        for name, value in {
            "Stream": Stream,
            "Event": Event,
            "stream": stream,
            "current_stream": current_stream,
            "set_device": gpu.set_device,
            "empty_cache": lambda: None,
            "mem_get_info": lambda device: (FREE - 1000 * len(gpu.memory), 2 * FREE),
            "is_available": lambda: True,
            "device_count": lambda: 2,
            "get_device_name": lambda device: "Fake GPU",
            "get_device_capability": lambda device: (9, 0),
        }.items():
            patch.setattr(torch.cuda, name, value)
        yield


class Binding:
    """ONNX Runtime's binding to memory, on the GPU in name."""

    def __init__(self) -> None:
        self.bound: dict[str, Any] = {}

    def bind_input(
        self, name: str, device: str, number: int, kind: Any, shape: Any, at: int
    ) -> None:
        self.bound["input"] = name, device, number, kind, shape, at

    def bind_output(
        self, name: str, device: str, number: int, kind: Any, shape: Any, at: int
    ) -> None:
        self.bound["output"] = name, device, number, kind, shape, at


def array_at(address: int, shape: tuple[int, ...]) -> np.ndarray:
    """The float32 array at an address."""
    size = int(np.prod(shape))
    floats = (ctypes.c_float * size).from_address(address)
    return np.ctypeslib.as_array(floats).reshape(shape)
