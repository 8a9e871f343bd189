"""Keep the images a tagger can be tried on, and shrink them.

    python trainable.py

Judges the original of every post in posts.jsonl. A still image that decodes whole, has no
transparent pixel and is no GIF is written to resized/<id>.webp: RGB, upright, its longest side at
most --max-size. Every post's verdict goes to trainable.jsonl with the reason. Run it again at any
time: only files that are new, changed or lost are decoded.

Only an original that is there, can be read and is judged not ok takes a resized image away. An
image without its original stays as it is, whatever --max-size and --quality are now, and its post
is ok, also where only resized/ was copied to: then the image is checked to be whole, and the reason
says that it was kept. So originals/ may be emptied to free the disk.
"""

import json
import os
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any

from arena import files, jsonl
from arena.cli import Options, UserError, at_least, progress, run, say, warn
from arena.trainable import process_pool
from arena.trainable.judge import VERDICTS, Judgement, confine, flaw, judge

# Of processor time for one file. The largest that may pass, of 134 megapixels, takes under ten.
SECONDS = 60
TOLD = 3  # Files whose trouble is told one by one; the rest are counted.

GONE = "is missing"

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Settings:
    """What a resized image depends on besides its original."""

    max_size: int
    quality: int


@dataclass(frozen=True, slots=True)
class Original:
    """The file of one post; its size and time (ns) tell whether it changed.

    They are None where there is no file or none could be looked up. `trouble` says why there is
    nothing to read: GONE or another reason; it is empty where there is.
    """

    post: int
    path: Path
    size: int | None
    mtime_ns: int | None
    trouble: str = ""


@dataclass(slots=True)
class Notes:
    """What to say of a run besides its verdicts.

    `kept` counts images that stay without their original, `other_settings` those of them that have
    another size or quality, `troubles` files that could not be judged.
    """

    kept: int = 0
    other_settings: int = 0
    troubles: int = 0

    def trouble(self, path: Path, reason: str, consequence: str) -> None:
        """Note a file that could not be judged; the first few are told one by one."""
        self.troubles += 1
        if self.troubles <= TOLD:
            warn(f"{path}: {reason}; {consequence}")

    def tell(self) -> None:
        """Say what has not been told yet."""
        if self.kept:
            images = "1 image is" if self.kept == 1 else f"{self.kept} images are"
            made = f"; {self.other_settings} of them had another --max-size or --quality"
            say(f"{images} kept without an original{made if self.other_settings else ''}")
        if self.troubles > TOLD:
            more = self.troubles - TOLD
            warn(f"{more} more files had trouble: the reasons are in trainable.jsonl")


def main() -> None:
    """Judge what has not been judged, then say how many posts have which verdict."""
    args = Options(__doc__)
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
    data: Path = options.data.root
    settings = Settings(options.max_size, options.quality)
    with files.lock(options.data, "trainable"):
        wanted = read_posts(data)
        prepare_folders(data)
        notes = Notes()
        places = finished_lines(data, wanted, settings, notes)
        already = len(places)
        rest = sorted(wanted - places.keys())
        judge_rest(data, rest, places, settings, options.workers, notes)
        counts = sort_lines(data, places)
    judged = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS)
    say(f"{judged}; {already} already judged")
    notes.tell()


def read_posts(data: Path) -> set[int]:
    """The IDs in posts.jsonl."""
    path = data / "posts.jsonl"
    problems = jsonl.Problems()
    wanted = {record["id"] for _, record in jsonl.lines(path, problems)}
    problems.tell(path)
    if not wanted:
        raise UserError(f"{path} has no post in it: run download.py first, or check --data")
    return wanted


def prepare_folders(data: Path) -> None:
    """See that there is something to judge or keep, and clear resized/ of a killed run's leftovers.

    Raises UserError where neither originals/ nor any resized image is there.
    """
    folder = data / "resized"
    if not (data / "originals").is_dir() and not any(folder.glob("*.webp")):
        raise UserError(f"{data / 'originals'} is missing: run download.py first, or check --data")
    with writing(data):
        folder.mkdir(exist_ok=True)
        files.sweep(folder)


