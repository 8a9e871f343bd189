"""The sections of report.html that need more than one look: that they show what the data says."""

import copy
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_type_hints

from arena.report import page, text
from arena.validate import by_post, schema
from tests.helpers import PATIENCE, until
from tests.report.metrics_sample import as_mean, as_own_images, metrics_sample, runs_sample
from tests.report.posts_sample import posts_sample

import pytest
from playwright.sync_api import Browser, Page


def test_the_sample_has_every_key_of_the_schema() -> None:
    metrics = metrics_sample(60, 3)
    model = metrics["models"][0]
    pieces = [
        *((schema.Results, metrics), (schema.ModelResults, model), (schema.Pair, pair(metrics))),
        *((schema.Overall, model["overall"]), (schema.Overall, pair(metrics)["overall"])),
        *((schema.CrossFit, model["overall"]["cross_fit"]), (schema.Slice, model["by_age"][0])),
        *((schema.Ratings, model["ratings"]), (schema.AllTags, model["all_tags"])),
        (by_post.Disagreement, metrics["disagreements"][0]),
        *((schema.Shared, pair(metrics)["shared"]), (schema.LostTags, metrics["lost_tags"][0])),
    ]
    for form, found in pieces:
        assert set(found) == set(get_type_hints(form)), form


def pair(metrics: dict[str, Any]) -> dict[str, Any]:
    return metrics["pairs"][0]  # type: ignore[no-any-return]


def open_page(
    browser: Browser,
    folder: Path,
    metrics: dict[str, Any],
    runs: list[dict[str, Any]] | None = None,
) -> Page:
    """The report of `metrics`, drawn, with the runs there have been."""
    path = folder / "report.html"
    by_post = posts_sample(metrics).by_post
    there = runs_sample(metrics) if runs is None else runs
    path.write_text(page.html(metrics, by_post, runs=there), encoding="utf-8")
    opened = browser.new_page(viewport={"width": 1280, "height": 800})
    opened.set_default_timeout(PATIENCE * 1000)
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.goto(path.as_uri())
    until(lambda: errors or opened.locator("main[aria-busy=false]").count())
    assert errors == []
    return opened


def rows(opened: Page, selector: str) -> list[list[str]]:
    """The first line of each cell of a table."""
    cells = """(table) => [...table.querySelectorAll("tbody tr")].map((row) =>
      [...row.children].map((cell) => cell.innerText.trim().split("\\n")[0]))"""
    return opened.locator(f"{selector} table").first.evaluate(cells)  # type: ignore[no-any-return]


def numbers(values: list[float]) -> list[str]:
    return [f"{value:.4f}" for value in values]


@pytest.fixture(scope="module")
def shown(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Page, dict[str, Any]]]:
    """A report of five models and their data."""
    metrics = metrics_sample(60, 5)
    opened = open_page(browser, tmp_path_factory.mktemp("sections"), copy.deepcopy(metrics))
    yield opened, metrics
    opened.close()


@pytest.mark.slow
def test_the_same_tags(shown: tuple[Page, dict[str, Any]]) -> None:
    opened, metrics = shown
    (lost,) = text.lost_tags(metrics)
    assert opened.locator("#shared p", has_text=lost).is_visible()
    opened.select_option("#shared-model", "1")  # Second of the first pair, first of the last.
    found = rows(opened, "#shared-pairs")
    first, last = metrics["pairs"][0]["shared"], metrics["pairs"][4]["shared"]
    for row, one, other, difference in (
        (found[0], first["b"], first["a"], -first["difference"]["macro"]["f1"]["value"]),
        (found[1], last["a"], last["b"], last["difference"]["macro"]["f1"]["value"]),
    ):
        assert row[1] == f"{difference:+.4f}".replace("-", "−")
        assert row[2:4] == numbers([side["macro"]["f1"]["value"] for side in (one, other)])
    low = opened.locator("#shared-pairs .range").first.inner_text()
    assert low.startswith(f"{-first['difference']['macro']['f1']['high']:+.4f}".replace("-", "−"))
    known = [model["all_tags"] for model in metrics["models"]]
    assert [row[1] for row in rows(opened, "#shared-all")] == ["120 of 240"] * 5
    opened.select_option("#shared-kind", "character")
    values = [each["by_category"]["character"]["macro"]["f1"]["value"] for each in known]
    assert [row[2] for row in rows(opened, "#shared-all")] == numbers(values)


@pytest.mark.slow
def test_corrected_figures_stand_beside_the_raw_ones(shown: tuple[Page, dict[str, Any]]) -> None:
    opened, metrics = shown
    found = rows(opened, "#corrected-table")
    assert len(found) == len(metrics["audit"]["models"]) == 4
    for row, judged, model in zip(
        found, metrics["audit"]["models"], metrics["models"], strict=False
    ):
        raw = model["overall"]["own"]["micro"]
        keys = {"precision": "precision", "pooled_recall": "recall", "f1": "f1"}
        for place, (key, name) in enumerate(keys.items()):
            cells = numbers([judged[key]["value"], raw[name]["value"]])
            assert row[1 + 2 * place : 3 + 2 * place] == cells
    assert "38 of 40" in opened.locator("#corrected").inner_text()
    assert len(rows(opened, "#corrected-pairs")) == 6


