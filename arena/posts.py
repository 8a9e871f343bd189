"""What a post is: its ID, its tags' categories, its rating, its site; and lists of post IDs."""

import urllib.parse
from array import array
from pathlib import Path
from typing import Any

from arena.cli import UserError
from arena.data_folder import DataFolder
from arena.jsonl import post_id

CATEGORIES = ("general", "character", "copyright", "artist", "meta")
OWN = 10**12  # Above are the ids of one's own images, far from any that a site has given.
RATINGS = {"g": "general", "s": "sensitive", "q": "questionable", "e": "explicit"}
DANBOORU = "https://danbooru.donmai.us"
HERE = ("localhost", "127.0.0.1", "::1")


def site(data: DataFolder) -> str | None:
    """The address of the site that the posts came from, for links to it; Danbooru's where
    download.py has written none, None for a stand-in on a machine's own address, which leads
    nowhere. Raises UserError for what is no plain web address."""
    try:
        address = data.site.read_bytes()[:1000].decode().strip()
        parts = urllib.parse.urlsplit(address)
        plain = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except FileNotFoundError:
        return DANBOORU
    except ValueError:
        plain = False
    if not plain or set(address) & set("@?#\\ <>'\"") or not address.isprintable():
        raise UserError(
            f"{data.site} holds no address of a site, such as {DANBOORU}: put one there, or delete "
            "the file"
        )
    return None if parts.hostname in HERE else address.rstrip("/")


def parent_id(post: dict[str, Any]) -> int | None:
    """The ID of a post's parent, None where it has none."""
    return post_id(post.get("parent_id"))


def ids(path: Path) -> "array[int]":
    """The post IDs of a file with one a line. Raises UserError that names a bad line."""
    found = array("q")
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if not (word := line.strip()):
                    continue
                short = word.isascii() and word.isdigit() and len(word) < 17
                value = post_id(int(word)) if short else None
                if value is None:
                    raise UserError(f"{path} line {number}: '{word[:40]}' is not a post ID")
                found.append(value)
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"there is no file {path}: give one with a post ID a line") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file with one post ID a line") from None
    if not found:
        raise UserError(f"{path} has no post ID in it: give a file with one a line")
    return found
