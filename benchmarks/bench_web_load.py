"""Twenty visitors at once for two minutes: python benchmarks/bench_web_load.py

Opens the page in a process of its own. Each visitor searches, asks what an uploaded image is,
compares patches and makes an index of their own, again and again, with questions that only they
ask; one of them runs the slow experiments beside. Counts what failed and what came to the wrong
visitor, and watches the page's memory after the first half minute.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks import table
from benchmarks.web_client import WebVisitor

WARM_UP_SECONDS = 30.0
MEMORY_EVERY_SECONDS = 1.0
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "black", "white", "pink", "grey")


class Tally:
    """What happened, over all visitors."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self.failed: list[str] = []
        self.mixed_up: list[str] = []
        self._lock = threading.Lock()

    def timed(self, what: str, seconds: float) -> None:
        with self._lock:
            self.seconds.setdefault(what, []).append(seconds)

    def wrong(self, kind: list[str], what: str) -> None:
        with self._lock:
            kind.append(what)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--visitors", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=120.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, served(Path(home)) as (address, process):
        warm = WebVisitor(address)
        for button in ("search-run", "zero-shot-run", "tokens-run", "coral-run"):
            warm.press(button)
        warm.close()
        tally, until = Tally(), time.monotonic() + given.seconds
        threads = [
            threading.Thread(target=visit, args=(address, number, until, tally))
            for number in range(given.visitors)
        ]
        memory: list[tuple[float, float]] = []
        started = time.monotonic()
        for one in threads:
            one.start()
        while any(one.is_alive() for one in threads):
            memory.append((time.monotonic() - started, resident_mb(process.pid)))
            time.sleep(MEMORY_EVERY_SECONDS)
        return told(given.visitors, time.monotonic() - started, tally, memory)


def visit(address: str, number: int, until: float, tally: Tally) -> None:
    """One visitor: short questions, an index of their own, and a slow experiment for the first."""
    chance = random.Random(number)
    colour = COLOURS[number % len(COLOURS)]
    one = WebVisitor(address)
    name = f"visitor{number:02}.png"
    turns = 0
    try:
        image = one.upload(name, picture(colour, number))
        while time.monotonic() < until:
            what = "experiment" if number == 0 else chance.choice(("search", "image", "zero-shot"))
            if number and turns % 10 == 3:
                what = "index"
            if number and turns % 10 == 7:
                what = "tokens"
            started = time.monotonic()
            try:
                check(one, what, name, image, number, tally)
            except Exception as error:
                tally.wrong(tally.failed, f"{what}: {error}")
            tally.timed(what, time.monotonic() - started)
            turns += 1
            time.sleep(chance.uniform(0.2, 1.0))
    except Exception as error:
        tally.wrong(tally.failed, f"opening: {error}")
    finally:
        one.close()


def check(one: WebVisitor, what: str, name: str, image: dict, number: int, tally: Tally) -> None:
    """Asks once; what comes must be an answer, and to this visitor's question."""
    mine, button = name, ""
    if what == "search":
        mine, button = f"a {COLOURS[number % 10]} star, asked by {number}", "search-run"
        shown = one.press(button, {"search-query": mine, "k": 3})
    elif what == "image":
        button = "search-run"
        shown = one.press(button, {"search-image": image, "k": 3})
    elif what == "zero-shot":
        mine, button = f"thing {number}", "zero-shot-run"
        classes = f"{mine}, chart, table"
        shown = one.press(button, {"zero-shot-image": image, "classes": classes})
    elif what == "tokens":
        button = "tokens-run"
        shown = one.press(button, {"tokens-image": image})
    elif what == "index":
        button = "make-index-run"
        one.press(button, {"make-index-images": [image]})
        shown = one.press("search-run", {"index": "own", "search-query": "anything", "k": 1})
        button = "search-run"
    else:
        mine, button = "tiny-qwen", "coral-run"
        shown = one.press(button)
    answer = shown[button.removesuffix("-run") + "-answer"]
    if "role=alert" in answer:
        tally.wrong(tally.failed, f"{what}: {answer[:200]}")
    elif mine not in json.dumps(shown, ensure_ascii=False):
        tally.wrong(tally.mixed_up, f"{what} of {number}: {answer[:200]}")


def picture(colour: str, number: int) -> bytes:
    """A picture that only this visitor has."""
    made = Image.new("RGB", (96, 96), colour)
    made.putpixel((number % 96, number // 96), (number, 255 - number, 128))
    content = io.BytesIO()
    made.save(content, "PNG")
    return content.getvalue()


@contextlib.contextmanager
def served(home: Path) -> Iterator[tuple[str, subprocess.Popen]]:
    """The page, in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (home / "log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-m", "encoderlab", "app", "--port", str(port)],
        cwd=home, stdout=log, stderr=log,
    )  # fmt: skip
    try:
        while "is open at" not in (home / "log").read_text():
            if process.poll() is not None:
                raise SystemExit((home / "log").read_text())
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.terminate()
        process.wait(timeout=60)
        bugs = (home / "log").read_text().count("Traceback")
        if bugs:
            print(f"tracebacks in the log: {bugs}\n" + (home / "log").read_text()[-3000:])


def resident_mb(process: int) -> float:
    """Memory that the process holds, in megabytes (Linux)."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def told(visitors: int, seconds: float, tally: Tally, memory: list[tuple[float, float]]) -> int:
    requests = sum(map(len, tally.seconds.values()))
    print(f"{visitors} visitors, {seconds:.0f} s: {requests} answers, "
          f"{requests / seconds:.1f} a second")  # fmt: skip
    for what, times in sorted(tally.seconds.items()):
        p50, p95 = np.percentile(times, [50, 95])
        print(f"  {what:<11} {len(times):>5} answers, p50 {p50:.2f} s, p95 {p95:.2f} s")
    print(f"failed: {len(tally.failed)}; to the wrong visitor: {len(tally.mixed_up)}")
    for one in [*tally.failed[:5], *tally.mixed_up[:5]]:
        print(f"  {one}")
    late = np.array([one for one in memory if one[0] >= min(WARM_UP_SECONDS, seconds / 2)])
    quarters = ", ".join(f"{part[:, 1].mean():.0f}" for part in np.array_split(late, 4))
    failures = len(tally.failed) + len(tally.mixed_up)
    table.report(
        table.Row(
            f"the web page with {visitors} visitors for {seconds:.0f} s",
            f"{requests / seconds:.1f} answers/s",
            target="no failure, no answer to the wrong visitor",
            met=not failures,
            note=f"{len(tally.failed)} failed, {len(tally.mixed_up)} mixed up; memory of the four "
            f"quarters {quarters} MB",
        )
    )
    print(f"memory after {late[0, 0]:.0f} s, means of four quarters: {quarters} MB")
    return int(bool(tally.failed or tally.mixed_up))


if __name__ == "__main__":
    sys.exit(main())
