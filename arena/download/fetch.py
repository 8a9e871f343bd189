"""originals/: the posts' files, fetched by several threads while the caller looks for posts."""

import queue
import re
import stat
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from arena import files, jsonl
from arena.cli import UserError, progress, say
from arena.data_folder import DataFolder
from arena.download.danbooru import Client
from arena.download.errors import (
    DeniedError,
    MismatchError,
    RefusedError,
    StoppedError,
    TransientError,
)
from arena.posts import OWN

STILL_IMAGES = ("jpg", "jpeg", "png", "webp", "avif")  # What trainable.py can use; no GIF.
# What becomes of a post's file if it does not fail, in the order in which it is said.
OUTCOMES = ("downloaded", "already there", "hidden", "not images", "too large")
NOT_SHOWN = "not shown by the site"
IN_THE_WAY = "originals/ has a folder of that name: move it away"
MAX_REASONS = 10  # That are said; failed_posts.jsonl has them all.
MAX_QUEUED_FILES = 500  # Then looking for more posts waits for the workers.
MAX_FAILURES_IN_A_ROW = 20  # Files, each after all its tries; then the run gives up.


class RemoteFile(NamedTuple):
    """A file to fetch, as its post describes it."""

    post_id: int
    url: str
    md5: str
    size: int | None  # In bytes.


@dataclass
class Outcome:
    """What became of the posts: how many had each of OUTCOMES, and why the others failed, by id."""

    counts: Counter[str] = field(default_factory=Counter)
    failed: dict[int, str] = field(default_factory=dict)

    def save_failed(self, path: Path) -> None:
        """Write failed_posts.jsonl: a line for each post that failed, with the reason."""
        with files.atomic(path) as file:
            for post_id in sorted(self.failed):
                file.write(jsonl.line({"id": post_id, "reason": self.failed[post_id]}))

    def say_counts(self) -> None:
        """Say the counts, and how often each reason for a failure came up."""
        counts = [f"{kind} {self.counts[kind]}" for kind in OUTCOMES]
        say(", ".join([*counts, f"failed {len(self.failed)}"]))
        reasons = Counter(self.failed.values())
        for reason, count in reasons.most_common(MAX_REASONS):
            say(f"failed {count}: {reason}")
        if len(reasons) > MAX_REASONS:
            say(f"and {len(reasons) - MAX_REASONS} other reasons")
        missing = sorted(number for number, why in self.failed.items() if why == NOT_SHOWN)
        if missing:
            more = ", …" if len(missing) > 20 else ""
            say(f"{NOT_SHOWN}: {', '.join(map(str, missing[:20]))}{more}")
        if self.failed:
            say("failed posts are listed in failed_posts.jsonl; the same command tries them again")

    def check_any(self) -> None:
        """Raise UserError where files were wanted and not one of them is there."""
        if self.failed and not self.counts["downloaded"] + self.counts["already there"]:
            reason = Counter(self.failed.values()).most_common(1)[0][0]
            raise UserError(
                f"not one of {len(self.failed)} files could be had, most of them for this reason: "
                f"{reason}. Put that right, or run the same command later"
            )


def remote_file(post: dict[str, Any], max_bytes: int) -> RemoteFile | str:
    """The file to fetch for a post, or why there is none: one of OUTCOMES, or `failed`.

    Fields of the wrong type make a post `failed`, so that it does not pass for a hidden one.
    """
    if post["id"] > OWN:
        return "already there"
    url, md5, size = post.get("file_url"), post.get("md5"), post.get("file_size")
    if not url or not md5:
        return "hidden"
    if post.get("file_ext") not in STILL_IMAGES:
        return "not images"
    if not isinstance(url, str) or not isinstance(md5, str) or type(size) not in (int, type(None)):
        return "failed"
    if not re.fullmatch("[0-9a-f]{32}", md5):
        return "failed"
    if size is not None and size > max_bytes:
        return "too large"
    return RemoteFile(post["id"], url, md5, size)


def is_fetched(remote: RemoteFile, data: DataFolder) -> bool:
    """Whether originals/ has the file. A file of another size does not count, nor does a folder."""
    try:
        about = data.original(remote.post_id).stat()
    except FileNotFoundError:
        return False
    return stat.S_ISREG(about.st_mode) and remote.size in (None, about.st_size)


