"""How long work tells that it goes on, and how decisions are said aloud: always on stderr.

A terminal gets a rich bar; a log gets a plain line about every ten seconds and one at the end.
Whoever starts work may watch it instead, and stop it. Knows nothing about what is being worked on.
Standard library at import; rich only for a bar.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from encoderlab.core.distributed import is_secondary_rank

LINE_EVERY_SECONDS = 10.0


@dataclass
class _Verbosity:
    quiet: bool = False
    verbose: bool = False

    @property
    def silent(self) -> bool:
        """Of several processes of one run only the first speaks."""
        return self.quiet or is_secondary_rank()


_verbosity = _Verbosity()


def configure(*, quiet: bool = False, verbose: bool = False) -> None:
    """Chooses how much is said, for the whole process: nothing, the usual, or everything."""
    _verbosity.quiet, _verbosity.verbose = quiet, verbose


def is_verbose() -> bool:
    """Whether the user asked to hear everything."""
    return _verbosity.verbose


def note(text: str) -> None:
    """Says one decision or warning in one line: `device: cpu (no CUDA device found)`."""
    if not _verbosity.silent:
        print(text, file=sys.stderr, flush=True)


_warnings: ContextVar[list[str] | None] = ContextVar("warnings", default=None)


def warn(text: str) -> None:
    """Says what makes a result less than it seems; within `collect_warnings` once, and kept."""
    kept = _warnings.get()
    if kept is not None:
        if text in kept:
            return
        kept.append(text)
    note(f"warning: {text}")


@contextmanager
def collect_warnings() -> Iterator[list[str]]:
    """The warnings of the block, as they come, for a result and the record of its run; a block
    around this one gets them too. Holds for this thread."""
    kept: list[str] = []
    outer = _warnings.get()
    token = _warnings.set(kept)
    try:
        yield kept
    finally:
        _warnings.reset(token)
        if outer is not None:
            outer += [text for text in kept if text not in outer]


def detail(text: str) -> None:
    """Says one line that only `--verbose` shows."""
    if _verbosity.verbose:
        note(text)


class Bar:
    """Counts finished units. `done` is how many, `total` how many there will be (None: unknown)."""

    def __init__(self, total: int | None, show: Callable[[Bar], None]) -> None:
        self.done, self.total, self.text = 0, total, ""
        self._show = show

    def advance(self, units: int = 1, text: str | None = None) -> None:
        """Counts `units` more as done; `text` replaces the short remark behind the bar."""
        self.done += units
        if text is not None:
            self.text = text
        self._show(self)


Watcher = Callable[[str, Bar], None]
_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watch_progress(see: Watcher) -> Iterator[None]:
    """Progress of the block goes to `see(what, bar)` at its start and at every step, and not to
    stderr. What `see` raises stops the work where it is.

    Holds for this thread alone: others may work, or be watched, at the same time.
    """
    token = _watcher.set(see)
    try:
        yield
    finally:
        _watcher.reset(token)


def counted(number: int, thing: str, several: str | None = None) -> str:
    """A number of things in words.

    Args:
        thing: its name in the singular.
        several: its name in the plural, where that is not `thing` and an s.

    >>> counted(1, "image"), counted(1200, "image")
    ('1 image', '1,200 images')
    """
    return f"{number:,} {thing if number == 1 else several or thing + 's'}"


@contextmanager
def progress(what: str, total: int | None = None, unit: str = "item") -> Iterator[Bar]:
    """Shows the progress of a piece of work while the block runs.

    Args:
        what: the work in words, such as "embedding images".
        total: how many units there are, or None where nobody knows.
        unit: one unit's name in the singular.
    """
    see = _watcher.get()
    if see is not None:
        bar = Bar(total, lambda bar: see(what, bar))
        see(what, bar)
        yield bar
    elif _verbosity.silent or total == 0:
        yield Bar(total, lambda bar: None)
    elif sys.stderr.isatty():
        yield from _on_terminal(what, total, unit)
    else:
        yield from _in_log(what, total, unit)


def _on_terminal(what: str, total: int | None, unit: str) -> Iterator[Bar]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}" + ("" if total is None else f"/{total:,}") + f" {unit}"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        Remaining(),
        TextColumn("{task.fields[remark]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as drawn:
        task = drawn.add_task(what, total=total, remark="", rate="")
        started = time.monotonic()

        def show(bar: Bar) -> None:
            rate = _rate(bar.done, time.monotonic() - started, unit)
            drawn.update(task, completed=bar.done, remark=bar.text, rate=rate)

        yield Bar(total, show)


def _in_log(what: str, total: int | None, unit: str) -> Iterator[Bar]:
    started = last = time.monotonic()

    def line(bar: Bar) -> str:
        seconds = time.monotonic() - started
        count = f"{bar.done:,}" + ("" if bar.total is None else f"/{bar.total:,}")
        left = ""
        if bar.total is not None and 0 < bar.done < bar.total:
            left = f", {seconds * (bar.total - bar.done) / bar.done:.0f} s left"
        said = f"{what}: {count}, {seconds:.0f} s, {_rate(bar.done, seconds, unit)}{left}"
        return said + (f", {bar.text}" if bar.text else "")

    def show(bar: Bar) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= LINE_EVERY_SECONDS:
            last = now
            note(line(bar))

    bar = Bar(total, show)
    yield bar
    note(line(bar))


def _rate(done: int, seconds: float, unit: str) -> str:
    rate = done / max(seconds, 1e-9)
    return f"{rate:,.0f} {unit}/s" if rate >= 10 else f"{rate:.2g} {unit}/s"
