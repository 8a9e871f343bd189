"""Danbooru's side of the stand-in: posts, aliases, implications and files from a site folder."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from arena.cli import UserError
from demo.answer import Answer, Json, json_answer
from demo.record import CDN, file_urls, hidden

POSTS_LIMIT = 200
TAGS_LIMIT = 1000
DEFAULT_LIMIT = 20
MAX_PAGE = 1000  # Of numbered pages; those with `b` and `a` go on for ever.
MAX_TAGS = 2  # Terms with `id:` do not count.


def error(status: int, name: str, message: str) -> Answer:
    """The site's answer where something is wrong."""
    # The files of the site's own program, which a client has no use for.
    trace = ["app/logical/danbooru.rb:12:in `answer'", "app/controllers/application.rb:7"]
    body = {"success": False, "error": name, "message": message, "backtrace": trace}
    return json_answer(body, status)


NOT_FOUND = error(404, "ActiveRecord::RecordNotFound", "That record was not found.")
TIMED_OUT = error(500, "ActiveRecord::QueryCanceled", "The database timed out running your query.")
TOO_MANY_TAGS = error(
    422, "PostQuery::TagLimitError", "You cannot search for more than 2 tags at a time."
)
PAST_THE_END = error(
    410, "PaginationExtension::PaginationError", f"You cannot go beyond page {MAX_PAGE}."
)
NO_PAGE = error(400, "ArgumentError", "Invalid page or limit")
WRONG_KEY = error(401, "SessionLoader::AuthenticationFailure", "Invalid API key")


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

    def rows(self, path: str, query: dict[str, str]) -> list[Json] | Answer:
        """The rows that an API path answers, or the error."""
        tags = query.get("tags", "").split()
        try:
            if path == "/posts.json":
                if sum(not tag.startswith("id:") for tag in tags) > MAX_TAGS:
                    return TOO_MANY_TAGS
                found = _page(_tagged(self.posts, tags), query, POSTS_LIMIT)
                return [self._shown(post) for post in found] if isinstance(found, list) else found
            if path == "/tag_aliases.json":
                return _page(_newest_first(self.aliases), query, TAGS_LIMIT)
            if path == "/tag_implications.json":
                return _page(_newest_first(self.implications), query, TAGS_LIMIT)
        except ValueError:
            return NO_PAGE
        return NOT_FOUND

    def _shown(self, post: Json) -> Json:
        if post["id"] in self.vanished:
            return hidden(post)
        if not (md5 := post.get("md5")):
            return post
        return file_urls(md5, post["file_ext"]) | post

    def answer(self, rows: list[Json], file_host: str) -> Answer:
        """The answer with these rows, its files at `file_host` in place of the real one."""
        answer = json_answer(rows)
        assert isinstance(answer.body, bytes)
        there = self.file_host or file_host
        return answer._replace(body=answer.body.replace(CDN.encode(), there.encode()))

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


def _tagged(posts: list[Json], tags: list[str]) -> list[Json]:
    for tag in tags:
        if tag.startswith("id:"):
            wanted = set(tag.removeprefix("id:").split(","))
            posts = [post for post in posts if str(post["id"]) in wanted]
        else:
            posts = [post for post in posts if tag in post["tag_string"].split()]
    return posts


def _page(rows: list[Json], query: dict[str, str], cap: int) -> list[Json] | Answer:
    """One page of rows sorted newest first: `page=b<id>` (below), `a<id>` (above) or a number."""
    limit = min(int(query.get("limit", DEFAULT_LIMIT)), cap)
    page = query.get("page", "1")
    if page.startswith("b"):
        return [row for row in rows if row["id"] < int(page[1:])][:limit]
    if page.startswith("a"):
        above = [row for row in rows if row["id"] > int(page[1:])]
        return above[max(0, len(above) - limit) :]
    if int(page) > MAX_PAGE:
        return PAST_THE_END
    first = (int(page) - 1) * limit
    return rows[first : first + limit]
