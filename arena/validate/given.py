"""A predictions file that --models names in place of a model: scored like one, never changed.

It needs `predictions`, `post_ids` and `tags`, as arena.validate.predictions.load says. What else
Cache.about tells may be missing: then all tags are general, the threshold is 0.5, and it is not
known which posts the model was trained on.

Such a file may come from anybody, so all of it is checked before any of it is used.
"""

import hashlib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from arena import files
from arena.cli import UserError
from arena.post_ids import PostIds
from arena.seen import Training
from arena.tagger import About, ImageSettings, Network, Origin
from arena.validate import predictions, speed
from arena.validate.ids import each_once
from arena.validate.pickle_work import work
from arena.validate.predictions import DamagedError, rows_at_once
from arena.validate.speed import Speed
from danbooru_metadata import TagMappings

import numpy as np
import torch

SUFFIX = "_predictions.pt"
UNKNOWN_THRESHOLD = 0.5
LARGEST_TEXT = 2**24  # Bytes of all that is no number: 100,000 tags with category take 6 million.
MOST_WORK = 2**20  # To load these, as pickle_work.py counts it: such tags take half of it.
LONGEST_TAG, LONGEST_TEXT, MOST_FILES = 500, 300, 1000


def stem(name: str) -> str:
    """The name that a model's files have, of what it is called in --models."""
    if name.endswith(".toml"):
        return Path(name).stem
    if name.endswith(SUFFIX):
        return Path(name).name.removesuffix(SUFFIX)
    return name.partition("@")[0].rstrip("/").rpartition("/")[2].removesuffix(SUFFIX)


@dataclass(frozen=True, eq=False)
class Predicted:
    """A tagger as arena.tagger.Tagger asks, of which there is only a predictions file.

    `about_it` is what the file says of it, every key of `KEYS` with its value or that for a missing
    one. `posts` are the ids of those that have scores.
    """

    path: Path
    name: str
    tags: list[str]
    about_it: dict[str, Any]
    posts: PostIds

    @property
    def label(self) -> str:
        """The file's label, or else its name."""
        return self.about_it["label"] or self.name

    @property
    def image(self) -> ImageSettings:
        """It has none, as no image is prepared for it: nothing asks."""
        raise NotImplementedError

    @property
    def activation(self) -> str:
        """Scores are scores."""
        return "none"

    @property
    def categories(self) -> list[str]:
        """The category of each output; general where the file does not say."""
        found: list[str] = self.about_it["categories"] or ["general"] * len(self.tags)
        return found

    @property
    def last_post_id(self) -> int | None:
        """The newest post that it may have been trained on, None where the file does not say."""
        found: int | None = self.about_it["last_post_id"]
        return found

    def thresholds(self) -> np.ndarray:
        """The file's one number, or that for each output: float (outputs,)."""
        cuts = self.about_it["threshold"]
        return np.array(cuts, float) if isinstance(cuts, list) else np.full(len(self.tags), cuts)

    def may_have_seen(self, post_ids: np.ndarray) -> np.ndarray:
        """Whether it may have been trained on each post, by its id alone: bool (posts,)."""
        if self.last_post_id is None:
            return np.zeros(len(post_ids), bool)
        training = Training(self.last_post_id, _pair(self.about_it["held_out"]))
        seen: np.ndarray = training.may_have_seen(post_ids)
        return seen

    @property
    def precisions(self) -> list[str]:
        """What its sums were worked out in."""
        return [self.about_it["precision"]]

    def precision(self, device: torch.device, wanted: str) -> str:
        """The same, whatever is wanted now."""
        return self.precisions[0]

    def fingerprint(self, precision: str) -> str:
        """The file's, or else a hash of its scores."""
        return str(self.about_it["fingerprint"])

    def open(self, device: torch.device, precision: str) -> Network:
        """It has no network, as all its scores are there: nothing opens it."""
        raise NotImplementedError

    def remedy(self, *keys: str) -> str:
        """What to do about a file that does not fit the posts."""
        return f"see whether {self.path} is of Danbooru's tags, or leave it out"

    def about(self) -> About:
        """What the results say of it."""
        cuts = self.about_it["threshold"]
        return {
            "name": self.name,
            "label": self.label,
            "source": self.about_it["source"] or self.path.name,
            "revision": self.about_it["revision"],
            "threshold": "one for each output" if isinstance(cuts, list) else cuts,
            "last_post_id": self.last_post_id,
            "held_out": _pair(self.about_it["held_out"]),
            "validated_on": _pair(self.about_it["validated_on"]),
            "vocabulary": len(self.tags),
        }

    def origin(self) -> Origin:
        """What the file says that its scores come from."""
        return {
            "weights": self.about_it["weights"],
            "tags_file": self.about_it["tags_file"],
            "card": "",
            "parameters": self.about_it["parameters"],
            "file_size": self.about_it["file_size"],
        }

    def renamed(self, name: str) -> "Predicted":
        """The same by another name."""
        return replace(self, name=name)


def _pair(ends: list[int] | None) -> tuple[int, int] | None:
    return None if ends is None else (ends[0], ends[1])


