"""Which rows of earlier runs are on the line of a model of the report."""

from typing import Any

from arena.report.over_time import model_name, on_lines

import pytest

A, B = "a" * 64, "b" * 64


def made(*runs: str) -> list[dict[str, Any]]:
    """Runs of checkpoints of one model, each a letter; the first of a run has the name itself."""
    return [
        {
            "models": [
                {"name": f"m-{each * 16}" if place else "m", "fingerprint": each * 64}
                for place, each in enumerate(run)
            ]
        }
        for run in runs
    ]


def lines(*runs: str) -> list[str]:
    """The line of each model of the last run: its checkpoint in each run, `.` where it has none."""
    given = made(*runs)
    names = [model["name"] for model in given[-1]["models"]]
    by_run = [
        {model["name"]: model["fingerprint"][0] for model in run["models"]}
        for run in on_lines(given, given[-1]["models"])
    ]
    return ["".join(found.get(name, ".") for found in by_run) for name in names]


@pytest.mark.parametrize(
    ("runs", "wanted"),
    [
        (["a", "b", "c"], ["abc"]),  # A model's progress.
        (["a", "a", "b"], ["aab"]),
        (["ab", "ab"], ["aa", "bb"]),
        (["ab", "ba", "ab"], ["aaa", "bbb"]),  # Whichever has the name itself.
        (["ab", "b", "a", "b"], ["bb.b"]),
        (["a", "b", "ab"], ["a.a", ".bb"]),
        (["a", "b", "ab", "c"], [".bbc"]),  # The progress up to the newest, of one line.
        (["c", "d", "ab"], ["..a", "..b"]),
        (["cd", "a", "b"], [".ab"]),
    ],
)
def test_checkpoints_that_were_in_one_run_are_on_lines_of_their_own(
    runs: list[str], wanted: list[str]
) -> None:
    assert lines(*runs) == wanted


def test_other_models_are_other_lines() -> None:
    runs = made("a", "b", "a")
    for run in runs[:2]:
        run["models"][0]["name"] = "other"
    (shown,) = on_lines(runs, runs[-1]["models"])[-1]["models"]
    assert shown["fingerprint"] == A
    assert [len(run["models"]) for run in on_lines(runs, runs[-1]["models"])] == [0, 0, 1]


def test_the_name_of_a_mean_of_checkpoints() -> None:
    assert model_name(f"m+m-{B[:16]}") == model_name(f"m-{A[:16]}+m") == "m+m"
    assert model_name("joytag-2") == "joytag-2"
