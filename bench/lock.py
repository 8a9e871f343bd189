"""How long preparing an image holds the interpreter's lock, which only one thread can have.

    python -m bench.lock
    python -m bench.lock --rows 112    # in a GPU's blocks, though on the CPU

One thread prepares images as validate.py's workers do, for both models. Meanwhile a small C program
on another core, which itself needs no lock, reads over and over whether somebody holds it: the
share of the time in which somebody does, times the time of the call, is how long the call holds the
lock. Only calls count in which the thread kept its core, so a busy machine takes longer. First come
three calls of which it is known: sleeping and hashing hold no lock, a loop in Python always does.

Needs gcc, two cores and Python 3.11: since 3.12 a thread cannot read who holds the lock.
"""

import argparse
import ctypes
import hashlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from arena.validate import distributed, resample
from arena.validate.predictions import image_state
from arena.validate.preprocess import decode, geometry, preprocess, squares, webp_size
from bench.images import make_images
from models import card as cards

import torch

T = TypeVar("T")
NAMES = ("joytag", "wd-v1-4-vit-tagger-v2")
CPU = torch.device("cpu")
BIG = bytes(20_000_000)  # Bytes to hash.
# Reading without a pause would slow down who takes the lock, as both need the same line of memory.
# Where this thread itself lost its core for a while, nobody knows who held the lock then.
WATCH = """
#include <stdint.h>
#include <time.h>

static const uint64_t PAUSE = 200, LOST = 20000;

static uint64_t nanoseconds(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000ull + at.tv_nsec;
}

void watch(void *(*holder)(void), const volatile int *stop, volatile uint64_t *watched,
           volatile uint64_t *held)
{
    uint64_t last = nanoseconds();
    while (!*stop) {
        uint64_t now = last;
        while (now - last < PAUSE)
            now = nanoseconds();
        int is_held = holder() != 0;
        uint64_t passed = now - last;
        last = now;
        if (passed > LOST)
            continue;
        *watched += passed;
        if (is_held)
            *held += passed;
    }
}
"""


class UnableError(Exception):
    """Why the lock cannot be watched here."""


class Held(NamedTuple):
    """What a call took."""

    share: float  # Of the time, in which somebody held the interpreter's lock.
    seconds: float
    alone: bool  # Whether its thread kept its core.


class Sampler:
    """Says of a call how long it holds the lock. No other thread may run Python meanwhile.

    Raises UnableError where that cannot be known.
    """

    def __init__(self) -> None:
        self._cores = sorted(os.sched_getaffinity(0))
        if sys.version_info[:2] != (3, 11) or len(self._cores) < 2:
            raise UnableError("watching the interpreter's lock needs Python 3.11 and two cores")
        with tempfile.TemporaryDirectory() as folder:
            source, library = Path(folder) / "watch.c", Path(folder) / "watch.so"
            source.write_text(WATCH)
            try:
                command = ["gcc", "-O2", "-shared", "-fPIC", "-o", str(library), str(source)]
                subprocess.run(command, check=True)
            except FileNotFoundError:
                raise UnableError("watching the interpreter's lock needs gcc") from None
            self._library = ctypes.CDLL(str(library))
        self._holder = ctypes.cast(ctypes.pythonapi._PyThreadState_UncheckedGet, ctypes.c_void_p)

    def __call__(self, work: Callable[[], object]) -> Held:
        """Run a call in this thread, and watch."""
        stop, watched, held = ctypes.c_int(), ctypes.c_uint64(), ctypes.c_uint64()

        def watch() -> None:
            os.sched_setaffinity(0, self._cores[1:])
            counters = [ctypes.byref(each) for each in (stop, watched, held)]
            self._library.watch(self._holder, *counters)

        watcher = threading.Thread(target=watch)
        watcher.start()
        os.sched_setaffinity(0, self._cores[:1])
        try:
            while not watched.value:
                time.sleep(0)
            lost = resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw
            before, began = (watched.value, held.value), time.perf_counter()
            work()
            seconds = time.perf_counter() - began
            seen, locked = watched.value - before[0], held.value - before[1]
            lost -= resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw
        finally:
            stop.value = 1
            watcher.join()
            os.sched_setaffinity(0, self._cores)
        return Held(locked / max(1, seen), seconds, not lost and seen > 0.9e9 * seconds)


def read(path: Path) -> torch.Tensor:
    """The pixels of an image file, as preprocess gets them."""
    raw = path.read_bytes()
    return decode(raw, webp_size(raw), CPU)


def main() -> None:
    """Measure the whole and its parts in turn, several times, and print medians."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--images", type=int, default=8)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--rows", type=int, default=resample.CPU_ROWS, help="of a block")
    args = options.parse_args()
    resample.CPU_ROWS = args.rows
    distributed.start_thread(CPU)
    try:
        sampler = Sampler()
    except UnableError as why:
        raise SystemExit(str(why)) from None
    wanted = [geometry(cards.card(name).image) for name in NAMES]
    with tempfile.TemporaryDirectory() as folder:
        paths = make_images(Path(folder), args.images)
        pixels = {path: read(path).clone() for path in paths}
        parts: dict[str, Callable[[Path], object]] = {
            "an image for both": lambda path: (image_state(path), preprocess(path, wanted, CPU)),
            "reading and decoding": read,
            f"the square of {NAMES[0]}": lambda path: squares(pixels[path], wanted[:1]),
            f"the square of {NAMES[1]}": lambda path: squares(pixels[path], wanted[1:]),
        }
        for known in (sleep, digest, spin):
            share = undisturbed(sampler, known, None).share
            print(f"{known.__name__}: holds the lock for {share:.0%} of the time")
        found: dict[str, list[Held]] = {part: [] for part in parts}
        for number in range(args.rounds * len(paths)):
            for part, work in parts.items():
                found[part].append(undisturbed(sampler, work, paths[number % len(paths)]))
    print(f"{args.images} images, blocks of {args.rows} rows, median of {args.rounds} rounds")
    for part, calls in found.items():
        held = statistics.median(each.share * each.seconds for each in calls)
        whole = statistics.median(each.seconds for each in calls)
        print(f"{part}: holds the lock for {1000 * held:.3f} ms of {1000 * whole:.1f}")


def sleep(_: None) -> None:
    """Hold no lock."""
    time.sleep(0.02)


def digest(_: None) -> None:
    """Hold no lock, and work."""
    hashlib.blake2b(BIG)


def spin(_: None) -> None:
    """Hold the lock."""
    until = time.perf_counter() + 0.005
    while time.perf_counter() < until:
        pass


def undisturbed(sampler: Sampler, work: Callable[[T], object], given: T) -> Held:
    """The first call whose thread kept its core. Ends the program where none does."""
    for _ in range(1000):
        found = sampler(lambda: work(given))
        if found.alone:
            return found
    raise SystemExit("the machine is too busy: no thread keeps its core for a call")


if __name__ == "__main__":
    main()
