"""Progress bars, notes and warnings, all on stderr.

A terminal gets a rich bar with the time left; a log gets a line about every ten seconds and one at
the end, and an early one where more than a minute is left. A caller may watch the progress instead,
and stop the work. Imports only the standard library, and rich for a bar.
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
LONG_WAIT_SECONDS, FIRST_ESTIMATE_SECONDS = 60.0, 2.0


@dataclass
class _Verbosity:
    quiet: bool = False
    verbose: bool = False

    @property
    def silent(self) -> bool:
        """Whether nothing is printed; of several processes of a run only the first prints."""
        return self.quiet or is_secondary_rank()


_verbosity = _Verbosity()


def configure(*, quiet: bool = False, verbose: bool = False) -> None:
    """Sets how much a command prints: with `quiet` nothing, with `verbose` details too."""
    _verbosity.quiet, _verbosity.verbose = quiet, verbose
    _noted.clear()


def note(text: str) -> None:
    """Prints one decision in one line, such as `validation: 500 images with 500 captions`."""
    if not _verbosity.silent:
        # In one write: several processes may share an unbuffered stderr.
        print(text + "\n", end="", file=sys.stderr, flush=True)


_noted: set[str] = set()


def note_once(text: str) -> None:
    """Prints a decision that is the same for every model, the first time it is taken."""
    if text not in _noted:
        _noted.add(text)
        note(text)


_warnings: ContextVar[list[str] | None] = ContextVar("warnings", default=None)


def warn(text: str) -> None:
    """Prints a warning about a result; within `collect_warnings` once, and collects it."""
    collected = _warnings.get()
    if collected is not None:
        if text in collected:
            return
        collected.append(text)
    note(f"warning: {text}")


@contextmanager
def collect_warnings() -> Iterator[list[str]]:
    """A list that receives the warnings of the block in this thread, and those of inner blocks."""
    collected: list[str] = []
    outer = _warnings.get()
    token = _warnings.set(collected)
    try:
        yield collected
    finally:
        _warnings.reset(token)
        if outer is not None:
            outer += [text for text in collected if text not in outer]


def detail(text: str) -> None:
    """Prints one line with `--verbose` only."""
    if _verbosity.verbose:
        note(text)


class Bar:
    """Counts finished units: `done` of `total` (None: unknown)."""

    def __init__(self, total: int | None, show: Callable[[Bar], None]) -> None:
        self.done, self.total, self.text = 0, total, ""
        self._show = show

    def advance(self, units: int = 1, text: str | None = None) -> None:
        """Adds `units` to `done`; `text` replaces the remark behind the bar."""
        self.done += units
        if text is not None:
            self.text = text
        self._show(self)


Watcher = Callable[[str, Bar], None]
_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watch_progress(see: Watcher) -> Iterator[None]:
    """Sends the progress of the block to `see` instead of stderr, in this thread.

    Args:
        see: called with the work's name and its bar, at the start and at every step; an error
            that it raises stops the work.
    """
    token = _watcher.set(see)
    try:
        yield
    finally:
        _watcher.reset(token)


def counted(number: int, thing: str, several: str | None = None) -> str:
    """A number with the name of what is counted.

    Args:
        number: how many.
        thing: the name in the singular.
        several: the name in the plural, where that is not `thing` and an s.

    Returns:
        Such as "1,200 images".

    >>> counted(1, "image"), counted(1200, "image")
    ('1 image', '1,200 images')
    """
    return f"{number:,} {thing if number == 1 else several or thing + 's'}"


@contextmanager
def progress(what: str, total: int | None = None, unit: str = "item") -> Iterator[Bar]:
    """Shows the progress of a piece of work while the block runs.

    Args:
        what: the name of the work, such as "embedding images".
        total: how many units there are, or None if unknown.
        unit: the name of a unit in the singular.

    Yields:
        A bar to advance.
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
    from rich.progress import BarColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        "{task.description}",
        BarColumn(),
        "{task.completed:,.0f}" + ("" if total is None else f"/{total:,}") + f" {unit}",
        "{task.fields[rate]}",
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        "{task.fields[remark]}",
    )
    with Progress(*columns, console=Console(stderr=True)) as display:
        task = display.add_task(what, total=total, remark="", rate="")
        started = time.monotonic()

        def show(bar: Bar) -> None:
            rate = _rate(bar.done, time.monotonic() - started, unit)
            display.update(task, completed=bar.done, remark=bar.text, rate=rate)

        yield Bar(total, show)


def _in_log(what: str, total: int | None, unit: str) -> Iterator[Bar]:
    started = last = time.monotonic()

    def seconds_left(bar: Bar) -> float:
        if bar.total is None or not 0 < bar.done < bar.total:
            return 0.0
        return (time.monotonic() - started) * (bar.total - bar.done) / bar.done

    def line(bar: Bar) -> str:
        seconds = time.monotonic() - started
        count = f"{bar.done:,}" + ("" if bar.total is None else f"/{bar.total:,}")
        left = f", {seconds_left(bar):.0f} s left" if seconds_left(bar) else ""
        text = f"{what}: {count}, {seconds:.0f} s, {_rate(bar.done, seconds, unit)}{left}"
        return text + (f", {bar.text}" if bar.text else "")

    def show(bar: Bar) -> None:
        nonlocal last
        now = time.monotonic()
        early = last == started and now - started >= FIRST_ESTIMATE_SECONDS
        if now - last >= LINE_EVERY_SECONDS or (early and seconds_left(bar) > LONG_WAIT_SECONDS):
            last = now
            note(line(bar))

    bar = Bar(total, show)
    yield bar
    note(line(bar))


def _rate(done: int, seconds: float, unit: str) -> str:
    rate = done / max(seconds, 1e-9)
    return f"{rate:,.0f} {unit}/s" if rate >= 10 else f"{rate:.2g} {unit}/s"