@dataclass(frozen=True)
class Given:
    """The scores of a Predicted, read as those of a Cache are."""

    tagger: Predicted

    @property
    def path(self) -> Path:
        """The predictions file."""
        return self.tagger.path

    @property
    def precision(self) -> str:
        """Of the sums that the scores come from."""
        return self.tagger.precisions[0]

    @property
    def fingerprint(self) -> str:
        """The file's, or else a hash of its scores."""
        return self.tagger.fingerprint(self.precision)

    def speed(self) -> list[Speed]:
        """How fast the scores were made; empty where the file does not say."""
        found: list[Speed] = self.tagger.about_it["speed"]
        return found


def read(path: Path, mappings: TagMappings) -> Predicted:
    """The tagger of a predictions file, all of which is read and checked.

    Its tags go through the aliases, which may be newer than the file. Raises UserError, with its
    own line for each thing that can be wrong with it.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}: give the path of a predictions file")
    if not (name := stem(path.name)) or not name.isprintable():
        raise UserError(f"{path} has a name that no model can have: rename it to a{SUFFIX}")
    files.check_name(path)
    files.refuse_pointer(path)
    sizes = _check_archive(path)
    try:
        found = predictions.opened(path)
    except DamagedError:
        _refuse_damaged(path)
    if not isinstance(found, dict):
        _refuse_damaged(path)
    for key in ("predictions", "post_ids", "tags"):
        if key not in found:
            raise UserError(f"{path} has no '{key}', so it is no predictions file: leave it out")
    _check_arrays(path, found, sizes)
    images = found.get("images")
    if images is not None and not _are_images(images, len(found["post_ids"])):
        raise UserError(
            f"{path}: 'images' must be a tensor of int64 (posts, 3): leave the file out"
        )
    told = _told(path, found)
    _check_scores(path, found["predictions"].numpy())
    if not told["fingerprint"]:
        told["fingerprint"] = _hash(found["predictions"].numpy())
    tags = [mappings.get_canonical(tag) for tag in found["tags"]]
    return Predicted(path, name, tags, told, PostIds(map(int, found["post_ids"].numpy())))


def _refuse_damaged(path: Path) -> NoReturn:
    remedy = files.fresh(path) if path.is_symlink() else "copy it anew"
    raise UserError(
        f"{path} is not a predictions file, or not a whole one: {remedy}, or leave it out"
    )


def _check_archive(path: Path) -> set[int]:
    """The sizes of the files within what torch.save wrote: each has all numbers of some tensors.

    Raises UserError for what it did not write, before torch spends memory on it.
    """
    path.open("rb").close()  # torch tells what the system has against it as it tells damage.
    try:
        # torch's own, as archives can be made that other readers take for something else.
        archive = torch._C.PyTorchFileReader(str(path))
        sizes = {name: archive.get_record_size(name) for name in archive.get_all_records()}
        length = archive.get_record_size("data.pkl")
        size = path.stat().st_size
        if sum(sizes.values()) > size:
            raise UserError(f"{path} says it holds more than its {size} bytes: leave it out")
        if length > LARGEST_TEXT:
            raise UserError(
                f"{path} has {length} bytes of tags and other texts, where {LARGEST_TEXT} are"
                " enough for any model: leave it out"
            )
        if work(archive.get_record("data.pkl"), MOST_WORK) > MOST_WORK:
            raise UserError(
                f"{path} has tags and other texts that take more than {MOST_WORK} steps to"
                " read, which are enough for any model: leave it out"
            )
    except (RuntimeError, ValueError):
        _refuse_damaged(path)
    return set(sizes.values())


def _check_arrays(path: Path, found: dict[Any, Any], sizes: set[int]) -> None:
    """Raise UserError for tensors or tags that are not of one form, or claim more numbers than the
    file has: `sizes` are as _check_archive gives them."""
    forms = {"predictions": (predictions.STORED, 2), "post_ids": ((torch.int64,), 1)}
    for key, (kinds, dimensions) in forms.items():
        tensor = found[key]
        fine = (
            isinstance(tensor, torch.Tensor)
            and tensor.layout == torch.strided
            and tensor.device.type == "cpu"
            and tensor.dtype in kinds
            and tensor.dim() == dimensions
            and not tensor.requires_grad
            # A view of few numbers can claim to be billions of rows.
            and tensor.is_contiguous()
            and predictions.is_mapped(tensor)
            # Of a record cut short, torch reads on in the next.
            and tensor.untyped_storage().nbytes() in sizes
        )
        if not fine or not tensor.numel():
            wanted = " or ".join(str(kind).removeprefix("torch.") for kind in kinds)
            raise UserError(
                f"{path}: '{key}' must be a tensor of {wanted} with {dimensions}"
                f" dimension{'s' * (dimensions > 1)}, whole and not empty: leave the file out"
            )
    (rows, columns), ids = found["predictions"].shape, found["post_ids"].numpy()
    if len(ids) != rows:
        raise UserError(f"{path} has {rows} rows of scores, but {len(ids)} post ids: leave it out")
    if len(each_once(ids)) < rows or ids.min() < 1:
        raise UserError(f"{path}: 'post_ids' must be above 0, each once: leave the file out")
    tags = found["tags"]
    if not isinstance(tags, list) or len(tags) != columns:
        raise UserError(f"{path} must have one tag for each of its {columns} outputs: leave it out")
    if not all(isinstance(tag, str) and 0 < len(tag) <= LONGEST_TAG for tag in tags):
        raise UserError(
            f"{path}: 'tags' must be texts of 1 to {LONGEST_TAG} letters: leave the file out"
        )


def _check_scores(path: Path, scores: np.ndarray) -> None:
    """Raise UserError unless all scores, (posts, outputs), are from 0 to 1."""
    size = rows_at_once(scores.shape[1])
    for start in range(0, len(scores), size):
        block = scores[start : start + size].astype(np.float32, copy=False)
        if not (block.min() >= 0 and block.max() <= 1):  # Nor is a NaN.
            raise UserError(f"{path} holds scores that are not from 0 to 1: leave it out")


def _hash(scores: np.ndarray) -> str:
    digest, size = hashlib.sha256(), rows_at_once(scores.shape[1])
    for start in range(0, len(scores), size):  # So that its pages may leave the memory.
        digest.update(scores[start : start + size].tobytes())
    return digest.hexdigest()


def _told(path: Path, found: dict[Any, Any]) -> dict[str, Any]:
    """What the file says of its tagger, by the names of KEYS. UserError names a key's wrong value,
    and does not show it."""
    told = {}
    for key, (missing, fine, wanted) in KEYS.items():
        value = found.get(key)
        if value is not None and not fine(value, len(found["tags"])):
            raise UserError(f"{path}: '{key}' must be {wanted}: leave the file out")
        told[key] = missing if value is None else value
    cuts, kinds = told["threshold"], told["categories"]
    if isinstance(cuts, list):
        for place, cut in enumerate(cuts):
            if math.isnan(cut) and (kinds is None or kinds[place] != "rating"):
                raise UserError(
                    f"{path}: 'threshold' must have a number for each tag that is no rating: leave"
                    " the file out"
                )
    return told


def _is_text(value: Any, outputs: int) -> bool:
    return isinstance(value, str) and value.isprintable() and len(value) <= LONGEST_TEXT


def _is_whole(value: Any, outputs: int) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1


def _is_threshold(value: Any, outputs: int) -> bool:
    if not isinstance(value, list):
        return _is_number(value)
    numbers = (_is_number(each) or (type(each) is float and math.isnan(each)) for each in value)
    return len(value) == outputs and all(numbers)


def _are_categories(value: Any, outputs: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == outputs
        and all(each and _is_text(each, 0) for each in value)
    )


def _is_range(value: Any, outputs: int) -> bool:
    ends = isinstance(value, list) and len(value) == 2 and all(type(end) is int for end in value)
    return ends and 0 <= value[0] <= value[1] <= 999


def _is_hash(value: Any, outputs: int) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _are_hashes(value: Any, outputs: int) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= MOST_FILES
        and all(_is_text(name, 0) and _is_hash(sha256, 0) for name, sha256 in value.items())
    )


def _is_speed(value: Any, outputs: int) -> bool:
    return speed.is_list(value) and all(_is_text(each["device"], 0) for each in value)


def _are_images(value: Any, rows: int) -> bool:
    return (
        isinstance(value, torch.Tensor)
        and (value.dtype, value.shape) == (torch.int64, (rows, 3))
        and value.layout == torch.strided
        and value.is_contiguous()
        and predictions.is_mapped(value)
    )


_A_TEXT = f"a text of at most {LONGEST_TEXT} printable letters"
_A_RANGE = "the first and the last id % 1000, such as [900, 999]"
_HASHES = "SHA-256 hashes of files by their names"
# What a file may say beside scores: what stands for a missing value, whether a value (of a file
# with so many outputs) can be, and what it must be.
KEYS: dict[str, tuple[Any, Callable[[Any, int], bool], str]] = {
    "label": ("", _is_text, _A_TEXT),
    "categories": (None, _are_categories, "a list of printable texts, one for each output"),
    "threshold": (
        UNKNOWN_THRESHOLD,
        _is_threshold,
        "a number from 0 to 1, or a list with one for each output",
    ),
    "last_post_id": (None, _is_whole, "a whole number of at least 0"),
    "held_out": (None, _is_range, _A_RANGE),
    "validated_on": (None, _is_range, _A_RANGE),
    "source": ("", _is_text, _A_TEXT),
    "revision": (None, _is_text, _A_TEXT),
    "precision": ("unknown", _is_text, _A_TEXT),
    "fingerprint": ("", _is_hash, "a SHA-256 hash"),
    "weights": ({}, _are_hashes, _HASHES),
    "tags_file": ({}, _are_hashes, _HASHES),
    "parameters": (None, _is_whole, "a whole number of at least 0"),
    "file_size": (0, _is_whole, "a whole number of at least 0"),
    "speed": ([], _is_speed, "as validate.py writes it"),
}
