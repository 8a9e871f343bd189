"""Scores of every tagger for every post, worked out once and kept in `<name>_predictions.pt`.

That file is the cache. While a run goes on, finished batches are kept as small files of the same
form in `<name>_predictions.parts/<fingerprint>/`; at the end they are merged into the one file.
Every file is whole under its name, so a killed run loses only what it had not yet written.

A fingerprint stands for all that decides the scores of an image: weights, image settings and the
precision of the sums. A file of another fingerprint is never overwritten: it is kept as
`<name>-<fingerprint>_predictions.pt` and comes back when its weights do.

Files hold float32, or float16 (`--store half`) for half the disk. Whatever is read is float32.
"""

import ctypes
import errno
import mmap
import os
import pickle
import re
import shutil
import time
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from arena import files
from arena.cli import UserError, say
from arena.data_folder import DataFolder
from arena.tagger import Tagger
from arena.validate import distributed, provenance, speed, tensor_file
from arena.validate.ids import IDS_AT_ONCE, each_once, rows_of, without
from arena.validate.preprocess import content_hash
from arena.validate.speed import Speed
from arena.validate.tensor_file import Streamed

import numpy as np
import torch

MOST_ROWS = 1024  # Read at a time,
MOST_VALUES = 1 << 24  # as long as they are no more scores than these.
STORED = (torch.float32, torch.float16)  # What scores are kept in.
# What the system, not the file, is to blame for. torch tells both by RuntimeError.
SYSTEM_ERRORS = (errno.ENOMEM, errno.EIO, errno.ENODEV, errno.EMFILE, errno.ENFILE)


class Batch(NamedTuple):
    """Scores (posts, tags) of one batch, with each post's id and resized file: int64 (posts, 3),
    and how fast they were made."""

    post_ids: np.ndarray
    images: np.ndarray
    scores: np.ndarray
    speed: list[Speed]

    @classmethod
    def of(cls, batches: Sequence["Batch"]) -> "Batch":
        """Several batches as one."""
        ids, images, scores, speeds = zip(*batches, strict=True)
        added = speed.add_up(each for some in speeds for each in some)
        return cls(np.concatenate(ids), np.concatenate(images), np.concatenate(scores), added)


class Merged(NamedTuple):
    """What several files hold, as a Batch has it, its scores read as they are written."""

    post_ids: np.ndarray
    images: np.ndarray
    scores: Streamed
    speed: list[Speed]


class _Rows(NamedTuple):
    """Which row of several files counts for each post that any of them has.

    `ids` int64 (posts,) ascend; `source` and `row` int32 (posts,) are the number of the file and
    the row in it. `sure` bool (posts,) says whether that row was made from the post's image as it
    is now, as far as that was asked. `renewed` has three numbers for each post that is sure though
    its image has another size or time than the file says: its id, and the image's state.
    """

    ids: np.ndarray
    source: np.ndarray
    row: np.ndarray
    sure: np.ndarray
    renewed: "array[int]"


class DamagedError(UserError):
    """A file under the name of a predictions file that is none, or not a whole one."""


def load(path: Path) -> dict[str, Any]:
    """A predictions file that is scored, its scores memory-mapped.

    `predictions` float32 or float16 (posts, tags), `post_ids` int64 (posts,) and `tags` list of
    str. What a cache has as well, others may lack: `fingerprint`, `speed` (a list of Speed), and
    `images` int64 (posts, 3): each resized file's bytes, mtime_ns and hash; Cache.about has what it
    says of the tagger. Raises DamagedError when it is none, and UserError when it cannot be read
    now.
    """
    found = opened(path)
    try:
        fine = _is_whole(found)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        fine = False
    if not fine:
        raise DamagedError(_damaged(path))
    return dict(found)


def _load_own(path: Path) -> dict[str, Any]:
    """A predictions file that can be a cache: it tells weights and images. Raises as `load`."""
    found = load(path)
    if found.get("fingerprint") is None or found.get("images") is None:
        raise DamagedError(_damaged(path))
    return found


def _damaged(path: Path) -> str:
    return (
        f"{path} is not a predictions file that validate.py wrote whole: move it elsewhere, or"
        " give --fresh to delete it"
    )


