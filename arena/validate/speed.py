"""How fast a tagger's network was and what memory it took: kept with the scores that it gave.

Several networks take turns over the same decoded images, so a network's own rate is the posts over
the time that it was at work itself: on a GPU between two events around its forward pass, on a CPU,
where it shares the cores with the threads that decode, by the clock. What a run does in all, with
decoding, is another figure: see Run.
"""

import resource
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypedDict

import torch


class Speed(TypedDict):
    """How scores were made that one device gave in batches of one size."""

    posts: int  # How many posts were run,
    seconds: float  # and how long the network was at work on them, image decoding left out.
    device: str  # CPU, or the GPU's name.
    batch: int  # Images at a time.
    # The most bytes of GPU memory that the networks of the run took together; None on a CPU.
    gpu_memory: int | None
    host_memory: int  # The most bytes that the process had in memory, with all its models.
    models: int  # How many models the process ran at the same time.


class Run(TypedDict):
    """What this run did: every image is decoded once for all models."""

    posts: int  # Posts that at least one model was run over; 0 where all was cached.
    seconds: float  # From opening the networks to the last score.
    images_per_second: float | None  # Posts by seconds, decoding and all models together.
    host_memory: int  # The most bytes that process 0 had in memory.


def add_up(speeds: Iterable[Speed]) -> list[Speed]:
    """Posts and seconds added up where device, batch and models are the same, of memory the most;
    the one with the most posts first."""
    found: dict[tuple[str, int, int], Speed] = {}
    for each in speeds:
        key = each["device"], each["batch"], each["models"]
        if key not in found:
            found[key] = each.copy()
            continue
        sums = found[key]
        sums["posts"] += each["posts"]
        sums["seconds"] += each["seconds"]
        sums["host_memory"] = max(sums["host_memory"], each["host_memory"])
        if each["gpu_memory"] is not None:
            sums["gpu_memory"] = max(sums["gpu_memory"] or 0, each["gpu_memory"])
    return sorted(found.values(), key=lambda each: -each["posts"])


def rated(speeds: Sequence[Speed]) -> list[dict[str, Any]]:
    """The same with `images_per_second`, None where no time passed."""
    return [{**each, "images_per_second": rate(each["posts"], each["seconds"])} for each in speeds]


def rate(posts: int, seconds: float) -> float | None:
    """Posts a second, None where no time passed."""
    return posts / seconds if posts and seconds else None


def is_list(value: Any) -> bool:
    """Whether a value read from a file is a list of Speed."""
    whole = ("posts", "batch", "host_memory", "models")
    return isinstance(value, list) and all(
        isinstance(each, dict)
        and each.keys() == Speed.__annotations__.keys()
        and all(type(each[name]) is int and each[name] >= 0 for name in whole)
        and type(each["seconds"]) is float
        and 0 <= each["seconds"] < float("inf")
        and isinstance(each["device"], str)
        and (each["gpu_memory"] is None or type(each["gpu_memory"]) is int)
        for each in value
    )


def host_memory() -> int:
    """The most bytes that this process has had in memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class GpuMemory:
    """What is taken of a GPU's memory since this was made. torch knows nothing of what ONNX Runtime
    takes, so it is the device that is asked; neither gives memory back while it works."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._free = self._now()

    def taken(self) -> int | None:
        """Bytes; None on a CPU."""
        return None if self._device.type == "cpu" else max(0, self._free - self._now())

    def _now(self) -> int:
        if self._device.type == "cpu":
            return 0
        free: int = torch.cuda.mem_get_info(self._device)[0]
        return free


class Timing(NamedTuple):
    """The beginning and end of a forward pass: seconds of the clock, or events of a GPU."""

    begin: Any
    end: Any

    def seconds(self) -> float:
        """How long it took. On a GPU it must have ended."""
        if isinstance(self.begin, float):
            return float(self.end - self.begin)
        return float(self.begin.elapsed_time(self.end)) / 1000  # Milliseconds.


def mark(device: torch.device) -> Any:
    """This moment of a device: on a GPU that of its current stream."""
    if device.type == "cpu":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event
