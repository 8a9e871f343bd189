"""The HTTP client for huggingface_hub: no answer takes for ever, or names a file elsewhere.

Importing this module sets it up. `patience` is how long a fetch may still go on.
"""

import math
import os
import re
import sys
import threading
import time
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from arena.cli import UserError

import httpcore2
import httpx2
import huggingface_hub
from huggingface_hub import constants, errors, file_download, utils
from huggingface_hub.utils._http import hf_request_event_hook, parse_ratelimit_headers
from huggingface_hub.utils._xet import abort_xet_session, refresh_xet_connection_info
from huggingface_hub.utils.tqdm import disable_progress_bars

SECONDS = 45.0  # That a fetch goes on without a file's data.
RATE = 4096  # Bytes of a file's data that make up for a second.
LONGEST_PAUSE = 10  # Seconds that the hub may ask for before the same request.
LARGEST_ANSWER = 16 * 2**20  # Bytes of an answer that is no file, decompressed.
CHUNK = 2**16
SAFE_NAME = re.compile("[A-Za-z0-9_-]{1,128}")


class Slow(errors.OfflineModeIsEnabled):
    """The hub has used up the patience. huggingface_hub takes it for being offline: it uses what
    its cache holds, and does not try again."""


class XetError(Exception):
    """What keeps a file from coming from Xet storage, whose hosts are not the hub's own."""


class _Patience:
    """How long a fetch may still go on: a file's data puts the end off, and nothing else does.

    So it holds for whatever else may take for ever: silence, headers, notices (1xx), redirects,
    pages of a list, tries again, and data in drops.
    """

    def __init__(self) -> None:
        self.end = math.inf

    def begin(self) -> None:
        """Take the full time from now on."""
        self.end = time.monotonic() + SECONDS

    def extend(self, size: float) -> None:
        """Put the end off for so many bytes of a file; never beyond the full time."""
        full = time.monotonic() + SECONDS
        self.end = max(self.end, min(full, self.end + size / RATE))

    def over(self) -> bool:
        """Whether the time is used up."""
        return time.monotonic() >= self.end

    @contextmanager
    def within(self, timeout: float | None) -> Iterator[float | None]:
        """The time that one step on the network may take, of the `timeout` it was given."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise Slow
        if timeout is not None:
            left = min(left, timeout)
        try:
            yield None if math.isinf(left) else left
        except httpcore2.TimeoutException:
            if self.over():
                raise Slow from None
            raise


patience = _Patience()


class _Stream(httpcore2.NetworkStream):
    """A connection, each of whose steps is bounded by the patience."""

    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """As httpcore2 says."""
        with patience.within(timeout) as seconds:
            return self._stream.read(max_bytes, seconds)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """As httpcore2 says."""
        with patience.within(timeout) as seconds:
            self._stream.write(buffer, seconds)

    def close(self) -> None:
        """As httpcore2 says."""
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        """As httpcore2 says."""
        with patience.within(timeout) as seconds:
            return _Stream(self._stream.start_tls(ssl_context, server_hostname, seconds))

    def get_extra_info(self, info: str) -> Any:
        """As httpcore2 says."""
        return self._stream.get_extra_info(info)


class _Backend(httpcore2.SyncBackend):
    """What opens connections."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore2.NetworkStream:
        """As httpcore2 says."""
        with patience.within(timeout) as seconds:
            return _Stream(super().connect_tcp(host, port, seconds, local_address, socket_options))


class _Body(httpx2.SyncByteStream):
    """An answer's body, decompressed: of a file, whose data is progress, or of limited length."""

    def __init__(self, stream: Any, *, gzip: bool, file: bool) -> None:
        self._stream, self._gzip, self._file = stream, gzip, file

    def __iter__(self) -> Iterator[bytes]:
        total = 0
        for data in _gunzip(self._received()) if self._gzip else self._received():
            total += len(data)
            if not self._file and total > LARGEST_ANSWER:
                raise UserError(f"{site()} sends an answer that does not end: check HF_ENDPOINT")
            yield data

    def _received(self) -> Iterator[bytes]:
        for data in self._stream:
            if self._file:
                patience.extend(len(data))
            yield data

    def close(self) -> None:
        """Close the connection, or give it back."""
        self._stream.close()


def _gunzip(stream: Iterable[bytes]) -> Iterator[bytes]:
    """Decompressed in small pieces, however much a piece holds."""
    unpacked = zlib.decompressobj(zlib.MAX_WBITS | 16)
    for data in stream:
        while data:
            try:
                yield unpacked.decompress(data, CHUNK)
            except zlib.error as error:
                raise httpx2.DecodingError(str(error)) from None
            data = unpacked.unconsumed_tail
    yield unpacked.flush()


class _Client(httpx2.Client):
    """The library's HTTP client, which passes on no answer that would name a file elsewhere.

    huggingface_hub joins an ETag to its folder of blobs, and a commit to its other folders, as
    they come: `/path` or `../../path` would plant a file there.
    """

    def __init__(self) -> None:
        super().__init__(
            event_hooks={"request": [hf_request_event_hook], "response": [_bound]},
            headers={"Accept-Encoding": "identity"},
            follow_redirects=True,
            timeout=None,
        )
        # Every byte from and to the network goes through here, whatever else httpx2 may do.
        for transport in (self._transport, *self._mounts.values()):
            if isinstance(transport, httpx2.HTTPTransport):
                transport._pool._network_backend = _Backend()

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """The answer, or a UserError before anything has been written because of it."""
        request.extensions["file"] = options.get("stream", False)
        response = super().send(request, **options)
        body = None if options.get("stream") else _json(response)
        if not all(map(is_safe_name, (*_header_names(response), *_body_names(body)))):
            response.close()
            raise UserError(
                f"{site()} answered with an unsafe file name, and nothing was written under it: "
                "check HF_ENDPOINT"
            )
        if _pause(response) > LONGEST_PAUSE:
            # The library would sleep for as long as the hub says, were it days.
            response.close()
            raise errors.HfHubHTTPError("asked to wait", response=response)
        return response


