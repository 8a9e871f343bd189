"""Keep the images a tagger can be tried on, and shrink them.

    python trainable.py

Judges the original of every post in posts.jsonl. A still image that decodes whole, has no
transparent pixel and is no GIF is written to resized/<id>.webp: RGB, upright, its longest side at
most --max-size. Every post's verdict goes to trainable.jsonl with the reason. Run it again at any
time: only files that are new, changed or lost are decoded.
"""

import json
import os
import signal
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any

from arena import files, posts, workers
from arena.cli import UserError, at_least, parser, progress, run, say, warn
from arena.images import VERDICTS, Judgement, confine, judge

SECONDS = 60  # For one file. The largest that may pass, of 134 megapixels, takes under ten.

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Settings:
    """What a resized image depends on besides its original."""

    max_size: int
    quality: int


@dataclass(frozen=True, slots=True)
class Original:
    """The file of one post; its size and time (ns) tell whether it changed. None: no such file."""

    post: int
    path: Path
    size: int | None
    mtime_ns: int | None
    regular: bool


def main() -> None:
    """Judge what has not been judged, then say how many posts have which verdict."""
    args = parser(__doc__)
    args.add_argument(
        "--max-size",
        type=at_least(1, 16383),
        default=1024,
        metavar="PIXELS",
        help="longest side of a resized image (default: %(default)s)",
    )
    args.add_argument(
        "--quality",
        type=at_least(0, 100),
        default=80,
        help="WebP quality, 0 to 100 (default: %(default)s)",
    )
    args.add_argument(
        "--workers",
        type=at_least(1, 1024),
        default=len(os.sched_getaffinity(0)),
        metavar="N",
        help="processes that decode (default: one per CPU, here %(default)s)",
    )
    options = args.parse_args()
    data: Path = options.data
    settings = Settings(options.max_size, options.quality)
    with files.lock(data, "trainable"):
        wanted = read_posts(data)
        prepare_folders(data)
        places = finished_lines(data, wanted, settings)
        already = len(places)
        rest = sorted(wanted - places.keys())
        judge_rest(data, rest, places, settings, options.workers)
        counts = sort_lines(data, places)
    judged = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS)
    say(f"{judged}; {already} already judged")


def read_posts(data: Path) -> set[int]:
    """The IDs in posts.jsonl."""
    path = data / "posts.jsonl"
    problems = posts.Problems()
    wanted = {record["id"] for _, record in posts.lines(path, problems)}
    problems.tell(path)
    if not wanted:
        raise UserError(f"{path} has no post in it: run download.py first, or check --data")
    return wanted


def prepare_folders(data: Path) -> None:
    """See that originals/ is there, and resized/ is there and free of a killed run's leftovers."""
    if not (data / "originals").is_dir():
        raise UserError(f"{data / 'originals'} is missing: run download.py first, or check --data")
    with writing(data):
        (data / "resized").mkdir(exist_ok=True)
        files.sweep(data / "resized")


def finished_lines(data: Path, wanted: set[int], settings: Settings) -> dict[int, int]:
    """Leave trainable.jsonl with only the lines that still hold; where each post's line begins.

    Places rather than lines: of a million posts they take a third of the memory.
    """
    path = data / "trainable.jsonl"
    places: dict[int, int] = {}
    if not path.exists():
        return places
    # An ID must not get a second line when its first no longer holds.
    with writing(data):
        files.repair(path)
        with files.atomic(path) as file:
            for _, record in posts.lines(path, posts.Problems()):
                if record["id"] in wanted and still_holds(record, data, settings):
                    places[record["id"]] = file.tell()
                    file.write(files.json_line(record))
    return places


def still_holds(record: Record, data: Path, settings: Settings) -> bool:
    """Whether a verdict was reached on the files as they are now, with the settings of now."""
    original = find_original(data, record["id"])
    try:
        kept = resized(data, record["id"]).stat().st_size
    except FileNotFoundError:
        kept = None
    same_files = (original.size, original.mtime_ns, kept) == tuple(
        record.get(key) for key in ("size", "mtime_ns", "bytes")
    )
    if record.get("verdict") != "ok":
        return same_files and record.get("verdict") in VERDICTS
    same_settings = (record.get("max_size"), record.get("quality")) == (
        settings.max_size,
        settings.quality,
    )
    return same_files and same_settings and kept is not None


def find_original(data: Path, post: int) -> Original:
    """What stands in originals/ for a post."""
    path = data / "originals" / str(post)
    try:
        facts = path.stat()
    except FileNotFoundError:
        return Original(post, path, None, None, False)
    return Original(post, path, facts.st_size, facts.st_mtime_ns, stat.S_ISREG(facts.st_mode))


