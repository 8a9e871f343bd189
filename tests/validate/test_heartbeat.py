"""Who is blamed for silence, and who is not."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

from arena import cli
from arena.validate import heartbeat
from arena.validate.heartbeat import DONE, FAILED, Heartbeat
from tests.helpers import until

import pytest


class Store:
    """A store in this process. `stuck`: it answers nothing."""

    def __init__(self) -> None:
        self.values: dict[str, int] = Counter()
        self.stuck = threading.Event()

    def add(self, key: str, number: int) -> int:
        while self.stuck.is_set():
            threading.Event().wait(0.01)
        self.values[key] += number
        return self.values[key]

    def set(self, key: str, text: str) -> None:
        self.values[key] = int(text)

    def check(self, keys: list[str]) -> bool:
        return all(key in self.values for key in keys)

    def get(self, key: str) -> bytes:
        return str(self.values[key]).encode()


Beating = Callable[[Store], list[str]]


@pytest.fixture
def beating(monkeypatch: pytest.MonkeyPatch) -> Iterator[Beating]:
    """Starts the heartbeat of process 0 of 2; returns the lines with which it would have ended."""
    told: list[str] = []
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    monkeypatch.setenv("MASTER_ADDR", "there")
    monkeypatch.setattr(heartbeat, "BEAT", 0.01)
    monkeypatch.setattr(heartbeat, "SILENT", 1)
    monkeypatch.setattr(heartbeat, "NEVER_SEEN", 2)
    monkeypatch.setattr(heartbeat, "GRACE", 0)
    monkeypatch.setattr(cli, "end", lambda code, line: told.append(line))
    beats: list[Heartbeat] = []

    def start(store: Store) -> list[str]:
        beats.append(Heartbeat(store, 0, 0, 2))  # type: ignore[arg-type]
        return told

    yield start
    for beat in beats:
        beat.leave(done=True)


OTHER, MINE = "heartbeat/0/1/count", "heartbeat/0/0/count"


@pytest.mark.parametrize(("count", "seconds"), [(5, 1), (0, 2)])
def test_a_count_that_stands_still_is_blamed(beating: Beating, count: int, seconds: int) -> None:
    store = Store()
    store.values |= {"heartbeat/0/1/node": 7, OTHER: count}
    told = beating(store)
    until(lambda: told)
    assert f"process 1 on node 7 has been silent for {seconds} seconds" in told[0]


def test_a_process_counts_as_soon_as_it_is_there(
    beating: Beating, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "BEAT", 1000)
    store = Store()
    beating(store)
    until(lambda: store.values[MINE] == 1)


def test_one_that_has_failed_is_told_at_once_and_one_that_is_done_is_not_waited_for(
    beating: Beating,
) -> None:
    store = Store()
    store.values[OTHER] = DONE
    told = beating(store)
    until(lambda: store.values[MINE] > 150)
    assert not told
    store = Store()
    store.values[OTHER] = FAILED
    told = beating(store)
    until(lambda: told)
    assert "process 1 has ended" in told[0] and "finished work is kept" in told[0]


def test_a_process_that_was_held_up_itself_blames_nobody(
    beating: Beating, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    store = Store()
    told = beating(store)
    until(lambda: store.values[MINE] > 5)
    now[0] += 1000
    rounds = store.values[MINE]
    until(lambda: store.values[MINE] > rounds + 5)
    assert not told


def test_a_store_that_answers_nothing_is_told(beating: Beating) -> None:
    store = Store()
    store.stuck.set()
    told = beating(store)
    until(lambda: told)
    assert "torchrun on there" in told[0]
    store.stuck.clear()
