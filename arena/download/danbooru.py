"""An HTTP client for Danbooru. It pauses between API calls, and only the site gets the login.

A request ends in one of three ways: with what was asked for; with a `TransientError` or a
`MismatchError`, after which it is made again, each time after a longer pause of random length; or
with a `RefusedError`, after which it is not made again.
"""

import hashlib
import random
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from arena import files, jsonl
from arena.cli import UserError
from arena.download import answer
from arena.download.deadline import Deadline
from arena.download.errors import (
    DeniedError,
    MismatchError,
    RefusedError,
    StoppedError,
    TransientError,
)
from arena.download.reach import OutOfReachError, mount
from arena.download.site import Site, origin
from arena.jsonl import post_id

import requests
import urllib3

Json = dict[str, Any]
T = TypeVar("T")

PAGE_LIMIT = 200  # Posts on a page, the site's cap.
TAGS_LIMIT = 1000  # Aliases or implications on a page, the site's cap.
MAX_JSON_BYTES = 10_000_000  # Of an answer, decompressed. A page of 200 posts has about 1 MB.
MAX_REDIRECTS = 5
MAX_BACKOFF_SECONDS = 60.0
UNREACHABLE = "connection failed"


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
        self.session.headers["User-Agent"] = site.agent
        self.session.headers["Accept-Encoding"] = "gzip"
        self.session.auth = site.authorize
        self.deadline = Deadline()
        mount(self.session, site.reach, self.deadline)
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

        A URL without scheme or host is the site's.
        A file of unknown size may have `max_bytes`. Raises TransientError or MismatchError when
        every try failed, RefusedError, or OSError when the file cannot be written.
        """
        try:
            whole = urllib.parse.urljoin(f"{self.site.url}/", url)
        except ValueError:
            raise RefusedError("not a valid URL") from None
        self._retry(lambda: self._save_once(whole, path, size, md5, max_bytes))

    def _save_once(self, url: str, path: Path, size: int | None, md5: str, max_bytes: int) -> None:
        digest, length = hashlib.md5(usedforsecurity=False), 0
        with self._open(url) as response:
            announced = response.headers.get("Content-Length", "")
            if size is None and announced.isdecimal() and float(announced) > max_bytes:
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
                    raise TransientError(f"an answer of more than {MAX_JSON_BYTES} bytes")
        try:
            rows = jsonl.loads(data)
        except (ValueError, RecursionError):
            raise TransientError("an answer that is not whole JSON") from None
        if not isinstance(rows, list):
            raise TransientError("an answer that is not a list")
        return rows

    def _retry_or_give_up(self, action: Callable[[], T]) -> T:
        """As `_retry`, for an API call: when it fails the run cannot go on, hence a UserError."""
        try:
            return self._retry(action)
        except DeniedError as error:
            raise UserError(f"{self.site.url}: {error}") from None
        except RefusedError as error:
            raise UserError(f"{self.site.url}: {error}; check --url") from None
        except TransientError as error:
            check = "; check the connection, --url and DANBOORU_URL, or"
            hint = check if str(error) == UNREACHABLE else ";"
            later = "run the same command later to go on"
            raise UserError(f"{self.site.url}: {error}{hint} {later}") from None

    def _retry(self, action: Callable[[], T]) -> T:
        """What `action` returns; it is called until it succeeds, `tries` times at most.

        Raises the last try's TransientError or MismatchError, or the first RefusedError.
        """
        for tried in range(1, self.site.tries):
            try:
                return action()
            except (TransientError, MismatchError) as failure:
                asked = getattr(failure, "retry_after", 0.0)
                if asked:
                    self.site.pauses.tell(asked)
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
        self.deadline.start(self.site.answer_timeout)
        for _ in range(MAX_REDIRECTS + 1):
            response = self._get(url, params)
            with response:
                if not response.is_redirect:
                    answer.check(
                        response, at_site=self.site.is_at(url), login=bool(self.site.login)
                    )
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
            self.deadline.limit(self.site.timeout)
            self.site.reach.check_numeric(origin(url)[1])
        except TimeoutError:
            raise TransientError("timed out") from None
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
            raise TransientError(UNREACHABLE) from None
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema):
            raise RefusedError("not a valid URL") from None
        except requests.RequestException:
            raise TransientError("an answer that is not HTTP") from None
        except urllib3.exceptions.LocationParseError:
            # requests lets this one through for a host with an empty label.
            raise RefusedError("not a valid URL") from None

    def _chunks(self, response: requests.Response) -> Iterator[bytes]:
        """The body, decompressed, in pieces as they arrive, until the run is ending."""
        for chunk in answer.chunks(response):
            if self.stop.is_set():
                raise StoppedError
            yield chunk


def newest_first(rows: list[Any]) -> list[Json]:
    """The rows that are objects with a valid id, each id once, by falling id."""
    objects = (row for row in rows if isinstance(row, dict))
    found = {row["id"]: row for row in objects if post_id(row.get("id"))}
    return [found[number] for number in sorted(found, reverse=True)]
