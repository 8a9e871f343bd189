"""report.html: the results as one page, which needs no network.

page/ holds its HTML, styles and scripts. A section of its own is a file in page/sections/, named in
SCRIPTS at the place where it stands; page/format.js, tables.js and plots.js have what they share.
"""

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from arena.cli import plain
from arena.report.limits import FIGURE, all_cut
from arena.report.over_time import on_lines
from arena.report.packing import packed
from arena.report.posts import ByPost
from arena.report.text import Metrics, labels, lost_tags, moved, verdicts

import numpy as np

VENDOR = Path(__file__).parent / "vendor"
FOLDER = Path(__file__).parent / "page"
SECTIONS = (
    *("leaderboard", "shared", "terms", "speed", "curves", "scatter", "groups", "ratings", "age"),
    *("corrected", "calibration", "tags", "posts", "history", "run"),
)
RUNS = 200  # As many of the runs that there have been are shown.
# In the order in which they run, as one script.
SCRIPTS = (
    *("format.js", "tables.js", "plots.js", "dialogs.js", "tag.js", "post.js"),
    *(f"sections/{name}.js" for name in SECTIONS),
    "start.js",
)


def html(
    metrics: Metrics,
    by_post: ByPost,
    thumbnails: Mapping[int, bytes] | None = None,
    resized: str = "resized",
    runs: Sequence[Mapping[str, Any]] = (),
) -> str:
    """report.html: one file with its data, styles and libraries inside, which asks for nothing.

    Its content security policy lets only the scripts written here run, by their hashes, and those
    that they load ('strict-dynamic'): the files of `by_post`, where a reader asks for a post. Only
    images beside the page load. `vendor/README.md` names the libraries. `thumbnails` are WebP
    images by post ID, to be held by the page itself; without them it looks into `resized`, the path
    of that folder from the page's. `runs` are all that there have been, the last one this, each as
    EarlierRun in arena/validate/history.py.
    """
    models = [
        {**model, "label": label, "score_histogram": _histogram(model["score_histogram"])}
        for model, label in zip(metrics["models"], labels(metrics), strict=True)
    ]
    sentences = {"verdicts": verdicts, "lost": lost_tags, "moved": moved}
    said = {name: of(metrics) for name, of in sentences.items()}
    data = all_cut({**metrics, "models": models, "runs": on_lines(runs[-RUNS:], models)})
    data["pairs"] = [{**pair, "shared": all_cut(pair["shared"])} for pair in metrics["pairs"]]
    data.update(resized=resized, said=said)
    data["by_post"] = by_post._asdict()
    own = "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS)
    scripts = [
        *(_script(VENDOR / name) for name in ("plotly-basic.min.js", "tabulator.min.js")),
        f'"use strict";\n(() => {{\n{own}}})();\n',
    ]
    images = {
        str(post): base64.b64encode(image).decode() for post, image in (thumbnails or {}).items()
    }
    hashes = " ".join(_hash(script) for script in scripts)
    styles = (VENDOR / "tabulator_simple.min.css", FOLDER / "page.css")
    return Template((FOLDER / "page.html").read_text(encoding="utf-8")).substitute(
        policy="default-src 'none'; style-src 'unsafe-inline'; img-src 'self' file: data: blob:; "
        "base-uri 'none'; form-action 'none'; "
        f"script-src {hashes} 'strict-dynamic'",
        style="\n".join(style.read_text(encoding="utf-8") for style in styles),
        data=_json(data),
        thumbnails=json.dumps(images),
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
    )


def _script(path: Path) -> str:
    """A script's text without the comment that names its source map, which browsers would fetch."""
    return path.read_text(encoding="utf-8").partition("\n//# sourceMappingURL")[0]


def _hash(script: str) -> str:
    """How a content security policy names a script that may run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _histogram(counts: Mapping[str, Sequence[Sequence[int]]]) -> str:
    """The counts of all tags, `positive` before `negative` of each, packed. Most are below 128."""
    sides = [np.array(counts[side], np.int64) for side in ("positive", "negative")]
    return packed(np.stack(sides, axis=1).ravel())


def _json(data: Any) -> str:
    """`data` as JSON that can stand in a script element: rounded, printable, without `<`."""
    text = json.dumps(_compact(data), allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _compact(value: Any, places: int = 5) -> Any:
    """`value` with floats to `places` decimals, not-a-number as None and all text on one line.

    Figures get the decimals that are shown, as rounding twice could differ from the printed table.
    """
    if isinstance(value, float):
        return round(value, places) if math.isfinite(value) else None
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, list | tuple):
        return [_compact(item, places) for item in value]
    if isinstance(value, dict):
        if value.keys() == FIGURE:
            places = 4
        return {key: _compact(item, places) for key, item in value.items()}
    return value
