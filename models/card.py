"""A model's TOML file, read and checked, and the files that it names.

A model is a name (the TOML file's stem in this folder) or a path to a TOML file elsewhere.
"""

import csv
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arena import hub
from arena.cli import UserError
from arena.data_folder import DataFolder
from arena.tagger import ImageSettings

FOLDER = Path(__file__).parent
# selected_tags.csv's category numbers are Danbooru's; 9 is the tagger authors' own, for ratings.
CATEGORIES = {"0": "general", "1": "artist", "3": "copyright", "4": "character", "5": "meta"}
CATEGORIES["9"] = "rating"


@dataclass(frozen=True)
class ModelCard:
    """A model's TOML file. `threshold` is one number, or one for each tag category."""

    name: str
    path: Path
    label: str
    kind: str
    source: str
    revision: str | None
    file: str
    tags: str
    threshold: float | dict[str, float]
    last_post_id: int
    image: ImageSettings
    activation: str


def names() -> list[str]:
    """The names of all models in this folder."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


_TEXT = (str,)
_NUMBER = (int, float)
_KEYS: dict[str, tuple[type, ...]] = {
    "label": _TEXT,
    "kind": _TEXT,
    "source": _TEXT,
    "revision": _TEXT,
    "file": _TEXT,
    "tags": _TEXT,
    "threshold": (int, float, dict),
    "last_post_id": (int,),
    "image": (dict,),
    "activation": _TEXT,
}
_IMAGE_KEYS: dict[str, tuple[type, ...]] = {
    "size": (int,),
    "pad": _TEXT,
    "resize": _TEXT,
    "channels": _TEXT,
    "layout": _TEXT,
    "scale": _NUMBER,
    "mean": (list,),
    "std": (list,),
}
_CHOICES = {
    "kind": ("onnx", "joytag"),
    "activation": ("sigmoid", "none"),
    "pad": ("square", "at_least"),
    "resize": ("bicubic", "area"),
    "channels": ("rgb", "bgr"),
    "layout": ("nchw", "nhwc"),
}
_KIND_NAMES = {str: "a text", int: "a whole number", float: "a number", dict: "a table"}
_KIND_NAMES[list] = "a list of three numbers"


def card(name: str) -> ModelCard:
    """Read and check a model's TOML file; UserError names the file and the key that is wrong."""
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not name.endswith(".toml") and name not in names():
        raise UserError(f"there is no model '{name}': have {', '.join(names())}, or give a .toml")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: give the path of a model's TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid TOML: {error}") from None
    _check_keys(path, "", table, _KEYS)
    image = table.pop("image")
    _check_keys(path, "image.", image, _IMAGE_KEYS)
    hub_source = not is_folder(table["source"])
    if hub_source and not re.fullmatch(r"[\w.-]+/[\w.-]+", table["source"]):
        raise UserError(
            f"{path}: key 'source' is neither a hub repository (org/name) nor a folder"
            " (starting with . or / or ~)"
        )
    if hub_source != ("revision" in table):
        wrong = "is missing (the hub revision)" if hub_source else "has no use with a folder"
        raise UserError(f"{path}: key 'revision' {wrong}")
    if table.get("revision") == "":
        raise UserError(f"{path}: key 'revision' must be a tag, branch or commit")
    _check_values(path, table, image)
    made = ImageSettings(**{**image, "mean": tuple(image["mean"]), "std": tuple(image["std"])})
    table.setdefault("revision", None)
    return ModelCard(name=path.stem, path=path, image=made, **table)


def _check_keys(
    path: Path, prefix: str, table: dict[str, Any], keys: dict[str, tuple[type, ...]]
) -> None:
    for key in table:
        if key not in keys:
            raise UserError(f"{path}: unknown key '{prefix}{key}'")
    for key, types in keys.items():
        if key not in table:
            if key == "revision":
                continue
            raise UserError(f"{path}: key '{prefix}{key}' is missing")
        if type(table[key]) not in types:
            wanted = " or ".join(_KIND_NAMES[kind] for kind in types)
            raise UserError(f"{path}: key '{prefix}{key}' must be {wanted}")
        if key in _CHOICES and table[key] not in _CHOICES[key]:
            raise UserError(f"{path}: key '{prefix}{key}' must be {' or '.join(_CHOICES[key])}")


