"""How the house is built: which room may import what, and how thin the front doors are."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.helpers import ROOT

import pytest

STEPS = ("download", "trainable", "export_sw", "validate")
FRONT_DOORS = {"download.py": 160, "trainable.py": 160, "export_sw.py": 160, "validate.py": 150}


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, as `arena.download.walk`, at its top or inside."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(module: str, package: str) -> bool:
    """Whether a module is a package or in it."""
    return f"{module}.".startswith(f"{package}.")


@pytest.mark.parametrize("step", STEPS)
def test_no_room_imports_another_steps_room(step: str) -> None:
    others = [f"arena.{other}" for other in STEPS if other != step]
    for path in [ROOT / f"{step}.py", *(ROOT / "arena" / step).rglob("*.py")]:
        wrong = [m for m in imports(path) if any(within(m, other) for other in others)]
        assert not wrong, f"{path}: {wrong}"


def test_what_rooms_share_stands_on_no_room() -> None:
    rooms = [*(f"arena.{step}" for step in STEPS), "arena.report"]
    shared = [*(ROOT / "arena").glob("*.py"), *(ROOT / "arena" / "report").glob("*.py")]
    for path in shared:
        mine = f"arena.{path.parent.name}"
        wrong = [m for m in imports(path) if any(within(m, r) for r in rooms if r != mine)]
        assert not wrong, f"{path}: {wrong}"


def test_the_arena_imports_no_model() -> None:
    for path in (ROOT / "arena").rglob("*.py"):
        wrong = [m for m in imports(path) if within(m, "models")]
        assert not wrong, f"{path}: {wrong}"


def test_metrics_need_nothing_else_of_the_arena() -> None:
    for path in (ROOT / "arena" / "metrics").rglob("*.py"):
        wrong = [m for m in imports(path) if within(m, "arena") and not within(m, "arena.metrics")]
        assert not wrong, f"{path}: {wrong}"


@pytest.mark.parametrize(("script", "limit"), FRONT_DOORS.items())
def test_front_doors_are_thin(script: str, limit: int) -> None:
    assert len((ROOT / script).read_text().splitlines()) < limit
