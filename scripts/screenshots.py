"""Takes the pictures of docs/en/app.md: python scripts/screenshots.py [ADDRESS]

Opens a running page (http://127.0.0.1:7860 unless another address is given) in Chromium, runs the
example of every tab, and writes docs/images/app/. Needs Debian's chromium and playwright.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

OUT = Path(__file__).parents[1] / "docs" / "images" / "app"
TABS = {
    "ask": "Ask", "speed": "Speed", "attention": "Attention", "alignment": "Alignment",
    "embedding": "Embedding space", "coral": "CORAL", "validation": "Validation",
    "search": "Search", "zero-shot": "Zero-shot", "tokens": "Tokens",
    "compression": "Compression",
}  # fmt: skip
PHONE = ("tokens", "토큰")


def main(address: str = "http://127.0.0.1:7860") -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.goto(address)
        for name, title in TABS.items():
            page.get_by_role("tab", name=title, exact=True).first.click()
            if name == "ask":
                page.wait_for_selector("#ask-answer .answer")
                page.get_by_label("Explain the answer").check()
                page.click("#ask-run")
                page.wait_for_selector("#ask-figures img")
            run(page, name)
            take(page, name)
        context = browser.new_context(
            viewport={"width": 390, "height": 844}, locale="ko-KR", color_scheme="dark",
            device_scale_factor=2,
        )  # fmt: skip
        phone = context.new_page()
        phone.goto(address)
        phone.wait_for_selector("#ask-run")
        phone.wait_for_timeout(1000)
        name, title = PHONE
        tab = phone.get_by_role("tab", name=title, exact=True).first
        if not tab.is_visible():
            phone.locator(".overflow-menu > button").first.click()
            phone.locator(".overflow-dropdown button", has_text=title).first.click()
        run(phone, name)
        phone.locator(f"#{name}-patch").scroll_into_view_if_needed()
        take(phone, "phone")


def run(page: Page, name: str) -> None:
    """The example of a tab, until its answer is there."""
    page.click(f"#{name}-run")
    page.wait_for_selector(f"#{name}-answer .answer", timeout=300_000)
    page.wait_for_timeout(1000)


def take(page: Page, name: str) -> None:
    """What is seen now, in few colours: a small file."""
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    image.quantize(128, dither=Image.Dither.NONE).save(OUT / f"{name}.png", optimize=True)
    print(OUT / f"{name}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
