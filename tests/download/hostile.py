"""A server of raw bytes that goes on for ever, and the ways in which it does."""

import contextlib
import gzip
import itertools
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator

Pieces = Callable[[], Iterable[bytes]]

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
GZIP = OK + b"Content-Encoding: gzip\r\n\r\n"


def then_for_ever(first: bytes, *again: bytes) -> Pieces:
    """`first`, and then the others over and over."""
    return lambda: itertools.chain([first], itertools.cycle(again))


def flood(first: bytes, again: bytes) -> Pieces:
    """The same at full speed."""
    return then_for_ever(first, again * (65536 // len(again)))


def _empty_members() -> Iterable[bytes]:
    yield GZIP
    yield from itertools.repeat(gzip.compress(b"", mtime=0))


def _gzip_of_nothing() -> Iterable[bytes]:
    """Blocks of no data, of which deflate may have any number."""
    packer = zlib.compressobj(wbits=31)
    yield GZIP + packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH)
    while True:
        yield packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH)


# Each sends something all the time, so that no time-out for silence ends it.
TRICKLES: dict[str, Pieces] = {
    "a status line a byte at a time": then_for_ever(b"HTTP/1.1 200 ", b"O"),
    "a header a byte at a time": then_for_ever(OK + b"X-Name: ", b"x"),
    "a folded header": then_for_ever(OK + b"X-Name: x\r\n", b" x"),
    "1xx answers": then_for_ever(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a 1xx answer's headers": then_for_ever(b"HTTP/1.1 100 Continue\r\nX-Name: ", b"x"),
    "a chunk's size": then_for_ever(CHUNKED, b"0"),
    "a chunk's extension": then_for_ever(CHUNKED + b"1;", b"x"),
    "chunks of a byte": then_for_ever(CHUNKED, b"1\r\n \r\n"),
    "trailers": then_for_ever(CHUNKED + b"1\r\n[\r\n0\r\n", b"X-Name: x\r\n"),
    "a trailer a byte at a time": then_for_ever(CHUNKED + b"1\r\n[\r\n0\r\nX-Name: ", b"x"),
    "a body of spaces": then_for_ever(OK + b"\r\n", b" "),
    "a body of a size told": then_for_ever(OK + b"Content-Length: 9000000\r\n\r\n", b" "),
    "gzip's header": then_for_ever(GZIP + b"\x1f\x8b\x08\x08\0\0\0\0\0\x03", b"name"),
    "gzip of nothing": _gzip_of_nothing,
    "empty gzip members": _empty_members,
    "an error's body": then_for_ever(OK.replace(b"200 OK", b"500 No") + b"\r\n", b" "),
    "redirects a byte at a time": then_for_ever(
        b"HTTP/1.1 302 Found\r\nLocation: /again\r\nX-Name: ", b"x"
    ),
}
FLOODS: dict[str, Pieces] = {
    "headers": flood(OK, b"X-Name: x\r\n"),
    "1xx answers": flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a chunk's extension": flood(CHUNKED + b"1;", b"x"),
    "trailers": flood(CHUNKED + b"1\r\n[\r\n0\r\n", b"X-Name: x\r\n"),
    "gzip of nothing": _gzip_of_nothing,
    "empty gzip members": _empty_members,
    "JSON": flood(OK + b"\r\n", b" "),
}
# A handshake: the header of a TLS record of 16 kB, and then its bytes; and records of one byte.
HANDSHAKES: dict[str, Pieces] = {
    "a record a byte at a time": then_for_ever(b"\x16\x03\x03\x3f\xff", b"\x02"),
    "a record's header a byte at a time": then_for_ever(b"\x16", b"\x03"),
    "a message in records of a byte": then_for_ever(
        b"\x16\x03\x03\0\x04\x02\0\x3f\xff", b"\x16\x03\x03\0\x01\x03"
    ),
}


class Hostile:
    """The server: its URL, how many pieces it has sent, and how many of its clients have left."""

    def __init__(self, pieces: Pieces, *, slow: bool, asks: bool = True) -> None:
        self.pieces, self.slow, self.asks = pieces, slow, asks
        self.sent = self.left = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.ended = threading.Event()

    def serve(self) -> None:
        """Accept clients until the end."""
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError, ssl.SSLError):
            client.recv(65536)
            for piece in self.pieces():
                client.sendall(piece)
                self.sent += 1
                if self.ended.wait(0.02 if self.slow else 0):
                    return
        self.left += 1


@contextlib.contextmanager
def hostile(pieces: Pieces, *, slow: bool = True) -> Iterator[Hostile]:
    """A server that answers everybody with these pieces, slowly or as fast as it can."""
    server = Hostile(pieces, slow=slow)
    threading.Thread(target=server.serve, daemon=True).start()
    try:
        yield server
    finally:
        server.ended.set()
        server.listener.close()