def opened(path: Path) -> Any:
    """What torch.save has written to a file, its tensors memory-mapped. Raises as `load`."""
    if path.exists() and not path.is_file():  # A pipe would be waited for without end.
        raise UserError(f"{path} is not a file: move it elsewhere")
    try:
        return torch.load(path, weights_only=True, mmap=True, map_location="cpu")
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, TypeError, KeyError,
            AttributeError, IndexError) as error:  # fmt: skip
        for code in SYSTEM_ERRORS:
            if os.strerror(code) in str(error):
                raise _unreadable_now(path, os.strerror(code)) from None
    except OSError as error:
        # torch looks for the places that a file cut short names, before its beginning even.
        if error.errno != errno.EINVAL:
            raise
    except MemoryError:
        raise _unreadable_now(path, os.strerror(errno.ENOMEM)) from None
    raise DamagedError(_damaged(path))


def _is_whole(found: Any) -> bool:
    """Whether what was read has the form of a predictions file."""
    tensors = [found["predictions"], found["post_ids"]]
    rows, columns = tensors[0].shape
    whole = (torch.int64,)
    forms = [(STORED, (rows, columns)), (whole, (rows,))]
    if found.get("images") is not None:
        tensors.append(found["images"])
        forms.append((whole, (rows, 3)))
    return (
        all(
            # A view of few numbers can claim to be billions of rows.
            tensor.dtype in kinds
            and tensor.shape == shape
            and tensor.layout == torch.strided
            and tensor.is_contiguous()
            and not tensor.requires_grad
            and is_mapped(tensor)
            for tensor, (kinds, shape) in zip(tensors, forms, strict=True)
        )
        and len(found["tags"]) == columns
        and all(isinstance(tag, str) for tag in found["tags"])
        and speed.is_list(found.get("speed") or [])
        and re.fullmatch("[0-9a-f]{64}", found.get("fingerprint") or "0" * 64) is not None
    )


def is_mapped(tensor: torch.Tensor) -> bool:
    """Whether a strided tensor's numbers are in the file that it was read from. A hostile file can
    have torch make others in memory, which `let_go` would overwrite."""
    return not tensor.untyped_storage().resizable()


def store(path: Path) -> str:
    """What a predictions file holds its scores in: `float32` or `float16`."""
    return str(load(path)["predictions"].dtype).removeprefix("torch.")


def _is_half(path: Path) -> bool:
    """Whether a predictions file holds float16."""
    return store(path) == "float16"


def _unreadable_now(path: Path, reason: str) -> UserError:
    size = path.stat().st_size / 1e9
    return UserError(
        f"cannot read {path} ({size:.1f} GB): {reason}. The file is kept: free memory or raise its"
        " limit (ulimit -v), then run the same command again"
    )


def image_state(path: Path) -> tuple[int, int]:
    """A resized image's bytes and modification time in ns."""
    state = path.stat()
    return state.st_size, state.st_mtime_ns


