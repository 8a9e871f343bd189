"""An end to every answer, whatever trickles in.

A time-out alone ends a server that is silent, not one that sends a byte now and then: a header, a
`100 Continue`, a chunk's extension or a trailer at a time. So every single read of a socket, by
whichever layer it is made, may only wait for what is left of the whole answer's time.
"""

import http.client
import io
import math
import socket
import time
from typing import Any


class Deadline:
    """When the answer that a client waits for must be whole; all its connections ask here."""

    def __init__(self) -> None:
        self._end = math.inf

    def start(self, seconds: float) -> None:
        """A new answer, which may take so long."""
        self._end = time.monotonic() + seconds

    def limit(self, timeout: float | None) -> float | None:
        """`timeout`, or what is left where that is less. Raises TimeoutError for nothing left."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer took too long")
        shorter = left if timeout is None else min(timeout, left)
        return None if shorter == math.inf else shorter


class _Reading(io.RawIOBase):
    """The bytes that a socket receives, each read limited by a deadline."""

    def __init__(self, sock: Any, raw: Any, deadline: Deadline) -> None:
        self.sock, self.raw, self.deadline = sock, raw, deadline
        self.timeout: float | None = sock.gettimeout()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self.sock.settimeout(self.deadline.limit(self.timeout))
        count: int | None = self.raw.readinto(buffer)
        return count

    def close(self) -> None:
        self.raw.close()
        super().close()


class _Receiver:
    """A TLS connection to a proxy, for the TLS inside it, which calls `recv` until it is done."""

    def __init__(self, sock: Any, deadline: Deadline) -> None:
        self.sock, self.deadline = sock, deadline

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)

    def recv(self, *args: Any) -> Any:
        timeout = self.sock.gettimeout()
        self.sock.settimeout(self.deadline.limit(timeout))
        try:
            return self.sock.recv(*args)
        finally:
            self.sock.settimeout(timeout)


def ending(kind: Any, deadline: Deadline) -> Any:
    """The connection class `kind` of urllib3, whose answers all end at the deadline."""

    class Answer(http.client.HTTPResponse):
        def __init__(self, sock: Any, *args: Any, **options: Any) -> None:
            super().__init__(sock, *args, **options)
            self.fp = io.BufferedReader(_Reading(sock, self.fp.detach(), deadline))

        def begin(self) -> None:
            super().begin()
            # A cookie that is never seen is never kept, and never sent back.
            del self.headers["Set-Cookie"], self.headers["Set-Cookie2"]

    class Connection(kind):
        timeout: float | None
        response_class = Answer

        def _new_conn(self) -> socket.socket:
            self.timeout = deadline.limit(self.timeout)
            connected: socket.socket = super()._new_conn()
            # The TLS handshake comes next, all of it within the socket's time-out.
            connected.settimeout(deadline.limit(self.timeout))
            return connected

        def _connect_tls_proxy(self, hostname: str, sock: socket.socket) -> Any:
            return _Receiver(super()._connect_tls_proxy(hostname, sock), deadline)

    return Connection
