"""report.html on posts: those on which models differ most, any post by its ID, and its dialog."""

import io
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

from arena.cli import plain
from arena.report import page as report
from tests.helpers import until
from tests.report.metrics_sample import HOSTILE_LABELS, OWN, as_own_images, metrics_sample
from tests.report.posts_sample import Posts
from tests.report.test_layout import WIDTHS
from tests.report.test_page import Opened, open_row, open_tag

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, FloatRect, Locator, Page

pytestmark = pytest.mark.slow

NO_IMAGE = "Failed to load resource: net::ERR_FILE_NOT_FOUND"  # Chromium's own line.
# All but tags' names, which are cut where they must, as their titles have them in full.
CUT = """() => [...document.querySelectorAll("#post *")]
  .filter((it) => it.clientWidth && it.scrollWidth > it.clientWidth + 1 && !it.closest(".open"))
  .map((it) => `${it.tagName}.${it.className}: ${it.textContent}`)"""
BLUR = "(it) => getComputedStyle(it.firstChild).filter"


@pytest.fixture(scope="module")
def two(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """A report of two models with hostile names and tags; each test opens it anew."""
    metrics = metrics_sample(90, labels=HOSTILE_LABELS[:2], hostile=True, seed=3)
    opened = Opened(browser, tmp_path_factory.mktemp("two") / "data", metrics)
    yield opened
    opened.page.close()


@pytest.fixture(autouse=True)
def anew(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "two" in request.fixturenames:
        opened: Opened = request.getfixturevalue("two")
        assert set(opened.complaints) <= {NO_IMAGE}
        assert opened.page.evaluate("window.hacked === undefined")
        opened.page.reload()
        opened.wait()
        opened.requests.clear()


def column(page: Page, field: str) -> list[str]:
    page.locator("#posts-table .tabulator-row").first.wait_for()
    cells = page.locator(f"#posts-table .tabulator-cell[tabulator-field={field}]:visible")
    return [text.strip() for text in cells.all_inner_texts()]


def search(page: Page, text: object) -> None:
    page.fill("#posts-search", str(text))
    page.press("#posts-search", "Enter")


def check_dialog(page: Page, metrics: dict[str, Any], posts: Posts, row: int) -> None:
    """That the dialog of a post shows what the sample says of it."""
    models = range(len(metrics["models"]))
    page.locator("#post-tags section").nth(len(models) - 1).wait_for()
    names = [plain(name) for name in metrics["tag_names"]]
    assert page.inner_text("#post-name") == f"Post {posts.ids[row]}"
    shown = page.locator("#post-tags > ul button").all_inner_texts()
    assert shown == [names[tag] for tag in np.flatnonzero(posts.truth[row])]
    for model, said in zip(models, page.locator("#post-tags section").all(), strict=True):
        assert f"F1 {posts.f1(row, model):.4f}" in said.locator("h3").inner_text()
        for side, tags in zip(("right", "missed", "false"), posts.sides(row, model), strict=True):
            found = said.locator(f".{side} button").all_inner_texts()
            assert found == [names[tag] for tag in tags], (side, row)
            head = said.locator(f".{side} h4").inner_text()
            assert head == f"{side.capitalize()}: {len(tags)}"


def test_the_posts_on_which_models_differ_most(two: Opened) -> None:
    page, posts = two.page, two.posts
    apart = (posts.predicted[0] ^ posts.predicted[1]).sum(axis=1)
    order = posts.chosen.tolist()
    assert column(page, "id") == [f"#{posts.ids[row]}" for row in order[:10]]
    assert column(page, "tags") == [str(apart[row]) for row in order[:10]]
    assert column(page, "own") == [str(posts.truth[row].sum()) for row in order[:10]]
    for model in range(2):
        f1 = [f"{posts.f1(row, model):.4f}" for row in order[:10]]
        assert column(page, f"model{model}") == f1
    page.locator("#posts-table [tabulator-field=model1] .head").click()
    best = sorted((posts.f1(row, 1) for row in order), reverse=True)[:10]
    assert column(page, "model1") == [f"{value:.4f}" for value in best]
    for model in range(2):
        page.select_option("#posts-which", str(model))
        better = {f"#{posts.ids[r]}" for r in order if posts.f1(r, model) > posts.f1(r, 1 - model)}
        page.locator("#posts-count", has_text=f"{len(better)} of 12 posts").wait_for()
        assert set(column(page, "id")) == better
    # The page is enough for all of these.
    open_row(page, "posts-table", "post", 0)
    page.locator("#post-tags section").first.wait_for()
    assert not [url for url in two.requests if "report_posts" in url]


def test_any_post_is_found_by_its_id(two: Opened) -> None:
    page, posts = two.page, two.posts
    named = [name for _, name in posts.by_post.files]
    for row in range(0, len(posts.ids), 3):
        text = (posts.ids[row], f" #{posts.ids[row]}", f"https://x.y/posts/{posts.ids[row]}?q=7")
        search(page, text[row % 2 + (row == 9)])
        check_dialog(page, two.metrics, posts, row)
        page.locator("#post .close").click()
        assert page.evaluate("document.activeElement.id") == "posts-search"
    loaded = [Path(url).name for url in two.requests if "report_posts" in url]
    assert loaded == named  # Each file once, and only when one of its posts is asked for.


def test_what_is_no_post_of_the_run(two: Opened) -> None:
    lowest, highest = two.posts.ids[0], two.posts.ids[-1]
    for post in (lowest + 1, lowest - 1, highest + 1, 1, 0, 10**19):
        search(two.page, post)
        two.page.locator("#posts-said", has_text="is none of those scored.").wait_for()
        search(two.page, "-5")
        two.page.locator("#posts-said", has_text="That is no ID of a post.").wait_for()
    assert not two.page.locator("#post").is_visible()


def test_a_page_alone_says_what_it_lacks(browser: Browser, tmp_path: Path) -> None:
    """Without the folder, or with the files of another run in it."""
    opened = Opened(browser, tmp_path / "data", metrics_sample(40, 2))
    page, posts = opened.page, opened.posts
    others = [row for row in range(1, len(posts.ids) - 1) if row not in posts.chosen]
    folder = opened.path.parent / "report_posts"
    whole = {path.name: path.read_text() for path in folder.iterdir()}
    missing = page.locator("#posts-said", has_text="report_posts/ is not beside this page")
    for name, text in whole.items():
        (folder / name).write_text(text.replace(name, f"1-{'0' * 16}.js"))
    search(page, posts.ids[others[0]])
    missing.wait_for()
    folder.rename(tmp_path / "elsewhere")
    page.fill("#posts-search", "")
    page.press("#posts-search", "Enter")
    search(page, posts.ids[others[-1]])
    missing.wait_for()
    search(page, posts.ids[-1] + 1)  # Of this the page alone knows.
    page.locator("#posts-said", has_text="is none of those scored.").wait_for()
    assert not page.locator("#post").is_visible()
    # A post of a tag's dialog is opened all the same, for its image.
    post = opened.metrics["models"][0]["examples"]["misses"][0][0][0]
    open_tag(page, 0)
    page.locator(f"#tag-posts [data-lead='post {post}']").first.click()
    page.get_by_text("cannot be shown: report_posts/ is not beside this page").wait_for()
    page.locator("#post .close").click()
    # What the page has is shown, and what comes back later is found.
    search(page, posts.ids[posts.chosen[0]])
    check_dialog(page, opened.metrics, posts, posts.chosen[0])
    page.locator("#post .close").click()
    folder.mkdir()
    for name, text in whole.items():
        (folder / name).write_text(text)
    search(page, posts.ids[others[0]])
    check_dialog(page, opened.metrics, posts, others[0])
    opened.page.close()


def opens_by_key(opener: Locator, dialog: Locator) -> bool:
    """Press Enter on what opens a dialog, unless it is open; whether it is then. A table that is
    drawn anew in between takes the focus with it."""
    if not dialog.is_visible():
        opener.focus()
        opener.page.keyboard.press("Enter")
    return dialog.is_visible()


def test_tags_and_posts_lead_to_each_other(two: Opened) -> None:
    page, posts = two.page, two.posts
    row = int(posts.chosen[0])
    wrong = posts.sides(row, 1)[2]
    name = plain(two.metrics["tag_names"][wrong[0]])
    opener = page.locator("#posts-table .open").first
    until(lambda: opens_by_key(opener, page.locator("#post")))
    check_dialog(page, two.metrics, posts, row)
    assert not page.locator("#post .back").is_visible()
    page.locator("#post-tags section").nth(1).locator(".false button").first.focus()
    page.keyboard.press("Enter")
    assert page.inner_text("#tag-name") == name
    assert page.locator("dialog:visible").count() == 1
    page.locator("#tag-posts .post").first.click()
    other = page.inner_text("#post-name")
    assert other != f"Post {posts.ids[row]}"
    page.locator("#post .back").click()
    assert page.inner_text("#tag-name") == name
    assert page.evaluate("document.activeElement.innerText") == other.replace("Post ", "#")
    page.locator("#tag .back").click()
    check_dialog(page, two.metrics, posts, row)
    assert page.evaluate("document.activeElement.innerText") == name
    assert not page.locator("#post .back").is_visible()
    page.keyboard.press("Escape")
    assert page.locator("dialog:visible").count() == 0
    until(lambda: opener.evaluate("(it) => it === document.activeElement"))
    # A new way begins: there is nothing to go back to.
    open_tag(page, 0)
    assert not page.locator("#tag .back").is_visible()


def test_links_lead_to_the_site_where_there_is_one(
    two: Opened, browser: Browser, tmp_path: Path
) -> None:
    post = two.posts.ids[3]
    search(two.page, post)
    link = two.page.locator("#post a")
    link.wait_for()
    assert link.get_attribute("href") == f"https://danbooru.donmai.us/posts/{post}"
    assert (link.get_attribute("rel"), link.get_attribute("target")) == ("noreferrer", "_blank")
    own = metrics_sample(40, 2)
    as_own_images(own)
    own["site"] = "https://danbooru.donmai.us"
    none = {**metrics_sample(40, 2), "site": None}
    for name, metrics in (("own", own), ("none", none)):
        opened = Opened(browser, tmp_path / name, metrics)
        search(opened.page, opened.posts.ids[3])
        check_dialog(opened.page, metrics, opened.posts, 3)
        assert (opened.posts.ids[3] > OWN) == (name == "own")
        assert opened.page.locator("#post a").count() == 0
        opened.page.close()


def test_an_image_is_blurred_until_it_is_clicked(browser: Browser, tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (9, 6), "teal").save(file, "WEBP")
    opened = Opened(browser, tmp_path / "data", metrics_sample(12, 1))
    page, posts = opened.page, opened.posts
    large, small, gone = (int(post) for post in posts.ids[:3])
    Image.new("RGB", (80, 60), "teal").save(opened.path.parent / "resized" / f"{large}.webp")
    # Both are in the page as thumbnails; of one there is a large image.
    thumbnails = dict.fromkeys((large, small), file.getvalue())
    opened.path.write_text(report.html(opened.metrics, posts.by_post, thumbnails))
    page.reload()
    opened.wait()
    for post, width in ((large, 80), (small, 9)):
        search(page, post)
        veil = page.get_by_role("button", name=f"Show post {post} clearly")
        veil.wait_for()
        assert veil.evaluate("(it) => it.firstChild.naturalWidth") == width
        assert veil.evaluate(BLUR) == "blur(36px)"
        veil.click()
        assert veil.evaluate(BLUR) == "none"
        page.locator("#post .close").click()
    search(page, gone)
    page.get_by_text("No image: resized/ is not beside this page").wait_for()
    assert page.locator("#post img").count() == 0
    page.close()


def test_one_model_and_models_that_are_switched_off(browser: Browser, tmp_path: Path) -> None:
    opened = Opened(browser, tmp_path / "one", metrics_sample(40, 1))
    posts = opened.posts
    order = sorted(posts.chosen.tolist(), key=lambda row: (posts.f1(row, 0), row))[:10]
    assert column(opened.page, "id") == [f"#{posts.ids[row]}" for row in order]
    assert column(opened.page, "missed") == [str(len(posts.sides(row, 0)[1])) for row in order]
    assert column(opened.page, "invented") == [str(len(posts.sides(row, 0)[2])) for row in order]
    assert opened.page.locator("#posts-which").count() == 0
    opened.page.close()

    opened = Opened(browser, tmp_path / "four", metrics_sample(40, 4))
    page, posts = opened.page, opened.posts

    def differ(row: int, among: list[int]) -> tuple[int, int]:
        given = posts.predicted[among, row]
        pairs = sum(int((a ^ b).sum()) for a, b in combinations(given, 2))
        return int((given.any(axis=0) & ~given.all(axis=0)).sum()), pairs

    def shown() -> list[tuple[int, ...]]:
        return [
            tuple(map(int, each))
            for each in zip(column(page, "tags"), column(page, "pairs"), strict=True)
        ]

    among = list(range(4))
    order = sorted(posts.chosen.tolist(), key=lambda row: (-differ(row, among)[1], row))
    assert shown() == [differ(row, among) for row in order[:10]]
    assert not page.locator("#posts-which").is_visible()
    switches = page.locator("#legend [role=switch]")
    switches.nth(1).click()
    opened.wait()
    among.remove(1)
    order = sorted(posts.chosen.tolist(), key=lambda row: (-differ(row, among)[1], row))
    page.wait_for_function(
        "(text) => document.querySelector('#posts-table .tabulator-cell[tabulator-field=pairs]')"
        "?.textContent === text",
        arg=str(differ(order[0], among)[1]),
    )
    assert shown() == [differ(row, among) for row in order[:10]]
    switches.nth(2).click()
    opened.wait()
    page.locator("#posts-which").wait_for()
    assert page.locator("#posts-which option").all_inner_texts() == [
        "all",
        *(f"{opened.metrics['models'][at]['label']} better" for at in (0, 3)),
    ]
    page.select_option("#posts-which", "3")
    better = {f"#{posts.ids[r]}" for r in posts.chosen if posts.f1(r, 3) > posts.f1(r, 0)}
    page.locator("#posts-count", has_text=f"{len(better)} of 12 posts").wait_for()
    assert set(column(page, "id")) <= better
    open_row(page, "posts-table", "post", 0)
    page.locator("#post-tags section").first.wait_for()
    assert page.locator("#post-tags section").count() == 2
    page.close()


def box_of(element: Locator) -> FloatRect:
    """Where an element is on the page, once it is there: a new width draws it anew."""
    boxes: list[FloatRect] = []

    def there() -> bool:
        box = element.bounding_box()
        boxes.extend([box] if box else [])
        return bool(boxes)

    until(there)
    return boxes[0]


@pytest.mark.parametrize(("models", "scheme"), [(2, "light"), (9, "dark")])
def test_nothing_of_the_dialog_is_cut_off(
    browser: Browser, tmp_path: Path, models: int, scheme: Any
) -> None:
    opened = Opened(browser, tmp_path / "data", metrics_sample(60, models))
    page = opened.page
    page.emulate_media(color_scheme=scheme)
    opened.wait()
    Image.new("RGB", (900, 1400), "teal").save(
        opened.path.parent / "resized" / f"{opened.posts.ids[4]}.webp"
    )
    search(page, opened.posts.ids[4])
    page.locator("#post-tags section").first.wait_for()
    page.locator("#post-image img").wait_for()
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        page.evaluate("() => new Promise((go) => requestAnimationFrame(() => setTimeout(go)))")
        assert page.locator("#post").evaluate("(it) => it.scrollWidth <= it.clientWidth")
        assert page.evaluate(CUT) == []
        for place in ("#post .close", "#post-image img", "#post-tags section"):
            box = box_of(page.locator(place).first)
            assert box["x"] >= 0 and box["x"] + box["width"] <= width
    page.close()
