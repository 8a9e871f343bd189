"""report.html on screens of any size: nothing cut off, nothing on top of another thing."""

import re
from collections.abc import Iterator

from arena.report import page
from tests.helpers import PATIENCE
from tests.report.metrics_sample import metrics_sample, runs_sample
from tests.report.posts_sample import posts_sample

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

WIDTHS = (390, 768, 1024, 1440)
CUT = """() => [...document.querySelectorAll(
    "td, th, select, button, .chip, .tabulator-cell, .tabulator-col-title, figcaption, .range")]
  .filter((it) => it.checkVisibility() && it.clientWidth)
  .filter((it) => it.scrollWidth > it.clientWidth + 1 || [...it.querySelectorAll("span, i")]
    .some((part) => part.getBoundingClientRect().left < it.getBoundingClientRect().left - 1))
  // The one text that is meant to be cut: a tag's name, which its title has in full.
  .filter((it) => !it.querySelector(".open") && !it.matches(".open"))
  .map((it) => `${it.tagName}.${it.className}: ${it.textContent}`)"""
# Texts of a plot that lie on each other. Two ticks of one axis may touch at their boxes' edges.
OVERLAPS = """() => [...document.querySelectorAll(".plot")].flatMap((plot) => {
  const texts = [...plot.querySelectorAll(
    ".xtick text, .ytick text, .x2tick text, .xtitle, .x2title, .ytitle, .legendtext")]
    .map((text) => ({ text: text.textContent, box: text.getBoundingClientRect() }))
    .filter(({ text, box }) => text.trim() && box.width);
  const frame = plot.getBoundingClientRect();
  const out = texts.filter(({ box }) => box.left < frame.left - 1 || box.right > frame.right + 1 ||
    box.top < frame.top - 1 || box.bottom > frame.bottom + 1)
    .map(({ text }) => `${plot.id}: ${text} is outside`);
  const over = texts.flatMap((a, at) => texts.slice(at + 1).filter((b) =>
    Math.min(a.box.right, b.box.right) - Math.max(a.box.left, b.box.left) > 1 &&
    Math.min(a.box.bottom, b.box.bottom) - Math.max(a.box.top, b.box.top) > 2)
    .map((b) => `${plot.id}: ${a.text} and ${b.text}`));
  return [...out, ...over];
})"""
# Boxes that are wider than the screen, and whether each shows that it scrolls.
SILENT = """() => [...document.querySelectorAll(".scroll, #switches, .tabulator-tableholder")]
  .filter((it) => it.checkVisibility() && it.scrollWidth > it.clientWidth + 1)
  .filter((it) => !it.closest(".box").classList.contains("more-right"))
  .map((it) => it.closest("section")?.id ?? it.id)"""
HIDDEN_HEADINGS = """() => [...document.querySelectorAll("nav a")].flatMap((link) => {
  link.click();
  const bar = document.getElementById("legend").getBoundingClientRect();
  const head = document.querySelector(`${link.hash} h2`).getBoundingClientRect();
  return head.top < bar.bottom - 1 || head.bottom > innerHeight ? [link.hash] : [];
})"""


@pytest.fixture(scope="module", params=[(2, "light"), (9, "dark")], ids=["2 models", "9 models"])
def shown(
    browser: Browser, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Page]:
    """A report opened once, to be looked at in every width."""
    models, scheme = request.param
    path = tmp_path_factory.mktemp("page") / "report.html"
    metrics = metrics_sample(60, models)
    by_post = posts_sample(metrics).by_post
    path.write_text(page.html(metrics, by_post, runs=runs_sample(metrics)), encoding="utf-8")
    opened = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme=scheme)
    opened.set_default_timeout(PATIENCE * 1000)
    opened.goto(path.as_uri())
    opened.evaluate("document.querySelectorAll('details').forEach((it) => it.open = true)")
    yield opened
    opened.close()


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_cut_off_or_covered(shown: Page, width: int) -> None:
    shown.set_viewport_size({"width": width, "height": 800})
    # Two frames: after the first, the page has heard of its new width.
    shown.evaluate("() => new Promise((go) => requestAnimationFrame(() => setTimeout(go)))")
    shown.locator("main[aria-busy=false]").wait_for()
    shown.locator(".tabulator-row").first.wait_for()
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    assert shown.evaluate(CUT) == []
    assert shown.evaluate(OVERLAPS) == []
    shown.wait_for_function(f"({SILENT})().length === 0")
    assert shown.evaluate(HIDDEN_HEADINGS) == []
    plots = shown.locator(".plot:visible").all()
    assert len(plots) >= 9
    assert all(box["width"] > 250 for plot in plots if (box := plot.bounding_box()))
    # The first figure of a model is there to be read without scrolling sideways.
    for selector in ("#leaderboard-table td", "#tags-table [tabulator-field=model0]"):
        first = shown.locator(selector).first.bounding_box()
        assert first is not None and first["x"] + first["width"] <= width


def luminance(colour: str) -> float:
    """Relative luminance of `#rrggbb` (WCAG 2.2)."""
    parts = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_stand_out_from_the_page(scheme: int) -> None:
    style = (page.FOLDER / "page.css").read_text()
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})", style.split("color-scheme: dark")[scheme]))
    wanted = {f"model-{index}": 3.0 for index in range(9)}
    wanted |= {"ink": 7.0, "muted": 4.5, "focus": 4.5, "warn": 4.5}
    for ground in ("page", "surface"):
        for name, least in wanted.items():
            light, dark = sorted((luminance(colours[name]), luminance(colours[ground])))[::-1]
            assert (light + 0.05) / (dark + 0.05) >= least, (name, ground)
    assert len({colours[f"model-{index}"] for index in range(9)}) == 9
