"""report.html: the results as one page, which needs no network."""

import base64
import hashlib
import json
import math
from pathlib import Path
from string import Template
from typing import Any

from arena.cli import plain
from arena.report.text import Metrics, labels, lost_tags, ratings, verdicts

FOLDER = Path(__file__).parent


def html(metrics: Metrics) -> str:
    """report.html: one file with its data, styles and libraries inside, which asks for nothing.

    Its content security policy lets only the scripts written here run, by their hashes, and only
    images beside the page load. `vendor/README.md` names the libraries.
    """
    models = [
        # To the decimals that are shown, as rounding twice could differ from the printed table.
        {**model, "label": label, "overall": _compact(model["overall"], 4)}
        for model, label in zip(metrics["models"], labels(metrics), strict=True)
    ]
    said = {"verdicts": verdicts(metrics), "lost": lost_tags(metrics), "rated": ratings(metrics)}
    data = {**metrics, "models": models, **said}
    scripts = [
        _script(FOLDER / name)
        for name in ("vendor/plotly-basic.min.js", "vendor/tabulator.min.js", "page.js")
    ]
    hashes = " ".join(_hash(script) for script in scripts)
    styles = (FOLDER / name for name in ("vendor/tabulator_simple.min.css", "page.css"))
    return Template((FOLDER / "page.html").read_text(encoding="utf-8")).substitute(
        policy="default-src 'none'; style-src 'unsafe-inline'; img-src 'self' file: data: blob:; "
        "base-uri 'none'; form-action 'none'; "
        f"script-src {hashes}",
        style="\n".join(style.read_text(encoding="utf-8") for style in styles),
        data=_json(data),
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
    )


def _script(path: Path) -> str:
    """A script's text without the comment that names its source map, which browsers would fetch."""
    return path.read_text(encoding="utf-8").partition("\n//# sourceMappingURL")[0]


def _hash(script: str) -> str:
    """How a content security policy names a script that may run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _json(data: Any) -> str:
    """`data` as JSON that can stand in a script element: rounded, printable, without `<`."""
    text = json.dumps(_compact(data), allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _compact(value: Any, places: int = 5) -> Any:
    """`value` with floats to `places` decimals, not-a-number as None and all text on one line."""
    if isinstance(value, float):
        return round(value, places) if math.isfinite(value) else None
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, list | tuple):
        return [_compact(item, places) for item in value]
    if isinstance(value, dict):
        return {key: _compact(item, places) for key, item in value.items()}
    return value
