"""An HTTP client for Danbooru. It pauses between API calls, and only the site gets the login.

A request ends in one of three ways: with what was asked for; with a `TransientError` or a
`MismatchError`, after which it is made again, each time after a longer pause of random length; or
with a `RefusedError`, after which it is not made again.
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
from arena.download.reach import LOOPBACK, OutOfReachError, Reach, address_kinds, mount
from arena.jsonl import post_id

import requests
import urllib3

Json = dict[str, Any]
T = TypeVar("T")

USER_AGENT = "validation-arena/1.0 (download.py)"  # The site refuses the library's own.
PAGE_LIMIT = 200  # Posts on a page, the site's cap.
TAGS_LIMIT = 1000  # Aliases or implications on a page, the site's cap.
CHUNK_BYTES = 65536
MAX_JSON_BYTES = 64_000_000  # A page of 200 long posts is under 2 MB.
MAX_REDIRECTS = 5
MAX_BACKOFF_SECONDS = 60.0
MAX_RETRY_AFTER_SECONDS = 3600.0  # A site that wants a longer pause is asked again after this.
MAX_ANSWER_TIMEOUTS = 20  # A whole answer may take as long as this many time-outs of --timeout.


class TransientError(Exception):
    """A failure that the next try may not meet.

    `retry_after` is the pause that the site asked for, in seconds; 0 where it asked for none.
    """

    def __init__(self, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class MismatchError(Exception):
    """A file of another size or MD5 than its post says. The next try may get the right one."""


class RefusedError(Exception):
    """A failure that every further try would meet."""


class DeniedError(RefusedError):
    """A refusal of this user or login, which requests for other files would meet too."""


class StoppedError(Exception):
    """The run is ending: this request is not finished."""


@dataclass(frozen=True)
class Site:
    """The site's address, the user's login, and how often requests are made."""

    url: str
    login: tuple[str, str] | None = field(default=None, repr=False)  # Name and API key.
    api_interval: float = 1.0  # Seconds between the starts of two API calls.
    tries: int = 8  # How often a request that fails is made.
    backoff: float = 1.0  # Seconds before the second try; doubles with each further one.
    timeout: float = 30.0  # Seconds without a byte after which a try has failed.

    @functools.cached_property
    def reach(self) -> Reach:
        """The addresses that all clients of the run may connect to."""
        return Reach(origin(self.url)[1])

    def authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the login to a request for the site's own host, and to no other.

        A session that has this as its `auth` does not look for passwords in ~/.netrc.
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
    """DANBOORU_LOGIN and DANBOORU_API_KEY, or None where neither is set.

    Raises UserError where only one is set, or where they would travel to `url` unencrypted.
    """
    login = os.environ.get("DANBOORU_LOGIN", "")
    key = os.environ.get("DANBOORU_API_KEY", "")
    if bool(login) != bool(key):
        missing = "DANBOORU_API_KEY" if login else "DANBOORU_LOGIN"
        raise UserError(f"{missing} is not set: set both it and its other half, or neither")
    scheme, host, _ = origin(url)
    if login and scheme == "http" and address_kinds(host) != {LOOPBACK}:
        raise UserError(
            f"{url} would be sent DANBOORU_API_KEY unencrypted: give an https address with --url "
            "or DANBOORU_URL, or unset DANBOORU_LOGIN and DANBOORU_API_KEY"
        )
    return (login, key) if login else None


class _Session(requests.Session):
    """A session that follows no redirect, as `Client` checks each one and follows it itself.

    `allow_redirects=False` is not enough: requests then still reads the whole body of a redirect
    and parses its Location.
    """

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None, always."""


