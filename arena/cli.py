"""How every script meets its user: options, output, progress, errors and exit codes.

Names come from other people's files, paths and sites, so nothing reaches the terminal but through
`plain`, a line at a time; no other module prints.
Exit codes: 0 done, 2 something the user can put right (one line `error: …` on stderr), 130 Ctrl-C.
"""

import argparse
import errno
import io
import math
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from arena.data_folder import data_folder, expanded
from arena.progress_lines import ProgressLines

from tqdm import tqdm

# torchrun numbers the processes that it starts: one of them speaks for all.
SPEAKS = "TORCHELASTIC_RUN_ID" not in os.environ or os.environ["RANK"] == "0"


STOPPED = "stopped; finished work is kept, run the same command to go on"
WATCH = "watch for Ctrl-C"  # The name of a thread.
PATIENCE = 5  # Seconds that native code gets to come back after Ctrl-C.
# What to do about a limit of the system's, by what it says.
LIMITS = {
    errno.EMFILE: "raise the limit on open files (ulimit -n), or lower --workers",
    errno.ENFILE: "close other programs, or lower --workers",
    errno.EAGAIN: "raise the limit on processes (ulimit -u), or lower --workers",
}


class UserError(Exception):
    """Something the user can put right. Its text says what is wrong, where, and what to do."""


