"""What people read: the text outputs, and report.html in headless Chromium."""

import contextlib
import csv
import io
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from arena.cli import plain
from arena.report import page, text
from tests.helpers import PATIENCE, until
from tests.report.metrics_sample import HOSTILE, metrics_sample

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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
HOSTILE_LABELS = [
    "<img src=x onerror=window.hacked=1>|`x`",
    "q\"u'o%{x}te\n\u202eevil</script><script>window.hacked=1</script>",
    "שלום &amp; <extra>",
]


def own(model: dict[str, Any]) -> dict[str, Any]:
    return model["overall"]["own"]["macro"]  # type: ignore[no-any-return]


def published() -> dict[str, Any]:
    """The run of the published table, with its rounded figures."""
    metrics = metrics_sample(3, 2, bootstrap=False)
    metrics["tags"]["count"] = 3993
    figures = (0.5156, 0.3943, 0.4241, 0.4368), (0.4377, 0.4264, 0.4179, 0.4040)
    for model, (precision, recall, f1, ap) in zip(metrics["models"], figures, strict=True):
        own(model)["precision"]["value"] = precision
        own(model)["recall"]["value"] = recall
        own(model)["f1"]["value"] = f1
        model["overall"]["ap"]["macro"]["value"] = ap
    return metrics


def pair(
    f1: tuple[float, float | None, float | None], ap: tuple[float, float, float]
) -> dict[str, Any]:
    """Two models, A better than B by `f1` and `ap`: (difference, low, high)."""
    metrics = metrics_sample(3, 2, labels=["A", "B"])
    own(metrics["models"][0])["f1"]["value"] = 0.4 + f1[0]
    own(metrics["models"][1])["f1"]["value"] = 0.4
    overall = metrics["pairs"][0]["overall"]
    for found, triple in ((overall["own"]["macro"]["f1"], f1), (overall["ap"]["macro"], ap)):
        found["value"], found["low"], found["high"] = triple
    return metrics


# ---- text


def test_table_is_the_published_one() -> None:
    assert text.markdown_table(published()) == (
        "| Model       | Precision | Recall  | F1     | AP     |\n"
        "|-------------|-----------|---------|--------|--------|\n"
        "| SmilingWolf | 0.5156    | 0.3943  | 0.4241 | 0.4368 |\n"
        "| JoyTag      | 0.4377    | 0.4264  | 0.4179 | 0.4040 |\n"
        "\n"
        "32768 posts, min id 6734042, max id 6769098\n"
        "3993 tags in common after filtering by usage"
    )


def test_table_marks_and_explains_seen_posts() -> None:
    metrics = published()
    metrics["models"][1]["maybe_seen"] = 120
    lines = text.markdown_table(metrics).splitlines()
    assert lines[3].startswith("| JoyTag*     |")
    assert "| SmilingWolf |" in lines[2]
    assert lines[5] == (
        "* JoyTag may have been trained on 120 of the posts (those up to ID 5944504); "
        "--unseen-only leaves them out"
    )
    assert lines[-2].startswith("32768 posts, ")


def test_table_with_intervals() -> None:
    metrics = published()
    own(metrics["models"][0])["f1"].update(low=0.4201, high=0.4283)
    assert "| 0.4241 (0.4201 to 0.4283) |" in text.markdown_table(metrics, ci=True)
    assert "(" not in text.markdown_table(metrics)


def test_equal_labels_are_told_apart() -> None:
    metrics = metrics_sample(3, 2, labels=["Same", "Same"])
    table = text.markdown_table(metrics)
    assert "| Same (wd-v1-4-vit-tagger-v2) |" in table
    assert "| Same (joytag) " in table


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(min_size=1), min_size=2, max_size=3))
def test_no_label_breaks_the_table(labels: list[str]) -> None:
    lines = text.markdown_table(metrics_sample(3, labels=labels)).split("\n")
    rows = lines[: 2 + len(labels)]
    assert all(len(re.findall(r"\|", row)) == 6 for row in rows)
    assert lines[2 + len(labels)] == ""
    assert all(line.isprintable() for line in lines)


def test_markup_in_a_label_is_escaped() -> None:
    table = text.markdown_table(metrics_sample(3, labels=["a|b", "<b>\\<i>&lt;[x](y)*`z`"]))
    assert "| a&#124;b " in table
    assert r"| \<b>\\\<i>\&lt;\[x](y)\*\`z\` |" in table


def test_verdict_more_than_noise() -> None:
    metrics = pair((0.0123, 0.005, 0.019), (0.01, 0.002, 0.02))
    assert text.verdicts(metrics) == [
        "A's F1 is 0.0123 higher than B's (95% interval 0.0050 to 0.0190): more than noise."
    ]


def test_verdict_does_not_depend_on_the_order_of_the_models() -> None:
    metrics = pair((0.0123, 0.005, 0.019), (0.01, 0.002, 0.02))
    said = text.verdicts(metrics)
    turned = metrics["pairs"][0]
    turned["a"], turned["b"] = turned["b"], turned["a"]
    for found in (turned["overall"]["own"]["macro"]["f1"], turned["overall"]["ap"]["macro"]):
        found["value"], found["low"], found["high"] = (
            -found["value"],
            -found["high"],
            -found["low"],
        )
    metrics["models"].reverse()
    assert text.verdicts(metrics) == said


