"""bench.lock's sampler, on calls of which it is known how long they hold the lock."""

import hashlib
import time
from collections.abc import Callable

from bench.lock import Sampler, UnableError, undisturbed

import pytest

BIG = bytes(20_000_000)


def spin(_: None) -> None:
    """Hold the lock."""
    until = time.perf_counter() + 0.005
    while time.perf_counter() < until:
        pass


def test_the_sampler_sees_who_holds_the_lock() -> None:
    try:
        sampler = Sampler()
    except UnableError as why:
        pytest.skip(str(why))

    def share(work: Callable[[None], object]) -> float:
        return undisturbed(sampler, work, None).share

    assert share(lambda _: time.sleep(0.02)) < 0.1
    assert share(lambda _: hashlib.blake2b(BIG)) < 0.1
    assert share(spin) > 0.9