@dataclass(frozen=True)
class Cache:
    """The files that hold a tagger's scores in one precision under its present fingerprint.

    `precision` is that of the sums. With `half`, scores are written as float16.
    """

    tagger: Tagger
    data: DataFolder
    precision: str
    fingerprint: str
    half: bool = False

    @classmethod
    def of(cls, tagger: Tagger, data: DataFolder, precision: str, *, half: bool = False) -> "Cache":
        """The cache of a tagger as it is now. Reads its weights, for the fingerprint."""
        return cls(tagger, data, precision, tagger.fingerprint(precision), half)

    @property
    def path(self) -> Path:
        """The predictions file."""
        return self.data.predictions(self.tagger.name)

    @property
    def _aside(self) -> Path:
        return self.data.predictions_aside(self.tagger.name, self.fingerprint)

    @property
    def _parts(self) -> Path:
        return self.data.prediction_parts(self.tagger.name, self.fingerprint)

    def forget(self) -> None:
        """Remove the tagger's predictions, those of its present fingerprint only."""
        for path in (self.path, self._aside):
            try:
                if path.exists() and _load_own(path)["fingerprint"] == self.fingerprint:
                    path.unlink()
            except DamagedError:
                path.unlink()
        shutil.rmtree(self._parts, ignore_errors=True)

    def missing(self, post_ids: np.ndarray) -> np.ndarray:
        """Which of the posts (ids, ascending) have no score of their resized image as it is now."""
        rows = self._rows(self._sources(), post_ids)
        return without(post_ids, rows.ids[rows.sure])

    def add(self, batch: Batch | Merged) -> None:
        """Keep finished scores as one more part."""
        self.save(_new_part(self._parts), batch)

    def held(self, wanted: np.ndarray) -> Merged:
        """What there is of the posts in `wanted` (ids, ascending), made from their resized images
        as they are now; float16 where a file that has some of it is."""
        sources = self._sources()
        rows = self._rows(sources, wanted)
        ids, source, row, sure = (each[rows.sure] for each in rows[:4])
        half = any(_is_half(sources[number]) for number in np.unique(source).tolist())
        return self._merged(sources, _Rows(ids, source, row, sure, rows.renewed), half)

    def drop_parts(self, post_ids: np.ndarray) -> None:
        """Remove the parts that have nothing but scores of these posts (ids, ascending)."""
        for source in self._sources():
            part = source.parent == self._parts
            if part and not len(without(load(source)["post_ids"].numpy(), post_ids)):
                source.unlink()
        self._tidy()

    def merge(self, post_ids: np.ndarray) -> None:
        """Bring all that there is together in the predictions file, ids ascending.

        `post_ids` are this run's; rows of other posts are kept. A file of another fingerprint under
        that name is put aside first. The file is float16 where any of what it brings together is.
        """
        sources = self._sources()
        if self.path not in sources and self.path.exists():
            self._put_aside()
        half = self.half or any(_is_half(source) for source in sources)
        if half and self.path in sources and not _is_half(self.path):
            say(f"{self.tagger.label}: {self.path.name} is kept in half precision from now on")
        if len(sources) == 1 and _is_half(sources[0]) == half and self._is_as_now(sources[0]):
            if sources[0] != self.path:
                sources[0].rename(self.path)
        else:
            rows = self._rows(sources, post_ids)
            self.save(self.path, self._merged(sources, rows, half))
        # Only what was read: on a shared disk another machine's part may show up late.
        for source in sources:
            if source != self.path:
                source.unlink(missing_ok=True)
        self._tidy()

    def _tidy(self) -> None:
        """Remove what a killed run left among the parts, and their folders once they are empty."""
        for folder in (self._parts, self._parts.parent):
            if folder.exists():
                files.sweep(folder)
                if not any(folder.iterdir()):
                    folder.rmdir()

    def save(self, path: Path, batch: Batch | Merged) -> None:
        """Write a file of scores in the form of a predictions file."""
        scores = batch.scores
        tensor_file.save(
            path,
            {
                "predictions": scores
                if isinstance(scores, Streamed)
                else _in_blocks(scores, stored(self.half)),
                "post_ids": batch.post_ids,
                "images": batch.images,
                "speed": batch.speed,
                "created": provenance.now(),
                "software": provenance.software(),
                **self.about(),
            },
        )

    def about(self) -> dict[str, Any]:
        """What a predictions file says of its tagger, so that it can be scored without it.

        `tags` and `categories` of each output; `threshold`, one number or one for each output (not
        a number for a rating without one); `last_post_id`, and `held_out` and `validated_on` as
        [first, last] id % 1000, None where they are not known; `model`, `label`, `source`,
        `revision`, `precision` and `fingerprint`; and what Origin says: `weights`, `tags_file`,
        `card`, `parameters`, `file_size`.
        """
        told, cuts = self.tagger.about(), self.tagger.thresholds().tolist()
        held_out, validated_on = told["held_out"], told["validated_on"]
        return {
            "tags": self.tagger.tags,
            "categories": self.tagger.categories,
            "threshold": cuts[0] if len(set(cuts)) == 1 else cuts,
            "last_post_id": told["last_post_id"],
            "held_out": None if held_out is None else list(held_out),
            "validated_on": None if validated_on is None else list(validated_on),
            "model": self.tagger.name,
            "label": self.tagger.label,
            "source": told["source"],
            "revision": told["revision"],
            "precision": self.precision,
            "fingerprint": self.fingerprint,
            **self.tagger.origin(),
        }

    def speed(self) -> list[Speed]:
        """How fast the scores in the predictions file were made; empty where it does not say."""
        found: list[Speed] = load(self.path).get("speed", [])
        return found

    def _is_as_now(self, path: Path) -> bool:
        """Whether a predictions file says of the tagger what is so now."""
        found = load(path)
        # As texts: what is not a number is equal to nothing.
        return all(key in found and repr(found[key]) == repr(v) for key, v in self.about().items())

    def _sources(self) -> list[Path]:
        """The files that hold scores of the present fingerprint, oldest first."""
        sources = []
        for path in (self._aside, self.path, *sorted(self._parts.glob("*.pt"))):
            if not path.exists():
                continue
            found = _load_own(path)
            if found["fingerprint"] != self.fingerprint:
                continue
            if len(found["tags"]) != len(self.tagger.tags):
                raise UserError(
                    f"{self.tagger.name}: the network gives {len(found['tags'])} scores an image"
                    f" ({path}), but its tags file has {len(self.tagger.tags)} tags:"
                    f" {self.tagger.remedy('tags')}"
                )
            sources.append(path)
        return sources

    def _rows(self, sources: Sequence[Path], wanted: np.ndarray) -> "_Rows":
        """What counts for every post in `sources`, of the posts `wanted` (ids, ascending) with a
        look at their images.

        Of a post's rows, one of its image as it is now; where there is none the last, as nothing is
        thrown away. Names and times of parts are no guide: clocks are set back, and another machine
        may see older copies of resized/.
        """
        every, renewed = array("q"), array("q")
        for path in sources:
            every.frombytes(load(path)["post_ids"].numpy().view(np.uint8).data)
        ids = each_once(np.asarray(every))
        del every
        source, row = np.zeros((2, len(ids)), np.int32)
        found = _Rows(ids, source, row, np.zeros(len(ids), bool), renewed)
        for number, path in enumerate(sources):
            of_file = load(path)
            held, images = of_file["post_ids"].numpy(), of_file["images"].numpy()
            for start in range(0, len(held), IDS_AT_ONCE):
                some = held[start : start + IDS_AT_ONCE]
                states = images[start : start + IDS_AT_ONCE]
                rows, places = start + np.arange(len(some)), np.searchsorted(ids, some)
                unsure = ~found.sure[places]
                found.source[places[unsure]], found.row[places[unsure]] = number, rows[unsure]
                asked = np.flatnonzero(unsure & (rows_of(wanted, some) >= 0))
                said = zip(asked.tolist(), states[asked].tolist(), strict=True)
                for at, (size, mtime, content) in said:
                    place, post_id = int(places[at]), int(some[at])
                    if found.sure[place]:
                        continue
                    image = self.data.resized_image(post_id)
                    state = image_state(image)
                    if state != (size, mtime):
                        if content_hash(image.read_bytes()) != content:
                            continue
                        renewed.extend((post_id, *state))
                    found.sure[place], found.row[place] = True, rows[at]
                let_go(some)
                let_go(states)
        return found

    def _merged(self, sources: Sequence[Path], rows: "_Rows", half: bool) -> Merged:
        """Rows of the sources, ids ascending, as float16 if `half`."""
        images = np.empty((len(rows.ids), 3), np.int64)
        speeds: list[Speed] = []
        for number, source in enumerate(sources):
            found = load(source)
            mine = np.flatnonzero(rows.source == number)
            if len(mine):  # Else all of it is in another source as well.
                speeds += found.get("speed", [])
                mapped = found["images"].numpy()
                for start in range(0, len(mine), IDS_AT_ONCE):
                    some = mine[start : start + IDS_AT_ONCE]
                    images[some] = copied(mapped, rows.row[some])
        # Another machine's copies have other times, and nobody wants to read them all once more.
        renewed = np.asarray(rows.renewed).reshape(-1, 3)
        images[np.searchsorted(rows.ids, renewed[:, 0]), :2] = renewed[:, 1:]
        shape = len(rows.ids), len(self.tagger.tags)
        blocks = _in_order(sources, rows, shape[1], stored(half))
        scores = Streamed(shape, stored(half), blocks)
        return Merged(rows.ids, images, scores, speed.add_up(speeds))

    def _put_aside(self) -> None:
        """Keep a predictions file of other weights or settings under a name of its own."""
        name, fingerprint = self.tagger.name, load(self.path)["fingerprint"]
        aside = self.data.predictions_aside(name, fingerprint)
        parts = self.data.prediction_parts(name, fingerprint)
        self.path.rename(_new_part(parts) if aside.exists() else aside)
        label = self.tagger.label
        say(
            f"{label}: predictions of other weights or settings are kept as {aside.name}; give"
            f" {aside} to --models to compare with them"
        )