@pytest.mark.slow
@pytest.mark.parametrize("change", [as_mean, as_own_images], ids=["mean", "own images"])
def test_what_a_run_has_not_leaves_nothing_empty(
    browser: Browser, tmp_path: Path, change: Any
) -> None:
    metrics = metrics_sample(12, 3)
    change(metrics)
    opened = open_page(browser, tmp_path, metrics)
    plots = opened.locator("main .plot").all()
    assert plots and all(plot.locator(".scatterlayer > *, .barlayer > *").count() for plot in plots)
    for switch in opened.locator("#legend [role=switch]").all()[:2]:  # The last stays on.
        switch.click()
        opened.locator("main[aria-busy=false]").wait_for()
    empty = (
        "[...document.querySelectorAll('main table')].filter((it) => !it.tBodies[0].rows.length)"
    )
    assert opened.evaluate(f"{empty}.length") == 0
    if change is as_own_images:
        assert opened.locator("#by-rating, #ratings").count() == 0
        assert "trained on" not in opened.locator("#leaderboard").inner_text()
    opened.close()


@pytest.mark.slow
def test_the_same_terms(shown: tuple[Page, dict[str, Any]]) -> None:
    opened, metrics = shown
    overalls = [model["overall"] for model in metrics["models"]]
    for row, overall in zip(rows(opened, "#terms-levels"), overalls, strict=True):
        levels = [overall["recall_at_precision"][level] for level in ("0.90", "0.80")]
        levels.append(overall["precision_at_recall"]["0.50"])
        assert row[1:] == numbers([figure["value"] for figure in levels])
    for row, overall in zip(rows(opened, "#terms-images"), overalls, strict=True):
        tags, false, f1 = (
            overall["per_image"][key]["value"] for key in ("tags", "false_tags", "f1")
        )
        assert row[1:] == [f"{tags:.2f}", f"{false:.2f}", f"{f1:.4f}"]
    opened.evaluate("document.querySelectorAll('#terms details').forEach((it) => it.open = true)")
    opened.select_option("#terms-figure", "ap")
    for row, overall in zip(rows(opened, "#terms-rare"), overalls, strict=True):
        assert row[1:] == numbers([each["ap"]["value"] for each in overall["min_count"].values()])
    for row, found in zip(rows(opened, "#terms-wins"), metrics["pairs"], strict=True):
        records = [found["by_tag"][key] for key in ("f1", "ap")]
        wanted = [record[side] for record in records for side in record]
        assert row[1:] == [str(count) for count in wanted]


@pytest.mark.slow
def test_speed_ratings_and_age(shown: tuple[Page, dict[str, Any]]) -> None:
    opened, metrics = shown
    models = metrics["models"]
    for row, model in zip(rows(opened, "#speed-table"), models, strict=True):
        if not model["speed"]:
            assert row[1:4] == ["–", "–", "–"]
            continue
        (run,) = model["speed"]
        assert row[1] == f"{run['images_per_second']:.1f}"
        assert row[4:7] == [run["device"], "float32", str(run["batch"])]
        assert row[7] == "5.2 GB"
        assert row[10] == f"{366 * (models.index(model) + 1)} MB" or model["file_size"] > 1e9
    trace = "({ name, x, y, error_y: { array } }) => [name, x[0], y[0], y[0] + array[0]]"
    drawn = opened.evaluate(f"document.getElementById('speed-plot').data.map({trace})")
    axis = "document.getElementById('speed-plot').layout.xaxis.title.text"
    assert opened.evaluate(axis) == "Images a second<br>on NVIDIA H100 80GB HBM3"
    f1 = [model["overall"]["own"]["macro"]["f1"] for model in models]
    assert [point[0] for point in drawn] == [model["label"] for model in models if model["speed"]]
    for (_, x, *ys), model, figure in zip(drawn, models[:4], f1, strict=False):
        assert x == pytest.approx(model["speed"][0]["images_per_second"], abs=1e-4)
        assert ys == pytest.approx([figure["value"], figure["high"]], abs=1e-4)

    rating = [model["ratings"] for model in models if model["ratings"]]
    assert [row[1] for row in rows(opened, "#ratings-table")] == numbers([0.71] * len(rating))
    opened.evaluate("document.querySelectorAll('details').forEach((it) => it.open = true)")
    first = rows(opened, "#ratings-confusion")
    counts = [[int(cell.replace(",", "")) for cell in row[1:]] for row in first]
    assert counts == rating[0]["confusion"]

    opened.select_option("#age-figure", "recall")
    data = opened.evaluate("document.getElementById('age-plot').data.map(({ x, y }) => [x, y])")
    for (x, y), model in zip(data, models, strict=True):
        slices = model["by_age"]
        assert x == [(each["first"] + each["last"]) / 2 for each in slices]
        assert y == pytest.approx([each["micro"]["recall"]["value"] for each in slices], abs=1e-4)
    shapes = "document.getElementById('age-plot').layout.shapes.map(({ x0 }) => x0)"
    assert opened.evaluate(shapes) == [models[3]["last_post_id"]]  # The only one within.
    opened.select_option("#age-axis", "day")
    (day,) = opened.evaluate(shapes)
    slices = models[3]["by_age"]
    (inside,) = (each for each in slices if each["first"] <= 6744000 <= each["last"])
    first_day, last_day = (
        datetime.fromisoformat(inside[key]).replace(tzinfo=UTC).timestamp()
        for key in ("first_day", "last_day")
    )
    assert first_day <= day / 1000 <= last_day + 86400


