"""How every script meets its user: options, progress, errors and exit codes.

Exit codes: 0 done, 2 something the user can mend (one line `error: …` on stderr), 130 Ctrl-C.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

from tqdm import tqdm

# torchrun numbers the processes that it starts: one of them speaks for all.
SPEAKS = "TORCHELASTIC_RUN_ID" not in os.environ or os.environ["RANK"] == "0"


class UserError(Exception):
    """Something the user can mend. Its text says what is wrong, where, and what to do."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose --help is the script's docstring, with the --data option all scripts have."""
    made = _Parser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(
        "--data",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="folder in which all the files live (default: .)",
    )
    return made


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


def progress(items: Iterable[Any] | None = None, **options: Any) -> Any:
    """A tqdm bar on stderr that is off when stderr is no terminal."""
    return tqdm(
        items, disable=None if SPEAKS else True, file=sys.stderr, dynamic_ncols=True, **options
    )


def warn(message: str) -> None:
    """One line on stderr that does not tear a progress bar."""
    if SPEAKS:
        tqdm.write(f"warning: {message}", file=sys.stderr)


def run(main: Callable[[], None]) -> NoReturn:
    """Run a script's main and leave with the exit code the module's docstring gives.

    An OSError (full disk, read-only folder) is the user's to mend and becomes one line; any other
    exception is a defect of ours and keeps its traceback.
    """
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        main()
        sys.stdout.flush()
    except UserError as error:
        _leave(2, f"error: {error}")
    except KeyboardInterrupt:
        _leave(130, "stopped; finished work is kept, run the same command to go on")
    except BrokenPipeError:
        # The reader of our stdout has gone (`… | head`): nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _leave(1, "")
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        _leave(2, f"error: {error.strerror or error}{where}")
    sys.exit(0)


def _leave(code: int, line: str) -> NoReturn:
    if line:
        print(" ".join(line.splitlines()), file=sys.stderr)
    sys.exit(code)
