"""What an answer of the site or of its file host says: refused, failed, or with data to read."""

import email.utils
import time
import zlib
from collections.abc import Iterator

from arena import jsonl
from arena.download.errors import DeniedError, RefusedError, TransientError

import requests
import urllib3

CHUNK_BYTES = 65536
MAX_ERROR_BYTES = 65536  # A longer body of an error is not looked at.
MAX_MESSAGE = 200  # Letters of the site's own message that are shown.
MAX_RETRY_AFTER_SECONDS = 3600.0  # A site that wants a longer pause is asked again after this.
LOG_IN = "log in with DANBOORU_LOGIN and DANBOORU_API_KEY"
# What may help with a host that gets no login: the host of the files, or what stands before a site.
ELSEWHERE = "try fewer --workers, another --user-agent, or another address of yours"


def check(response: requests.Response, *, at_site: bool, login: bool) -> None:
    """Raise TransientError, DeniedError or RefusedError unless the answer has data.

    `at_site` says that it is the site's own and not its file host's; only the site gets the login.
    """
    status = response.status_code
    if status == 200 and not _is_page(response) and "cf-mitigated" not in response.headers:
        return
    wait = retry_after(response.headers.get("Retry-After", ""))
    if "cf-mitigated" in response.headers:
        remedy = f"try fewer --workers, or {LOG_IN}" if at_site and not login else ELSEWHERE
        raise TransientError(f"a challenge page for browsers instead of data: {remedy}", wait)
    if status == 503 and _is_page(response):
        raise TransientError("503, down for maintenance", wait)
    if status == 200:
        raise TransientError("a web page instead of data: check --url", wait)
    says = message(response)
    if status == 429:
        raise TransientError(f"429, too many requests: try fewer --workers{says}", wait)
    if status == 408 or status >= 500:
        raise TransientError(f"{status}, server error{says}", wait)
    if status == 401:
        raise DeniedError(f"401, login refused: check DANBOORU_LOGIN and DANBOORU_API_KEY{says}")
    if status == 403:
        if not at_site or _is_page(response):
            remedy = ELSEWHERE
        else:
            remedy = "check what the API key in DANBOORU_API_KEY may do" if login else LOG_IN
        raise DeniedError(f"403, access refused: {remedy}{says}")
    if status in (404, 410):
        raise RefusedError(f"{status}, not found{says}")
    raise RefusedError(f"unexpected answer {status}{says}")


def _is_page(response: requests.Response) -> bool:
    return response.headers.get("Content-Type", "").lower().startswith("text/html")


def message(response: requests.Response) -> str:
    """The site's own words for an error, quoted, after a space; empty where it has none."""
    if "json" not in response.headers.get("Content-Type", "").lower():
        return ""
    body = bytearray()
    try:
        for piece in chunks(response):
            body += piece
            if len(body) > MAX_ERROR_BYTES:
                return ""
        said = jsonl.loads(body)["message"]
    except (TransientError, ValueError, RecursionError, LookupError, TypeError):
        return ""
    words = " ".join(said.split()) if isinstance(said, str) else ""
    shown = words if len(words) <= MAX_MESSAGE else words[: MAX_MESSAGE - 1] + "…"
    return f' ("{shown}")' if shown else ""


def chunks(response: requests.Response) -> Iterator[bytes]:
    """The body, decompressed, in pieces of up to CHUNK_BYTES as they arrive; some may be empty.

    Raises TransientError when it takes too long, ends early or is not what it says it is.
    """
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise TransientError("an answer in a compression that was not asked for")
    raw = _raw_chunks(response)
    yield from raw if encoding == "identity" else _gunzip(raw)


def _raw_chunks(response: requests.Response) -> Iterator[bytes]:
    try:
        # read1 returns what has arrived; read would wait until a chunk is full.
        while chunk := response.raw.read1(CHUNK_BYTES, decode_content=False):
            yield chunk
    except urllib3.exceptions.ReadTimeoutError:
        raise TransientError("timed out") from None
    except urllib3.exceptions.HTTPError:
        raise TransientError("connection dropped") from None


def _gunzip(raw: Iterator[bytes]) -> Iterator[bytes]:
    """The content of gzip's members one after the other, never more than a chunk at once."""
    member = zlib.decompressobj(wbits=31)
    whole = False
    try:
        for data in raw:
            more = True
            while data or more:
                piece = member.decompress(data, CHUNK_BYTES)
                yield piece
                data = member.unconsumed_tail or member.unused_data
                more, whole = len(piece) == CHUNK_BYTES, member.eof
                if whole:
                    member = zlib.decompressobj(wbits=31)
                    more = False
    except zlib.error:
        raise TransientError("an answer that is not whole gzip") from None
    if not whole:
        raise TransientError("an answer that is not whole gzip")


def retry_after(header: str) -> float:
    """The seconds that a Retry-After header (a number or a date) asks for; 0 if it is not valid."""
    if header.isascii() and header.isdecimal():
        return min(float(header), MAX_RETRY_AFTER_SECONDS)
    try:
        due = email.utils.parsedate_to_datetime(header).timestamp()
    except (ValueError, OverflowError):
        return 0.0
    return min(max(0.0, due - time.time()), MAX_RETRY_AFTER_SECONDS)
