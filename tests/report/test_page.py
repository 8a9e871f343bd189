"""report.html, read as a file and in headless Chromium."""

import contextlib
import csv
import io
import json
import re
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from arena.cli import plain
from arena.report import page, text
from tests.helpers import PATIENCE, until
from tests.report.metrics_sample import HOSTILE, HOSTILE_LABELS, metrics_sample, runs_sample
from tests.report.posts_sample import posts_sample

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, TimeoutError


def test_data_in_the_page_is_json_without_markup() -> None:
    metrics = metrics_sample(len(HOSTILE), labels=HOSTILE_LABELS, hostile=True)
    metrics["models"][0]["per_tag"]["ap"][0] = float("nan")
    html = page.html(metrics, posts_sample(metrics).by_post)
    (data,) = re.findall(r'<script type="application/json" id="data">([^<]*)</script>', html)
    read = json.loads(data)
    assert read["tag_names"] == [plain(name) for name in HOSTILE]
    assert [model["label"] for model in read["models"]] == text.labels(metrics)
    assert read["models"][0]["per_tag"]["ap"][0] is None
    assert html.count("<script") == 5 == html.count("</script>")
    assert html.encode()


class Opened:
    """A report opened from disk, with all it asked for and complained of."""

    def __init__(self, browser: Browser, folder: Path, metrics: dict[str, Any]) -> None:
        (folder / "resized").mkdir(parents=True)
        self.path = folder / "report.html"
        self.posts = posts_sample(metrics, folder)
        html = page.html(metrics, self.posts.by_post, runs=runs_sample(metrics))
        self.path.write_text(html, encoding="utf-8")
        self.metrics = metrics
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page: Page = browser.new_page(
            viewport={"width": 1280, "height": 800}, color_scheme="light"
        )
        self.page.set_default_timeout(PATIENCE * 1000)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        start = time.perf_counter()
        self.page.goto(self.path.as_uri())
        self.loaded = time.perf_counter() - start
        self.wait()
        self.drawn = time.perf_counter() - start

    def wait(self) -> None:
        """Until every section is drawn."""
        self.page.locator("main[aria-busy=false]").wait_for()
        self.page.locator("#tags-table .tabulator-row").first.wait_for()

    def column(self, field: str) -> list[str]:
        cells = self.page.locator(f"#tags-table .tabulator-cell[tabulator-field={field}]")
        return [text.strip() for text in cells.all_inner_texts()]

    def numbers(self, field: str) -> list[float]:
        return [float(t.replace(",", "").replace("−", "-")) for t in self.column(field)]

    def thumbnails(self, index: int) -> list[str]:
        """Make the local images of a tag's example posts; their addresses."""
        ids = {
            post
            for model in self.metrics["models"]
            for side in model["examples"].values()
            for post, _ in side[index]
        }
        folder = self.path.parent / "resized"
        for post in ids:
            Image.new("RGB", (8, 6), "teal").save(folder / f"{post}.webp")
        return sorted((folder / f"{post}.webp").as_uri() for post in ids)


def labels_by_f1(metrics: dict[str, Any]) -> list[str]:
    """The labels as the leaderboard's plot stacks them, from the bottom: lowest macro F1 first."""
    scores = [model["overall"]["own"]["macro"]["f1"]["value"] for model in metrics["models"]]
    return [label for _, label in sorted(zip(scores, text.labels(metrics), strict=True))]


