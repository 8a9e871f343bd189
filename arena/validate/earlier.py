"""Results of an earlier selection of posts, models or tags, kept when those of another come."""

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from arena import jsonl
from arena.cli import say
from arena.data_folder import DataFolder
from arena.validate import history

import numpy as np


def put_aside(
    out: DataFolder, post_ids: np.ndarray, models: Sequence[str], tags: Sequence[str]
) -> None:
    """Move results of other posts, models or tags than these to earlier/<date>/, and say so.

    metrics.json goes last: where a run is killed in between, the next one goes on.
    """
    if not out.metrics.exists():
        return
    posts = history.sha256(history.id_lines(post_ids))
    chosen = {"posts": posts, "models": [*models], "tags": [*tags]}
    if _selection(out) == chosen:
        return
    date = datetime.fromtimestamp(out.metrics.stat().st_mtime, UTC)
    name = f"{date:%Y-%m-%dT%H-%M-%SZ}"
    folder = out.earlier(name)
    for number in itertools.count(2):
        if not folder.metrics.exists():
            break
        folder = out.earlier(f"{name}-{number}")
    folder.root.mkdir(parents=True, exist_ok=True)
    for path, kept in zip(out.results, folder.results, strict=True):
        if path.exists():
            path.rename(kept)
    say(f"results of other posts, models or tags are kept in {folder}")


def _selection(out: DataFolder) -> dict[str, Any] | None:
    """The selection that the results are of; None where they do not say it."""
    try:
        found = jsonl.loads(out.metrics.read_bytes())
        models = [model["name"] for model in found["models"]]
        return {"posts": found["posts"]["sha256"], "models": models, "tags": found["tag_names"]}
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