def resized(data: Path, post: int) -> Path:
    """Where a post's resized image stands."""
    return data / "resized" / f"{post}.webp"


def judge_rest(
    data: Path, rest: list[int], places: dict[int, int], settings: Settings, count: int
) -> None:
    """Judge the originals of the posts in `rest`; each verdict is on disk before the next."""
    path = data / "trainable.jsonl"
    with writing(data):
        file = path.open("ab", buffering=0)
    with file, progress(total=len(rest)) as bar:
        for original, judgement, remember in judgements(data, rest, settings, count):
            record = describe(original, judgement, settings, remember)
            with writing(data):
                store_image(resized(data, original.post), judgement)
                places[original.post] = store_line(file, files.json_line(record))
            bar.update()


def store_image(path: Path, judgement: Judgement) -> None:
    """Write a post's resized image, or remove one that a former verdict left."""
    if judgement.verdict != "ok":
        path.unlink(missing_ok=True)
        return
    # Not synced: should a power cut empty it, its size will not be the recorded one.
    with files.atomic(path, sync=False) as file:
        file.write(judgement.webp)


def store_line(file: FileIO, line: bytes) -> int:
    """Append a whole line, or, when the disk takes only a part of it, nothing. Where it begins."""
    end = file.seek(0, os.SEEK_END)
    rest = line
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError:
        file.truncate(end)
        raise
    return end


def describe(
    original: Original, judgement: Judgement, settings: Settings, remember: bool
) -> Record:
    """A post's record. Without the facts of its file it does not hold for the next run."""
    record: Record = {
        "id": original.post,
        "verdict": judgement.verdict,
        "reason": judgement.reason,
    }
    if remember and original.size is not None:
        record |= {"size": original.size, "mtime_ns": original.mtime_ns}
    if judgement.verdict == "ok":
        record |= {"max_size": settings.max_size, "quality": settings.quality}
        record["bytes"] = len(judgement.webp)
    return record


def judgements(
    data: Path, rest: list[int], settings: Settings, count: int
) -> Iterator[tuple[Original, Judgement, bool]]:
    """Every post's original, the judgement on it, and whether that is the file's own doing.

    What is not, a worker killed by the system or a disk that fails, the next run tries again.
    """
    present = 0
    for post in rest:
        original = find_original(data, post)
        if original.regular:
            present += 1
        elif original.size is None:
            yield original, Judgement("missing", f"there is no originals/{post}"), True
        else:
            yield original, Judgement("unreadable", "is not a file"), True
    if not present:
        return
    # Looked up once more as workers come free: a list of them all would outgrow everything else.
    originals = (original for post in rest if (original := find_original(data, post)).regular)
    answers = workers.each(
        partial(examine, settings=settings),
        originals,
        min(count, present),
        prepare=confine,
        seconds=SECONDS,
    )
    with closing(answers):
        for original, answer in answers:
            if isinstance(answer, Judgement):
                yield original, answer, True
            elif answer == workers.Died(signal.SIGALRM):
                yield original, Judgement("unreadable", f"takes over {SECONDS} s to decode"), True
            else:
                reason = explain(answer)
                warn(f"{original.path}: {reason}; it counts as unreadable until the next run")
                yield original, Judgement("unreadable", reason), False


def examine(original: Original, settings: Settings) -> Judgement | OSError:
    """Read and judge one file, in a worker. An OSError is the disk's or the folder's doing."""
    try:
        content = original.path.read_bytes()
    except OSError as error:
        return error
    except MemoryError:
        return Judgement("unreadable", "is larger than the memory a worker may use")
    return judge(content, settings.max_size, settings.quality)


def explain(failure: OSError | workers.Died) -> str:
    """Why a file has no judgement of its own."""
    if isinstance(failure, OSError):
        return f"could not be read: {failure.strerror}"
    if failure.signal is None:
        return "the worker decoding it ended"
    return f"the worker decoding it was killed by signal {failure.signal}"


def sort_lines(data: Path, places: dict[int, int]) -> Counter[str]:
    """Bring trainable.jsonl into the order of the IDs. How many posts have which verdict."""
    path = data / "trainable.jsonl"
    counts: Counter[str] = Counter()
    with writing(data), path.open("rb") as unsorted, files.atomic(path) as file:
        for post in sorted(places):
            unsorted.seek(places[post])
            line = unsorted.readline()
            counts[json.loads(line)["verdict"]] += 1
            file.write(line)
    return counts


@contextmanager
def writing(data: Path) -> Iterator[None]:
    """Say of a failure to write where it was and that nothing is lost."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write in {data}: {error.strerror}; finished work is kept, "
            "put that right and run again"
        ) from error


if __name__ == "__main__":
    run(main)
