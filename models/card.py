"""A model's TOML file, read and checked, and the files that it names.

A model is a name (the TOML file's stem in this folder) or a path to a TOML file elsewhere.
"""

import difflib
import json
import math
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arena import files
from arena.cli import UserError
from arena.data_folder import DataFolder
from arena.tagger import RESIZE_VERSIONS, First, ImageSettings
from models import preset, recognise, tags

FOLDER = Path(__file__).parent
EXPORTED = "wd-v1-4-vit-tagger-v2"  # The name of what export_sw.py writes unless it is told other.


@dataclass(frozen=True)
class ModelCard:
    """A model's TOML file.

    `threshold` is one number, one for each tag category (`other`: for all that are not named), or
    the name of a column of the tags file. `held_out` are the first and last id % 1000 that were
    never trained on, `validated_on` those of them that chose its checkpoint or threshold. `output`
    names the output with the scores where several fit, `mask` a second input that marks padding.
    Tags come from the model's own source unless `tags_source` names another.
    """

    name: str
    path: Path
    label: str
    kind: str
    source: str
    revision: str | None
    file: str
    tags: str
    threshold: float | dict[str, float] | str
    image: ImageSettings
    activation: str
    family: str = ""  # Its preset, or its kind.
    last_post_id: int | None = None
    held_out: tuple[int, int] | None = None
    validated_on: tuple[int, int] | None = None
    output: str | None = None
    mask: str | None = None
    tags_source: str | None = None
    tags_revision: str | None = None


def names() -> list[str]:
    """The names of all models in this folder."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


_TEXT = (str,)
_NUMBER = (int, float)
KEYS: dict[str, tuple[type, ...]] = {
    "preset": _TEXT,
    "label": _TEXT,
    "kind": _TEXT,
    "source": _TEXT,
    "revision": _TEXT,
    "file": _TEXT,
    "tags": _TEXT,
    "threshold": (int, float, dict, str),
    "last_post_id": (int,),
    "held_out": (list,),
    "validated_on": (list,),
    "output": _TEXT,
    "mask": _TEXT,
    "tags_source": _TEXT,
    "tags_revision": _TEXT,
    "image": (dict,),
    "activation": _TEXT,
}
IMAGE_KEYS: dict[str, tuple[type, ...]] = {
    "size": (int,),
    "pad": _TEXT,
    "resize": _TEXT,
    "channels": _TEXT,
    "layout": _TEXT,
    "scale": (int, float, str),
    "mean": (list,),
    "std": (list,),
    "color": (list,),
    "first": (dict,),
}
_OPTIONAL = (
    *("preset", "revision", "last_post_id", "held_out", "validated_on", "output", "mask"),
    *("tags_source", "tags_revision", "image.color", "image.first"),
)
_CHOICES = {
    "kind": ("onnx", "joytag", "timm"),
    "activation": ("sigmoid", "none"),
    "pad": ("square", "at_least", "stretch"),
    "resize": tuple(RESIZE_VERSIONS),
    "channels": ("rgb", "bgr"),
    "layout": ("nchw", "nhwc"),
}
_KIND_NAMES = {str: "a text", int: "a whole number", float: "a number", dict: "a table"}
_KIND_NAMES[list] = "a list of numbers"
PILLOW = tuple(resize for resize in RESIZE_VERSIONS if resize != "area")


def card(name: str) -> ModelCard:
    """Read and check a model's TOML file; UserError names the file and the key that is wrong."""
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if recognise.is_source(name):
        path = Path(f"{name.partition('@')[0].rstrip('/').rpartition('/')[2]}.toml")
    elif not name.endswith(".toml") and name not in names():
        raise UserError(
            f"there is no model '{name}'{_meant(name)}: the models are {', '.join(names())}; one of"
            " your own is given as the path of its .toml file, a folder, or org/name on the hub"
        )
    try:
        own = tomllib.loads(text(name))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid TOML: {error}") from None
    table = preset.filled(own, path)
    _check_keys(path, "", table, KEYS)
    family = str(own.get("preset", table["kind"]))
    table.pop("preset", None)
    image = table.pop("image")
    _check_keys(path, "image.", image, IMAGE_KEYS)
    _check_source(path, table, "source", "revision")
    if "tags_source" in table or "tags_revision" in table:
        _check_source(path, table, "tags_source", "tags_revision")
    _check_values(path, table, image)
    for each in (table, image):
        for key, value in each.items():
            if isinstance(value, list):
                each[key] = tuple(value)
    if "first" in image:
        image["first"] = First(**image["first"])
    made = ImageSettings(**{**image, "scale": _fraction(image["scale"])})
    table.setdefault("revision", None)
    return ModelCard(name=path.stem, path=path, image=made, family=family, **table)


