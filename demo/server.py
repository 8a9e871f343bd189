"""A stand-in for Danbooru's API and for the model hub, on 127.0.0.1.

    python -m demo.server --site demo/data/site --hub demo/hub

prints its base URL, to be given to the scripts as DANBOORU_URL and HF_ENDPOINT. In tests:

    with serve(site, hub) as server:
        ... server.url, server.requests ...

The site folder holds posts.json, tag_aliases.json, tag_implications.json (lists of the API's
objects) and files/<md5>.<ext>; the hub folder holds <org>/<name>/<files>. The files have a host of
their own, at another port: `server.files.url`.

`Faults` makes it fail the way a real site does, and `latency` makes it as slow as a distant one.
"""

import argparse
import base64
import gzip
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
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from arena.cli import run
from demo.answer import Answer
from demo.faults import CHALLENGE, FAULTS, FILE_FAULTS, JSON_FAULTS, NO_FILE, Faults
from demo.hub_server import Hub, Storage
from demo.site import NOT_FOUND, WRONG_KEY, Site

__all__ = ["FAULTS", "Answer", "Faults", "Request", "Server", "serve"]

CHUNK = 65536
HTTP_CHUNK = 8192  # Bytes of an answer of the site that are sent as one chunk.
CLOUDFLARE = {"CF-RAY": "0123456789abcdef-AMS", "CF-Cache-Status": "DYNAMIC", "Vary": "Accept"}


class Request(NamedTuple):
    """One request as it came: the path with its query, header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]


class _Listener(ThreadingHTTPServer):
    """A port of the stand-in."""

    daemon_threads = True
    request_queue_size = 64

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def shutdown_request(self, request: Any) -> None:
        """Close without the shutdown that comes first elsewhere: it would forestall a reset."""
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error of ours; anything else is shown."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class FileHost(_Listener):
    """The host of the site's files: another port, which has neither the API nor the login."""

    def __init__(self, main: "Server") -> None:
        super().__init__(("127.0.0.1", 0), _FileHandler)
        self.main = main


class Server(_Listener):
    """Site and hub behind one port, and `files`, the site's file host, at another.

    `requests` is the log of what both ports were asked, in order.
    """

    def __init__(
        self,
        site: Site | None,
        hub: Hub | Storage | None,
        *,
        port: int = 0,
        faults: Faults | None = None,
        latency: float = 0.0,
        login: tuple[str, str] | None = None,
    ) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.main, self.files = self, FileHost(self)
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
        self.storage: Server | None = None
        if isinstance(hub, Hub):
            # The hub's large files lie on another host: here, behind another port.
            self.storage = Server(None, Storage(hub.folder), latency=latency)
            hub.url, hub.storage = self.url, self.storage.url

    @property
    def _others(self) -> "list[_Listener]":
        return [self.files, *([self.storage] if self.storage else [])]

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        """Answer at all ports until `shutdown`."""
        for other in self._others:
            waiting = (poll_interval,)
            threading.Thread(target=other.serve_forever, args=waiting, daemon=True).start()
        super().serve_forever(poll_interval)

    def shutdown(self) -> None:
        """End `serve_forever`."""
        for other in self._others:
            other.shutdown()
        super().shutdown()

    def server_close(self) -> None:
        """Close all ports."""
        for other in self._others:
            other.server_close()
        super().server_close()

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