class Client:
    """A connection to the site and one to its file host, both kept open. For one thread only.

    Once the event `stop` is set, every method raises StoppedError.
    """

    def __init__(self, site: Site, stop: threading.Event) -> None:
        self.site = site
        self.stop = stop
        self.session = _Session()
        self.session.headers["User-Agent"] = USER_AGENT
        self.session.auth = site.authorize
        mount(self.session, site.reach)
        self._next_call = 0.0

    def posts(self, below: int) -> list[Json]:
        """The up to 200 newest posts with an id below `below`, newest first.

        Empty where the site has none. Raises UserError when the call kept failing.
        """
        return self._page("posts", below, PAGE_LIMIT)

    def posts_by_id(self, ids: list[int]) -> list[Json]:
        """The posts of up to 200 ids, newest first, without those that the site does not show.

        Raises UserError when the call kept failing.
        """
        asked = set(ids)
        params = {"limit": str(PAGE_LIMIT), "tags": "id:" + ",".join(map(str, ids))}
        rows = self._retry_or_give_up(lambda: self._rows("posts", params))
        return [row for row in newest_first(rows) if row["id"] in asked]

    def all_rows(self, name: str) -> Iterator[list[Json]]:
        """Every page of `tag_aliases` or `tag_implications`, newest first.

        Raises UserError when a call kept failing.
        """
        below = 2_000_000_000
        while rows := self._page(name, below, TAGS_LIMIT):
            yield rows
            below = rows[-1]["id"]

    def save(self, url: str, path: Path, *, size: int | None, md5: str, max_bytes: int) -> None:
        """Fetch a file to `path`, which appears only when size (if known) and MD5 are as given.

        A file of unknown size may have `max_bytes`. Raises TransientError or MismatchError when
        every try failed, RefusedError, or OSError when the file cannot be written.
        """
        self._retry(lambda: self._save_once(url, path, size, md5, max_bytes))

    def _save_once(self, url: str, path: Path, size: int | None, md5: str, max_bytes: int) -> None:
        digest, length = hashlib.md5(usedforsecurity=False), 0
        with self._open(url) as response:
            announced = response.headers.get("Content-Length", "")
            if size is None and announced.isdecimal() and int(announced) > max_bytes:
                raise RefusedError("larger than --max-file-size")
            # Without waiting for the disk, as a later run notices a file of a wrong size.
            with files.atomic(path, sync=False) as file:
                for chunk in self._chunks(response):
                    length += len(chunk)
                    if length > (max_bytes if size is None else size):
                        break
                    digest.update(chunk)
                    file.write(chunk)
                if size is None and length > max_bytes:
                    raise RefusedError("larger than --max-file-size")
                if size is not None and length != size:
                    raise MismatchError("size is not the post's")
                if digest.hexdigest() != md5:
                    raise MismatchError("MD5 is not the post's")

    def _page(self, name: str, below: int, limit: int) -> list[Json]:
        """Up to `limit` rows with an id below `below`, newest first, each id once."""

        def ask() -> list[Json]:
            rows = self._rows(name, {"limit": str(limit), "page": f"b{below}"})
            found = [row for row in newest_first(rows) if row["id"] < below]
            if rows and not found:
                raise TransientError("an earlier page instead of the one asked for")
            return found

        return self._retry_or_give_up(ask)

    def _rows(self, name: str, params: dict[str, str]) -> list[Any]:
        """The list that one API call answers; what is in the list is not checked."""
        self._wait(self._next_call - time.monotonic())
        self._next_call = time.monotonic() + self.site.api_interval
        data = bytearray()
        with self._open(f"{self.site.url}/{name}.json", params) as response:
            for chunk in self._chunks(response):
                data += chunk
                if len(data) > MAX_JSON_BYTES:
                    raise TransientError("an answer that does not end")
        try:
            rows = json.loads(data)
        except (ValueError, RecursionError):
            raise TransientError("an answer that is not whole JSON") from None
        if not isinstance(rows, list):
            raise TransientError("an answer that is not a list")
        return rows

    def _retry_or_give_up(self, action: Callable[[], T]) -> T:
        """As `_retry`, for an API call: when it fails the run cannot go on, hence a UserError."""
        try:
            return self._retry(action)
        except (TransientError, RefusedError) as error:
            raise UserError(f"{self.site.url}: {error}") from None

    def _retry(self, action: Callable[[], T]) -> T:
        """What `action` returns; it is called until it succeeds, `tries` times at most.

        Raises the last try's TransientError or MismatchError, or the first RefusedError.
        """
        for tried in range(1, self.site.tries):
            try:
                return action()
            except (TransientError, MismatchError) as failure:
                asked = getattr(failure, "retry_after", 0.0)
                wait = min(self.site.backoff * 2 ** (tried - 1), MAX_BACKOFF_SECONDS)
                self._wait(max(asked, wait * random.uniform(0.5, 1.5)))
        return action()

    def _wait(self, seconds: float) -> None:
        """Sleep. Raises StoppedError as soon as the run is ending."""
        if self.stop.wait(max(0.0, seconds)):
            raise StoppedError

    @contextmanager
    def _open(self, url: str, params: dict[str, str] | None = None) -> Iterator[requests.Response]:
        """The answer to a GET, of status 200, its body not yet read.

        Redirects are followed here, so that each URL passes the same checks as the first.
        """
        for _ in range(MAX_REDIRECTS + 1):
            response = self._get(url, params)
            with response:
                if not response.is_redirect:
                    self._check_answer(response)
                    yield response
                    return
            try:
                url, params = urllib.parse.urljoin(url, response.headers["Location"]), None
            except ValueError:
                raise RefusedError("a redirect to what is no URL") from None
        raise RefusedError("too many redirects")

    def _get(self, url: str, params: dict[str, str] | None) -> requests.Response:
        """The answer to one request, whatever its status. Raises this module's errors only."""
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

    def _check_answer(self, response: requests.Response) -> None:
        """Raise TransientError, DeniedError or RefusedError unless the answer has data."""
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
        """The body, in pieces of up to CHUNK_BYTES as they arrive.

        Raises TransientError when it takes too long or ends early.
        """
        deadline = time.monotonic() + MAX_ANSWER_TIMEOUTS * self.site.timeout
        try:
            # read1 returns what has arrived. read would wait until a chunk is full: where a site
            # sends a byte at a time, for longer than any time-out.
            while chunk := response.raw.read1(CHUNK_BYTES, decode_content=True):
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
    """The seconds that a Retry-After header (a number or a date) asks for; 0 if it is not valid."""
    if header.isascii() and header.isdecimal():
        return min(float(header), MAX_RETRY_AFTER_SECONDS)
    try:
        due = email.utils.parsedate_to_datetime(header).timestamp()
    except (ValueError, OverflowError):
        return 0.0
    return min(max(0.0, due - time.time()), MAX_RETRY_AFTER_SECONDS)