def finished_lines(
    data: Path, wanted: set[int], settings: Settings, notes: Notes
) -> dict[int, int]:
    """Leave trainable.jsonl with only the lines that still hold; where each post's line begins.

    Places rather than lines: of a million posts they take a third of the memory.
    """
    path = data / "trainable.jsonl"
    places: dict[int, int] = {}
    if not path.exists():
        return places
    # An ID must not get a second line when its first no longer holds.
    with writing(data):
        jsonl.repair(path)
        with files.atomic(path) as file:
            for _, record in jsonl.lines(path, jsonl.Problems()):
                if record["id"] not in wanted:
                    continue
                original = find_original(data, record["id"])
                if still_holds(record, original, image_size(data, record["id"]), settings):
                    places[record["id"]] = file.tell()
                    file.write(jsonl.line(record))
                    if record["verdict"] == "ok" and original.trouble:
                        notes.kept += 1
                        notes.other_settings += made_with(record) not in (settings, None)
    return places


def still_holds(record: Record, original: Original, image: int | None, settings: Settings) -> bool:
    """Whether a verdict fits the files as they are now, and the settings of now.

    `image` is the size in bytes of the resized image, None where there is none.
    """
    same_image = image == record.get("bytes")
    same_original = (original.size, original.mtime_ns) == (
        record.get("size"),
        record.get("mtime_ns"),
    )
    if record.get("verdict") not in VERDICTS or not same_image:
        return False
    if record["verdict"] != "ok":
        if original.trouble == GONE:
            return bool(record["verdict"] == "missing")
        if original.trouble:
            # Where nothing could be looked up, nothing says that the original has changed.
            return original.size is None and record.get("size") is not None
        return same_original
    if image is None:
        return False
    return bool(original.trouble) or (same_original and made_with(record) == settings)


def made_with(record: Record) -> Settings | None:
    """The settings that a resized image was made with, where its record has them."""
    try:
        return Settings(record["max_size"], record["quality"])
    except KeyError:
        return None


def find_original(data: Path, post: int) -> Original:
    """What stands in originals/ for a post."""
    path = data / "originals" / str(post)
    try:
        facts = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return Original(post, path, None, None, GONE)
    except OSError as error:
        return Original(post, path, None, None, f"could not be looked up: {error.strerror}")
    trouble = "" if stat.S_ISREG(facts.st_mode) else "is not a file"
    return Original(post, path, facts.st_size, facts.st_mtime_ns, trouble)


def image_size(data: Path, post: int) -> int | None:
    """The size in bytes of a post's resized image; None where there is none."""
    try:
        return resized(data, post).stat().st_size
    except FileNotFoundError:
        return None


def resized(data: Path, post: int) -> Path:
    """Where a post's resized image stands."""
    return data / "resized" / f"{post}.webp"


def judge_rest(
    data: Path,
    rest: list[int],
    places: dict[int, int],
    settings: Settings,
    count: int,
    notes: Notes,
) -> None:
    """Judge the posts in `rest`; each verdict is on disk before the next."""
    path = data / "trainable.jsonl"
    with writing(data):
        file = path.open("ab", buffering=0)
    unjudged: dict[int, str] = {}

    def store(record: Record) -> None:
        places[record["id"]] = store_line(file, jsonl.line(record))
        bar.update()

    with file, progress(total=len(rest)) as bar:
        for original, judgement in judgements(data, rest, settings, count, unjudged):
            with writing(data):
                store_image(resized(data, original.post), judgement)
                store(describe(original, judgement, settings))
        for record in without_judgement(data, unjudged, count, notes):
            with writing(data):
                store(record)


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


def describe(original: Original, judgement: Judgement, settings: Settings) -> Record:
    """The record of a post whose original was judged."""
    record: Record = {
        "id": original.post,
        "verdict": judgement.verdict,
        "reason": judgement.reason,
        "size": original.size,
        "mtime_ns": original.mtime_ns,
    }
    if judgement.verdict == "ok":
        record |= {"max_size": settings.max_size, "quality": settings.quality}
        record["bytes"] = len(judgement.webp)
    return record


