"""history.jsonl: a line a run, and what the choice of common tags did to figures since the last.

The same model with the same scores on the same posts has other figures where the common tags are
others: all of that difference is the tags'. So the last line and this run's figures are enough.
"""

import hashlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple, TypedDict

from arena import jsonl
from arena.cli import warn
from arena.data_folder import DataFolder
from arena.metrics.figures import Figure
from arena.tagger import Tagger

import numpy as np

LINES_AT_ONCE = 1 << 14
HEADLINE = ("precision", "recall", "f1")  # Means over the common tags, at the own threshold.
# What is compared must be in a line, in these forms.
FORMS: dict[str, dict[str, type]] = {
    "posts": {"sha256": str, "ground_truth_sha256": str},
    "tags": {"count": int, "sha256": str},
}
DATE = "%Y-%m-%dT%H:%M:%SZ"
MODEL_FORM: dict[str, type] = {"name": str, "label": str, "fingerprint": str, "outputs_sha256": str}


class Last(NamedTuple):
    """The last run: its line, and its common tags where its list of them is still there."""

    line: dict[str, Any]
    tags: set[str] | None


class RunModel(TypedDict):
    """A model's figures in a run that is over. A figure is as in the results."""

    name: str
    label: str
    fingerprint: str
    f1: Figure  # Macro F1 at its own threshold.
    ap: Figure  # Macro AP.


class EarlierRun(TypedDict):
    """What is shown of a run. Only runs of one `selection` can be compared."""

    date: str  # In UTC: 2026-01-31T12:00:00Z.
    posts: int
    tags: int  # How many were common.
    selection: str  # A hash of which posts, their tags and which common tags these were.
    models: list[RunModel]


class MovedModel(TypedDict):
    """A model with the same scores in both runs: what other tags did to its figures."""

    name: str
    f1: list[float]  # Macro F1 at its own threshold: in the last run, and now.
    ap: list[float]  # Macro AP likewise.


class Moved(TypedDict):
    """What is different since the last run, whose common tags were others."""

    tags: list[int]  # How many common tags there were, and are.
    both: int | None  # How many tags are in both; None where that is not known any more.
    same_posts: bool  # Whether posts and ground truth are the same. If not, no model is compared.
    came: list[str]  # Names of models that the last run had not,
    went: list[str]  # and labels of those that this one has not.
    models: list[MovedModel]
    rescored: list[str]  # Names of models whose scores or thresholds are others too.


def last(data: DataFolder) -> Last | None:
    """The last run of history.jsonl, None without one. Warns of a last line that is not of a run.

    A line that a crash cut short is taken away first.
    """
    path = data.history
    jsonl.repair(path)
    if not path.exists() or not path.stat().st_size:
        return None
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - jsonl.MAX_LINE))
        text = file.read().rstrip(b"\n").rpartition(b"\n")[2]
    try:
        line = jsonl.loads(text)
        fine = _is_run(line)
    except (ValueError, RecursionError, TypeError, KeyError):
        fine = False
    if not fine:
        warn(f"{path}: its last line is not of a run, so nothing is compared with that")
        return None
    return Last(line, _tags_of(data, line["tags"]["sha256"]))


def runs(data: DataFolder) -> list[EarlierRun]:
    """All runs of history.jsonl, the oldest first. Warns of the lines that are not of a run."""
    if not data.history.exists():
        return []
    found, skipped = [], 0
    with data.history.open("rb") as file:
        for _, text in jsonl.texts(file):
            try:
                found.append(earlier_run(jsonl.loads(text or b"")))
            except (ValueError, RecursionError, TypeError, KeyError):
                skipped += 1
    if skipped:
        lines = "line that is" if skipped == 1 else "lines that are"
        warn(f"{data.history}: skipped {skipped} {lines} not of a run")
    return found


def earlier_run(line: Any) -> EarlierRun:
    """What is shown of a line. Raises ValueError, TypeError or KeyError where it is of no run."""
    if not _is_run(line):
        raise ValueError("not the line of a run")
    datetime.strptime(line["date"], DATE)
    count = line["posts"]["count"]
    if type(count) is not int:
        raise ValueError("no count of posts")
    posts, tags = line["posts"], line["tags"]
    selection = sha256([posts["sha256"], posts["ground_truth_sha256"], tags["sha256"]])
    return {
        "date": line["date"],
        "posts": count,
        "tags": tags["count"],
        "selection": selection,
        "models": [
            {
                "name": model["name"],
                "label": model["label"],
                "fingerprint": model["fingerprint"],
                "f1": _read_figure(model["figures"]["f1"]),
                "ap": _read_figure(model["figures"]["ap"]),
            }
            for model in line["models"]
        ],
    }


def _read_figure(given: Any) -> Figure:
    """A figure of a line. Raises ValueError, TypeError or KeyError where it is none."""
    value, low, high = (given[name] for name in ("value", "low", "high"))
    numbers = [value] if low is None and high is None else [value, low, high]
    # The ends of an interval may lie a little beyond 0 and 1.
    if not all(type(number) in (int, float) and -1 <= number <= 2 for number in numbers):
        raise ValueError("no figure")
    return {"value": value, "low": low, "high": high}


