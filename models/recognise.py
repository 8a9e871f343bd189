"""A card for a hub repository or a folder that has none, from the files in it.

What cannot be known from the files is left out or said, never guessed.
"""

import csv
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arena.cli import UserError
from models import preprocess, tags

Json = dict[str, Any]

HUB = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", re.ASCII)
UNKNOWN_THRESHOLD = 0.5
BEST = "best_threshold"  # A column of tags files: the threshold of each tag.
THRESHOLDS, CATEGORIES = "thresholds.csv", "categories.json"
TAGS = ("selected_tags.csv", "tags_info.csv", "top_tags.txt", "tags.json", "tag_mapping.json")


@dataclass(frozen=True)
class Source:
    """Where a model's files are: their names, and how to come by one of them."""

    name: str  # As it was given.
    source: str  # A hub repository, or a folder.
    revision: str | None
    names: Sequence[str]
    fetch: Callable[[str], Path]

    def json(self, name: str) -> Json:
        """The JSON object in one of the files. Raises UserError where there is none."""
        path = self.fetch(name)
        try:
            found = json.loads(path.read_text(encoding="utf-8-sig"))
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise UserError(f"{path} is no JSON object: give the model a card of its own (README)")
        return found


def is_source(name: str) -> bool:
    """Whether a name given for a model is a folder that is there, written with a slash, or else a
    hub repository."""
    if name.endswith(".toml") or "/" not in name:
        return False
    return Path(name).is_dir() or (HUB.fullmatch(name) is not None and name[0] not in "./~")


def find(name: str) -> Source:
    """The files of a folder, or of a hub repository `org/name` or `org/name@revision`, pinned to
    the commit that it is now. Raises UserError."""
    if Path(name).is_dir():
        folder = Path(name).resolve()
        names = sorted(path.name for path in folder.iterdir() if path.is_file())
        return Source(name, str(folder), None, names, lambda each: folder / each)
    from arena import hub

    repo, _, given = name.partition("@")
    revision = given or "main"
    commit, names = hub.listing(repo, revision)
    # By the revision's name, so that the cache knows offline which commit it was.
    return Source(name, repo, commit, names, lambda each: hub.fetch(repo, revision, each))


def toml(name: str) -> str:
    """The text of a card for what `find` finds. Raises UserError for files of no known layout."""
    source = find(name)
    table, image, notes = _recognised(source)
    known = {
        "label": name.partition("@")[0].rstrip("/").rpartition("/")[2],
        "source": source.source,
        "revision": source.revision,
        **table,
    }
    lines = [f"# From the files of {name}.", *(f"# {note}" for note in notes)]
    lines += [f"{key} = {_value(value)}" for key, value in known.items() if value is not None]
    if image:
        lines += ["", "[image]", *(f"{key} = {_value(value)}" for key, value in image.items())]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    """A value as TOML: JSON's texts, numbers and lists are TOML's too."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_value(each)}" for key, each in value.items()) + "}"
    return json.dumps(value)


def _recognised(source: Source) -> tuple[Json, Json, list[str]]:
    """The card's keys, its [image], and notes on what is not known."""
    networks = [name for name in source.names if name.endswith(".onnx")]
    weights = [name for name in source.names if name.endswith(".safetensors")]
    config = source.json("config.json") if "config.json" in source.names else {}
    notes = ["Its newest training post is not known: add last_post_id if you know it."]
    table: Json
    image: Json = {}
    if config.get("class") == "ViT" and weights:
        table = {"preset": "joytag", "file": _only(source, weights, "weights")}
        if config.get("image_size", 448) != 448:
            image = {"size": config["image_size"]}
    elif networks and preprocess.FILE in source.names:
        table = {"kind": "onnx", "file": _only(source, networks, "ONNX files")}
        table |= {"output": "prediction", "activation": "none"}
        image = preprocess.image(source.fetch(preprocess.FILE))
    elif networks and "selected_tags.csv" in source.names:
        table = {"preset": "wd", "file": _only(source, networks, "ONNX files")}
    elif weights and "pretrained_cfg" in config:
        table = {"kind": "timm", "file": _only(source, weights, "weights")}
        table["activation"] = "sigmoid"
        image = _of_timm(source, config)
        notes.append("How it pads an image is not known: a white square is a stand-in.")
    else:
        raise UserError(_unknown(source))
    table["tags"] = _only(source, [name for name in TAGS if name in source.names], "tags files")
    table["threshold"], note = _threshold(source, table["tags"])
    return table, image, [*notes, note]


