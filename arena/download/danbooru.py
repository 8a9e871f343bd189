"""Danbooru over HTTP: a client that is polite, patient and tells nobody the user's password.

Every answer is one of three things: what was asked for; a `TransientError` or `MismatchError`,
after which it is asked for again with exponential back-off and jitter; or a `RefusedError`, which
asking again would not change.
"""

import base64
import email.utils
import functools
import hashlib
import json
import os
import random
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from arena import files
from arena.cli import UserError
from arena.download.reach import LOOPBACK, OutOfReachError, Reach, mount, places
from arena.jsonl import post_id

import requests
import urllib3

Json = dict[str, Any]
T = TypeVar("T")

USER_AGENT = "validation-arena/1.0 (download.py)"  # The site refuses the library's own.
PAGE_LIMIT = 200  # Posts on a page, the site's cap.
TAGS_LIMIT = 1000  # Aliases or implications on a page, the site's cap.
CHUNK = 65536
MAX_JSON = 64_000_000  # Bytes. A page of 200 long posts is under 2 MB.
MAX_REDIRECTS = 5
MAX_BACKOFF = 60.0  # Seconds.
MAX_RETRY_AFTER = 3600.0  # Seconds; a site that asks for more is asked again after this.
SLOWEST = 20  # A whole answer may take this many times the time-out of one silence.


