"""Results of an earlier selection of posts, models or tags, kept when those of another come."""

import hashlib
import itertools
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from arena import jsonl
from arena.cli import say
from arena.data_folder import DataFolder

import numpy as np


def put_aside(
    out: DataFolder, post_ids: np.ndarray, models: Sequence[str], tags: Sequence[str]
) -> None:
    """Move results of other posts, models or tags than these to earlier/<date>/, and say so.

    metrics.json goes last: where a run is killed in between, the next one goes on.
    """
    if not out.metrics.exists():
        return
    chosen = {"posts": posts_hash(post_ids), "models": [*models], "tags": [*tags]}
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


def posts_hash(post_ids: np.ndarray) -> str:
    """The SHA-256 of a list of post ids as validation_post_ids.txt has it."""
    return hashlib.sha256("".join(f"{post_id}\n" for post_id in post_ids).encode()).hexdigest()


def _selection(out: DataFolder) -> dict[str, Any] | None:
    """The selection that the results are of; None where they do not say it."""
    try:
        found = jsonl.loads(out.metrics.read_bytes())
        models = [model["name"] for model in found["models"]]
        posts = hashlib.sha256(out.validation_post_ids.read_bytes()).hexdigest()
        return {"posts": posts, "models": models, "tags": found["tag_names"]}
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
