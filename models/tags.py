"""A model's tags file: the name, the category and more of each of its outputs, in order.

CSV with a `name` and perhaps a `category` column; text with one name a line; or JSON in one of the
forms that published taggers have:

    {"0": {"tag": "1girl", "category": "General"}, …}
    {"idx_to_tag": {"0": "1girl", …}, "tag_to_category": {"1girl": "general", …}}
    {"dataset_info": {"tag_mapping": <the form before>}}
    {"categories": [{"name": "general", "offset": 0, "count": 1, "tags": ["1girl"]}, …]}
"""

import csv
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arena.cli import UserError

# The numbers are Danbooru's; 9 is the tagger authors' own, for ratings.
CATEGORIES = {"0": "general", "1": "artist", "3": "copyright", "4": "character", "5": "meta"}
CATEGORIES["9"] = "rating"
OWN = ("model", "quality", "style", "year")  # Of some taggers, not of Danbooru.
KNOWN = (*CATEGORIES.values(), *OWN)
RATING = "rating:"  # How some taggers' names of ratings begin, whatever category they are given.


@dataclass(frozen=True)
class Tags:
    """The outputs' names and categories, and of a CSV the texts of its other columns."""

    names: list[str]
    categories: list[str]
    columns: dict[str, list[str]]


def read(path: Path) -> Tags:
    """Read a tags file. UserError says what is wrong with it, and in which row."""
    kind = path.suffix.lower()
    try:
        text = path.read_text(encoding="utf-8-sig")
        reader = csv.DictReader(text.splitlines())
        rows = [(reader.line_num, row) for row in reader] if kind == ".csv" else []
        found = json.loads(text) if kind == ".json" else None
    except (UnicodeDecodeError, csv.Error):
        raise UserError(f"{path} is not a text file of tags in UTF-8") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path} is not JSON") from None
    if kind == ".json":
        pairs = _of_json(found, path)
        names = [name for name, _ in pairs]
        categories = [category(text, f"{path} output {n}") for n, (_, text) in enumerate(pairs)]
        columns: dict[str, list[str]] = {}
    elif kind == ".csv":
        names, categories, columns = _of_csv(rows, path)
    else:
        names = [line.strip() for line in text.splitlines() if line.strip()]
        categories, columns = ["general"] * len(names), {}
    if not names:
        raise UserError(f"{path} has no tag in it")
    for place, name in enumerate(names):
        if name.startswith(RATING):
            categories[place] = "rating"
    return Tags(names, categories, columns)


def _of_csv(
    rows: list[tuple[int, dict[str, str]]], path: Path
) -> tuple[list[str], list[str], dict[str, list[str]]]:
    if not rows or "name" not in rows[0][1]:
        raise UserError(f"{path} has no column name, or no row under it")
    heads = [head for head in rows[0][1] if head and head not in ("name", "category")]
    names, categories = [], []
    columns: dict[str, list[str]] = {head: [] for head in heads}
    for number, row in rows:
        kind = row.get("category", "0")
        if not row["name"] or kind is None:
            raise UserError(f"{path} row {number} has no name or no category")
        names.append(row["name"])
        categories.append(category(kind, f"{path} row {number}"))
        for head in heads:
            columns[head].append(row[head] or "")
    return names, categories, columns


def _of_json(found: Any, path: Path) -> list[tuple[str, str]]:
    """(name, category) of every output, whatever form the file has."""
    try:
        if "dataset_info" in found:
            found = found["dataset_info"]["tag_mapping"]
        if "idx_to_tag" in found:
            categories = found["tag_to_category"]
            return [(name, categories[name]) for name in _in_order(found["idx_to_tag"])]
        if "categories" in found:
            pairs: list[tuple[str, str]] = []
            for group in sorted(found["categories"], key=lambda group: int(group["offset"])):
                if group["offset"] != len(pairs) or group["count"] != len(group["tags"]):
                    raise ValueError
                pairs += [(name, group["name"]) for name in group["tags"]]
            return _texts(pairs)
        return _texts([(each["tag"], each["category"]) for each in _in_order(found)])
    except (KeyError, TypeError, ValueError, AttributeError):
        forms = "an object of outputs, idx_to_tag with tag_to_category, or categories with offsets"
        raise UserError(f"{path} is JSON of no known form: {forms}") from None


def _in_order(outputs: dict[str, Any] | list[Any]) -> list[Any]:
    """The values of {"0": …, "1": …}, which must have every number once; or a list as it is."""
    if isinstance(outputs, list):
        return outputs
    return [outputs[str(number)] for number in range(len(outputs))]


def _texts(pairs: list[tuple[Any, Any]]) -> list[tuple[str, str]]:
    if not all(isinstance(text, str) for pair in pairs for text in pair):
        raise TypeError
    return pairs


def category(text: str, where: str) -> str:
    """A tag's category from one of Danbooru's numbers, also as `4.0`, or from its name."""
    word = text.strip().lower()
    number = re.fullmatch(r"0*(\d+)(\.0*)?", word, re.ASCII)
    found = CATEGORIES.get(number[1], word) if number else word
    if found not in KNOWN:
        numbers = ", ".join(f"{key} {name}" for key, name in CATEGORIES.items())
        raise UserError(
            f"{where}: category {text!r} is none of {numbers}, {', '.join(OWN)}: give its number or"
            " name"
        )
    return found


def thresholds(tags: Tags, column: str, path: Path) -> list[float]:
    """The threshold of every output from a column of the file; not a number for a rating without.

    UserError names the column that there is not, or the row that holds no number from 0 to 1.
    """
    if column not in tags.columns:
        known = ", ".join(tags.columns) or "none beside name and category"
        raise UserError(
            f"{path} has no column '{column}', which 'threshold' names: its columns are {known}"
        )
    found = []
    rows = zip(tags.names, tags.categories, tags.columns[column], strict=True)
    for name, category, text in rows:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 <= value <= 1 and not (category == "rating" and not text.strip()):
            raise UserError(f"{path}: the threshold of {name} is {text!r}, no number from 0 to 1")
        found.append(value)
    return found