def _check_values(path: Path, table: dict[str, Any], image: dict[str, Any]) -> None:
    def check(fine: bool, key: str, wanted: str) -> None:
        if not fine:
            raise UserError(f"{path}: key '{key}' must be {wanted}")

    for key in ("file", "tags"):
        parts = Path(table[key]).parts
        check(
            bool(parts) and ".." not in parts and not Path(table[key]).is_absolute(),
            key,
            "a file inside the source",
        )
    thresholds = table["threshold"]
    if isinstance(thresholds, dict):
        check(bool(thresholds), "threshold", "a number, or a table of at least one category")
        for category in thresholds:
            check(
                category in CATEGORIES.values(), f"threshold.{category}", "a Danbooru tag category"
            )
    else:
        thresholds = {"": thresholds}
    for category, value in thresholds.items():
        key = f"threshold.{category}".removesuffix(".")
        check(type(value) in _NUMBER and 0 <= value <= 1, key, "a number from 0 to 1")
    check(table["last_post_id"] >= 0, "last_post_id", "at least 0")
    check(1 <= image["size"] <= 4096, "image.size", "from 1 to 4096")
    check(image["scale"] > 0, "image.scale", "above 0")
    for key in ("mean", "std"):
        values = image[key]
        fine = len(values) == 3 and all(type(value) in _NUMBER for value in values)
        check(fine, f"image.{key}", "a list of three numbers")
    check(all(value > 0 for value in image["std"]), "image.std", "above 0 in every channel")


def is_folder(source: str) -> bool:
    """Whether a card's source is a folder: written with a leading `.`, `/` or `~`."""
    return source.startswith((".", "/", "~"))


def remedy(model: ModelCard, *keys: str) -> str:
    """What to do about files that do not fit: the data folder's own come from export_sw.py."""
    again = " or run export_sw.py again" if model.source == "." else ""
    named = " or ".join(f"'{key}'" for key in keys)
    return f"change {named} in {model.path}{again}"


def locate(model: ModelCard, data: DataFolder, *filenames: str) -> list[Path]:
    """The named files of a model's source, fetched from the hub where they are not cached.

    A folder is relative to `data`, where export_sw.py leaves its file. Raises UserError.
    """
    if not is_folder(model.source):
        return [hub.fetch(model.source, str(model.revision), name) for name in filenames]
    folder = data.root / Path(model.source).expanduser()
    for name in filenames:
        if not (folder / name).is_file():
            export = f"run export_sw.py --data {data}"
            remedy = export if model.source == "." else "check the file"
            raise UserError(f"{model.name}: {folder / name} is missing: {remedy}")
        hub.refuse_pointer(folder / name)
    return [folder / name for name in filenames]


def read_tags(path: Path) -> tuple[list[str], list[str]]:
    """The tag names and categories of a model's outputs, in order.

    A CSV with `name` and `category` columns, the latter Danbooru's numbers or names, or one name a
    line (category `general`). UserError says what is wrong with the file, and in which row.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        reader = csv.DictReader(text.splitlines())
        rows = [(reader.line_num, row) for row in reader] if path.suffix.lower() == ".csv" else []
    except (UnicodeDecodeError, csv.Error):
        raise UserError(f"{path} is not a text file of tags in UTF-8") from None
    if path.suffix.lower() != ".csv":
        tags = [line.strip() for line in text.splitlines() if line.strip()]
        categories = ["general"] * len(tags)
    else:
        if not rows or not {"name", "category"} <= rows[0][1].keys():
            raise UserError(f"{path} has no columns name and category, or no row under them")
        tags, categories = [], []
        for number, row in rows:
            if not row["name"] or row["category"] is None:
                raise UserError(f"{path} row {number} has no name or no category")
            tags.append(row["name"])
            categories.append(_category(row["category"], f"{path} row {number}"))
    if not tags:
        raise UserError(f"{path} has no tag in it")
    return tags, categories


def _category(text: str, where: str) -> str:
    """A tag's category from one of Danbooru's numbers, also as `4.0`, or from its name."""
    word = text.strip().lower()
    number = re.fullmatch(r"0*(\d+)(\.0*)?", word, re.ASCII)
    category = CATEGORIES.get(number[1], word) if number else word
    if category not in CATEGORIES.values():
        known = ", ".join(f"{key} {name}" for key, name in CATEGORIES.items())
        raise UserError(f"{where}: category {text!r} is none of {known}: give its number or name")
    return category


def weight_names(model: ModelCard) -> list[str]:
    """The names of the files that hold a model's network."""
    return [model.file, *(["config.json"] if model.kind == "joytag" else [])]


def is_cached(model: ModelCard, data: DataFolder) -> bool:
    """Whether a run would find the model's weights and tags on this machine."""
    names = [*weight_names(model), model.tags]
    if is_folder(model.source):
        folder = data.root / Path(model.source).expanduser()
        return all((folder / name).is_file() for name in names)
    return all(hub.cached(model.source, str(model.revision), name) for name in names)
