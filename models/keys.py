"""The keys of a card: which there are, and whether their values can be.

Each error names the card's file, the key, and what its value must be.
"""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from arena.cli import UserError
from arena.tagger import RESIZE_VERSIONS, First, ImageSettings
from models import tags

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
    "preprocess": _TEXT,
    "license": _TEXT,
    "gated": (bool,),
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
    *("tags_source", "tags_revision", "preprocess", "license", "gated"),
    *("image.color", "image.first"),
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
_KIND_NAMES |= {list: "a list of numbers", bool: "true or false"}
PILLOW = tuple(resize for resize in RESIZE_VERSIONS if resize != "area")


def image_settings(path: Path, image: dict[str, Any]) -> ImageSettings:
    """The settings in an [image] with all keys. UserError names the key whose value is wrong."""
    _check_image_values(path, image)
    made: dict[str, Any] = {**image, "scale": _fraction(image["scale"])}
    made |= {key: tuple(value) for key, value in image.items() if isinstance(value, list)}
    if "first" in image:
        made["first"] = First(**image["first"])
    return ImageSettings(**made)


def check(
    path: Path,
    prefix: str,
    table: dict[str, Any],
    keys: dict[str, tuple[type, ...]],
    *,
    whole: bool = True,
) -> None:
    """Raise UserError for a key that there is not, is missing from a whole table, or is of another
    kind."""
    for key in table:
        if key not in keys:
            raise UserError(f"{path}: unknown key '{prefix}{key}': the keys are {', '.join(keys)}")
    for key, types in keys.items():
        if key not in table:
            if prefix + key in _OPTIONAL or not whole:
                continue
            raise UserError(f"{path}: key '{prefix}{key}' is missing")
        if type(table[key]) not in types:
            wanted = " or ".join(_KIND_NAMES[kind] for kind in types)
            raise UserError(f"{path}: key '{prefix}{key}' must be {wanted}")
        if key in _CHOICES and table[key] not in _CHOICES[key]:
            raise UserError(f"{path}: key '{prefix}{key}' must be {' or '.join(_CHOICES[key])}")


def _checker(path: Path) -> Callable[[bool, str, str], None]:
    def must(fine: bool, key: str, wanted: str) -> None:
        if not fine:
            raise UserError(f"{path}: key '{key}' must be {wanted}")

    return must


def check_values(path: Path, table: dict[str, Any]) -> None:
    """Raise UserError for a value, outside of [image], that cannot be."""
    must = _checker(path)
    for key in ("file", "tags", *(["preprocess"] if "preprocess" in table else [])):
        parts = Path(table[key]).parts
        must(
            bool(parts) and ".." not in parts and not Path(table[key]).is_absolute(),
            key,
            "a file inside the source",
        )
    thresholds = table["threshold"]
    if isinstance(thresholds, str):
        must(bool(thresholds), "threshold", "a number, a table or the name of a column")
        thresholds = {}
    elif isinstance(thresholds, dict):
        must(bool(thresholds), "threshold", "a number, or a table of at least one category")
        named = f"of a category: {', '.join(tags.KNOWN)} or other"
        for category in thresholds:
            must(category in (*tags.KNOWN, "other"), f"threshold.{category}", named)
    else:
        thresholds = {"": thresholds}
    for category, value in thresholds.items():
        key = f"threshold.{category}".removesuffix(".")
        must(type(value) in _NUMBER and 0 <= value <= 1, key, "a number from 0 to 1")
    must(table.get("last_post_id", 0) >= 0, "last_post_id", "at least 0")
    for key in ("held_out", "validated_on"):
        ends = table.get(key, [0, 999])
        whole = len(ends) == 2 and all(type(end) is int for end in ends)
        fine = whole and 0 <= ends[0] <= ends[1] <= 999
        must(fine, key, "a list of the first and the last id % 1000, such as [900, 999]")


def _check_image_values(path: Path, image: dict[str, Any]) -> None:
    must = _checker(path)
    must(1 <= image["size"] <= 4096, "image.size", "from 1 to 4096")
    scale = _fraction(image["scale"])
    must(0 < scale < math.inf, "image.scale", 'a number above 0, or a fraction such as "1/255"')
    if "first" in image:
        check(path, "image.first.", image["first"], {"size": (int,), "resize": _TEXT})
        must(1 <= image["first"]["size"] <= 4096, "image.first.size", "from 1 to 4096")
        fine = image["first"]["resize"] in PILLOW
        must(fine, "image.first.resize", f"one of {', '.join(PILLOW)}")
    if "color" in image:
        fine = len(image["color"]) == 3 and all(
            type(value) is int and 0 <= value <= 255 for value in image["color"]
        )
        must(fine, "image.color", "a list of three whole numbers from 0 to 255: red, green, blue")
    for key in ("mean", "std"):
        values = image[key]
        fine = len(values) == 3 and all(type(value) in _NUMBER for value in values)
        must(fine, f"image.{key}", "a list of three numbers")
    must(all(value > 0 for value in image["std"]), "image.std", "above 0 in every channel")


def _fraction(value: float | str) -> float:
    """A number, also one written as a fraction such as 1/255; not a number where it is neither."""
    if not isinstance(value, str):
        return value
    parts = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*/\s*(\d+(?:\.\d+)?)\s*", value, re.ASCII)
    return float(parts[1]) / float(parts[2]) if parts and float(parts[2]) else math.nan