def test_verdict_within_noise_and_ap_the_other_way() -> None:
    metrics = pair((0.0023, -0.005, 0.009), (-0.0201, -0.03, -0.01))
    assert text.verdicts(metrics) == [
        "A's F1 is 0.0023 higher than B's (95% interval -0.0050 to 0.0090): no more than noise. "
        "By average precision it is the other way round: B's AP is 0.0201 higher than A's "
        "(95% interval 0.0100 to 0.0300): more than noise."
    ]


def test_verdict_of_a_draw() -> None:
    assert text.verdicts(pair((0.00001, -0.002, 0.002), (0.0, -0.001, 0.001))) == [
        "A and B have the same F1 to four decimals (95% interval -0.0020 to 0.0020): "
        "no more than noise."
    ]


@pytest.mark.parametrize(
    ("posts", "said"),
    [
        (29, "29 posts are too few to tell whether that is more than noise."),
        (30, "more than noise."),
    ],
)
def test_no_verdict_on_too_few_posts(posts: int, said: str) -> None:
    metrics = pair((0.0123, 0.005, 0.019), (0.01, 0.002, 0.02))
    metrics["posts"]["count"] = posts
    assert text.verdicts(metrics)[0].endswith(said)


def test_no_verdict_without_a_spread() -> None:
    metrics = pair((0.0123, None, None), (0.01, 0.002, 0.02))
    assert "the resamples do not differ" in text.verdicts(metrics)[0]


def test_verdict_without_bootstrap() -> None:
    metrics = metrics_sample(3, 2, bootstrap=False)
    (said,) = text.verdicts(metrics)
    assert said.endswith("without the bootstrap nothing says whether that is more than noise.")


@pytest.mark.parametrize(("models", "sentences"), [(1, 0), (2, 1), (3, 3), (4, 3), (5, 4)])
def test_verdicts_stay_few(models: int, sentences: int) -> None:
    assert len(text.verdicts(metrics_sample(40, models))) == sentences


def test_detailed_metrics() -> None:
    metrics = metrics_sample(3, 2, hostile=True)
    for model, figures in zip(
        metrics["models"], ((0.601, 0.52179, 0.5586, 0.58284), (1.0, 0.0, 0.0, 0.25)), strict=True
    ):
        for key, value in zip(("precision", "recall", "f1", "ap"), figures, strict=True):
            model["per_tag"][key][1] = value
    blocks = text.detailed_metrics(metrics).split("\n\n")
    assert [block.split("\n")[0] for block in blocks[:3]] == HOSTILE[:3]
    assert blocks[1] == (
        ">_<\n"
        "SmilingWolf         : Precision 0.6010, Recall 0.5218, F1 0.5586, AP 0.5828\n"
        "JoyTag              : Precision 1.0000, Recall 0.0000, F1 0.0000, AP 0.2500"
    )
    assert blocks[3:] == [""]


def test_hostile_names_keep_detailed_metrics_in_blocks() -> None:
    metrics = metrics_sample(len(HOSTILE), labels=HOSTILE_LABELS, hostile=True)
    detailed = text.detailed_metrics(metrics)
    blocks = detailed.removesuffix("\n\n").split("\n\n")
    assert len(blocks) == len(HOSTILE)
    assert all(len(block.splitlines()) == 1 + len(HOSTILE_LABELS) for block in blocks)
    assert detailed.encode()


def test_per_tag_csv_reads_back() -> None:
    metrics = metrics_sample(40, 2, hostile=True)
    head, *rows = csv.reader(io.StringIO(text.per_tag_csv(metrics)))
    assert head[:8] == [
        "tag",
        "category",
        "count",
        "SmilingWolf precision",
        "SmilingWolf recall",
        "SmilingWolf f1",
        "SmilingWolf ap",
        "SmilingWolf mcc",
    ]
    assert len(head) == 3 + 2 * 5
    assert len(rows) == 40
    for index, row in enumerate(rows):
        assert row[1:3] == [metrics["tag_categories"][index], str(metrics["tag_counts"][index])]
        assert float(row[11]) == pytest.approx(
            metrics["models"][1]["per_tag"]["ap"][index], abs=1e-6
        )
    names = [row[0] for row in rows]
    assert names[:5] == HOSTILE[:5]
    assert names[6:10] == ["'=_=", "'+_+", "'@_@", "'-_-"]


@settings(deadline=None, max_examples=50)
@given(st.text(min_size=1))
def test_no_tag_is_a_formula_or_a_second_line(name: str) -> None:
    metrics = metrics_sample(3, 1)
    metrics["tag_names"][1] = name
    table = text.per_tag_csv(metrics)
    assert len(table.splitlines()) == 4
    assert list(csv.reader(io.StringIO(table)))[2][0][0] not in "=+-@\t\r"


# ---- report.html


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
    scores = [own(model)["f1"]["value"] for model in metrics["models"]]
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
    for choice, (kind, way) in enumerate((("own", "macro"), ("own", "micro"), ("equal", "macro"))):
        page.select_option("#leaderboard-set", str(choice))
        found = [
            float(text.split()[0])
            for text in page.locator("#leaderboard-table td:nth-child(5)").all_inner_texts()
        ]
        values = [m["overall"][kind][way]["f1"]["value"] for m in small.metrics["models"]]
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
