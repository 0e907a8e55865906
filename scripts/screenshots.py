"""Takes the pictures of docs/en/app.md: python scripts/screenshots.py [ADDRESS]

Opens a running page (http://127.0.0.1:7860 unless another address is given) in Chromium, waits for
the example of every tab, and writes docs/images/app/. Needs Debian's chromium and playwright.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

OUT = Path(__file__).parents[1] / "docs" / "images" / "app"
TABS = {
    "ask": ("Ask",), "alignment": ("Align", "Compare"), "coral": ("Align", "CORAL"),
    "attention": ("Inside", "Attention"), "tokens": ("Inside", "Tokens"),
    "embedding": ("Inside", "Embedding space"), "compression": ("Compress",),
    "search": ("Search", "Find images"), "zero-shot": ("Search", "Zero-shot"),
    "validation": ("Train",), "speed": ("Speed",),
}  # fmt: skip
PHONE = ("tokens", ("내부", "토큰"))


def main(address: str = "http://127.0.0.1:7860") -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(address)
        for name, titles in TABS.items():
            show(page, name, titles)
            if name == "ask":
                page.get_by_label("Explain the answer").check()
                page.click("#ask-run")
                page.wait_for_selector("#ask-answer img")
                page.wait_for_timeout(1000)
            take(page, name)
        context = browser.new_context(
            viewport={"width": 390, "height": 844}, locale="ko-KR", color_scheme="dark",
            device_scale_factor=2,
        )  # fmt: skip
        phone = context.new_page()
        phone.goto(address)
        phone.wait_for_selector("#ask-run")
        phone.wait_for_timeout(1000)
        name, titles = PHONE
        show(phone, name, titles)
        phone.locator(f"#{name}-patch").scroll_into_view_if_needed()
        take(phone, "phone")


def show(page: Page, name: str, titles: tuple[str, ...]) -> None:
    """Selects a tab, and waits for the answer to its example."""
    for title in titles:
        page.get_by_role("tab", name=title, exact=True).first.click()
    page.wait_for_selector(f"#{name}-answer .answer", timeout=300_000)
    page.wait_for_timeout(1000)


def take(page: Page, name: str) -> None:
    """What is seen now, in few colours: a small file."""
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    image.quantize(128, dither=Image.Dither.NONE).save(OUT / f"{name}.png", optimize=True)
    print(OUT / f"{name}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
