"""The page, served once for the tests of this folder, and a real browser to look at it with."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

CHROMIUM = [
    "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@dataclass(frozen=True)
class Site:
    """The served page, and where it keeps features: the Python API may use them too."""

    address: str
    features: str
    home: Path
    process: int


@contextlib.contextmanager
def opened(home: Path, *words: str, **variables: str) -> Iterator[tuple[str, int]]:
    """Runs `encoderlab app` in the folder `home`; yields the address and the process id. Its output
    is in `home/out` and `home/err`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "encoderlab", "app", "--port", str(port), *words]
    with (home / "out").open("w") as out, (home / "err").open("w") as err:
        process = subprocess.Popen(
            command, cwd=home, stdout=out, stderr=err, env={**os.environ, **variables}
        )
    try:
        for _ in range(900):
            if "is open at" in (home / "err").read_text():
                break
            assert process.poll() is None, (home / "err").read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}", process.pid
        process.terminate()  # background jobs ignore SIGINT
        assert process.wait(timeout=60) == 0, (home / "err").read_text()
    finally:
        process.kill()


def wait_for_examples(site: Site) -> None:
    """Until the page has run the examples of all tabs."""
    for _ in range(3000):
        if any(site.home.glob("visitors-*/examples/speed-*/result.json")):
            return
        time.sleep(0.1)
    raise AssertionError("the examples are not finished after five minutes")


@pytest.fixture
def runner(tmp_path: Path):
    """Runs jobs of visitors in this process, without a page."""
    from encoderlab.web.choices import model_choices
    from encoderlab.web.jobs import JobRunner
    from encoderlab.web.user_sessions import UserSessions

    offer = model_choices(host="127.0.0.1", share=False, encoders=(), llms=())
    return JobRunner(offer, UserSessions(tmp_path / "visitors", most_mb=100), tmp_path)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A page with small limits, served by the command itself."""
    home = tmp_path_factory.mktemp("app")
    features = str(tmp_path_factory.mktemp("features"))
    limits = ("--max-upload-mb", "1", "--max-images", "5")
    with opened(home, "--features-dir", features, *limits) as (address, process):
        yield Site(address, features, home / "outputs/app", process)


@pytest.fixture(scope="session")
def chromium() -> Iterator:
    """Debian's Chromium, or whichever ENCODERLAB_CHROMIUM names."""
    from playwright.sync_api import sync_playwright

    program = os.environ.get("ENCODERLAB_CHROMIUM") or shutil.which("chromium")
    if program is None:
        assert not os.environ.get("CI"), "CI has no Chromium: .ci/run installs it"
        pytest.skip("no Chromium: install it, or name one in ENCODERLAB_CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium, site) -> Iterator:
    """`open_page(width=390, locale="ko-KR")`: a visitor's page, without errors in the console and
    without requests to other hosts."""
    complaints, contexts = [], []

    def check_message(message) -> None:
        # Gradio warns of its own untranslated texts.
        if message.type == "error" or "i18n" in message.text:
            complaints.append(f"{message.type}: {message.text}")

    def check_request(request) -> None:
        if not request.url.startswith((site.address, "data:", "blob:")):
            complaints.append(request.url)

    def visit(width: int = 1280, locale: str = "en-US", **more):
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, locale=locale, **more
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", check_message)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", check_request)
        page.goto(site.address)
        page.wait_for_selector("#ask-run")
        return page

    yield visit
    before_closing = list(complaints)  # a page that closes breaks off its requests
    for context in contexts:
        context.close()
    assert before_closing == []
