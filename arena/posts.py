"""posts.jsonl: Danbooru's posts as the API gave them, one JSON object a line, read with suspicion.

Whatever stands in the file, reading it yields only posts whose fields have the right types; every
other line is skipped and counted with its number.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arena.cli import UserError, warn
from arena.files import MAX_LINE

MAX_ID = 2**53  # The largest integer that every JSON reader keeps exact.
CATEGORIES = ("general", "character", "copyright", "artist", "meta")
RATINGS = {"g": "general", "s": "sensitive", "q": "questionable", "e": "explicit"}


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
            warn(f"{path}: skipped {self.count} {lines}: {', '.join(self.first)}{more}")


def post_id(value: Any) -> int | None:
    """`value` if it is an integer that can name a post (and so a file), else None."""
    if type(value) is int and 0 < value <= MAX_ID:
        return value
    return None


def lines(path: Path, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, JSON object with a fresh integer `id`) of each good line of a .jsonl file.

    Raises UserError when the file is missing.
    """
    seen: set[int] = set()
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run download.py first, or check --data") from None
    with file:
        number = 0
        while line := file.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE:
                while line and not line.endswith(b"\n"):
                    line = file.readline(MAX_LINE)
                problems.add(number, f"is longer than {MAX_LINE} bytes")
                continue
            text = line.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else line.strip()
            if not text:
                continue
            try:
                record = json.loads(text)
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


def ids(path: Path) -> list[int]:
    """The post IDs of a file with one a line. Raises UserError that names a bad line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"there is no file {path}: give one with a post ID a line") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file with one post ID a line") from None
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not (word := line.strip()):
            continue
        value = int(word) if word.isascii() and word.isdigit() and len(word) < 17 else None
        if post_id(value) is None:
            raise UserError(f"{path} line {number}: '{word[:40]}' is not a post ID")
        found.append(value)
    if not found:
        raise UserError(f"{path} has no post ID in it: give a file with one a line")
    return found  # type: ignore[return-value]
