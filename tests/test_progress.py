"""How far a run is: a bar on a terminal, and elsewhere a plain line a minute."""

import os
import pty
import sys
import termios

from arena import cli
from arena.progress_lines import ProgressLines

import pytest


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_line_a_minute_tells_what_is_done_how_fast_and_what_is_left() -> None:
    clock, lines = Clock(), list[str]()
    with ProgressLines(
        write=lines.append, total=32768, desc="JoyTag", unit="post", clock=clock
    ) as bar:
        for second in range(1, 601):
            clock.now = 1000.0 + second
            bar.update(20)
    assert len(lines) == 10
    assert lines[0] == "JoyTag: 1,200 of 32,768 posts, 20.0 posts/s, 26:18 left"
    assert lines[9] == "JoyTag: 12,000 of 32,768 posts, 20.0 posts/s, 17:18 left"
    assert bar.n == 12000


def test_slow_and_endless_work() -> None:
    clock, lines = Clock(), list[str]()
    slow = ProgressLines(range(4), write=lines.append, desc="scoring", unit="model", clock=clock)
    for _ in slow:
        clock.now += 4000
    assert lines[0] == "scoring: 1 of 4 models, 4000.0 s each, 3:20:00 left"
    assert lines[3] == "scoring: 4 of 4 models, 4000.0 s each, 0:00 left"
    lines.clear()
    endless = ProgressLines(write=lines.append, desc="tags", unit="row", clock=clock)
    clock.now += 120
    endless.update(2400)
    assert lines == ["tags: 2,400 rows, 20.0 rows/s"]


def test_a_run_of_less_than_a_minute_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(cli.progress(range(1000), desc="x")) == list(range(1000))
    with cli.progress(desc="x", total=5) as bar:
        bar.update(5)
        bar.total += 1
    assert capsys.readouterr().err == ""


def test_lines_go_to_stderr_and_bars_to_terminals(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arena.progress_lines.EVERY", 0)
    for _ in cli.progress([0], desc="two\nlines", unit="post"):
        pass
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("two\\nlines: 1 of 1 posts, ") and err.count("\n") == 1
    reads, writes = pty.openpty()
    termios.tcsetwinsize(writes, (24, 80))
    with os.fdopen(writes, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        for _ in cli.progress([0], desc="posts", unit="post"):
            pass
        terminal.flush()
        shown = ""
        while "100%" not in shown:  # A read gives what has come so far.
            shown += os.read(reads, 10000).decode()
    os.close(reads)
    assert "posts: 100%" in shown and "\r" in shown