def plain(text: str) -> str:
    r"""`text` on one line: what is not printable (newlines, direction marks) as its `\u` escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def say(*lines: str) -> None:
    """Print lines on stdout; what is not printable in one is shown as its escape."""
    for line in lines:
        print(plain(line))


class Options(argparse.ArgumentParser):
    """A script's command line. --help is the script's docstring, and each option's help ends in its
    default; --data, which all scripts have, is parsed to a DataFolder."""

    def __init__(self, doc: str | None) -> None:
        super().__init__(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
        self.add_argument(
            "--data",
            type=data_folder,
            default=".",
            metavar="DIR",
            help="folder in which all the files live (default: .)",
        )

    def value(
        self,
        name: str,
        metavar: str,
        help: str,
        default: Any = None,
        *,
        type: Callable[[str], Any] = str,
        shown: str | None = "%(default)s",
        alone: Any = None,
    ) -> None:
        """An option with a value, by default a text. `shown` stands for the default in the help;
        None where `help` says it. `alone` is the value of the option without one; None: it needs
        one."""
        help = help if default is None or shown is None else f"{help} (default: {shown})"
        more: dict[str, Any] = {} if alone is None else {"nargs": "?", "const": alone}
        self.add_argument(name, type=type, default=default, metavar=metavar, help=help, **more)

    def number(
        self,
        name: str,
        low: int,
        default: int | None,
        help: str,
        *,
        high: int | None = None,
        metavar: str = "N",
        shown: str | None = "%(default)s",
    ) -> None:
        """An option with a whole number from `low` to `high`."""
        self.value(name, metavar, help, default, type=at_least(low, high), shown=shown)

    def path(self, name: str, metavar: str, help: str) -> None:
        """An option with a path, `~` expanded; None where it is not given."""
        self.value(name, metavar, help, type=lambda text: data_folder(text).root)

    def choice(self, name: str, choices: Sequence[str], help: str) -> None:
        """An option with one of some words, the first being the default."""
        self.add_argument(
            name, choices=choices, default=choices[0], help=f"{help} (default: %(default)s)"
        )

    def flag(self, name: str, help: str) -> None:
        """An option that is on where it is given."""
        self.add_argument(name, action="store_true", help=f"{help} (default: off)")

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2 and one line on stderr."""
        self.exit(2, plain(f"error: {message} (see {self.prog} --help)") + "\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        # The newlines are argparse's: `error` has escaped those of the user's own words.
        super()._print_message("\n".join(map(plain, message.split("\n"))), file)


def at_least(low: int, high: int | None = None) -> Callable[[str], int]:
    """An argparse type: a whole number from `low` to `high` (no upper end when None)."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or value < low or (high is not None and value > high):
            wanted = f"of at least {low}" if high is None else f"from {low} to {high}"
            raise argparse.ArgumentTypeError(f"'{text}' is not a whole number {wanted}")
        return value

    return parse


def names(text: str) -> list[str]:
    """An argparse type: at least one name or path, with commas between several.

    Spaces around a name do not count, and `~` is expanded, which a shell does not do after a comma.
    """
    found = [str(expanded(name)) for part in text.split(",") if (name := part.strip())]
    if not found:
        raise argparse.ArgumentTypeError("at least one name is needed")
    return found


def seconds(low: float = 0.0) -> Callable[[str], float]:
    """An argparse type: a time in seconds, from `low` to a day."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= 86400:
            raise argparse.ArgumentTypeError(f"'{text}' is not a time of {low:g} to 86400 seconds")
        return value

    return parse


def progress(
    items: Iterable[Any] | None = None,
    *,
    desc: str = "done",
    unit: str = "item",
    total: int | None = None,
    position: int | None = None,
) -> Any:
    """A tqdm bar on stderr; where that is no terminal, a plain line a minute."""
    named: dict[str, Any] = {"desc": plain(desc), "unit": unit, "total": total}
    if SPEAKS and not sys.stderr.isatty():
        return ProgressLines(items, write=_progress_line, **named)
    return tqdm(
        items,
        disable=not SPEAKS,
        file=sys.stderr,
        dynamic_ncols=True,
        position=position,
        **named,
    )


def _progress_line(line: str) -> None:
    print(plain(line), file=sys.stderr, flush=True)


def warn(message: str) -> None:
    """One line on stderr that does not tear a progress bar."""
    if SPEAKS:
        tqdm.write(plain(f"warning: {message}"), file=sys.stderr)


def run(main: Callable[[], None]) -> NoReturn:
    """Run a script's main and leave with the exit code the module's docstring gives.

    An OSError (full disk, read-only folder) or too little memory is the user's to put right and
    becomes one line; any other exception is a defect of ours and keeps its traceback.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that has no such letter must not end a run; stderr does the same by itself.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with _ended_by_ctrl_c():
            main()
            sys.stdout.flush()
    except UserError as error:
        _leave(2, f"error: {error}")
    except KeyboardInterrupt:
        _leave(130, STOPPED)
    except BrokenPipeError:
        # The reader of our stdout has gone (`… | head`): nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _leave(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        remedy = LIMITS.get(error.errno or 0, "put that right, then run the same command again")
        _leave(2, f"error: {where}{error.strerror or error}: {remedy}")
    except Exception as error:  # Ours, but for what has no class of its own: see the docstring.
        if isinstance(error, MemoryError) or os.strerror(errno.ENOMEM) in str(error):
            _leave(2, f"error: memory ran out ({error}): free some, or raise its limit (ulimit -v)")
        if "can't start new thread" in str(error):
            _leave(2, f"error: {error}: {LIMITS[errno.EAGAIN]}")
        _leave(1, *traceback.format_exc().rstrip("\n").split("\n"))
    sys.exit(0)


@contextmanager
def _ended_by_ctrl_c() -> Iterator[None]:
    """Let Ctrl-C end the block, also where native code does not come back to Python for long.

    Python acts on a signal only between its own steps, in the main thread. What wakes up the thread
    here is written by the system's handler at once. Files are whole at any moment, so an end like
    this loses what a kill loses.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    acted = threading.Event()
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)

    def interrupt(number: int, frame: Any) -> NoReturn:
        acted.set()
        signal.default_int_handler(number, frame)

    def watch() -> None:
        while (number := os.read(woken, 1)) not in (b"", bytes([signal.SIGINT])):
            continue
        if number and not acted.wait(PATIENCE):
            end(130, STOPPED)
        os.close(woken)

    signal.signal(signal.SIGINT, interrupt)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    threading.Thread(target=watch, name=WATCH, daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(-1)
        os.close(wakes)


def end(code: int, line: str) -> NoReturn:
    """End the process at once, from any thread, with a line on stderr: as a kill would."""
    print(plain(line), file=sys.stderr, flush=True)
    os._exit(code)


def _leave(code: int, *lines: str) -> NoReturn:
    for line in lines:
        print(plain(line), file=sys.stderr)
    sys.exit(code)
