"""Intervals end at what a figure can be, differences where they end."""

import copy
import json
import re
from typing import Any

from arena.report import audit, page, text
from arena.report.limits import all_cut
from tests.report.metrics_sample import metrics_sample, runs_sample
from tests.report.posts_sample import posts_sample

import pytest


def wide(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 2.5, "high": value + 2.5}


def ends(figure: dict[str, Any]) -> tuple[float, float]:
    return figure["low"], figure["high"]


@pytest.fixture
def metrics() -> dict[str, Any]:
    """Results whose intervals all reach far beyond what any figure can be."""

    def widened(found: Any) -> Any:
        if isinstance(found, dict):
            if found.keys() == {"value", "low", "high"}:
                return wide(found["value"])
            return {key: widened(each) for key, each in found.items()}
        return [widened(each) for each in found] if isinstance(found, list) else found

    return widened(metrics_sample(60, 3))  # type: ignore[no-any-return]


def test_the_page_cuts_single_models_and_no_difference(metrics: dict[str, Any]) -> None:
    before = copy.deepcopy(metrics)
    runs = runs_sample(metrics)
    made = page.html(metrics, posts_sample(metrics).by_post, runs=runs)
    data = json.loads(re.findall(r'id="data">([^<]*)<', made)[0])
    assert metrics == before
    model, pair = data["models"][0], data["pairs"][0]
    overall = model["overall"]
    shares = [overall["own"]["micro"][key] for key in ("precision", "recall", "f1")]
    shares += [overall["ap"]["macro"], overall["coverage"], overall["per_image"]["f1"]]
    shares += [overall["recall_at_precision"]["0.90"], model["ratings"]["accuracy"]]
    shares += [model["by_age"][0]["micro"]["f1"], model["by_frequency"][0]["macro"]["f1"]]
    shares += [model["by_category"]["general"]["macro"]["f1"], model["all_tags"]["micro"]["f1"]]
    shares += [pair["shared"][side]["macro"]["f1"] for side in "ab"]
    shares += [data["runs"][-1]["models"][0]["f1"], data["audit"]["models"][0]["pooled_recall"]]
    shares += [
        data["audit"]["site"]["missing"],
        data["audit"]["site_by_category"]["general"]["wrong"],
    ]
    assert {ends(figure) for figure in shares} == {(0, 1)}
    assert ends(overall["equal"]["macro"]["mcc"]) == (-1, 1)
    tags = overall["per_image"]["false_tags"]
    assert ends(tags) == (max(0, tags["value"] - 2.5), tags["value"] + 2.5)
    differences = [pair["overall"]["own"]["macro"]["f1"], pair["simultaneous"]["ap"]]
    differences += [pair["shared"]["difference"]["macro"]["f1"], data["audit"]["pairs"][0]["f1"]]
    for figure in differences:
        assert ends(figure) == pytest.approx((figure["value"] - 2.5, figure["value"] + 2.5))


def test_what_is_printed_is_cut(metrics: dict[str, Any]) -> None:
    table = text.markdown_table(metrics, ci=True).splitlines()[2:4]
    assert all(row.count("(0.0000 to 1.0000)") == 4 for row in table)
    rows = text.history_table(runs_sample(metrics), ci=True)[2:4]
    assert all(row.count("(0.0000 to 1.0000)") == 2 for row in rows)
    said = audit.lines(metrics)
    assert said[1].count("(0.0000 to 1.0000)") == 3
    (pair,) = (line for line in said if " minus " in line)
    assert "(0.0000" not in pair and "2.5" in pair
    (site,) = (line for line in said if "of their true tags" in line)
    assert site.count("(0.0 to 100.0)") == 2


def test_a_figure_without_an_interval_stays_so() -> None:
    figure = {"value": 0.5, "low": None, "high": None}
    assert all_cut({"f1": figure}) == {"f1": figure}
