"""Files fetched by several workers at once while the caller goes on finding posts."""

import queue
import re
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from arena import files
from arena.cli import UserError
from arena.download.danbooru import (
    Client,
    DeniedError,
    MismatchError,
    RefusedError,
    Site,
    StoppedError,
    TransientError,
)

STILL_IMAGES = ("jpg", "jpeg", "png", "webp", "avif")  # What trainable.py can use; no GIF.
COUNTED = ("downloaded", "already there", "hidden", "not images", "too large")
WAITING = 500  # Posts queued at most; then finding more waits for the workers.
HOPELESS = 20  # Files that failed in a row, after all their tries, before a run gives up.


class Original(NamedTuple):
    """A file to fetch, as its post describes it."""

    post_id: int
    url: str
    md5: str
    size: int | None


@dataclass
class Outcome:
    """What became of the posts: `counts` of each kind in COUNTED, and why which ones failed."""

    counts: Counter[str] = field(default_factory=Counter)
    failed: dict[int, str] = field(default_factory=dict)


def original(post: dict[str, Any], most: int) -> Original | str:
    """What is to be fetched for a post, or why nothing is; `most` in bytes.

    Fields of the wrong type make a post fail, so that it is told and not taken for a hidden one.
    """
    url, md5, size = post.get("file_url"), post.get("md5"), post.get("file_size")
    if not url or not md5:
        return "hidden"
    if post.get("file_ext") not in STILL_IMAGES:
        return "not images"
    if not isinstance(url, str) or not isinstance(md5, str) or type(size) not in (int, type(None)):
        return "failed"
    if not re.fullmatch("[0-9a-f]{32}", md5):
        return "failed"
    if size is not None and size > most:
        return "too large"
    return Original(post["id"], url, md5, size)


def is_there(folder: Path, found: Original) -> bool:
    """Whether the file has been fetched; one of another size is not it."""
    try:
        size = (folder / str(found.post_id)).stat().st_size
    except FileNotFoundError:
        return False
    return found.size is None or found.size == size


class Fetcher:
    """`workers` threads that fetch to `folder`, each over its own connections.

    Used as a context: leaving it waits for all files; leaving it by an exception drops those
    under way, with their temporary files, within about a second. A worker's error is raised in
    the caller's thread, and sets `stop` so that the caller's own waiting ends.
    """

    def __init__(
        self,
        site: Site,
        folder: Path,
        *,
        workers: int,
        most: int,
        stop: threading.Event,
        outcome: Outcome,
        bar: Any,
    ) -> None:
        self.site, self.folder, self.most = site, folder, most
        self.stop, self.outcome, self.bar = stop, outcome, bar
        self._error: BaseException | None = None
        self._in_a_row = 0
        self._lock = threading.Lock()
        self._queue: queue.Queue[Original | None] = queue.Queue(WAITING)
        # Daemons: a thread that waits for a silent server must not hold up the end of the run.
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(workers)]

    def fetch(self, posts: Iterable[dict[str, Any]]) -> None:
        """Hand over posts as they come; those that need no request are only counted."""
        for post in posts:
            found = original(post, self.most)
            if isinstance(found, Original) and is_there(self.folder, found):
                found = "already there"
            if isinstance(found, Original):
                self.bar.total = (self.bar.total or 0) + 1
                self._put(found)
            elif found == "failed":
                self._fail(post["id"], "malformed record")
            else:
                with self._lock:
                    self.outcome.counts[found] += 1

    def __enter__(self) -> "Fetcher":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
        except BaseException:
            self._abandon()
            raise
        if kind is not None:
            self._abandon()
            self._check()

    def _finish(self) -> None:
        for _ in self._threads:
            self._put(None)
        for thread in self._threads:
            while thread.is_alive():
                thread.join(0.2)
                self._check()
        self._check()

    def _abandon(self) -> None:
        self.stop.set()
        end = time.monotonic() + 1
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        files.sweep(self.folder)

    def _put(self, job: Original | None) -> None:
        while True:
            self._check()
            try:
                return self._queue.put(job, timeout=0.2)
            except queue.Full:
                continue

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        client = Client(self.site, self.stop)
        try:
            while (job := self._queue.get()) is not None:
                self._fetch_one(client, job)
        except StoppedError:
            pass
        except BaseException as error:
            # Handed to the thread that called, which knows how to tell the user.
            self._error = error
            self.stop.set()

    def _fetch_one(self, client: Client, job: Original) -> None:
        path = self.folder / str(job.post_id)
        try:
            client.save(job.url, path, size=job.size, md5=job.md5, most=self.most)
        except (MismatchError, RefusedError, TransientError) as error:
            self._fail(job.post_id, str(error))
            if isinstance(error, TransientError | DeniedError):
                self._in_a_row += 1
            if self._in_a_row >= HOPELESS:
                raise UserError(
                    f"{HOPELESS} files in a row failed, the last with: {error}. "
                    "Run the same command later to go on"
                ) from None
        else:
            self._in_a_row = 0
            with self._lock:
                self.outcome.counts["downloaded"] += 1
        self.bar.update()

    def _fail(self, post_id: int, reason: str) -> None:
        with self._lock:
            self.outcome.failed[post_id] = reason
