"""A hub on a raw socket, which answers as no hub should."""

import contextlib
import gzip
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.helpers import ROOT, Ended

Trick = Callable[[socket.socket, bytes], None]
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
NAMED = (
    OK
    + b'ETag: "%s"\r\nX-Repo-Commit: %s\r\n' % (b"b" * 40, b"a" * 40)
    + b"Content-Length: 1000\r\nConnection: close\r\n\r\n"
)


def drip(first: bytes, again: bytes, pause: float = 0.01) -> Trick:
    """Send `first`, then `again` until the client has gone."""

    def answer(connection: socket.socket, request: bytes) -> None:
        connection.sendall(first)
        while True:
            connection.sendall(again)
            time.sleep(pause)

    return answer


def plain(status: bytes, *headers: bytes, body: bytes = b"") -> Trick:
    """One whole answer."""
    lines = b"\r\n".join([b"HTTP/1.1 " + status, *headers, b"Content-Length: %d" % len(body)])
    return lambda connection, request: connection.sendall(lines + b"\r\n\r\n" + body)


def lost(connection: socket.socket, request: bytes) -> None:
    """Go away after one byte of the file, wherever the client goes on."""
    resumed = b"range: bytes=" in request.lower()
    start = b"HTTP/1.1 206 Partial Content\r\n" if resumed else OK
    connection.sendall(start + b"Content-Length: 1000\r\n\r\nx")
    connection.shutdown(socket.SHUT_RDWR)


def silence(connection: socket.socket, request: bytes) -> None:
    """Wait until the client has gone."""
    connection.recv(1)


# What any answer may do.
ANSWERS: dict[str, Trick] = {
    "silence": silence,
    "status in drops": drip(b"HTTP/1.1 ", b"2"),
    "a header in drops": drip(OK + b"X-A: ", b"a"),
    "endless headers": drip(OK, b"X-A: a\r\n", 0),
    "headers, one at a time": drip(OK, b"X-A: a\r\n"),
    "notices": drip(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", 0),
    "notices, one at a time": drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "redirects to itself": plain(b"307 Temporary Redirect", b"Location: /api/models/a/b"),
    "asks for a day's wait": plain(b"429 Too Many Requests", b"Retry-After: 86400"),
    "asks for a wait in its limits": plain(b"429 No", b'RateLimit: "api";r=0;t=86400'),
}
# What the body of JSON may do.
BODIES: dict[str, Trick] = {
    "a body in drops": drip(OK + b"Content-Length: 9999999\r\n\r\n", b" "),
    "an endless body": drip(CHUNKED, b"ffff\r\n" + b" " * 65535 + b"\r\n", 0),
    "a chunk's size in drops": drip(CHUNKED + b"1;", b"a"),
    "chunks of a byte": drip(CHUNKED, b"1\r\n \r\n"),
    "trailers, one at a time": drip(CHUNKED + b"2\r\n{}\r\n0\r\n", b"X-A: a\r\n"),
    "endless trailers": drip(CHUNKED + b"2\r\n{}\r\n0\r\n", b"X-A: a\r\n", 0),
    "a bomb": plain(b"200 OK", b"Content-Encoding: gzip", body=gzip.compress(bytes(2**27))),
    "another form": plain(b"200 OK", b"Content-Encoding: gzip, gzip", body=b"{}"),
    "an error in drops": drip(b"HTTP/1.1 500 No\r\nContent-Length: 999999\r\n\r\n", b" "),
    "a redirect's body in drops": drip(
        b"HTTP/1.1 307 T\r\nLocation: /x\r\nContent-Length: 999999\r\n\r\n", b" "
    ),
}
# What the body of a file may do. Slow ones come below the least rate.
FILES: dict[str, Trick] = {
    "in drops": drip(OK + b"Content-Length: 1000\r\n\r\n", b" ", 0.05),
    "in chunks of a byte": drip(CHUNKED, b"1\r\n \r\n", 0.05),
    "a chunk's size in drops": drip(CHUNKED + b"1;", b"a", 0.05),
    "trailers, one at a time": drip(CHUNKED + b"1\r\n \r\n0\r\n", b"X-A: a\r\n", 0.05),
    "silence in the middle": drip(OK + b"Content-Length: 1000\r\n\r\n ", b"", 0.05),
    "lost after each byte": lost,
    "an error in drops": drip(b"HTTP/1.1 500 No\r\nContent-Length: 999999\r\n\r\n", b" "),
    "an endless error": drip(b"HTTP/1.1 500 No\r\n\r\n", b" " * 65536, 0),
    "another form": plain(b"200 OK", b"Content-Encoding: br", body=b"{}"),
}


@contextmanager
def hostile(trick: Trick, *, files_only: bool = False) -> Iterator[str]:
    """The address of a hub that plays `trick` on every request, or only where a file is sent."""

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            request = connection.recv(65536)
            if files_only and request.startswith(b"HEAD "):
                connection.sendall(NAMED)
            else:
                trick(connection, request)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


@contextmanager
def dead(how: str) -> Iterator[str]:
    """The address of a host that is silent, refuses connections, or is blocked."""
    with socket.socket() as listener, contextlib.ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        address = listener.getsockname()
        if how != "refuses":
            listener.listen(64 if how == "silent" else 0)
        if how == "blocked":
            # The queue is full, so that nothing more is answered, as where a firewall drops it.
            for _ in range(2):
                one = waiting.enter_context(socket.socket())
                one.setblocking(False)
                one.connect_ex(address)
        yield f"http://127.0.0.1:{address[1]}"


def hasty(script: str, *args: object, env: dict[str, str]) -> Ended:
    """Run a script as a user's shell would, but with a patience of four seconds."""
    code = (
        "import runpy, sys; from arena import hub_client; hub_client.SECONDS = 4.0; "
        "sys.argv[:] = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, script, *map(str, args)],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)