def text(name: str) -> str:
    """The TOML of a model: its file's, or what its source's files tell. Raises UserError."""
    if recognise.is_source(name):
        return recognise.toml(name)
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is not a file: give the path of a model's TOML file")
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path} is missing: give the path of a model's TOML file") from None


def _check_source(path: Path, table: dict[str, Any], source: str, revision: str) -> None:
    """Raise UserError unless a source is a folder, or a hub repository with its revision."""
    place = table.get(source, "")
    on_hub = not is_folder(place)
    if on_hub and not re.fullmatch(r"[\w.-]+/[\w.-]+", place):
        raise UserError(
            f"{path}: key '{source}' is neither a hub repository (org/name) nor a folder"
            " (starting with . or / or ~)"
        )
    if on_hub != (revision in table):
        wrong = "is missing (the hub revision)" if on_hub else "has no use with a folder"
        raise UserError(f"{path}: key '{revision}' {wrong}")
    if table.get(revision) == "":
        raise UserError(f"{path}: key '{revision}' must be a tag, branch or commit")


def _meant(name: str) -> str:
    """A question that offers the model whose label or name is like `name`, if there is one."""
    labels = {_label(known).lower(): known for known in names()}
    labels |= {known.lower(): known for known in names()}
    close = difflib.get_close_matches(name.lower(), labels, n=1)
    return f" (did you mean {labels[close[0]]}?)" if close else ""


def _label(name: str) -> str:
    table = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    return str(table.get("label", name))


def _check_keys(
    path: Path, prefix: str, table: dict[str, Any], keys: dict[str, tuple[type, ...]]
) -> None:
    for key in table:
        if key not in keys:
            raise UserError(f"{path}: unknown key '{prefix}{key}': the keys are {', '.join(keys)}")
    for key, types in keys.items():
        if key not in table:
            if prefix + key in _OPTIONAL:
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
    if isinstance(thresholds, str):
        check(bool(thresholds), "threshold", "a number, a table or the name of a column")
        thresholds = {}
    elif isinstance(thresholds, dict):
        check(bool(thresholds), "threshold", "a number, or a table of at least one category")
        named = f"of a category: {', '.join(tags.KNOWN)} or other"
        for category in thresholds:
            check(category in (*tags.KNOWN, "other"), f"threshold.{category}", named)
    else:
        thresholds = {"": thresholds}
    for category, value in thresholds.items():
        key = f"threshold.{category}".removesuffix(".")
        check(type(value) in _NUMBER and 0 <= value <= 1, key, "a number from 0 to 1")
    check(table.get("last_post_id", 0) >= 0, "last_post_id", "at least 0")
    for key in ("held_out", "validated_on"):
        ends = table.get(key, [0, 999])
        whole = len(ends) == 2 and all(type(end) is int for end in ends)
        fine = whole and 0 <= ends[0] <= ends[1] <= 999
        check(fine, key, "a list of the first and the last id % 1000, such as [900, 999]")
    check(1 <= image["size"] <= 4096, "image.size", "from 1 to 4096")
    scale = _fraction(image["scale"])
    check(0 < scale < math.inf, "image.scale", 'a number above 0, or a fraction such as "1/255"')
    if "first" in image:
        _check_keys(path, "image.first.", image["first"], {"size": (int,), "resize": _TEXT})
        check(1 <= image["first"]["size"] <= 4096, "image.first.size", "from 1 to 4096")
        fine = image["first"]["resize"] in PILLOW
        check(fine, "image.first.resize", f"one of {', '.join(PILLOW)}")
    if "color" in image:
        fine = len(image["color"]) == 3 and all(
            type(value) is int and 0 <= value <= 255 for value in image["color"]
        )
        check(fine, "image.color", "a list of three whole numbers from 0 to 255: red, green, blue")
    for key in ("mean", "std"):
        values = image[key]
        fine = len(values) == 3 and all(type(value) in _NUMBER for value in values)
        check(fine, f"image.{key}", "a list of three numbers")
    check(all(value > 0 for value in image["std"]), "image.std", "above 0 in every channel")


def _fraction(value: float | str) -> float:
    """A number, also one written as a fraction such as 1/255; not a number where it is neither."""
    if not isinstance(value, str):
        return value
    parts = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*/\s*(\d+(?:\.\d+)?)\s*", value, re.ASCII)
    return float(parts[1]) / float(parts[2]) if parts and float(parts[2]) else math.nan