class _Handler(BaseHTTPRequestHandler):
    server: Server | FileHost
    protocol_version = "HTTP/1.1"
    wbufsize = CHUNK
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.main = self.server.main
        self.main.connections += 1
        time.sleep(self.main.latency)  # Opening a connection costs a round trip as well.

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on stderr; the log is `Server.requests`."""

    def version_string(self) -> str:
        """What stands before the real site."""
        return "cloudflare"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.main.requests.append(Request(self.command, self.path, headers))
        time.sleep(self.main.latency)
        path, _, text = self.path.partition("?")
        self._respond(urllib.parse.unquote(path), dict(urllib.parse.parse_qsl(text)))

    def _respond(self, path: str, query: dict[str, str]) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ") or None
        if self.main.hub and (answer := self.main.hub.answer(path, token)) is not None:
            self._send(answer)
        elif self.main.site:
            self._respond_as_site(self.main.site, path, query)
        else:
            self._send(NOT_FOUND)

    def _respond_as_site(self, site: Site, path: str, query: dict[str, str]) -> None:
        if (refusal := self._refusal()) is not None:
            return self._send_compressed(refusal)
        fault = self.main.fault(self.path, JSON_FAULTS)
        if fault == "overlap" and (below := re.fullmatch(r"b(\d+)", query.get("page", ""))):
            query |= {"page": f"b{int(below[1]) + 7}"}
        rows = site.rows(path, query)
        if isinstance(rows, Answer):
            return self._send_compressed(rows)
        if fault == "repeat":
            rows = rows[:5] + rows[:-5]
        return self._send_compressed(site.answer(rows, self.main.files.url), fault)

    def _refusal(self) -> Answer | None:
        """What meets a client without a name of its own, or with the wrong password."""
        if self.headers.get("User-Agent", "").startswith("python-requests"):
            return CHALLENGE
        if self.main.login and (given := self.headers.get("Authorization")):
            right = base64.b64encode(":".join(self.main.login).encode()).decode()
            if given != f"Basic {right}":
                return WRONG_KEY
        return None

    def _send_compressed(self, answer: Answer, fault: str | None = None) -> None:
        """Send as the site does whatever it says: compressed, in chunks, of no size told before."""
        if fault == "reset":
            return self._reset()
        if fault:
            answer = (self.main.faults or Faults()).spoil(answer, fault)
        assert isinstance(answer.body, bytes)
        body = gzip.compress(answer.body, compresslevel=1, mtime=0)
        self._send_head(
            answer, {"Content-Encoding": "gzip", "Transfer-Encoding": "chunked"} | CLOUDFLARE
        )
        if fault == "cut":
            body = body[: len(body) // 2]
            self.close_connection = True
        if self.command == "HEAD":
            return None
        for first in range(0, len(body), HTTP_CHUNK):
            part = body[first : first + HTTP_CHUNK]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
        if fault != "cut":
            self.wfile.write(b"0\r\n\r\n")
        return None

    def _send(self, answer: Answer, fault: str | None = None) -> None:
        """Send a file, or part of one, with its size."""
        if fault == "reset":
            return self._reset()
        if fault:
            answer = (self.main.faults or Faults()).spoil(answer, fault)
        size = len(answer.body) if isinstance(answer.body, bytes) else answer.body.stat().st_size
        first, end, headers = 0, size, {"Accept-Ranges": "bytes"}
        ranged = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if ranged and answer.status == 200 and int(ranged[1]) < size:
            answer, first = answer._replace(status=206), int(ranged[1])
            end = min(int(ranged[2]) + 1, size) if ranged[2] else size
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{size}"
        self._send_head(answer, headers | {"Content-Length": str(end - first)})
        if fault == "cut":
            end -= (end - first + 1) // 2
            self.close_connection = True
        if self.command == "HEAD":
            return None
        if isinstance(answer.body, bytes):
            self.wfile.write(answer.body[first:end])
            return None
        with answer.body.open("rb") as file:
            file.seek(first)
            while first < end and (chunk := file.read(min(CHUNK, end - first))):
                self.wfile.write(chunk)
                first += len(chunk)
        return None

    def _send_head(self, answer: Answer, headers: dict[str, str]) -> None:
        self.send_response(answer.status)
        for name, value in ({"Content-Type": answer.kind} | headers | answer.headers).items():
            self.send_header(name, value)
        self.end_headers()

    def _reset(self) -> None:
        # Closing a socket that lingers for no time sends a reset in place of an end.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True


class _FileHandler(_Handler):
    def _respond(self, path: str, query: dict[str, str]) -> None:
        site = self.main.site
        if self.headers.get("User-Agent", "").startswith("python-requests"):
            self._send(CHALLENGE)
        elif site and (file := site.original(path)) is not None:
            fault = self.main.fault(self.path, FILE_FAULTS)
            self._send(Answer(200, _media_type(file), file, CLOUDFLARE), fault)
        else:
            self._send(NO_FILE)


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
