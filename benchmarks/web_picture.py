"""Take the web door's picture in a real browser: upload, submit, wait for the video, screenshot.

``python -m benchmarks.web_picture URL --browser /usr/bin/chromium docs/pictures/web.png``; needs
``playwright`` and any Chromium. Exits 1 if the page shows no video.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.gpu import first


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("picture", type=Path)
    parser.add_argument("--browser", default="/usr/bin/chromium")
    args = parser.parse_args()
    from playwright.sync_api import expect, sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=args.browser, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.goto(args.url)
        files = page.locator("input[type=file]")
        expect(files).to_have_count(2, timeout=20_000)
        files.nth(0).set_input_files(first("portraits"))
        files.nth(1).set_input_files(first("speech"))
        page.get_by_role("button", name="Would it fit?").wait_for()
        page.wait_for_load_state("networkidle")
        page.get_by_role("button", name="Would it fit?").click()
        expect(page.get_by_text("It fits")).to_be_visible(timeout=20_000)
        page.get_by_role("button", name="Submit", exact=True).click()
        expect(page.get_by_text("✓ done")).to_be_visible(timeout=120_000)
        expect(page.locator("video")).to_be_visible(timeout=20_000)
        page.wait_for_timeout(1000)  # the video's first frame is painted
        page.screenshot(path=args.picture, full_page=True)
        browser.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
