"""Danbooru's side of the stand-in: posts, aliases, implications and files from a site folder."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from arena.cli import UserError
from demo.answer import Json

POSTS_LIMIT = 200
TAGS_LIMIT = 1000
DEFAULT_LIMIT = 20


@dataclass
class Site:
    """Danbooru's answers, from a site folder.

    Posts in `vanishing` are shown until their file is first asked for, then hidden: deleted
    between page and file. `file_host` is the base of file URLs, when it is another server.
    """

    folder: Path
    file_host: str | None = None
    vanishing: frozenset[int] = frozenset()
    vanished: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.posts = sorted(self._read("posts.json"), key=lambda post: -int(post["id"]))
        self.aliases = self._read("tag_aliases.json")
        self.implications = self._read("tag_implications.json")
        self.owner = {f"{post['md5']}": int(post["id"]) for post in self.posts if post.get("md5")}

    def _read(self, name: str) -> list[Json]:
        path = self.folder / name
        try:
            found: list[Json] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{path} is missing: give a site folder with --site") from None
        return found

    def page(self, path: str, query: dict[str, str], base: str) -> list[Json] | None:
        """The answer to an API path, None where there is no such path."""
        if path == "/posts.json":
            found = _page(_tagged(self.posts, query.get("tags", "")), query, POSTS_LIMIT)
            return [self._shown(post, base) for post in found]
        if path == "/tag_aliases.json":
            return _page(_newest_first(self.aliases), query, TAGS_LIMIT)
        if path == "/tag_implications.json":
            return _page(_newest_first(self.implications), query, TAGS_LIMIT)
        return None

    def _shown(self, post: Json, base: str) -> Json:
        if post["id"] in self.vanished:
            return {key: value for key, value in post.items() if key != "md5"}
        if not (md5 := post.get("md5")):
            return post
        url = f"{self.file_host or base}/original/{md5[:2]}/{md5[2:4]}/{md5}.{post['file_ext']}"
        return post | {"file_url": url, "large_file_url": url, "preview_file_url": url}

    def original(self, path: str) -> Path | None:
        """The file behind a file_url, None where there is none (any more)."""
        match = re.fullmatch(r"/original/\w\w/\w\w/(([0-9a-f]{32})\.\w+)", path)
        if not match:
            return None
        if self.owner.get(match[2]) in self.vanishing:
            self.vanished.add(self.owner[match[2]])
            return None
        file = self.folder / "files" / match[1]
        return file if file.is_file() else None


def _newest_first(rows: list[Json]) -> list[Json]:
    return sorted(rows, key=lambda row: -int(row["id"]))


def _tagged(posts: list[Json], tags: str) -> list[Json]:
    for tag in tags.split():
        if tag.startswith("id:"):
            wanted = set(tag.removeprefix("id:").split(","))
            posts = [post for post in posts if str(post["id"]) in wanted]
        else:
            posts = [post for post in posts if tag in post["tag_string"].split()]
    return posts


def _page(rows: list[Json], query: dict[str, str], cap: int) -> list[Json]:
    """One page of rows sorted newest first: `page=b<id>` (below), `a<id>` (above) or a number."""
    limit = min(int(query.get("limit", DEFAULT_LIMIT)), cap)
    page = query.get("page", "1")
    if page.startswith("b"):
        return [row for row in rows if row["id"] < int(page[1:])][:limit]
    if page.startswith("a"):
        above = [row for row in rows if row["id"] > int(page[1:])]
        return above[max(0, len(above) - limit) :]
    first = (int(page) - 1) * limit
    return rows[first : first + limit]
