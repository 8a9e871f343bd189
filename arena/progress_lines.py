"""How far a long run is, for a log: a plain line a minute in place of a bar."""

import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any

EVERY = 60.0  # Seconds from one line to the next.


class ProgressLines:
    """What a tqdm bar does, in lines: `inference: 1,200 of 32,768 posts, 45.1 posts/s, 11:40 left`.

    It has of tqdm what the scripts use: `n`, `total`, update, iteration, and `with`. `write` gets
    each line; the first comes a minute after the start, so a short run has none. `clock` gives
    seconds. The rate is that of the whole run, and without a `total` nothing is said of what is
    left.
    """

    def __init__(
        self,
        items: Iterable[Any] | None = None,
        *,
        write: Callable[[str], None],
        total: int | None = None,
        desc: str = "done",
        unit: str = "item",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._items = items
        self.total = len(items) if total is None and isinstance(items, Sized) else total
        self.n = 0
        self._desc, self._unit = desc, unit
        self._write, self._clock = write, clock
        self._began = self._told = clock()

    def update(self, n: int = 1) -> None:
        """`n` more are done; a line where the last one is a minute old."""
        self.n += n
        now = self._clock()
        if now - self._told >= EVERY:
            self._told = now
            self._write(self._line(now - self._began))

    def __iter__(self) -> Iterator[Any]:
        for item in self._items or ():
            yield item
            self.update()

    def __enter__(self) -> "ProgressLines":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing: every line has its end already."""

    def _line(self, seconds: float) -> str:
        rate = self.n / seconds
        of = f" of {self.total:,}" if self.total else ""
        # A rate below one a second is easier to read the other way round.
        speed = f"{rate:.1f} {self._unit}s/s" if rate >= 1 or not rate else f"{1 / rate:.1f} s each"
        line = f"{self._desc}: {self.n:,}{of} {self._unit}s, {speed}"
        if self.total and rate:
            line += f", {_time(max(0, self.total - self.n) / rate)} left"
        return line


def _time(seconds: float) -> str:
    """A time as 2:05 (minutes and seconds) or 3:02:05 (with hours)."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
