"""What a post is: its ID, its tags' categories, its rating, and lists of posts in text files."""

from pathlib import Path
from typing import Any

from arena.cli import UserError
from arena.jsonl import post_id

CATEGORIES = ("general", "character", "copyright", "artist", "meta")
OWN = 10**12  # Above are the ids of one's own images, far from any that a site has given.
RATINGS = {"g": "general", "s": "sensitive", "q": "questionable", "e": "explicit"}


def parent_id(post: dict[str, Any]) -> int | None:
    """The ID of a post's parent, None where it has none."""
    return post_id(post.get("parent_id"))


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
