"""Which rows of earlier runs belong to a model of the report: its line in "Runs over time".

A name alone says too little, as a run may have two checkpoints of a model: the first in --models
has its name, the other its fingerprint as well, and the next run may have them the other way round.
A fingerprint alone says too much: of a model that is scored after every epoch each run has another
one, and its progress is what a reader looks for. So a line is a model's by its name, but
checkpoints that were rows of one run are on lines of their own.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

# What a name gets where it is a second checkpoint's; of a mean, any part's.
CHECKPOINT = re.compile(r"-[0-9a-f]{16}(?=\+|$)")

Row = tuple[str, str]  # A model's name, without what tells checkpoints apart, and its fingerprint.


def model_name(name: str) -> str:
    """A name without what tells it from the first checkpoint of that name."""
    return CHECKPOINT.sub("", name)


def on_lines(
    runs: Sequence[Mapping[str, Any]], models: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The runs, the newest last, each as EarlierRun in arena/validate/history.py, with those of
    their models that are on a line of one of the report's `models`, by its name."""
    rows = [{_row(model): model for model in run["models"]} for run in runs]
    now = [_row(model) for model in models]
    lines = [_line(row, now, [list(each) for each in rows]) for row in now]
    return [
        {
            **run,
            "models": [
                {**found, "name": model["name"]}
                for model, line in zip(models, lines, strict=True)
                for row, found in of_run.items()
                if row in line
            ],
        }
        for run, of_run in zip(runs, rows, strict=True)
    ]


def _row(model: Mapping[str, Any]) -> Row:
    return model_name(model["name"]), model["fingerprint"]


def _line(of: Row, now: Sequence[Row], runs: Sequence[Sequence[Row]]) -> set[Row]:
    """The checkpoints on the line that ends with one of the report's rows, `now`; no two of them
    are rows of one run."""
    line = {of}
    named = [[row for row in run if row[0] == of[0]] for run in (*runs, now)]
    if len(named[-1]) > 1:  # Whose the progress before would be, nothing says.
        return line
    for rows in reversed(named):
        if len(rows) == 1 and not any(
            rows[0] in run and any(row in line for row in run if row != rows[0]) for run in named
        ):
            line.add(rows[0])
    return line