def fetch_files(
    client: Client,
    data: DataFolder,
    posts: Iterable[dict[str, Any]],
    outcome: Outcome,
    *,
    workers: int,
    max_bytes: int,
) -> None:
    """Fetch the files of posts to originals/ while the posts come in; `outcome` gets the counts.

    A file of more than `max_bytes` is not fetched. Raises UserError when too many files in a row
    fail, and OSError when a file cannot be written.
    """
    data.originals.mkdir(exist_ok=True)
    files.sweep(data.originals)
    with (
        progress(desc="files", unit="file", position=1, total=0) as bar,
        Fetcher(client, data, outcome, workers=workers, max_bytes=max_bytes, bar=bar) as fetcher,
    ):
        fetcher.fetch(posts)


class Fetcher:
    """`workers` threads that fetch files to originals/, each over its own connections.

    A context manager: at the end of the block it waits for all files. An exception in the block
    ends the threads within about a second and removes their temporary files. A worker's error is
    raised in the caller's thread; it also sets the caller's `client.stop`, so that the caller does
    not go on waiting for the site.
    """

    def __init__(
        self,
        client: Client,
        data: DataFolder,
        outcome: Outcome,
        *,
        workers: int,
        max_bytes: int,
        bar: Any,
    ) -> None:
        self.site, self.stop = client.site, client.stop
        self.data, self.outcome, self.max_bytes, self.bar = data, outcome, max_bytes, bar
        self._error: BaseException | None = None
        self._failures_in_a_row = 0
        self._lock = threading.Lock()
        self._queue: queue.Queue[RemoteFile | None] = queue.Queue(MAX_QUEUED_FILES)
        # Daemons, as a thread that waits for a silent server must not delay the end of the run.
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(workers)]

    def fetch(self, posts: Iterable[dict[str, Any]]) -> None:
        """Give the workers the files of posts; a post without a file to fetch is only counted."""
        for post in posts:
            remote = remote_file(post, self.max_bytes)
            if isinstance(remote, RemoteFile) and is_fetched(remote, self.data):
                remote = "already there"
            if isinstance(remote, RemoteFile):
                self.bar.total = (self.bar.total or 0) + 1
                self._put(remote)
            elif remote == "failed":
                self._fail(post["id"], "malformed record")
            else:
                with self._lock:
                    self.outcome.counts[remote] += 1

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
        files.sweep(self.data.originals)

    def _put(self, remote: RemoteFile | None) -> None:
        """Queue a file, or None, which ends one worker. Raises a worker's error."""
        while True:
            self._check()
            try:
                return self._queue.put(remote, timeout=0.2)
            except queue.Full:
                continue

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        client = Client(self.site, self.stop)
        try:
            while (remote := self._queue.get()) is not None:
                self._fetch_one(client, remote)
        except StoppedError:
            pass
        except BaseException as error:
            # `_check` raises it in the caller's thread, from where it reaches the user.
            self._error = error
            self.stop.set()

    def _fetch_one(self, client: Client, remote: RemoteFile) -> None:
        path = self.data.original(remote.post_id)
        size, max_bytes = remote.size, self.max_bytes
        try:
            if path.is_dir():
                raise RefusedError(IN_THE_WAY)
            client.save(remote.url, path, size=size, md5=remote.md5, max_bytes=max_bytes)
        except (MismatchError, RefusedError, TransientError) as error:
            self._fail(remote.post_id, str(error))
            if isinstance(error, TransientError | DeniedError):
                self._failures_in_a_row += 1
            if self._failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
                raise UserError(
                    f"{MAX_FAILURES_IN_A_ROW} files in a row failed, the last with: {error}. "
                    "Run the same command later to go on"
                ) from None
        else:
            self._failures_in_a_row = 0
            with self._lock:
                self.outcome.counts["downloaded"] += 1
        self.bar.update()

    def _fail(self, post_id: int, reason: str) -> None:
        with self._lock:
            self.outcome.failed[post_id] = reason