def _bound(response: httpx2.Response) -> None:
    """Bound the body of an answer, also of a redirect and an error, before anybody reads it."""
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", ""):
        raise UserError(
            f"{site()} answers in a form ({encoding[:40]}) not asked for: check HF_ENDPOINT"
        )
    if encoding == "gzip":
        # Decompressed here, so the headers no longer hold.
        for name in ("Content-Encoding", "Content-Length"):
            response.headers.pop(name, None)
    file = response.request.extensions.get("file", False) and response.is_success
    response.stream = _Body(response.stream, gzip=encoding == "gzip", file=file)


def _pause(response: httpx2.Response) -> float:
    """The seconds that the hub asks for before the same request, 0 where it does not."""
    if response.status_code not in (429, 503):
        return 0
    after = response.headers.get("Retry-After", "")
    limits = parse_ratelimit_headers(response.headers)
    waits = [int(after[:9])] if after.isascii() and after.isdigit() else []
    waits += [limits.reset_in_seconds] if limits and limits.remaining == 0 else []
    return max(waits, default=0)


def is_safe_name(name: Any) -> bool:
    """Whether what a hub sent as an ETag (quotes off) or a commit can only name a plain file."""
    return isinstance(name, str) and SAFE_NAME.fullmatch(name) is not None


def _header_names(response: httpx2.Response) -> Iterator[str]:
    """The names of files and folders that the library takes from an answer's headers."""
    headers = response.headers
    if (commit := headers.get("X-Repo-Commit")) is not None:
        yield commit
    # The library asks for names by HEAD. Errors and downloads have ETags of their own kind.
    if response.request.method == "HEAD" and not response.is_error:
        etag = headers.get("X-Linked-ETag") or headers.get("ETag")
        if etag is not None:
            yield etag.lstrip("W/").strip('"')


def _body_names(body: Any) -> Iterator[Any]:
    """The same from an answer's JSON: a repository's commit, or the hashes of a list of files."""
    entries = body if isinstance(body, list) else [body]
    for entry in (entry for entry in entries if isinstance(entry, dict)):
        large = entry.get("lfs")
        for part in (entry, large if isinstance(large, dict) else {}):
            yield from (part[key] for key in ("sha", "oid") if part.get(key) is not None)


def _json(response: httpx2.Response) -> Any:
    """An answer's JSON as the library will read it, None where it holds none."""
    try:
        return response.json()
    except (ValueError, RecursionError):
        return None


class Bar(utils.tqdm):  # type: ignore[name-defined]
    """The library's progress bar, which also sees what comes from Xet storage."""

    def update(self, n: float | None = 1) -> bool | None:
        """As tqdm says; it is called where the bar is not shown, too."""
        patience.extend(n or 0)
        shown: bool | None = super().update(n)
        return shown


_library_xet_get = file_download.xet_get


def _xet_get(**options: Any) -> None:
    """The library's download from Xet storage, ended as every other when nothing comes.

    It runs in code of its own, which goes on for minutes when it meets a host that is blocked.
    """
    patience.begin()
    try:
        info = refresh_xet_connection_info(
            file_data=options["xet_file_data"], headers=options["headers"]
        )
    except errors.HfHubHTTPError as error:
        raise _xet_error(f"{site()} gives no access, HTTP {error.response.status_code}") from None
    except (Slow, httpx2.HTTPError, ValueError):
        raise _xet_error(f"{site()} gives no access") from None
    host = urlsplit(info.endpoint).hostname
    done = threading.Event()
    threading.Thread(target=_watch, args=(done,), daemon=True).start()
    try:
        _library_xet_get(**options)
    except Exception as error:
        # Those of hf_xet share no class of their own. A full disk is not the storage's doing.
        if getattr(error, "errno", None) or "No space left" in str(error):
            raise
        raise _xet_error(f"{host} {'does not answer' if patience.over() else 'fails'}") from None
    finally:
        done.set()


def _xet_error(why: str) -> XetError:
    """The error, after which files come without Xet storage."""
    constants.HF_HUB_DISABLE_XET = True
    return XetError(why)


def _watch(done: threading.Event) -> None:
    """End the downloads from Xet storage when the patience is over."""
    while not done.wait(0.1):
        if patience.over():
            abort_xet_session()


def site() -> str:
    """The hub's address without a user name or password that HF_ENDPOINT may hold."""
    parts = urlsplit(constants.ENDPOINT)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


# hf_xet would report each transfer, with what the machine runs. It reads this when it is loaded.
os.environ["HF_XET_TELEMETRY_ENABLED"] = "false"
huggingface_hub.set_client_factory(_Client)
file_download.xet_get = _xet_get
huggingface_hub.logging.set_verbosity_error()
warnings.filterwarnings("ignore", "Not enough free disk space")  # Our own error says so.
if not sys.stderr.isatty():
    disable_progress_bars()