@pytest.mark.slow
def test_speeds_of_several_devices_name_them(browser: Browser, tmp_path: Path) -> None:
    metrics = metrics_sample(12, 3)
    metrics["models"][1]["speed"][0]["device"] = "CPU <b>"
    opened = open_page(browser, tmp_path, metrics)
    opened.locator("#speed-plot .legendtext").nth(2).wait_for()
    devices = ["NVIDIA H100 80GB HBM3", "CPU <b>", "NVIDIA H100 80GB HBM3"]
    assert opened.locator("#speed-plot .legendtext").all_text_contents() == [
        f"{model['label']}, on {device}"
        for model, device in zip(metrics["models"], devices, strict=True)
    ]
    assert opened.locator("#speed-plot .xtitle").text_content() == "Images a second"
    opened.close()


@pytest.mark.slow
def test_where_it_comes_from(shown: tuple[Page, dict[str, Any]]) -> None:
    opened, metrics = shown
    opened.evaluate("document.querySelectorAll('#run details').forEach((it) => it.open = true)")
    said = opened.locator("#run").inner_text()
    hashes = [metrics["posts"]["sha256"], metrics["tags"]["sha256"]]
    for model in metrics["models"]:
        hashes += [*model["weights"].values(), *model["tags_file"].values()]
    for wanted in (metrics["created"], metrics["command"], metrics["device"], *hashes):
        assert wanted in said
    assert "size 448, pad square, resize area, channels BGR" in said
    kept = opened.locator("#run dt", has_text="Scores kept in").locator("xpath=following::dd[1]")
    assert kept.all_inner_texts() == [model["store"] for model in metrics["models"]]


@pytest.mark.slow
def test_runs_over_time(shown: tuple[Page, dict[str, Any]]) -> None:
    opened, metrics = shown
    runs = runs_sample(metrics)
    lines = "document.getElementById('history-ap').data.map((t) => [t.name, t.x, t.y, t.opacity])"
    found = {(name, opacity): (x, y) for name, x, y, opacity in opened.evaluate(lines)}
    for at, model in enumerate(metrics["models"]):
        for places, opacity in ((range(2), 0.45), (range(2, 6), 1)):
            there = [place for place in places if len(runs[place]["models"]) > at]
            values = [runs[place]["models"][at]["ap"]["value"] for place in there]
            if there:  # One line for each set of posts and tags.
                x, y = found.pop((model["label"], opacity))
                assert x == there
                assert y == pytest.approx(values, abs=1e-4)
    assert not found
    opened.evaluate("document.querySelectorAll('#history details').forEach((it) => it.open = true)")
    newest, *_, oldest = rows(opened, "#history-table")
    assert (newest[3], oldest[3]) == ("2", "1")
    assert newest[4] == f"{metrics['models'][0]['overall']['own']['macro']['f1']['value']:.4f}"
    assert oldest[6:] == ["–"] * 8


@pytest.mark.slow
def test_two_checkpoints_of_one_label_are_two_lines(browser: Browser, tmp_path: Path) -> None:
    metrics = metrics_sample(12, labels=["JoyTag", "JoyTag"])
    first, second = metrics["models"]
    names = "joytag", f"joytag-{second['fingerprint'][:16]}"
    for pair in metrics["pairs"]:
        pair.update(a=names[0], b=names[1])
    for model, name in zip(metrics["models"], names, strict=True):
        model["name"] = name
    metrics["best"] = {key: list(names) for key in metrics["best"]}
    runs = [run for run in runs_sample(metrics) if len(run["models"]) == 2]
    swapped = runs[-2]["models"]  # The other one was named first.
    for model, name in zip(swapped, reversed(names), strict=True):
        model["name"] = name
    opened = open_page(browser, tmp_path, metrics, runs)
    lines = "document.getElementById('history-f1').data.map((t) => [t.name, t.y, t.opacity])"
    drawn = {name: y for name, y, opacity in opened.evaluate(lines) if opacity == 1}
    here = [run for run in runs if run["selection"] == runs[-1]["selection"]]
    for model, name in zip((first, second), names, strict=True):
        of = [
            row["f1"]["value"]
            for run in here
            for row in run["models"]
            if row["fingerprint"] == model["fingerprint"]
        ]
        assert drawn.pop(f"JoyTag ({name})") == pytest.approx(of, abs=1e-4)
    assert not drawn
    opened.close()
