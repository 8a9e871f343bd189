"""Presets: what the cards of a family have in common, a TOML file each in presets/."""

import tomllib
from pathlib import Path
from typing import Any

from arena.cli import UserError

FOLDER = Path(__file__).parent / "presets"


def names() -> list[str]:
    """The names of all presets."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def filled(table: dict[str, Any], path: Path) -> dict[str, Any]:
    """A card's table with the keys that it leaves to its preset, which may have one itself.

    Tables in it are filled key by key. Raises UserError for a preset that there is not.
    """
    if "preset" not in table:
        return table
    name = table["preset"]
    if name not in names():
        raise UserError(
            f"{path}: key 'preset': there is no preset '{name}': the presets are"
            f" {', '.join(names())}"
        )
    defaults = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    return _over(filled(defaults, path), table)


def _over(defaults: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """`own`, with what it lacks from `defaults`."""
    both = dict(defaults)
    for key, value in own.items():
        table = isinstance(value, dict) and isinstance(defaults.get(key), dict)
        both[key] = _over(defaults[key], value) if table else value
    return both