def caches(
    taggers: Sequence[Tagger],
    data: DataFolder,
    device: torch.device,
    precision: str,
    post_ids: np.ndarray,
    *,
    fresh: bool = False,
    half: bool = False,
) -> list[Cache]:
    """The cache of each tagger, in the `precision` (auto, float32 or half) that it has on a device.

    With auto, scores of all the posts that were worked out on another device are good too. With
    `fresh`, what is cached is deleted first. `half`: what is written is float16.
    """
    files.check_name(data.root)
    found = []
    for tagger in taggers:
        usual = Cache.of(tagger, data, tagger.precision(device, precision))
        if fresh:
            usual.forget()
        others = precision == "auto" and not fresh
        chosen = distributed.from_lead(partial(_chosen, usual, post_ids, others))
        found.append(Cache.of(tagger, data, chosen, half=half))
    return found


def _chosen(usual: Cache, post_ids: np.ndarray, others: bool) -> str:
    """The precision of a cache, or of the `others` one that has scores of all the posts where the
    cache has not."""
    if others and len(usual.missing(post_ids)):
        for other in usual.tagger.precisions:
            if not len(Cache.of(usual.tagger, usual.data, other).missing(post_ids)):
                return other
    return usual.precision


def _in_blocks(scores: np.ndarray, kind: np.dtype[Any]) -> Streamed:
    """Scores (posts, outputs) to be written as another type, of which little is in memory."""
    size = rows_at_once(scores.shape[1])
    blocks = (scores[start : start + size] for start in range(0, len(scores), size))
    return Streamed(scores.shape, kind, blocks)