def _threshold(source: Source, tags_file: str) -> tuple[Any, str]:
    """`threshold`, and where it is from: the first of these that a source has, as imgutils does it
    (https://github.com/deepghs/imgutils, generic/multilabel_timm.py)."""
    if tags_file.endswith(".csv") and BEST in _head(source, tags_file):
        unused = f", and not of {THRESHOLDS}" if THRESHOLDS in source.names else ""
        return BEST, f"Its thresholds are those of each tag in {tags_file}{unused}."
    if THRESHOLDS in source.names:
        return _by_category(source), f"Its thresholds are those of each category in {THRESHOLDS}."
    return UNKNOWN_THRESHOLD, f"Its threshold is not known: {UNKNOWN_THRESHOLD} is a stand-in."


def _by_category(source: Source) -> dict[str, float]:
    """The threshold of each category in thresholds.csv, of a category's rows the first.

    A category is a number there. categories.json says its name; it is Danbooru's number where that
    file is missing. Raises UserError for a row that holds no threshold of a category.
    """
    path = source.fetch(THRESHOLDS)
    named = _category_names(source)
    found: dict[str, float] = {}
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
        for row in rows:
            number = row["category"].strip().removesuffix(".0")
            category = tags.category(named.get(number, number), f"{path}")
            value = float(row["threshold"])
            if not 0 <= value <= 1:
                raise ValueError
            found.setdefault(category, value)
        if not found:
            raise ValueError
    except (KeyError, AttributeError, TypeError, ValueError, csv.Error):
        raise UserError(
            f"{path} has not in every row the number of a category and its threshold from 0 to 1:"
            " give the model a card of its own (README)"
        ) from None
    return found


def _category_names(source: Source) -> dict[str, str]:
    """What categories.json calls each number: [{"category": 0, "name": "general"}, …].

    The tags file has the same numbers, which are read as Danbooru's. Raises UserError where they
    are not.
    """
    if CATEGORIES not in source.names:
        return {}
    path = source.fetch(CATEGORIES)
    try:
        listed = json.loads(path.read_text(encoding="utf-8-sig"))
        names = {str(int(each["category"])): str(each["name"]).lower() for each in listed}
    except (KeyError, TypeError, ValueError, RecursionError):
        raise UserError(
            f"{path} is no list of categories with a number and a name: give the model a card of"
            " its own (README)"
        ) from None
    for number, name in names.items():
        if tags.CATEGORIES.get(number, name) != name:
            raise UserError(
                f"{path} calls category {number} {name}, which is {tags.CATEGORIES[number]} here:"
                f" give the model a card, and a tags file with names in place of numbers (README)"
            )
    return names


def _only(source: Source, names: Sequence[str], what: str) -> str:
    """The one name of a kind, or the usual one. Raises UserError that lists the choices."""
    if len(names) == 1:
        return names[0]
    for usual in ("model.onnx", "model.safetensors"):
        if usual in names and what == "weights":
            return usual
    if not names:
        raise UserError(_unknown(source))
    raise UserError(
        f"{source.name} has several {what}, {', '.join(names)}: save a card of its own that names"
        " one of them (README)"
    )


def _unknown(source: Source) -> str:
    shown = ", ".join(source.names[:12]) + (", …" if len(source.names) > 12 else "")
    return (
        f"{source.name} is of no layout that is known here: it needs model.onnx, or"
        f" model.safetensors with config.json, and a tags file such as {TAGS[0]}, and has"
        f" {shown or 'no file'}: give it a card of its own (README)"
    )


def _head(source: Source, name: str) -> list[str]:
    """The columns of a CSV."""
    with source.fetch(name).open(encoding="utf-8-sig", errors="replace") as file:
        return file.readline(10_000).strip().split(",")


def _of_timm(source: Source, config: Json) -> Json:
    """[image] from timm's pretrained_cfg."""
    found = config["pretrained_cfg"]
    try:
        channels, height, width = found.get("test_input_size") or found["input_size"]
        if channels != 3 or height != width:
            raise ValueError
        return {
            "size": int(height),
            "pad": "square",
            "resize": str(found.get("interpolation", "bicubic")),
            # SmilingWolf's were trained on pixels with blue first, in timm too.
            "channels": "bgr" if source.source.startswith("SmilingWolf/") else "rgb",
            "layout": "nchw",
            "scale": "1/255",
            "mean": [float(value) for value in found["mean"]],
            "std": [float(value) for value in found["std"]],
        }
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"{source.name}: config.json's pretrained_cfg does not say input_size, mean and std:"
            " give it a card of its own (README)"
        ) from None