@pytest.fixture(scope="module")
def small(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """A report full of hostile names; a test leaves it as it found it (`reset`)."""
    metrics = metrics_sample(90, labels=HOSTILE_LABELS, hostile=True, seed=3)
    opened = Opened(browser, tmp_path_factory.mktemp("small"), metrics)
    yield opened
    opened.page.close()


@pytest.fixture(autouse=True)
def reset(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "small" in request.fixturenames:
        opened: Opened = request.getfixturevalue("small")
        assert opened.complaints == []
        assert opened.page.evaluate("window.hacked === undefined")
        opened.requests.clear()
        opened.page.reload()
        opened.wait()


@pytest.mark.slow
def test_large_report_opens_quickly_and_asks_for_nothing(browser: Browser, tmp_path: Path) -> None:
    tiny = Opened(browser, tmp_path / "tiny", metrics_sample(12, 2))
    tiny.page.close()
    opened = Opened(browser, tmp_path / "data", metrics_sample(4000, 9, hostile=True))
    size = opened.path.stat().st_size / 1e6
    print(f"4,000 tags x 9 models: {size:.1f} MB, loaded in {opened.loaded:.2f} s, ", end="")
    print(f"everything drawn after {opened.drawn:.2f} s")
    assert size < 20
    # Three seconds on an idle laptop; how busy this machine is, the tiny report tells.
    assert opened.drawn < max(15, 10 * tiny.drawn)
    assert opened.requests == [opened.path.as_uri()]
    assert opened.complaints == []
    assert opened.page.evaluate("window.hacked === undefined")
    opened.page.close()


@pytest.mark.slow
@pytest.mark.parametrize("models", [1, 2])
@pytest.mark.parametrize("bootstrap", [False, True])
def test_few_models(browser: Browser, tmp_path: Path, models: int, bootstrap: bool) -> None:
    opened = Opened(browser, tmp_path / "data", metrics_sample(12, models, bootstrap=bootstrap))
    assert opened.complaints == []
    assert opened.page.locator("#scatter").count() == models - 1
    assert opened.page.locator("#leaderboard-table tbody tr").count() == models
    assert (opened.page.locator("#leaderboard-table .range").count() > 0) == bootstrap
    opened.page.close()


@pytest.mark.slow
def test_sorting(small: Opened) -> None:
    counts = small.numbers("count")
    assert counts == sorted(small.metrics["tag_counts"], reverse=True)[:25]
    head = small.page.locator("#tags-table [tabulator-field=model1] button.head")
    head.click()
    best = sorted(small.metrics["models"][1]["per_tag"]["f1"], reverse=True)[:25]
    assert small.numbers("model1") == pytest.approx(best, abs=6e-5)
    head.focus()
    small.page.keyboard.press("Enter")
    worst = sorted(small.metrics["models"][1]["per_tag"]["f1"])[:25]
    assert small.numbers("model1") == pytest.approx(worst, abs=6e-5)


@pytest.mark.slow
def test_searching(small: Opened) -> None:
    page = small.page
    page.fill("#tags-search", "LONG hair")
    wanted = [name for name in small.metrics["tag_names"] if "long_hair" in name]
    assert sorted(small.column("name")) == sorted(wanted)
    assert page.inner_text("#tags-count") == f"{len(wanted)} of 90 tags"
    page.fill("#tags-search", "</")
    assert "</3" in small.column("name")
    page.fill("#tags-search", "")
    page.select_option("#tags-category", "character")
    assert set(small.column("category")) == {"character"}
    page.fill("#tags-search", "no such tag")
    assert page.locator("#tags-table").get_by_text("No tag matches.").is_visible()


@pytest.mark.slow
def test_switching_models(small: Opened) -> None:
    page, models = small.page, small.metrics["models"]

    def expected(key: str, a: int, b: int) -> list[float]:
        columns = (models[at]["per_tag"][key] for at in (a, b))
        return [x - y for x, y in zip(*columns, strict=True)][:25]

    assert small.numbers("difference") == pytest.approx(expected("f1", 0, 1), abs=6e-5)
    page.select_option("#tags-a", "2")
    assert small.numbers("difference") == pytest.approx(expected("f1", 2, 1), abs=6e-5)
    page.select_option("#tags-figure", "ap")
    assert small.numbers("difference") == pytest.approx(expected("ap", 2, 1), abs=6e-5)

    page.select_option("#scatter-x", "1")
    page.select_option("#scatter-y", "2")
    page.select_option("#scatter-figure", "recall")
    ahead = sum(
        x > y for x, y in zip(*(models[at]["per_tag"]["recall"] for at in (1, 2)), strict=True)
    )
    assert f"is better at {ahead} tags" in page.inner_text("#scatter-count")

    bars = page.locator("#by-rating .barlayer .trace")
    assert bars.count() == 3
    switches = page.locator("#legend [role=switch]")
    switches.nth(1).click()
    until(lambda: bars.count() == 2)
    small.wait()
    assert page.locator("#leaderboard-table tbody tr").count() == 2
    assert page.locator("#tags-table [tabulator-field=model1]:visible").count() == 0
    for name in ("scatter-x", "scatter-y", "tags-a", "tags-b"):
        assert page.locator(f"#{name} option").all_inner_texts() == [
            label for at, label in enumerate(text.labels(small.metrics)) if at != 1
        ]
    switches.nth(0).click()
    small.wait()
    assert page.locator("#scatter-none").is_visible()
    assert not page.locator("#scatter-plot").is_visible()
    switches.nth(2).click(force=True)  # The last one stays on.
    states = [switch.get_attribute("aria-checked") for switch in switches.all()]
    assert states == ["false", "false", "true"]
    assert page.locator("#by-rating .barlayer .trace").count() == 1


BARS = "([plot, count]) => document.querySelectorAll(`#${plot} path.xerror`).length === count"


@pytest.mark.slow
def test_bars_have_the_ranges_that_their_figures_have(small: Opened) -> None:
    page = small.page
    models = small.metrics["models"]
    found = {
        "by-category": [group for model in models for group in model["by_category"].values()],
        "by-rating": [group for model in models for group in model["by_rating"].values()],
        "by-frequency": [group for model in models for group in model["by_frequency"]],
    }
    for way, name in (("macro", "f1"), ("micro", "f1"), ("micro", "recall")):
        page.select_option("#groups-figure", f"{way} {name}")
        for plot, groups in found.items():
            ranges = sum(group[way][name]["low"] is not None for group in groups)
            assert ranges == (0 if (plot, way) == ("by-rating", "macro") else len(groups))
            until(partial(page.evaluate, BARS, [plot, ranges]))


@pytest.mark.slow
def test_leaderboard_follows_the_choice_of_threshold(small: Opened) -> None:
    page = small.page
    choices = (
        (0, "own", "macro"),
        (1, "own", "micro"),
        (2, "equal", "macro"),
        *((6 + at, kind, "macro") for at, kind in enumerate(("one", "category", "tag"))),
    )
    for choice, kind, way in choices:
        page.select_option("#leaderboard-set", str(choice))
        found = [
            float(text.split()[0])
            for text in page.locator("#leaderboard-table td:nth-child(2)").all_inner_texts()
        ]
        sections = [m["overall"]["cross_fit"] | m["overall"] for m in small.metrics["models"]]
        values = [of[kind][way]["f1"]["value"] for of in sections]
        assert found == pytest.approx(sorted(values, reverse=True), abs=6e-5)


def open_tag(page: Page, row: int) -> None:
    """Open the tag in a row of the table of all tags."""
    open_row(page, "tags-table", "tag", row)


def open_row(page: Page, table: str, dialog: str, row: int) -> None:
    """Open the dialog of what is in a row of a table."""

    def opens() -> bool:
        # While plots above still grow, or the table is drawn anew, the button may move away from
        # under the mouse.
        if not page.locator(f"#{dialog}[open]").count():
            with contextlib.suppress(TimeoutError):
                page.locator(f"#{table} button.open").nth(row).click(timeout=1000)
        return page.locator(f"#{dialog}[open]").count() == 1

    until(opens)


@pytest.mark.slow
def test_opening_a_tag_by_mouse(small: Opened) -> None:
    page = small.page
    images = small.thumbnails(0)
    small.requests.clear()

    open_tag(page, 0)
    assert page.inner_text("#tag-name") == "</3"
    shown = page.locator("#tag-posts .post")
    assert shown.all_inner_texts() == [
        f"#{post}"
        for model in small.metrics["models"]
        for side in ("false_alarms", "misses")
        for post, _ in model["examples"][side][0]
    ]
    assert page.locator("#tag-posts img").count() == 0
    assert small.requests == []
    page.click("#tag-images")
    widths = "[...document.querySelectorAll('#tag-posts img')].map((image) => image.naturalWidth)"
    until(lambda: page.evaluate(widths) == [8] * shown.count())
    assert sorted(set(small.requests)) == images
    page.click("#tag .close")
    assert not page.locator("#tag").is_visible()


@pytest.mark.slow
def test_keyboard_alone(small: Opened) -> None:
    page = small.page

    def tab_to(selector: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("(it) => document.activeElement.matches(it)", selector):
                return
        raise AssertionError(f"Tab never reaches {selector}")

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    tab_to("#tags-search")
    page.keyboard.type("_")
    tab_to("button.open")
    page.keyboard.press("ArrowDown")
    second = small.column("name")[1]
    page.keyboard.press("Enter")
    assert page.inner_text("#tag-name") == second
    page.keyboard.press("Escape")
    assert not page.locator("#tag").is_visible()
    assert page.evaluate("document.activeElement.innerText") == second
    tab_to(".tabulator-page[data-page=next]")
    page.keyboard.press("Enter")
    assert small.column("name")[1] != second


@pytest.mark.slow
def test_hostile_names_show_as_themselves(small: Opened) -> None:
    page = small.page
    page.locator("#tags-table select").select_option("100")
    shown = [plain(name) for name in HOSTILE]
    assert small.column("name")[: len(HOSTILE)] == shown
    labels = text.labels(small.metrics)
    assert page.locator("#legend button").all_inner_texts() == labels
    heads = page.locator("#tags-table .tabulator-col .head").all_inner_texts()
    assert heads[3:6] == labels
    assert page.locator("#scatter-x option").all_inner_texts() == labels
    ticks = page.locator("#leaderboard-plot .ytick text").all_text_contents()
    assert [tick.removesuffix("…") for tick in ticks] == [
        label[: len(tick.removesuffix("…"))]
        for tick, label in zip(ticks, labels_by_f1(small.metrics), strict=True)
    ]
    hovers = page.evaluate(
        """async (wanted) => {
          const place = document.getElementById("scatter-plot");
          const found = {};
          for (const [curveNumber, trace] of place.data.entries()) {
            for (const [pointNumber, [index]] of (trace.customdata || []).entries()) {
              if (index >= wanted) continue;
              await new Promise((go) => setTimeout(go, 70));  // Plotly drops hovers within 50 ms.
              Plotly.Fx.hover(place, [{ curveNumber, pointNumber }]);
              found[index] = [...place.querySelectorAll(".hovertext .line")].map(
                (line) => line.textContent);
            }
          }
          return found;
        }""",
        len(HOSTILE),
    )
    for index, name in enumerate(shown):
        assert hovers[str(index)][0] == name
        assert hovers[str(index)][1].startswith(labels[0])


@pytest.mark.slow
def test_plots_follow_dark_mode(small: Opened) -> None:
    page = small.page
    ink = "document.getElementById('scatter-plot').layout.font.color"
    light = page.evaluate(ink)
    page.emulate_media(color_scheme="dark")
    until(lambda: page.evaluate(ink) != light)
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(map(int, re.findall(r"\d+", dark))) < 60
    page.emulate_media(color_scheme="light")


@pytest.mark.slow
def test_tables_are_copied_as_markdown_and_csv(small: Opened) -> None:
    page = small.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    read = "navigator.clipboard.readText()"
    page.get_by_role("button", name="Copy leaderboard as Markdown").click()
    until(lambda: page.evaluate(read).startswith("| Model |"))
    head, rule, *rows = page.evaluate(read).splitlines()
    assert head.startswith("| Model | F1 | AP | Precision ")
    assert rule.count("---") == 9
    assert len(rows) == 3
    best = max(m["overall"]["own"]["macro"]["f1"]["value"] for m in small.metrics["models"])
    assert f"| {best:.4f} (" in rows[0]
    page.fill("#tags-search", "_")
    page.get_by_role("button", name="Copy all tags as CSV").click()
    until(lambda: page.evaluate(read).startswith("Tag,"))
    table = list(csv.reader(io.StringIO(page.evaluate(read))))
    wanted = [name for name in map(plain, HOSTILE) if "_" in name]
    names = [row[0].removeprefix("'") for row in table[1:]]
    assert [name for name in names if name in wanted] == wanted
    assert not any(row[0].startswith(("=", "+", "-", "@")) for row in table)
    values = small.metrics["models"][2]["per_tag"]["f1"]
    at = small.metrics["tag_names"].index(">_<")
    assert float(table[1 + names.index(">_<")][5]) == pytest.approx(values[at], abs=6e-5)


@pytest.mark.slow
def test_a_tag_shows_its_curve_and_its_scores(small: Opened) -> None:
    page, models = small.page, small.metrics["models"]
    open_tag(page, 1)
    page.locator("#tag-scores .bars").first.wait_for()
    page.select_option("#tag-model", "2")
    held = models[2]["score_histogram"]
    # The plot is drawn anew in a moment of its own.
    bars = "document.getElementById('tag-scores').data.map(({ y }) => [...y])"
    page.wait_for_function(
        f"wanted => JSON.stringify({bars}) === JSON.stringify(wanted)",
        arg=[held["negative"][1], held["positive"][1]],
    )
    line = "document.getElementById('tag-curve').data[0]"
    curve = page.evaluate(f"(({{ x, y, customdata }}) => [x, y, customdata])({line})")
    for recall, precision, threshold in zip(*curve, strict=True):
        first = round(threshold * 32)
        right, wrong = (
            sum(models[0]["score_histogram"][side][1][first:]) for side in ("positive", "negative")
        )
        assert recall == pytest.approx(right / small.metrics["tag_counts"][1])
        assert precision == pytest.approx(right / (right + wrong))
    page.click("#tag-images")
    page.get_by_text("resized/ is not beside this page").wait_for()
    assert page.locator("#tag-posts img").count() == 0
    small.complaints.clear()  # Chromium's own lines about the images that are not there.


@pytest.mark.slow
def test_terms_explain_themselves_on_hover_and_focus(small: Opened) -> None:
    page = small.page
    tip = page.locator("#tip")
    for word, says in (("MCC", "Matthews"), ("Coverage", "share of all tags")):
        page.locator("#leaderboard-table .term", has_text=word).hover()
        until(lambda says=says: says in tip.inner_text())  # type: ignore[misc]
    page.locator("#leaderboard-table .term", has_text="Calibration error").focus()
    until(lambda: "how far a score is" in tip.inner_text().lower())


@pytest.mark.slow
def test_bold_are_the_best_and_what_cannot_be_told_from_it(
    browser: Browser, tmp_path: Path
) -> None:
    metrics = metrics_sample(12, 3)
    for pair in metrics["pairs"]:
        apart = {"value": 0.0, "low": -0.1, "high": 0.1}
        pair["overall"]["own"]["macro"]["f1"] = apart
        if {pair["a"], pair["b"]} == {m["name"] for m in metrics["models"][1:]}:
            pair["overall"]["ap"]["macro"] = apart
    for index, model in enumerate(metrics["models"]):
        value = 0.5 + index / 10
        model["overall"]["ap"]["macro"] = {"value": value, "low": value - 0.01, "high": value}
        model["overall"]["own"]["macro"]["mcc"] = {"value": value, "low": None, "high": None}
    opened = Opened(browser, tmp_path / "data", metrics)
    rows = opened.page.locator("#leaderboard-table tbody tr").all()
    bold = {
        row.locator("th").inner_text().strip(): [
            cell.locator("b").count() for cell in row.locator("td").all()
        ]
        for row in rows
    }
    assert [bold[model["label"]][0] for model in metrics["models"]] == [0, 0, 0]  # F1: all alike.
    assert [bold[model["label"]][1] for model in metrics["models"]] == [0, 1, 1]  # AP.
    assert [bold[model["label"]][4] for model in metrics["models"]] == [0, 0, 0]  # MCC: no range.
    opened.page.close()


@pytest.mark.slow
def test_a_model_keeps_its_colour_in_any_order_and_links_lead_where_they_should(
    browser: Browser, tmp_path: Path
) -> None:
    metrics = metrics_sample(12, 3)
    metrics["site"] = None
    sources = ["org/name", "javascript:alert(1)//x", "../models"]
    for model, source in zip(metrics["models"], sources, strict=True):
        model["source"] = source
    colours = []
    for name, order in (("one", metrics["models"]), ("two", metrics["models"][::-1])):
        opened = Opened(browser, tmp_path / name, {**metrics, "models": order})
        traces = opened.page.evaluate(
            "document.getElementById('calibration-plot').data.map((t) => [t.name, t.line.color])"
        )
        colours.append({label: colour for label, colour in traces if label})
        hrefs = "[...document.links].map((a) => a.href).filter((href) => !href.includes('#'))"
        assert opened.page.evaluate(hrefs) == ["https://huggingface.co/org/name"]
        open_tag(opened.page, 0)
        assert opened.page.locator("#tag .post").count() == 3 * 10
        assert opened.page.locator("#tag a").count() == 0
        assert opened.page.locator("svg + div button, .modebar-btn").count() == 0
        opened.page.close()
    assert colours[0] == colours[1]
    assert len(set(colours[0].values())) == 3


@pytest.mark.slow
def test_thumbnails_in_the_page_are_blurred_until_clicked(browser: Browser, tmp_path: Path) -> None:
    metrics = metrics_sample(12, 1)
    file = io.BytesIO()
    Image.new("RGB", (9, 6), "teal").save(file, "WEBP")
    path = tmp_path / "report.html"
    post = metrics["models"][0]["examples"]["misses"][0][0][0]
    by_post = posts_sample(metrics).by_post
    html = page.html(metrics, by_post, {post: file.getvalue()})
    path.write_text(html, encoding="utf-8")
    opened = browser.new_page()
    opened.goto(path.as_uri())
    open_tag(opened, 0)
    opened.click("#tag-images")
    veil = opened.get_by_role("button", name=f"Show post {post} clearly")
    blur = "(it) => getComputedStyle(it.firstChild).filter"
    assert veil.evaluate(blur) == "blur(12px)"
    assert veil.evaluate("(it) => it.firstChild.naturalWidth") == 9
    veil.click()
    assert veil.evaluate(blur) == "none"
    opened.close()
