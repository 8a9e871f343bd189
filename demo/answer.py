"""What every part of the stand-in speaks in: an answer, and one of JSON."""

import json
from pathlib import Path
from typing import Any, NamedTuple

Json = dict[str, Any]


class Answer(NamedTuple):
    """What is sent back: a body in memory, or a file of which `body` is the path."""

    status: int
    kind: str
    body: bytes | Path
    headers: dict[str, str] = {}  # noqa: RUF012 (never written to)


def json_answer(value: Any, status: int = 200) -> Answer:
    """An answer of JSON."""
    return Answer(status, "application/json; charset=utf-8", json.dumps(value).encode())
