"""JSON lines about posts: read with suspicion, appended whole or not at all, repaired.

Whatever is in a file, reading it yields only JSON objects with the ID of a post, each ID once;
every other line is skipped and counted with its number.
"""

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from arena.cli import UserError, warn
from arena.post_ids import PostIds

MAX_ID = 2**53  # The largest integer that every JSON reader keeps exact.
MAX_LINE = 1_000_000  # Bytes. The longest real post, with some 1,500 tags, is under 100 kB.


@dataclass(slots=True)
class Problems:
    """Lines that were skipped: how many, and the first few with number and reason."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, line: int, reason: str) -> None:
        """Note one skipped line."""
        self.count += 1
        if len(self.first) < 3:
            self.first.append(f"line {line} {reason}")

    def tell(self, path: Path) -> None:
        """Warn once, if anything was skipped."""
        if self.count:
            more = ", …" if self.count > len(self.first) else ""
            lines = "line" if self.count == 1 else "lines"
            # Such a line keeps no post from being fetched: it names none.
            again = "; download.py fetches posts that are lost by this again"
            warn(f"{path}: skipped {self.count} {lines}: {', '.join(self.first)}{more}{again}")


def loads(text: bytes | bytearray) -> Any:
    """The value of a JSON text. Raises ValueError, also for what Python takes and JSON has not:
    NaN, Infinity, and a number too large to be anything else; RecursionError for a deep one."""
    return _DECODER.decode(text.decode("utf-8", "surrogatepass"))


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no number of JSON")
    return value


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_finite)


def post_id(value: Any) -> int | None:
    """`value` if it is an integer that can name a post (and so a file), else None."""
    if type(value) is int and 0 < value <= MAX_ID:
        return value
    return None


def texts(file: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """(number, text) of each line of a .jsonl file that is not empty; None for the text of one that
    is longer than MAX_LINE."""
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            while line and not line.endswith(b"\n"):
                line = file.readline(MAX_LINE)
            yield number, None
        elif text := (line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line).strip():
            yield number, text


def lines(path: Path, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, JSON object with a fresh integer `id`) of each good line of a .jsonl file.

    Raises UserError when the file is missing.
    """
    seen = PostIds()
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run download.py first, or check --data") from None
    with file:
        for number, text in texts(file):
            if text is None:
                problems.add(number, f"is longer than {MAX_LINE} bytes")
                continue
            try:
                record = loads(text)
            except (ValueError, RecursionError):
                problems.add(number, "is not JSON")
                continue
            if not isinstance(record, dict):
                problems.add(number, "is not a JSON object")
            elif post_id(record.get("id")) is None:
                problems.add(number, "has no valid integer id")
            elif record["id"] in seen:
                problems.add(number, f"repeats post {record['id']}")
            else:
                seen.add(record["id"])
                yield number, record


def line(record: Any) -> bytes:
    """One line of a .jsonl file."""
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def append(file: IO[bytes], lines: bytes) -> int:
    """Append whole lines to an unbuffered file, or, when the disk takes only a part, nothing.

    Returns the byte at which they begin. Raises the OSError of a full disk.
    """
    end = file.seek(0, os.SEEK_END)
    rest = lines
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except BaseException:
        file.truncate(end)
        raise
    return end


def repair(path: Path) -> None:
    """See to a last line that a crash left without its newline.

    A whole JSON object gets its newline; anything else is cut off, as is what is longer than
    MAX_LINE. The file is opened for writing only if that is needed. On an OSError, whose filename
    is `path`, it is as it was.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        keep = _after_last_newline(file, end)
        if keep == end:
            return
        file.seek(keep)
        whole = end - keep < MAX_LINE and _is_object(file.read(end - keep))
    try:
        with path.open("rb+", buffering=0) as file:
            if whole:
                file.seek(end)
                file.write(b"\n")
            else:
                file.truncate(keep)
    except OSError as error:
        error.filename = str(path)  # A full disk names no file.
        raise


def _after_last_newline(file: IO[bytes], end: int) -> int:
    """Where what follows the last newline before `end` begins; read block by block from behind."""
    while end:
        start = max(0, end - 65536)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _is_object(text: bytes) -> bool:
    try:
        return isinstance(loads(text), dict)
    except (ValueError, RecursionError):
        return False