def stored(half: bool) -> np.dtype[Any]:
    """The type that scores are kept in."""
    return np.dtype(np.float16 if half else np.float32)


def rows_at_once(outputs: int) -> int:
    """How many rows of so many scores are read at a time."""
    return max(1, min(MOST_ROWS, MOST_VALUES // max(1, outputs)))


def let_go(mapped: np.ndarray) -> None:
    """Let the system take back the memory of a piece of a mapped file that has been read, which
    counts as this process's; it is read again where it is asked for again."""
    address = mapped.ctypes.data
    begin = address // mmap.PAGESIZE * mmap.PAGESIZE
    size = ctypes.c_size_t(address + mapped.nbytes - begin)
    ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), size, mmap.MADV_DONTNEED)


def copied(mapped: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """A copy of some rows of a mapped matrix, of which nothing stays in memory."""
    found: np.ndarray = mapped[rows]
    let_go(mapped[rows.min() : rows.max() + 1])
    return found


def taken(mapped: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """As `copied`, of scores, float32."""
    return copied(mapped, rows).astype(np.float32, copy=False)


def _in_order(
    sources: Sequence[Path], rows: _Rows, outputs: int, kind: np.dtype[Any]
) -> Iterator[np.ndarray]:
    """The scores of some rows of the sources, a block of posts at a time.

    A source is open from the first block that has rows of it to the last.
    """
    last = np.zeros(len(sources), np.int32)
    np.maximum.at(last, rows.source, np.arange(len(rows.ids), dtype=np.int32))
    opened: dict[int, np.ndarray] = {}
    size = rows_at_once(outputs)
    for start in range(0, len(rows.ids), size):
        source, row = rows.source[start : start + size], rows.row[start : start + size]
        block = np.empty((len(source), outputs), kind)
        for number in np.unique(source).tolist():
            if number not in opened:
                opened[number] = load(sources[number])["predictions"].numpy()
            inside = source == number
            block[inside] = taken(opened[number], row[inside])
            if last[number] < start + size:
                del opened[number]
        yield block


def _new_part(folder: Path) -> Path:
    """A name for one more part in a folder of parts, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{time.time_ns():020d}-{distributed.rank()}.pt"
