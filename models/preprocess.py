"""A preprocess.json, as animetimm and deepghs publish it: the steps that make an image ready.

Under `test`, or `stages`, it has a list of pad_to_size, resize, center_crop, maybe_to_tensor and
normalize, as https://github.com/deepghs/imgutils runs them.
"""

import json
from pathlib import Path
from typing import Any

from arena.cli import UserError

FILE = "preprocess.json"


def image(path: Path) -> dict[str, Any]:
    """[image] of a card, from the steps in a file.

    A crop of what the resize leaves square is none. Raises UserError for other steps.
    """
    table: dict[str, Any] = {"channels": "rgb", "layout": "nchw", "scale": "1/255"}
    table["pad"] = "stretch"  # Of what a first step, if there is one, has made square.
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
        for step in found.get("test") or found["stages"]:
            _take(step, table)
        if not {"size", "mean", "std"} <= table.keys():
            raise ValueError
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        raise UserError(
            f"{path} has steps that are not known here: give the model a card of its own with"
            " [image] (README)"
        ) from None
    return table


def _take(step: dict[str, Any], table: dict[str, Any]) -> None:
    """Add a step to [image]. Raises KeyError, TypeError or ValueError for one that is not known."""
    kind = step["type"]
    if kind == "pad_to_size":
        side, other = step["size"]
        if side != other or step.get("background_color", "white") != "white":
            raise ValueError
        table["first"] = {"size": side, "resize": step["interpolation"]}
    elif kind == "resize":
        sides = step["size"] if isinstance(step["size"], list) else [step["size"]]
        if len({*sides}) != 1 or ("first" not in table and len(sides) == 1):
            raise ValueError
        table |= {"size": sides[0], "resize": step["interpolation"]}
    elif kind == "center_crop":
        if step["size"] != [table["size"], table["size"]]:
            raise ValueError
    elif kind == "normalize":
        table |= {"mean": step["mean"], "std": step["std"]}
    elif kind not in ("maybe_to_tensor", "to_tensor", "convert_rgb"):
        raise ValueError
