"""A stand-in for Danbooru's API and for the model hub, on 127.0.0.1.

    python -m demo.server --site demo/data/site --hub demo/hub

prints its base URL, to be given to the scripts as DANBOORU_URL and HF_ENDPOINT. In tests:

    with serve(site, hub) as server:
        ... server.url, server.requests ...

The site folder holds posts.json, tag_aliases.json, tag_implications.json (lists of the API's
objects) and files/<md5>.<ext>; the hub folder holds <org>/<name>/<files>.

`Faults` makes it fail the way a real site does, and `latency` makes it as slow as a distant one.
"""

import argparse
import base64
import email.utils
import functools
import hashlib
import json
import random
import re
import socket
import struct
import sys
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from arena.cli import UserError, run

Json = dict[str, Any]

POSTS_LIMIT = 200
TAGS_LIMIT = 1000
DEFAULT_LIMIT = 20
CHUNK = 65536
DEFAULT_REVISIONS = ("main", "v2.0", "v1.0")
CHALLENGE = (
    b"<!DOCTYPE html><html><head><title>Just a moment...</title></head>"
    b"<body>Checking that you are not a robot</body></html>"
)

# What may go wrong with an answer, by the kind of answer.
ANY_FAULTS = ("429", "500", "503", "reset", "cut", "challenge", "html", "stall")
JSON_FAULTS = (*ANY_FAULTS, "cut json", "overlap", "repeat")
FILE_FAULTS = (*ANY_FAULTS, "flip")
FAULTS = (*JSON_FAULTS, "flip")


class Request(NamedTuple):
    """One request as it came: the path with its query, header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]


class Answer(NamedTuple):
    """What is sent back: a body in memory, or a file of which `body` is the path."""

    status: int
    kind: str
    body: bytes | Path
    headers: dict[str, str] = {}  # noqa: RUF012 (never written to)


@dataclass(frozen=True)
class Faults:
    """Which requests fail, decided by seed, path and how often that path was asked for.

    A path fails with probability `rate`, but never more than `most` times, so that a client that
    tries again gets through. `stall` seconds of silence precede an answer that stalls.
    """

    rate: float = 0.3
    seed: int = 0
    most: int = 3
    kinds: Collection[str] = tuple(kind for kind in FAULTS if kind != "stall")
    retry_after: int = 1
    stall: float = 5.0

    def pick(self, path: str, nth: int, possible: Collection[str]) -> str | None:
        """The fault that meets the `nth` (from 0) request for `path`, if any."""
        kinds = [kind for kind in possible if kind in self.kinds]
        if not kinds or nth >= self.most:
            return None
        dice = random.Random(f"{self.seed} {path} {nth}")
        return dice.choice(kinds) if dice.random() < self.rate else None


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


@dataclass
class Hub:
    """The model hub's answers, from a hub folder.

    `tokens` maps a gated repository to the token that opens it. `lies` are told in place of the
    truth: headers of a file by their name (with `Location` its answer is a redirect), `sha` of a
    repository, `oid` of the files in its tree, which then count as large.
    """

    folder: Path
    tokens: dict[str, str] = field(default_factory=dict)
    lies: dict[str, str] = field(default_factory=dict)

    def answer(self, path: str, token: str | None) -> Answer | None:
        """The answer to a hub path, None where the path is not the hub's."""
        if match := re.fullmatch(
            r"/api/models/([^/]+/[^/]+)(/revision/[^/]+|/tree/[^/]+)?/?", path
        ):
            repo, name = match[1], None
            _, ask, revision = (match[2] or "/revision/main").split("/")
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            repo, revision, name = match[1], match[2], match[3]
            ask = "resolve"
        else:
            return None
        folder = self.folder / repo
        if ".." in repo.split("/") or not folder.is_dir():
            return _hub_error(404, "RepoNotFound", "Repository not found")
        files = {
            path.relative_to(folder).as_posix(): path
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != ".revisions"
        }
        listed = folder / ".revisions"
        revisions = listed.read_text().split() if listed.is_file() else DEFAULT_REVISIONS
        held = "".join(f"{file} {_etag(files[file])}" for file in files)
        # A full commit among the revisions is the one that all the others stand for.
        commits = [name for name in revisions if re.fullmatch("[0-9a-f]{40}", name)]
        sha = commits[0] if commits else hashlib.sha1(held.encode()).hexdigest()
        if revision not in revisions and revision != sha:
            return _hub_error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if ask == "revision":
            siblings = [{"rfilename": file} for file in files]
            told = self.lies.get("sha", sha)
            return _json({"id": repo, "modelId": repo, "sha": told, "siblings": siblings})
        if ask == "tree":
            return _json([_tree_entry(file, files[file], self.lies.get("oid")) for file in files])
        if repo in self.tokens and token != self.tokens[repo]:
            return _hub_error(403 if token else 401, "GatedRepo", f"Access to {repo} is restricted")
        lies = {name: value for name, value in self.lies.items() if name not in ("sha", "oid")}
        commit = {"X-Repo-Commit": sha} | lies
        if name not in files:
            missing = _hub_error(404, "EntryNotFound", "Entry not found")
            return missing._replace(headers=missing.headers | commit)
        headers = {"ETag": f'"{_etag(files[name])}"'} | commit
        status = 302 if "Location" in lies else 200
        return Answer(status, "application/octet-stream", files[name], headers)