def _is_run(line: Any) -> bool:
    """Whether a line has what is compared. May raise TypeError or KeyError instead."""
    groups = [(line[name], form) for name, form in FORMS.items()]
    groups += [(model, MODEL_FORM) for model in line["models"]]
    figures = [model["figures"][name]["value"] for model in line["models"] for name in ("f1", "ap")]
    return all(type(each[key]) is kind for each, form in groups for key, kind in form.items()) and (
        all(type(value) in (int, float) and math.isfinite(value) for value in figures)
    )


def _tags_of(data: DataFolder, wanted: str) -> set[str] | None:
    """The tags in validation_tags.txt, None where they are not those of this hash."""
    try:
        text = data.validation_tags.read_bytes()
    except FileNotFoundError:
        return None
    if hashlib.sha256(text).hexdigest() != wanted:
        return None
    return set(text.decode("utf-8", "replace").split("\n")[:-1])


def moved(last: Last | None, results: Mapping[str, Any], tags: Sequence[str]) -> Moved | None:
    """What other common tags than the last run's did to this run's figures; None for the same.

    Of two checkpoints of one model the name says which came first in --models, so a model is first
    looked up by its scores.
    """
    if last is None or last.line["tags"]["sha256"] == results["tags"]["sha256"]:
        return None
    line, posts = last.line, results["posts"]
    before = {model["name"]: model for model in line["models"]}
    now = {model["name"]: model for model in results["models"]}
    scored = {_scores_of(model): name for name, model in before.items()}
    same = {name: scored[of] for name, model in now.items() if (of := _scores_of(model)) in scored}
    found: Moved = {
        "tags": [line["tags"]["count"], len(tags)],
        "both": None if last.tags is None else len(last.tags & set(tags)),
        "same_posts": all(
            line["posts"][key] == posts[key] for key in ("sha256", "ground_truth_sha256")
        ),
        "came": [name for name in now if name not in before and name not in same],
        "went": [
            model["label"]
            for name, model in before.items()
            if name not in now and name not in same.values()
        ],
        "models": [],
        "rescored": [],
    }
    if not found["same_posts"]:
        return found
    for name, model in now.items():
        if name not in same:
            found["rescored"] += [name] if name in before else []
            continue
        figures, then = _figures(model), before[same[name]]["figures"]
        found["models"].append(
            {
                "name": name,
                "f1": [then["f1"]["value"], figures["f1"]["value"]],
                "ap": [then["ap"]["value"], figures["ap"]["value"]],
            }
        )
    return found


def _scores_of(model: Mapping[str, Any]) -> tuple[str, str]:
    return model["fingerprint"], model["outputs_sha256"]


def entry(results: Mapping[str, Any]) -> dict[str, Any]:
    """This run's line. It has no path of this machine in it."""
    return {
        "date": results["created"],
        "command": results["command"],
        "posts": results["posts"],
        "tags": results["tags"],
        "run": results["run"],
        "bootstrap": results["bootstrap"],
        "device": results["device"],
        "models": [
            {
                **{key: model[key] for key in (*MODEL_FORM, "precision", "maybe_seen")},
                "figures": _figures(model),
            }
            for model in results["models"]
        ],
    }


def append(data: DataFolder, results: Mapping[str, Any]) -> None:
    """Add this run's line."""
    path = data.history
    jsonl.repair(path)
    try:
        with path.open("ab", buffering=0) as file:
            jsonl.append(file, jsonl.line(entry(results)))
    except OSError as error:
        error.filename = str(path)  # A full disk names no file.
        raise


def _figures(model: Mapping[str, Any]) -> dict[str, Any]:
    """A model's headline figures with their intervals."""
    overall = model["overall"]
    own = overall["own"]["macro"]
    return {**{name: own[name] for name in HEADLINE}, "ap": overall["ap"]["macro"]}


def sha256(lines: Iterable[str]) -> str:
    """The hash of a text file with these lines, as arena.files writes it."""
    digest = hashlib.sha256()
    for some in texts(lines):
        digest.update(some)
    return digest.hexdigest()


def texts(lines: Iterable[str]) -> Iterator[bytes]:
    """The bytes of a text file with these lines, some lines at a time: there may be millions."""
    left = iter(lines)
    while some := list(islice(left, LINES_AT_ONCE)):
        yield "".join(f"{line}\n" for line in some).encode("utf-8", "replace")


def id_lines(post_ids: np.ndarray) -> Iterator[str]:
    """Post ids (posts,) as lines of a text file."""
    for start in range(0, len(post_ids), LINES_AT_ONCE):
        yield from map(str, post_ids[start : start + LINES_AT_ONCE].tolist())


def outputs_sha256(tagger: Tagger) -> str:
    """A hash of what a tagger's outputs are: tag, category and threshold of each."""
    outputs = zip(tagger.tags, tagger.categories, tagger.thresholds().tolist(), strict=True)
    return sha256(f"{tag} {category} {threshold:.9g}" for tag, category, threshold in outputs)
