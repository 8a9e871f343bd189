"""trainable.jsonl: the verdict on each post, the reason, and what tells that it is out of date.

One JSON object a line, one line a post, sorted by ID:

    id               the post
    verdict          one of judge.VERDICTS
    reason           why; empty where the original was judged ok
    size, mtime_ns   of the original that was judged, in bytes and nanoseconds
    md5              of its content
    max_size         longest side in pixels that the resized image was made with
    quality          WebP quality that it was made with
    bytes            size of the resized image
    rules            of an original judged unreadable: the RULES that it was judged by

An original that could not be judged leaves no size and no time: as soon as there is one that can be
read, the line no longer fits, and the post is judged again.

Every worker process imports this module, so it must stay without torch.
"""

import json
from array import array
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from arena import files, jsonl
from arena.cli import UserError, progress, say, warn
from arena.data_folder import DataFolder
from arena.post_ids import PostIds
from arena.shard import ALL, Shard
from arena.trainable.examine import (
    MISSING,
    Original,
    ResizedImage,
    Settings,
    find_original,
    has_md5,
    resized_size,
)
from arena.trainable.judge import VERDICTS, Judgement

import numpy as np

# Changes with what judge.py takes for unreadable. An original that was unreadable by other rules is
# judged again; all others keep their verdict.
RULES = 2
MAX_WARNINGS = 3  # Files that get a warning of their own; the others are counted.

Record = dict[str, Any]


@dataclass(slots=True)
class Notes:
    """What to say about a run besides its verdicts.

    `kept` counts resized images without an original, `kept_other_settings` those of them that have
    another size or quality, `troubles` files that could not be judged, `judged_again` those that
    an earlier version found unreadable.
    """

    kept: int = 0
    kept_other_settings: int = 0
    troubles: int = 0
    judged_again: int = 0

    def add_kept(self, *, with_these_settings: bool) -> None:
        """Count an image without an original; one of unknown settings is taken to have these."""
        self.kept += 1
        self.kept_other_settings += not with_these_settings

    def add_trouble(self, path: Path, trouble: str, consequence: str) -> None:
        """Count a file that could not be judged, and warn about it if it is one of the first."""
        self.troubles += 1
        if self.troubles <= MAX_WARNINGS:
            warn(f"{path}: {trouble}; {consequence}")

    def report(self) -> None:
        """Say what was kept or judged again, and how many files had no warning of their own."""
        if self.judged_again:
            files_were = (
                "1 file was" if self.judged_again == 1 else f"{self.judged_again} files were"
            )
            say(f"{files_were} judged again, as an earlier version found more files unreadable")
        if self.kept:
            images = "1 image is" if self.kept == 1 else f"{self.kept} images are"
            other = f"; {self.kept_other_settings} of them had another --max-size or --quality"
            say(f"{images} kept without an original{other if self.kept_other_settings else ''}")
        if self.troubles > MAX_WARNINGS:
            more = self.troubles - MAX_WARNINGS
            warn(f"{more} more files had trouble: the reasons are in trainable.jsonl")