def _tree_entry(name: str, path: Path, large: str | None) -> Json:
    size, oid = path.stat().st_size, _etag(path)
    entry = {"type": "file", "path": name, "size": size, "oid": oid}
    if large is None:
        return entry
    lfs = {"oid": large, "size": size, "pointerSize": 130}
    return entry | {"lfs": lfs, "xetHash": hashlib.sha256(oid.encode()).hexdigest()}


def _etag(path: Path) -> str:
    """The file's identity as the hub gives it for small files: the SHA-1 of git's blob."""
    about = path.stat()
    return _blob_sha(path, about.st_mtime_ns, about.st_size)


@functools.lru_cache(maxsize=1000)
def _blob_sha(path: Path, changed: int, size: int) -> str:
    sha = hashlib.sha1(b"blob %d\0" % size)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            sha.update(chunk)
    return sha.hexdigest()


def _hub_error(status: int, code: str, message: str) -> Answer:
    headers = {"X-Error-Code": code, "X-Error-Message": message}
    return Answer(status, "application/json", json.dumps({"error": message}).encode(), headers)


def _json(value: Any, status: int = 200) -> Answer:
    return Answer(status, "application/json; charset=utf-8", json.dumps(value).encode())


NOT_FOUND = _json({"success": False, "message": "Not found"}, 404)


