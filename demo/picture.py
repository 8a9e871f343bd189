"""The README's picture of the demo's report: `python -m demo.picture` after `make demo`.

Needs requirements-dev.txt and Chromium.
"""

from pathlib import Path

from demo.run import DATA, ROOT

from playwright.sync_api import sync_playwright

PICTURE = Path(__file__).parent / "report.png"


def main() -> None:
    """Open the report in headless Chromium and save its first screens."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = browser.new_page(viewport={"width": 1280, "height": 1500})
        page.goto((ROOT / DATA / "report.html").as_uri())
        page.wait_for_selector(".js-plotly-plot .main-svg")
        page.wait_for_timeout(1000)
        page.screenshot(path=PICTURE)
        browser.close()
    print(PICTURE.relative_to(ROOT))


if __name__ == "__main__":
    main()