class Verdicts:
    """The lines of trainable.jsonl, and the resized images that belong to them.

    Call `resume` first, then the `add` methods inside `with verdicts.open()`, and `sort` last. Each
    line is written when it is added, so a killed run keeps all of them. All methods raise UserError
    where the disk is full or cannot be written.
    """

    def __init__(self, data: DataFolder, settings: Settings, shard: Shard = ALL) -> None:
        self.data = data
        self.settings = settings
        self.shard = shard
        self.notes = Notes()
        # The posts that have a line, and the byte at which it begins.
        self._ids, self._starts = array("q"), array("q")
        self._file: FileIO | None = None

    def resume(self, post_ids: PostIds) -> "array[int]":
        """Remove the lines that are out of date, and those of posts not in `post_ids`.

        They go before new ones are added, as a post may not have two lines. The lines of other
        shards stay as they are. Returns the IDs of the posts that are left to judge, ascending.
        """
        path = self.data.verdicts
        if path.exists():
            with writing(self.data):
                jsonl.repair(path)
                with files.atomic(path) as file:
                    lines = jsonl.lines(path, jsonl.Problems())
                    for _, record in progress(lines, desc="verdicts", unit="line"):
                        post_id = record["id"]
                        if post_id not in post_ids:
                            continue
                        if not self.shard.has(post_id) or self._holds(record):
                            self._note(post_id, file.tell())
                            file.write(jsonl.line(record))
        return array("q", filter(self.shard.has, post_ids - PostIds(self._ids)))

    def _holds(self, record: Record) -> bool:
        """Whether a line is still right; it gets the time of an original that was only copied."""
        original = find_original(self.data, record["id"])
        image_size = resized_size(self.data, record["id"])
        if not is_current(record, original, image_size, self.settings):
            copied = record | {"mtime_ns": original.mtime_ns}
            if not is_current(copied, original, image_size, self.settings):
                return False
            if not has_md5(self.data, original.post_id, record.get("md5")):
                return False
            record.update(copied)
        if not original.trouble and by_other_rules(record):
            self.notes.judged_again += 1
            return False
        if record["verdict"] == "ok" and original.trouble:
            self.notes.add_kept(with_these_settings=settings_of(record) in (self.settings, None))
        return True

    @contextmanager
    def open(self) -> Iterator[None]:
        """Keep trainable.jsonl open for the `add` methods."""
        with writing(self.data):
            file = self.data.verdicts.open("ab", buffering=0)
        with file:
            self._file = file
            yield

    def add_judged(self, original: Original, judgement: Judgement) -> None:
        """Add the verdict on an original, and write its resized image if it is ok.

        If not, a resized image that an earlier verdict left is removed.
        """
        record: Record = {
            "id": original.post_id,
            "verdict": judgement.verdict,
            "reason": judgement.reason,
            "size": original.size,
            "mtime_ns": original.mtime_ns,
        }
        if judgement.md5:
            record["md5"] = judgement.md5
        image = self.data.resized_image(original.post_id)
        with writing(self.data):
            if judgement.verdict == "ok":
                record |= {"max_size": self.settings.max_size, "quality": self.settings.quality}
                record["bytes"] = len(judgement.webp)
                # Not synced: should a power cut empty it, its size will not be the recorded one.
                with files.atomic(image, sync=False) as file:
                    file.write(judgement.webp)
            else:
                image.unlink(missing_ok=True)
            if judgement.verdict == "unreadable":
                record["rules"] = RULES
        self._append(record)

    def add_without_image(self, post_id: int, trouble: str) -> None:
        """Add a post whose original could not be judged (`trouble`), without a resized image."""
        original = self.data.original(post_id)
        if trouble == MISSING:
            verdict, reason = "missing", f"there is no {self._name(original)}"
        else:
            self.notes.add_trouble(original, trouble, "it counts as unreadable until the next run")
            verdict, reason = "unreadable", trouble
        self._append({"id": post_id, "verdict": verdict, "reason": reason})

    def add_image_alone(self, post_id: int, trouble: str, image: ResizedImage) -> None:
        """Add a post whose original could not be judged (`trouble`), with a resized image.

        The image is not touched, and the post is ok unless the image is known to be damaged.
        """
        original, path = self.data.original(post_id), self.data.resized_image(post_id)
        record: Record = {"id": post_id, "verdict": "ok"}
        why = f"{self._name(original)} {trouble}"
        if image.trouble:
            self.notes.add_trouble(path, image.trouble, f"it is kept unchecked, as {why}")
            record["reason"] = f"kept unchecked, as {why}"
        elif image.flaw:
            remedy = "delete it, or bring the original back, and run again"
            self.notes.add_trouble(path, image.flaw, f"its original {trouble}: {remedy}")
            record["verdict"] = "missing" if trouble == MISSING else "unreadable"
            record["reason"] = f"{why}, and {self._name(path)} {image.flaw}"
        elif trouble == MISSING:
            self.notes.add_kept(with_these_settings=True)
            record |= {"reason": "kept without its original", "bytes": image.size}
        else:
            self.notes.add_trouble(original, trouble, "its resized image is kept")
            record |= {"reason": f"kept, as {why}", "bytes": image.size}
        self._append(record)

    def sort(self) -> Counter[str]:
        """Bring the lines into the order of the IDs. Returns how many posts of the shard have each
        verdict."""
        path = self.data.verdicts
        counts: Counter[str] = Counter()
        with writing(self.data), path.open("rb") as unsorted, files.atomic(path) as file:
            for place in np.argsort(np.asarray(self._ids)):
                unsorted.seek(self._starts[place])
                line = unsorted.readline()
                if self.shard.has(self._ids[place]):
                    counts[json.loads(line)["verdict"]] += 1
                file.write(line)
        return counts

    def _append(self, record: Record) -> None:
        assert self._file is not None, "add only inside `with verdicts.open()`"
        with writing(self.data):
            self._note(record["id"], jsonl.append(self._file, jsonl.line(record)))

    def _note(self, post_id: int, start: int) -> None:
        self._ids.append(post_id)
        self._starts.append(start)

    def _name(self, path: Path) -> Path:
        """A path as a line has it: from the data folder on."""
        return path.relative_to(self.data.root)


def is_current(
    record: Record, original: Original, image_size: int | None, settings: Settings
) -> bool:
    """Whether a line fits the original, the resized image and the settings of now.

    `image_size` is that of the resized image in bytes, None where there is none.
    """
    if record.get("verdict") not in VERDICTS or image_size != record.get("bytes"):
        return False
    same_original = (original.size, original.mtime_ns) == (
        record.get("size"),
        record.get("mtime_ns"),
    )
    if record["verdict"] == "ok":
        if image_size is None:
            return False
        return bool(original.trouble) or (same_original and settings_of(record) == settings)
    if original.trouble == MISSING:
        return bool(record["verdict"] == "missing")
    if original.trouble:
        # Where nothing could be looked up, nothing says that the original has changed.
        return original.size is None and record.get("size") is not None
    return same_original


def by_other_rules(record: Record) -> bool:
    """Whether an earlier version found the original unreadable."""
    return bool(record["verdict"] == "unreadable" and record.get("rules") != RULES)


def settings_of(record: Record) -> Settings | None:
    """The settings that a resized image was made with; None where its line does not have them."""
    try:
        return Settings(record["max_size"], record["quality"])
    except KeyError:
        return None


@contextmanager
def writing(data: DataFolder) -> Iterator[None]:
    """Turn an OSError into a UserError that says where it was and that nothing is lost."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write in {data}: {error.strerror}; finished work is kept, "
            "put that right and run again"
        ) from error