class TransientError(Exception):
    """A failure that may pass. `retry_after`: seconds that the site asked to wait, 0 if none."""

    def __init__(self, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class MismatchError(Exception):
    """A file that is not the one its post describes. That may pass, too."""


class RefusedError(Exception):
    """An answer that asking again would not change."""


class DeniedError(RefusedError):
    """A refusal that is about who asks, and so will meet the next request as well."""


class StoppedError(Exception):
    """The run is ending; what was under way is dropped."""


@dataclass(frozen=True)
class Site:
    """Where the site is, who asks, and how patiently. Times in seconds."""

    url: str
    login: tuple[str, str] | None = field(default=None, repr=False)
    api_interval: float = 1.0
    tries: int = 8
    backoff: float = 1.0
    timeout: float = 30.0

    @functools.cached_property
    def reach(self) -> Reach:
        """What every client of the run may connect to."""
        return Reach(origin(self.url)[1])

    def authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the login to a request for the site's own host, and to no other.

        As a session's `auth` this also keeps requests from looking for passwords in ~/.netrc.
        """
        if self.login and origin(str(request.url)) == origin(self.url):
            token = base64.b64encode(":".join(self.login).encode()).decode()
            request.headers["Authorization"] = f"Basic {token}"
        return request


def origin(url: str) -> tuple[str, str, int]:
    """(scheme, host, port) of an http or https URL. Raises ValueError for any other."""
    parts = urllib.parse.urlsplit(url)
    port = {"http": 80, "https": 443}.get(parts.scheme)
    if port is None or not parts.hostname:
        raise ValueError("not an http or https URL")
    return parts.scheme, parts.hostname, port if parts.port is None else parts.port


def site_url(text: str) -> str:
    """An argparse type: the site's base URL, without a slash at the end."""
    try:
        origin(text)
    except ValueError:
        raise UserError(
            "the site's URL must be a valid http or https one: see --url and DANBOORU_URL"
        ) from None
    parts = urllib.parse.urlsplit(text)
    if "@" in parts.netloc:
        raise UserError(
            "the site's URL holds a login: set DANBOORU_LOGIN and DANBOORU_API_KEY instead"
        )
    if parts.query or parts.fragment:
        raise UserError("the site's URL must end before any ? or #: see --url and DANBOORU_URL")
    return text.rstrip("/")


def login_from_environment(url: str) -> tuple[str, str] | None:
    """DANBOORU_LOGIN and DANBOORU_API_KEY, None when neither is set.

    Raises UserError when only one is, or when the site at `url` would get them in the clear.
    """
    login = os.environ.get("DANBOORU_LOGIN", "")
    key = os.environ.get("DANBOORU_API_KEY", "")
    if bool(login) != bool(key):
        missing = "DANBOORU_API_KEY" if login else "DANBOORU_LOGIN"
        raise UserError(f"{missing} is not set: set both it and its other half, or neither")
    scheme, host, _ = origin(url)
    if login and scheme == "http" and places(host) != {LOOPBACK}:
        raise UserError(
            f"{url} would be sent DANBOORU_API_KEY unencrypted: give an https address with --url "
            "or DANBOORU_URL, or unset DANBOORU_LOGIN and DANBOORU_API_KEY"
        )
    return (login, key) if login else None


class _Session(requests.Session):
    """A session that leaves redirects alone, so that `Client` checks each before it is followed.

    `allow_redirects=False` is not enough: requests then still reads the whole body of a redirect
    and parses where it leads.
    """

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None, always."""


class Client:
    """One connection to the site and one to its file host, kept open; one thread's own."""

    def __init__(self, site: Site, stop: threading.Event) -> None:
        self.site = site
        self.stop = stop
        self.session = _Session()
        self.session.headers["User-Agent"] = USER_AGENT
        self.session.auth = site.authorize
        mount(self.session, site.reach)
        self._next_call = 0.0

    def posts(self, below: int) -> list[Json]:
        """The page of posts with an id below `below`, newest first; empty at the site's end."""
        return self._page("posts", below, PAGE_LIMIT)

    def posts_by_id(self, ids: list[int]) -> list[Json]:
        """Those of up to 200 posts that the site shows, newest first."""
        asked = set(ids)
        params = {"limit": str(PAGE_LIMIT), "tags": "id:" + ",".join(map(str, ids))}
        rows = self._persist_on_api(lambda: self._rows("posts", params))
        return [row for row in newest_first(rows) if row["id"] in asked]

    def all_rows(self, name: str) -> Iterator[list[Json]]:
        """Every page of `tag_aliases` or `tag_implications`, newest first."""
        below = 2_000_000_000
        while rows := self._page(name, below, TAGS_LIMIT):
            yield rows
            below = rows[-1]["id"]

    def save(self, url: str, path: Path, *, size: int | None, md5: str, most: int) -> None:
        """Fetch a file to `path`, which appears only when size and MD5 are as given.

        `most` is the largest size accepted, in bytes. Raises TransientError or MismatchError when
        it kept failing, RefusedError, StoppedError, or OSError when it cannot be written.
        """
        self._persist(lambda: self._save_once(url, path, size, md5, most))

    def _save_once(self, url: str, path: Path, size: int | None, md5: str, most: int) -> None:
        digest, length = hashlib.md5(usedforsecurity=False), 0
        with self._open(url) as response:
            announced = response.headers.get("Content-Length", "")
            if size is None and announced.isdecimal() and int(announced) > most:
                raise RefusedError("larger than --max-file-size")
            # Not waiting for the disk is right here: a later run notices a size that is wrong.
            with files.atomic(path, sync=False) as file:
                for chunk in self._chunks(response):
                    length += len(chunk)
                    if length > (most if size is None else size):
                        break
                    digest.update(chunk)
                    file.write(chunk)
                if size is None and length > most:
                    raise RefusedError("larger than --max-file-size")
                if size is not None and length != size:
                    raise MismatchError("size is not the post's")
                if digest.hexdigest() != md5:
                    raise MismatchError("MD5 is not the post's")

    def _page(self, name: str, below: int, limit: int) -> list[Json]:
        """One page of rows with an id below `below`, newest first, each once."""

        def ask() -> list[Json]:
            rows = self._rows(name, {"limit": str(limit), "page": f"b{below}"})
            found = [row for row in newest_first(rows) if row["id"] < below]
            if rows and not found:
                raise TransientError("an earlier page instead of the one asked for")
            return found

        return self._persist_on_api(ask)

    def _rows(self, name: str, params: dict[str, str]) -> list[Any]:
        self._wait(self._next_call - time.monotonic())
        self._next_call = time.monotonic() + self.site.api_interval
        data = bytearray()
        with self._open(f"{self.site.url}/{name}.json", params) as response:
            for chunk in self._chunks(response):
                data += chunk
                if len(data) > MAX_JSON:
                    raise TransientError("an answer that does not end")
        try:
            rows = json.loads(data)
        except (ValueError, RecursionError):
            raise TransientError("an answer that is not whole JSON") from None
        if not isinstance(rows, list):
            raise TransientError("an answer that is not a list")
        return rows

    def _persist_on_api(self, action: Callable[[], T]) -> T:
        """As `_persist`, for calls without which a run cannot go on."""
        try:
            return self._persist(action)
        except (TransientError, RefusedError) as error:
            raise UserError(f"{self.site.url}: {error}") from None

    def _persist(self, action: Callable[[], T]) -> T:
        """Try until `action` succeeds or the site's number of tries is used up."""
        for tried in range(1, self.site.tries):
            try:
                return action()
            except (TransientError, MismatchError) as failure:
                asked = getattr(failure, "retry_after", 0.0)
                wait = min(self.site.backoff * 2 ** (tried - 1), MAX_BACKOFF)
                self._wait(max(asked, wait * random.uniform(0.5, 1.5)))
        return action()

    def _wait(self, seconds: float) -> None:
        if self.stop.wait(max(0.0, seconds)):
            raise StoppedError

    @contextmanager
    def _open(self, url: str, params: dict[str, str] | None = None) -> Iterator[requests.Response]:
        """A good answer to a GET, its body not yet read.

        Redirects are followed here so that each passes the same checks as the first URL.
        """
        for _ in range(MAX_REDIRECTS + 1):
            response = self._get(url, params)
            with response:
                if not response.is_redirect:
                    self._judge(response)
                    yield response
                    return
            try:
                url, params = urllib.parse.urljoin(url, response.headers["Location"]), None
            except ValueError:
                raise RefusedError("a redirect to what is no URL") from None
        raise RefusedError("too many redirects")

    def _get(self, url: str, params: dict[str, str] | None) -> requests.Response:
        if self.stop.is_set():
            raise StoppedError
        try:
            self.site.reach.check_numeric(origin(url)[1])
        except ValueError:
            raise RefusedError("not an http or https URL") from None
        except OutOfReachError as error:
            raise RefusedError(str(error)) from None
        try:
            return self.session.get(url, params=params, timeout=self.site.timeout, stream=True)
        except OutOfReachError as error:
            raise RefusedError(str(error)) from None
        except requests.Timeout:
            raise TransientError("timed out") from None
        except requests.exceptions.SSLError:
            raise TransientError("no secure connection") from None
        except requests.ConnectionError:
            raise TransientError("connection failed") from None
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema):
            raise RefusedError("not a valid URL") from None
        except requests.RequestException:
            raise TransientError("an answer that is not HTTP") from None
        except urllib3.exceptions.LocationParseError:
            # requests lets this one through for a host with an empty label.
            raise RefusedError("not a valid URL") from None

    def _judge(self, response: requests.Response) -> None:
        """Raise what an answer other than the one wanted means."""
        status = response.status_code
        wait = retry_after(response.headers.get("Retry-After", ""))
        page = response.headers.get("Content-Type", "").lower().startswith("text/html")
        if "cf-mitigated" in response.headers or (page and status in (200, 403, 429, 503)):
            raise TransientError(
                "a challenge page for browsers instead of data: try later, with fewer --workers, "
                "or log in with DANBOORU_LOGIN and DANBOORU_API_KEY",
                wait,
            )
        if status == 429:
            raise TransientError("429, too many requests", wait)
        if status == 408 or status >= 500:
            raise TransientError(f"{status}, server error", wait)
        if status == 401:
            raise DeniedError("401, login refused: check DANBOORU_LOGIN and DANBOORU_API_KEY")
        if status == 403:
            raise DeniedError(
                "403, access refused: check what the API key in DANBOORU_API_KEY may do"
                if self.site.login
                else "403, access refused: log in with DANBOORU_LOGIN and DANBOORU_API_KEY"
            )
        if status in (404, 410):
            raise RefusedError(f"{status}, not found")
        if status != 200:
            raise RefusedError(f"unexpected answer {status}")

    def _chunks(self, response: requests.Response) -> Iterator[bytes]:
        """The body as it comes, at most one chunk in memory."""
        deadline = time.monotonic() + SLOWEST * self.site.timeout
        try:
            # read1 returns what has arrived; read would wait for a full chunk from a site that
            # sends a byte at a time, past every time-out.
            while chunk := response.raw.read1(CHUNK, decode_content=True):
                if self.stop.is_set():
                    raise StoppedError
                if time.monotonic() > deadline:
                    raise TransientError("timed out")
                yield chunk
        except urllib3.exceptions.ReadTimeoutError:
            raise TransientError("timed out") from None
        except urllib3.exceptions.HTTPError:
            raise TransientError("connection dropped") from None


def newest_first(rows: list[Any]) -> list[Json]:
    """The rows that are objects with a valid id, each id once, by falling id."""
    objects = (row for row in rows if isinstance(row, dict))
    found = {row["id"]: row for row in objects if post_id(row.get("id"))}
    return [found[number] for number in sorted(found, reverse=True)]


def retry_after(header: str) -> float:
    """Seconds to wait by a Retry-After header (a number or a date), 0 without a valid one."""
    if header.isascii() and header.isdecimal():
        return min(float(header), MAX_RETRY_AFTER)
    try:
        due = email.utils.parsedate_to_datetime(header).timestamp()
    except (ValueError, OverflowError):
        return 0.0
    return min(max(0.0, due - time.time()), MAX_RETRY_AFTER)
