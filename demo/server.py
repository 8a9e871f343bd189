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
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from arena.cli import run
from demo.answer import Answer, json_answer
from demo.hub_server import Hub, Storage
from demo.site import Site

CHUNK = 65536
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


NOT_FOUND = json_answer({"success": False, "message": "Not found"}, 404)


class Server(ThreadingHTTPServer):
    """Both stand-ins behind one port. `requests` is the log of what was asked, in order."""

    daemon_threads = True
    request_queue_size = 64

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

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        """Answer until `shutdown`, the hub's storage too."""
        if self.storage:
            waiting = (poll_interval,)
            threading.Thread(target=self.storage.serve_forever, args=waiting, daemon=True).start()
        super().serve_forever(poll_interval)

    def shutdown(self) -> None:
        """End `serve_forever`, and let the hub's storage go."""
        if self.storage:
            self.storage.shutdown()
            self.storage.server_close()
        super().shutdown()

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
            return json_answer({"success": False, "message": "Try later"}, int(fault))._replace(
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
            return self._send(
                json_answer({"success": False, "message": "Invalid page or limit"}, 400)
            )
        if rows is None:
            return self._send(NOT_FOUND)
        if fault == "repeat":
            rows = rows[:5] + rows[:-5]
        return self._send(json_answer(rows), fault)

    def _refusal(self) -> Answer | None:
        """What meets a client without a name of its own, or with the wrong password."""
        if self.headers.get("User-Agent", "").startswith("python-requests"):
            return Answer(403, "text/html", CHALLENGE, {"cf-mitigated": "challenge"})
        if self.server.login and (given := self.headers.get("Authorization")):
            right = base64.b64encode(":".join(self.server.login).encode()).decode()
            if given != f"Basic {right}":
                return json_answer({"success": False, "message": "Invalid API key"}, 401)
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