def is_folder(source: str) -> bool:
    """Whether a card's source is a folder: written with a leading `.`, `/` or `~`."""
    return source.startswith((".", "/", "~"))


def shown_source(model: ModelCard) -> str:
    """A model's source for results, which say nothing of where on a machine a folder is."""
    if model.source == ".":
        return "written by export_sw.py" if is_exported(model) else "the data folder"
    return _shown(model.source)


def _shown(source: str) -> str:
    """A source without the path of a folder that is outside of the data folder."""
    return files.shown_path(source) if is_folder(source) else source


def portable(model: ModelCard) -> str:
    """A card as TOML that needs no preset and names no path of this machine: a folder outside of
    the data folder has its name only."""
    keys: dict[str, Any] = {
        key: getattr(model, key) for key in KEYS if key not in ("preset", "image", "threshold")
    }
    for key in ("source", "tags_source"):
        if keys[key] is not None and is_folder(keys[key]):
            keys[key] = _shown(keys[key]).replace("…", ".")
    tables = {"image": {key: getattr(model.image, key) for key in IMAGE_KEYS}}
    if isinstance(model.threshold, dict):
        tables["threshold"] = model.threshold
    else:
        keys["threshold"] = model.threshold
    lines = _toml_lines(keys)
    for name, table in tables.items():
        lines += ["", f"[{name}]", *_toml_lines(table)]
    return "\n".join(lines) + "\n"


def _toml_lines(table: dict[str, Any]) -> list[str]:
    # JSON's texts, numbers and lists are TOML's too, but for one character.
    lines = []
    for key, value in table.items():
        if isinstance(value, First):
            lines.append(f"{key} = {{ {', '.join(_toml_lines(value._asdict()))} }}")
        elif value is not None:
            lines.append(
                f"{key} = {json.dumps(value, ensure_ascii=False)}".replace("\x7f", "\\u007f")
            )
    return lines


def is_exported(model: ModelCard) -> bool:
    """Whether a model's files are those that export_sw.py writes into the data folder."""
    return model.source == "." and Path(model.file).stem.removesuffix("-half") == EXPORTED


def remedy(model: ModelCard, *keys: str) -> str:
    """What to do about files that do not fit: the data folder's own come from export_sw.py."""
    again = " or run export_sw.py again" if is_exported(model) else ""
    named = " or ".join(f"'{key}'" for key in keys)
    return f"change {named} in {model.path}{again}"


def locate(model: ModelCard, data: DataFolder, *filenames: str) -> list[Path]:
    """The named files of a model's source, fetched from the hub where they are not cached.

    A folder is relative to `data`, where export_sw.py leaves its file. Raises UserError.
    """
    return [_locate(model, data, model.source, model.revision, name) for name in filenames]


def locate_tags(model: ModelCard, data: DataFolder) -> Path:
    """The tags file of a model, as `locate` finds files. Raises UserError."""
    if model.tags_source is None:
        return locate(model, data, model.tags)[0]
    return _locate(model, data, model.tags_source, model.tags_revision, model.tags)


def _locate(
    model: ModelCard, data: DataFolder, source: str, revision: str | None, name: str
) -> Path:
    if not is_folder(source):
        from arena import hub  # Here, as it takes half a second that a folder's models never need.

        return hub.fetch(source, str(revision), name)
    folder = data.root / Path(source).expanduser()
    files.check_name(folder)
    if not (folder / name).is_file():
        remedy = f"put it there, or correct its name or 'source' in {model.path}"
        if is_exported(model):
            remedy = f"run export_sw.py --data {data}"
        raise UserError(f"{model.name}: {folder / name} is missing: {remedy}")
    files.refuse_pointer(folder / name)
    return folder / name


def weight_names(model: ModelCard) -> list[str]:
    """The names of the files that hold a model's network."""
    if model.kind == "onnx":
        return [model.file]
    return [model.file, str(Path(model.file).with_name("config.json"))]


def is_cached(model: ModelCard, data: DataFolder) -> bool:
    """Whether a run would find the model's weights and tags on this machine."""
    tags = model.tags_source or model.source, model.tags_revision or model.revision, model.tags
    weights = [(model.source, model.revision, name) for name in weight_names(model)]
    return all(_is_here(data, *each) for each in (*weights, tags))


def _is_here(data: DataFolder, source: str, revision: str | None, name: str) -> bool:
    if is_folder(source):
        return (data.root / Path(source).expanduser() / name).is_file()
    from arena import hub

    return hub.cached(source, str(revision), name)