def judgements(
    data: Path, rest: list[int], settings: Settings, count: int, unjudged: dict[int, str]
) -> Iterator[tuple[Original, Judgement]]:
    """The judgement on every original that could be judged; why the others could not: `unjudged`.

    A worker killed by the system, or a disk that fails, is not the file's doing.
    """

    def originals() -> Iterator[Original]:
        # Looked up as workers come free: a list of them all would outgrow everything else.
        for post in rest:
            original = find_original(data, post)
            if original.trouble:
                unjudged[post] = original.trouble
            else:
                yield original

    answers = process_pool.each(
        partial(examine, settings=settings), originals(), count, prepare=confine, seconds=SECONDS
    )
    with closing(answers):
        for original, answer in answers:
            if isinstance(answer, Judgement):
                yield original, answer
            elif answer == process_pool.Died(process_pool.TIME_IS_UP):
                reason = f"takes over {SECONDS} s of processor time to decode"
                yield original, Judgement("unreadable", reason)
            else:
                unjudged[original.post] = explain(answer)


def examine(original: Original, settings: Settings) -> Judgement | OSError:
    """Read and judge one file, in a worker. An OSError is the disk's or the folder's doing."""
    try:
        content = original.path.read_bytes()
    except OSError as error:
        return error
    except MemoryError:
        return Judgement("unreadable", "is larger than the memory a worker may use")
    return judge(content, settings.max_size, settings.quality)


def without_judgement(
    data: Path, unjudged: dict[int, str], count: int, notes: Notes
) -> Iterator[Record]:
    """The records of posts whose original could not be judged, for the reasons in `unjudged`.

    One with a whole resized image is ok. No image is touched. Records without the facts of an
    original do not hold once there is one: the next run tries again.
    """
    images = []
    for post, why in unjudged.items():
        if image_size(data, post) is not None:
            images.append(post)
        elif why == GONE:
            yield {"id": post, "verdict": "missing", "reason": f"there is no originals/{post}"}
        else:
            path = data / "originals" / str(post)
            notes.trouble(path, why, "it counts as unreadable until the next run")
            yield {"id": post, "verdict": "unreadable", "reason": why}
    paths = (resized(data, post) for post in images)
    answers = process_pool.each(look, paths, count, prepare=confine, seconds=SECONDS)
    with closing(answers):
        for path, found in answers:
            post = int(path.stem)
            yield keep(data, post, unjudged[post], found, notes)


def look(path: Path) -> tuple[int, str] | OSError:
    """A resized image's size in bytes, and why it is no whole one (empty if it is); in a worker."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return error
    return len(content), flaw(content)


def keep(
    data: Path,
    post: int,
    why: str,
    found: tuple[int, str] | OSError | process_pool.Died,
    notes: Notes,
) -> Record:
    """The record of a post whose resized image stays as its original was not judged.

    `why` it was not, and what `look` found of the image.
    """
    original = f"originals/{post} {why}"
    if not isinstance(found, tuple):
        # Nothing says that it is damaged.
        notes.trouble(resized(data, post), explain(found), f"it is kept unchecked, as {original}")
        return {"id": post, "verdict": "ok", "reason": f"kept unchecked, as {original}"}
    size, damage = found
    if damage:
        mend = f"its original {why}: delete it, or bring the original back, and run again"
        notes.trouble(resized(data, post), damage, mend)
        verdict = "missing" if why == GONE else "unreadable"
        reason = f"{original}, and resized/{post}.webp {damage}"
        return {"id": post, "verdict": verdict, "reason": reason}
    if why == GONE:
        notes.kept += 1
        reason = "kept without its original"
    else:
        notes.trouble(data / "originals" / str(post), why, "its resized image is kept")
        reason = f"kept, as {original}"
    return {"id": post, "verdict": "ok", "reason": reason, "bytes": size}


def explain(failure: OSError | process_pool.Died) -> str:
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
