"""When, by what command and with which software results were made: nothing of it is private.

Results are shared, so no path of the machine, and by that no user's name, is in them.
"""

import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from arena import files
from arena.data_folder import DataFolder

PACKAGES = ("numpy", "torch", "onnxruntime-gpu")


def now() -> str:
    """The time in UTC, as 2026-01-31T12:00:00Z."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def software() -> dict[str, str]:
    """The version of Python and of what the scores depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def command(data: DataFolder) -> str:
    """The command of this run, for a shell, with paths as they may be told.

    The data folder is `.`, what lies in it is told from there, and of other paths what
    files.shown_path tells: `--models ./a.toml,…/b.toml`.
    """
    script, *words = sys.argv
    return shlex.join([Path(script).name, *(_shown(word, data) for word in words)])


def _shown(word: str, data: DataFolder) -> str:
    """A word of the command, each of the parts that may be a path by itself."""
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    if not equals:
        option, value = "", word
    names = ["+".join(_part(part, data) for part in name.split("+")) for name in value.split(",")]
    return option + equals + ",".join(names)


def _part(text: str, data: DataFolder) -> str:
    path, root = Path(text), data.root.absolute()
    if path.is_absolute() and path.is_relative_to(root):
        inside = path.relative_to(root)
        return "." if inside == Path() else f"./{inside}"
    return files.shown_path(text)
