"""The README's pictures of the demo's pages: `python -m demo.picture` after `make demo`.

That of the audit only after `python validate.py --data demo/data/arena --audit`. Needs
requirements-dev.txt and Chromium.
"""

from pathlib import Path

from demo.run import DATA, ROOT

from playwright.sync_api import sync_playwright

PICTURE = Path(__file__).parent / "report.png"
AUDIT = Path(__file__).parent / "audit.png"


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
        print(PICTURE.relative_to(ROOT))
        if (asking := ROOT / DATA / "audit.html").exists():
            page.set_viewport_size({"width": 1280, "height": 720})
            page.goto(asking.as_uri())
            image = "document.getElementById('image')"
            while True:  # Until one that fills its place.
                page.keyboard.press("y")
                page.wait_for_function(f"{image}.complete")
                if 1 < page.evaluate(f"{image}.naturalWidth / {image}.naturalHeight") < 1.6:
                    break
            page.keyboard.press("Space")
            page.wait_for_timeout(1000)
            page.screenshot(path=AUDIT)
            print(AUDIT.relative_to(ROOT))
        browser.close()


if __name__ == "__main__":
    main()
