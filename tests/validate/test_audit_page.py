"""audit.html in headless Chromium: 50 pairs judged with the keyboard, saved, and merged."""

import json
from pathlib import Path
from typing import Any

from demo.tiny import make_data, make_model, write_mappings
from tests.helpers import PATIENCE
from tests.validate.helpers import QUICK, TAGS, ok, validate

import pytest
from playwright.sync_api import BrowserContext, Page, sync_playwright

pytestmark = pytest.mark.slow

CHROMIUM = Path("/usr/bin/chromium")
HOSTILE = {
    "tag_3": "<img_src=x_onerror=window.hacked=1>",
    "tag_4": "</script><script>window.hacked=1</script>",
    "tag_5": ">_<",
    "tag_6": "rtl\u202emark",
}
KEYS = {"y": "yes", "n": "no", "s": "unsure"}
PAIRS = 50


class Judging:
    """A person before the page, who notes what was answered."""

    def __init__(self, context: BrowserContext, data: Path) -> None:
        self.page: Page = context.new_page()
        self.page.set_default_timeout(PATIENCE * 1000)
        self.answers: dict[tuple[int, str], str] = {}
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto((data / "audit.html").as_uri())

    def asked(self) -> tuple[int, str]:
        post, tag, *_ = self.shown()
        return post, tag

    def shown(self) -> tuple[int, str, list[int], bool]:
        """The post and the tag asked about, the posts shown as examples, and whether it is blurred.

        In one go, as each look into the page takes a while."""
        source, tag, examples, blurred = self.page.evaluate(
            """[document.querySelector("#image").getAttribute("src"),
                document.querySelector("#tag").textContent,
                [...document.querySelectorAll("#examples img")].map((x) => x.getAttribute("src")),
                document.body.classList.contains("blurred")]"""
        )
        return _post(source), tag, [_post(each) for each in examples], blurred

    def press(self, key: str) -> None:
        pair = self.asked()
        assert pair not in self.answers
        self.answers[pair] = KEYS[key]
        self.page.keyboard.press(key)

    def progress(self) -> str:
        return self.page.locator("#progress").inner_text()

    def save(self, path: Path) -> None:
        with self.page.expect_download() as download:
            self.page.keyboard.press("d")
        assert download.value.suggested_filename == "judgements.jsonl"
        download.value.save_as(path)
        saved = [json.loads(line) for line in path.read_text().splitlines()]
        assert {(each["post"], each["tag"]): each["judgement"] for each in saved} == self.answers
        assert len(saved) == len(self.answers)
        assert len({each["judge"] for each in saved}) == 1


def _post(source: str) -> int:
    return int(source.removeprefix("resized/").removesuffix(".webp"))


def made(folder: Path) -> tuple[Path, Path]:
    """A data folder whose tags are hostile, and two models' cards."""
    make_data(folder, 60)
    posts = [json.loads(line) for line in (folder / "posts.jsonl").read_text().splitlines()]
    for post in posts:
        for key, text in post.items():
            if key.startswith("tag_string"):
                post[key] = " ".join(HOSTILE.get(tag, tag) for tag in text.split())
    (folder / "posts.jsonl").write_text("".join(json.dumps(post) + "\n" for post in posts))
    write_mappings(folder, [], [])
    tags = [HOSTILE.get(tag, tag) for tag in TAGS]
    return make_model(folder, "one", tags), make_model(folder, "two", tags, seed=1)


def test_fifty_judgements_by_keyboard_and_a_second_person(tmp_path: Path) -> None:
    if not CHROMIUM.exists():
        # A browser is no Python package; .ci/run installs it, so there this test always runs.
        pytest.skip("chromium is not installed: apt-get install chromium")
    cards = made(tmp_path)
    ok(validate(tmp_path, *cards, more=(*QUICK, "--audit", PAIRS)))
    carried: dict[int, Any] = {}
    for line in (tmp_path / "posts.jsonl").read_text().splitlines():
        carried[json.loads(line)["id"]] = json.loads(line)["tag_string"].split()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        context = browser.new_context()
        first = Judging(context, tmp_path)
        page = first.page
        assert first.progress() == "0 of 50 judged"
        assert page.locator("body.blurred #image").count() == 1
        page.keyboard.press("Space")
        assert page.locator("body.blurred").count() == 0
        for number in range(25):
            post, tag, shown, blurred = first.shown()
            assert blurred == (number > 0)
            others = [other for other in carried if tag in carried[other] and other != post]
            assert len(set(shown)) == len(shown) == min(3, len(others))
            assert set(shown) <= set(others)
            first.press("yns"[number % 3])
        address = page.locator("#tag").get_attribute("href") or ""
        assert address.startswith("https://danbooru.donmai.us/wiki_pages/") and "<" not in address
        page.keyboard.press("z")
        last = [*first.answers][-1]
        assert first.asked() == last and first.progress() == "24 of 50 judged"
        del first.answers[last]
        first.press("n")
        page.keyboard.press("Control+y")  # The browser's, not an answer.
        page.reload()
        assert first.progress() == "25 of 50 judged"
        for number in range(25):
            first.press("ny"[number % 2])
        assert first.progress() == "50 of 50 judged"
        assert page.locator("#question").inner_text().startswith("All are judged")
        for key in KEYS:
            page.keyboard.press(key)
        first.save(tmp_path / "judgements.jsonl")

        second = Judging(context, tmp_path)  # At the same computer.
        assert second.progress() == "50 of 50 judged"
        second.page.locator("summary").click()
        second.page.once("dialog", lambda dialog: dialog.accept())
        second.page.locator("#another").click()
        assert second.progress() == "0 of 50 judged"
        for _ in range(20):
            second.press("y")
        second.save(tmp_path / "judgements-second.jsonl")
        for person in (first, second):
            assert person.complaints == []
            assert person.page.evaluate("window.hacked === undefined")
            start = tmp_path.as_uri()
            assert all(url.startswith((start, "blob:", "data:")) for url in person.requests)
        browser.close()
    assert first.answers.keys() > second.answers.keys()
    ended = ok(validate(tmp_path, *cards))
    assert ended.err == ""
    audit = json.loads((tmp_path / "metrics.json").read_text())["audit"]
    judged = [p for p, said in first.answers.items() if said != "unsure" or p in second.answers]
    assert (audit["judged"], audit["cannot_say"]) == (len(judged), PAIRS - len(judged))
    assert (audit["judges"], audit["damaged"], audit["unknown"]) == (2, 0, 0)
    given = [first.answers[pair] for pair in second.answers]
    agreement = audit["agreement"]
    assert agreement["agreed"] == given.count("yes")
    assert agreement["pairs"] == given.count("yes") + given.count("no")
