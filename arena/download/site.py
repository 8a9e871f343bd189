"""The site that a run asks: its address, the user's login, and what the run says that it is."""

import argparse
import base64
import functools
import os
import threading
import time
import urllib.parse
from dataclasses import dataclass, field

from arena import __version__
from arena.cli import UserError, warn
from arena.download.reach import LOOPBACK, Reach, address_kinds

import requests

DANBOORU = "https://danbooru.donmai.us"
ABOUT = "compares anime image taggers"
MAX_ANSWER_TIMEOUTS = 20  # A whole answer may take as long as this many time-outs of --timeout.
QUIET_SECONDS = 60.0  # At least so long after a line about a pause, none is said about another.


class Pauses:
    """Says that the site asked for a pause: once, however many workers are asked for it."""

    def __init__(self) -> None:
        self._quiet_until = 0.0
        self._lock = threading.Lock()

    def tell(self, seconds: float) -> None:
        """Say it, unless an earlier line still holds."""
        with self._lock:
            now = time.monotonic()
            if now < self._quiet_until:
                return
            self._quiet_until = now + max(seconds, QUIET_SECONDS)
        pause = max(1, round(seconds))
        warn(f"the site asks for a pause of {pause} s (Retry-After); the run goes on then")


@dataclass(frozen=True)
class Site:
    """The site's address, the user's login, and how often requests are made."""

    url: str
    login: tuple[str, str] | None = field(default=None, repr=False)  # Name and API key.
    user_agent: str = ""  # In place of the arena's own.
    api_interval: float = 1.0  # Seconds between the starts of two API calls.
    tries: int = 8  # How often a request that fails is made.
    backoff: float = 1.0  # Seconds before the second try; doubles with each further one.
    timeout: float = 30.0  # Seconds without a byte after which a try has failed.
    pauses: Pauses = field(default_factory=Pauses, repr=False)

    @functools.cached_property
    def reach(self) -> Reach:
        """The addresses that all clients of the run may connect to."""
        return Reach(origin(self.url)[1])

    @property
    def answer_timeout(self) -> float:
        """Seconds in which an answer, from the first redirect to the last byte, must be whole."""
        return MAX_ANSWER_TIMEOUTS * self.timeout

    @property
    def agent(self) -> str:
        """The User-Agent. The site refuses that of libraries, and asks for the user's name in it,
        as an agent that many share is refused for all of them once one abuses it."""
        user = f"; user {urllib.parse.quote(self.login[0])}" if self.login else ""
        return self.user_agent or f"validation-arena/{__version__} ({ABOUT}{user})"

    def is_at(self, url: str) -> bool:
        """Whether a URL leads to the site's own host, and not to the host of its files."""
        return origin(url) == origin(self.url)

    def authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the login to a request for the site's own host, and to no other.

        A session that has this as its `auth` does not look for passwords in ~/.netrc.
        """
        if self.login and self.is_at(str(request.url)):
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


def user_agent(text: str) -> str:
    """An argparse type: what a User-Agent header can hold."""
    if not (text.isprintable() and all(ord(letter) < 256 for letter in text)):
        raise argparse.ArgumentTypeError(
            f"'{text}' has characters that no User-Agent can hold: keep to letters, digits and "
            "punctuation of Latin-1 (see also DANBOORU_USER_AGENT)"
        )
    return text.strip()


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
