"""Judge many files, in worker processes: originals, and resized images that have none.

A file that could not be judged (it is missing, the disk failed, a worker was killed) is no bad
file: for that it has a `trouble` in place of a judgement. Times are in seconds of processor time.

Every worker process imports this module, so it must stay without torch.
"""

import hashlib
import stat
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

from arena.data_folder import DataFolder
from arena.trainable import process_pool
from arena.trainable.judge import Judgement, confine, flaw, judge

# The largest image that may pass, of 134 megapixels, takes under ten seconds.
MAX_SECONDS_PER_FILE = 60

MISSING = "is missing"  # The `trouble` of a post that has no original.


@dataclass(frozen=True, slots=True)
class Settings:
    """What a resized image depends on besides its original: pixels, and WebP quality 0 to 100."""

    max_size: int
    quality: int


@dataclass(frozen=True, slots=True)
class Original:
    """A post's file in originals/, as it was when it was looked up.

    `size` (bytes) and `mtime_ns` tell whether it has changed since; both are None where there is no
    file or it could not be looked up. `trouble` says why it cannot be read, and is empty if it can.
    """

    post_id: int
    size: int | None
    mtime_ns: int | None
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class ResizedImage:
    """A post's file in resized/, after a look inside.

    `flaw` says why it is not a whole WebP image, `trouble` why it could not be checked; both are
    empty if it is whole. `size` is in bytes, None where there is a trouble.
    """

    size: int | None
    flaw: str = ""
    trouble: str = ""


def find_original(data: DataFolder, post_id: int) -> Original:
    """Look up a post's original without opening it."""
    try:
        facts = data.original(post_id).stat()
    except (FileNotFoundError, NotADirectoryError):
        return Original(post_id, None, None, MISSING)
    except OSError as error:
        return Original(post_id, None, None, f"could not be looked up: {error.strerror}")
    trouble = "" if stat.S_ISREG(facts.st_mode) else "is not a file"
    return Original(post_id, facts.st_size, facts.st_mtime_ns, trouble)


def has_md5(data: DataFolder, post_id: int, md5: object) -> bool:
    """Whether a post's original can be read and its content has this MD5."""
    try:
        with data.original(post_id).open("rb") as file:
            digest = hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False))
            return digest.hexdigest() == md5
    except OSError:
        return False


def resized_size(data: DataFolder, post_id: int) -> int | None:
    """The size in bytes of a post's resized image; None where there is none."""
    try:
        return data.resized_image(post_id).stat().st_size
    except FileNotFoundError:
        return None


def judge_originals(
    data: DataFolder,
    post_ids: Iterable[int],
    settings: Settings,
    workers: int,
    troubles: dict[int, str],
) -> Iterator[tuple[Original, Judgement]]:
    """The original of each post with its judgement, in the order in which they are finished.

    A post whose original could not be judged is not among them: the reason goes to `troubles`.
    """

    def readable() -> Iterator[Original]:
        # Looked up as workers come free: a list of them all would outgrow everything else.
        for post_id in post_ids:
            original = find_original(data, post_id)
            if original.trouble:
                troubles[post_id] = original.trouble
            else:
                yield original

    answers = process_pool.call_each(
        partial(_judge_original, data=data, settings=settings),
        readable(),
        workers,
        prepare=confine,
        seconds=MAX_SECONDS_PER_FILE,
    )
    with closing(answers):
        for original, answer in answers:
            if isinstance(answer, Judgement):
                yield original, answer
            elif answer == process_pool.Died(process_pool.TIME_IS_UP):
                reason = f"takes over {MAX_SECONDS_PER_FILE} s of processor time to decode"
                yield original, Judgement("unreadable", reason)
            else:
                troubles[original.post_id] = _reason(answer)


def check_resized(
    data: DataFolder, post_ids: Iterable[int], workers: int
) -> Iterator[tuple[int, ResizedImage]]:
    """Each post ID with its resized image, in the order in which they are checked."""
    answers = process_pool.call_each(
        partial(_check_resized, data=data),
        post_ids,
        workers,
        prepare=confine,
        seconds=MAX_SECONDS_PER_FILE,
    )
    with closing(answers):
        for post_id, answer in answers:
            if isinstance(answer, ResizedImage):
                yield post_id, answer
            else:
                yield post_id, ResizedImage(None, trouble=_reason(answer))


def _judge_original(
    original: Original, data: DataFolder, settings: Settings
) -> Judgement | OSError:
    """Read and judge one file, in a worker. An OSError comes from the disk or the folder."""
    try:
        content = data.original(original.post_id).read_bytes()
    except OSError as error:
        return error
    except MemoryError:
        return Judgement("unreadable", "is larger than the memory a worker may use")
    judgement = judge(content, settings.max_size, settings.quality)
    return replace(judgement, md5=hashlib.md5(content, usedforsecurity=False).hexdigest())


def _check_resized(post_id: int, data: DataFolder) -> ResizedImage | OSError:
    """Read and check one resized image, in a worker."""
    try:
        content = data.resized_image(post_id).read_bytes()
    except OSError as error:
        return error
    return ResizedImage(len(content), flaw(content))


def _reason(failure: OSError | process_pool.Died) -> str:
    """Why a worker could not judge a file."""
    if isinstance(failure, OSError):
        return f"could not be read: {failure.strerror}"
    if failure.signal is None:
        return "the worker decoding it ended"
    return f"the worker decoding it was killed by signal {failure.signal}"