class Server(ThreadingHTTPServer):
    """Both stand-ins behind one port. `requests` is the log of what was asked, in order."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        site: Site | None,
        hub: Hub | None,
        *,
        port: int = 0,
        faults: Faults | None = None,
        latency: float = 0.0,
        login: tuple[str, str] | None = None,
    ) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.site = site
        self.hub = hub
        self.faults = faults
        self.latency = latency
        self.login = login
        self.requests: list[Request] = []
        self.connections = 0
        self.failed: Counter[str] = Counter()
        self._asked: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fault(self, path: str, possible: Collection[str]) -> str | None:
        """The fault due for this request, counted in `failed`."""
        if self.faults is None:
            return None
        with self._lock:
            kind = self.faults.pick(path, self._asked[path], possible)
            self._asked[path] += 1
            if kind:
                self.failed[kind] += 1
        return kind

    def spoil(self, answer: Answer, fault: str) -> Answer:
        """What is sent in place of `answer` (`cut` and `reset` happen while it is sent)."""
        faults = self.faults or Faults()
        if fault in ("429", "500", "503"):
            soon = {"429": str(faults.retry_after), "503": email.utils.formatdate(usegmt=True)}
            headers = {"Retry-After": soon[fault]} if fault in soon else {}
            return _json({"success": False, "message": "Try later"}, int(fault))._replace(
                headers=headers
            )
        if fault == "challenge":
            return Answer(403, "text/html", CHALLENGE, {"cf-mitigated": "challenge"})
        if fault == "html":
            return Answer(200, "text/html; charset=utf-8", CHALLENGE)
        if fault == "stall":
            time.sleep(faults.stall)
        elif fault == "cut json" and isinstance(answer.body, bytes):
            return answer._replace(body=answer.body[: len(answer.body) // 2])
        elif fault == "flip" and isinstance(answer.body, Path):
            data = bytearray(answer.body.read_bytes())
            data[len(data) // 3] ^= 1
            return answer._replace(body=bytes(data))
        return answer

    def shutdown_request(self, request: Any) -> None:
        """Close without the shutdown that comes first elsewhere: it would forestall a reset."""
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error of ours; anything else is shown."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    wbufsize = CHUNK
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1
        time.sleep(self.server.latency)  # Opening a connection costs a round trip as well.

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on stderr; the log is `Server.requests`."""

    def do_HEAD(self) -> None:
        self._respond()

    def do_GET(self) -> None:
        self._respond()

    def _respond(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append(Request(self.command, self.path, headers))
        time.sleep(self.server.latency)
        path, _, text = self.path.partition("?")
        path, query = urllib.parse.unquote(path), dict(urllib.parse.parse_qsl(text))
        token = self.headers.get("Authorization", "").removeprefix("Bearer ") or None
        if self.server.hub and (answer := self.server.hub.answer(path, token)) is not None:
            self._send(answer)
        elif self.server.site:
            self._respond_as_site(self.server.site, path, query)
        else:
            self._send(NOT_FOUND)

    def _respond_as_site(self, site: Site, path: str, query: dict[str, str]) -> None:
        if (refusal := self._refusal()) is not None:
            return self._send(refusal)
        if (file := site.original(path)) is not None:
            fault = self.server.fault(self.path, FILE_FAULTS)
            return self._send(Answer(200, _media_type(file), file), fault)
        fault = self.server.fault(self.path, JSON_FAULTS)
        if fault == "overlap" and (below := re.fullmatch(r"b(\d+)", query.get("page", ""))):
            query |= {"page": f"b{int(below[1]) + 7}"}
        try:
            rows = site.page(path, query, self.server.url)
        except ValueError:
            return self._send(_json({"success": False, "message": "Invalid page or limit"}, 400))
        if rows is None:
            return self._send(NOT_FOUND)
        if fault == "repeat":
            rows = rows[:5] + rows[:-5]
        return self._send(_json(rows), fault)

    def _refusal(self) -> Answer | None:
        """What meets a client without a name of its own, or with the wrong password."""
        if self.headers.get("User-Agent", "").startswith("python-requests"):
            return Answer(403, "text/html", CHALLENGE, {"cf-mitigated": "challenge"})
        if self.server.login and (given := self.headers.get("Authorization")):
            right = base64.b64encode(":".join(self.server.login).encode()).decode()
            if given != f"Basic {right}":
                return _json({"success": False, "message": "Invalid API key"}, 401)
        return None

    def _send(self, answer: Answer, fault: str | None = None) -> None:
        if fault == "reset":
            # Closing a socket that lingers for no time sends a reset in place of an end.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            return
        if fault:
            answer = self.server.spoil(answer, fault)
        size = len(answer.body) if isinstance(answer.body, bytes) else answer.body.stat().st_size
        status, first, end = answer.status, 0, size
        headers = {"Content-Type": answer.kind, "Accept-Ranges": "bytes"} | answer.headers
        ranged = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if ranged and status == 200 and int(ranged[1]) < size:
            status, first = 206, int(ranged[1])
            end = min(int(ranged[2]) + 1, size) if ranged[2] else size
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{size}"
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(end - first))
        self.end_headers()
        if fault == "cut":
            end -= (end - first + 1) // 2
            self.close_connection = True
        if self.command == "HEAD":
            return
        if isinstance(answer.body, bytes):
            self.wfile.write(answer.body[first:end])
            return
        with answer.body.open("rb") as file:
            file.seek(first)
            while first < end and (chunk := file.read(min(CHUNK, end - first))):
                self.wfile.write(chunk)
                first += len(chunk)


def _media_type(file: Path) -> str:
    kinds = {".jpg": "image/jpeg", ".zip": "application/zip", ".mp4": "video/mp4"}
    return kinds.get(file.suffix, f"image/{file.suffix[1:]}")


@contextmanager
def serve(
    site: Path | None = None,
    hub: Path | None = None,
    *,
    faults: Faults | None = None,
    latency: float = 0.0,
    login: tuple[str, str] | None = None,
    vanishing: Collection[int] = (),
    file_host: str | None = None,
    tokens: dict[str, str] | None = None,
) -> Iterator[Server]:
    """A running server, until the block ends."""
    with Server(
        Site(site, file_host, frozenset(vanishing)) if site else None,
        Hub(hub, tokens or {}) if hub else None,
        faults=faults,
        latency=latency,
        login=login,
    ) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def main() -> None:
    """Serve until interrupted."""
    args = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    args.add_argument("--site", type=Path, metavar="DIR", help="site folder (default: none)")
    args.add_argument("--hub", type=Path, metavar="DIR", help="hub folder (default: none)")
    args.add_argument("--port", type=int, default=0, help="default: 0, any free one")
    args.add_argument("--latency", type=float, default=0.0, help="seconds a request (default: 0)")
    args.add_argument("--faults", type=float, default=0.0, help="share of requests (default: 0)")
    args.add_argument("--seed", type=int, default=0, help="of the faults (default: 0)")
    options = args.parse_args()
    server = Server(
        Site(options.site) if options.site else None,
        Hub(options.hub) if options.hub else None,
        port=options.port,
        faults=Faults(options.faults, options.seed) if options.faults else None,
        latency=options.latency,
    )
    print(server.url, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    run(main)
