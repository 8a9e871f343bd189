"""report.html, read as a file and in headless Chromium."""

import contextlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from arena.cli import plain
from arena.report import page, text
from tests.helpers import PATIENCE, until
from tests.report.metrics_sample import HOSTILE, HOSTILE_LABELS, metrics_sample

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, TimeoutError, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def test_data_in_the_page_is_json_without_markup() -> None:
    metrics = metrics_sample(len(HOSTILE), labels=HOSTILE_LABELS, hostile=True)
    metrics["models"][0]["per_tag"]["ap"][0] = float("nan")
    html = page.html(metrics)
    (data,) = re.findall(r'<script type="application/json" id="data">([^<]*)</script>', html)
    read = json.loads(data)
    assert read["tag_names"] == [plain(name) for name in HOSTILE]
    assert [model["label"] for model in read["models"]] == text.labels(metrics)
    assert read["models"][0]["per_tag"]["ap"][0] is None
    assert html.count("<script") == 4 == html.count("</script>")
    assert html.encode()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        # A browser is no Python package; .ci/run installs it, so there these tests always run.
        pytest.skip("chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


class Opened:
    """A report opened from disk, with all it asked for and complained of."""

    def __init__(self, browser: Browser, folder: Path, metrics: dict[str, Any]) -> None:
        (folder / "resized").mkdir(parents=True)
        self.path = folder / "report.html"
        self.path.write_text(page.html(metrics), encoding="utf-8")
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
        self.page.locator("#tags-table .tabulator-row").first.wait_for()
        self.page.locator("#calibration-plot .main-svg").first.wait_for()
        self.drawn = time.perf_counter() - start

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
        opened.page.locator("#tags-table .tabulator-row").first.wait_for()
        opened.page.locator("#calibration-plot .main-svg").first.wait_for()


@pytest.mark.slow
def test_large_report_opens_quickly_and_asks_for_nothing(browser: Browser, tmp_path: Path) -> None:
    tiny = Opened(browser, tmp_path / "tiny", metrics_sample(12, 2))
    tiny.page.close()
    opened = Opened(browser, tmp_path / "data", metrics_sample(4000, 5, hostile=True))
    size = opened.path.stat().st_size / 1e6
    print(f"4,000 tags x 5 models: {size:.1f} MB, loaded in {opened.loaded:.2f} s, ", end="")
    print(f"everything drawn after {opened.drawn:.2f} s")
    assert size < 15
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
    assert opened.page.locator("#scatter").is_visible() == (models == 2)
    assert opened.page.locator("#leaderboard-table tbody tr").count() == models
    assert (opened.page.locator("#leaderboard-table .range").count() > 0) == bootstrap
    opened.page.close()


@pytest.mark.slow
def test_sorting(small: Opened) -> None:
    counts = small.numbers("count")
    assert counts == sorted(small.metrics["tag_counts"], reverse=True)[:25]
    head = small.page.locator(".tabulator-col[tabulator-field=model1] button.head")
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
    page.locator("#legend button").nth(1).click()
    until(lambda: bars.count() == 2)
    assert page.locator("#legend button[aria-pressed=false]").count() == 1


@pytest.mark.slow
def test_leaderboard_follows_the_choice_of_threshold(small: Opened) -> None:
    page = small.page
    choices = ((0, "own", "macro"), (1, "own", "micro"), (2, "equal", "macro"), (6, "tag", "macro"))
    for choice, kind, way in choices:
        page.select_option("#leaderboard-set", str(choice))
        found = [
            float(text.split()[0])
            for text in page.locator("#leaderboard-table td:nth-child(5)").all_inner_texts()
        ]
        sections = [m["overall"]["cross_fit"] | m["overall"] for m in small.metrics["models"]]
        values = [of[kind][way]["f1"]["value"] for of in sections]
        assert found == pytest.approx(sorted(values, reverse=True), abs=6e-5)


@pytest.mark.slow
def test_opening_a_tag_by_mouse(small: Opened) -> None:
    page = small.page
    images = small.thumbnails(0)
    small.requests.clear()

    def opens() -> bool:
        # While plots above are still growing, the button may move away from under the mouse.
        if not page.locator("#tag[open]").count():
            with contextlib.suppress(TimeoutError):
                page.locator("#tags-table button.open").first.click(timeout=1000)
        return page.locator("#tag[open]").count() == 1

    until(opens)
    assert page.inner_text("#tag-name") == "</3"
    links = page.locator("#tag-posts a")
    found = [
        (link.get_attribute("href"), link.get_attribute("rel"), link.get_attribute("target"))
        for link in links.all()
    ]
    assert found == [
        (f"https://danbooru.donmai.us/posts/{post}", "noreferrer", "_blank")
        for model in small.metrics["models"]
        for side in ("false_alarms", "misses")
        for post, _ in model["examples"][side][0]
    ]
    assert page.locator("#tag-posts img").count() == 0
    assert small.requests == []
    page.click("#tag-thumbnails")
    widths = "[...document.querySelectorAll('#tag-posts img')].map((image) => image.naturalWidth)"
    until(lambda: page.evaluate(widths) == [8] * links.count())
    assert sorted(set(small.requests)) == images
    page.click("#tag-close")
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
