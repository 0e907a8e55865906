"""Runs a command for a visitor: it queues, reports progress and can be stopped.

There are two lanes with one job at a time in each: experiments, and short answers, which do not
wait for them. Each lane's models are used by one thread only.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import gc
import os
import secrets
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from encoderlab.core import run_folder
from encoderlab.core.command_line import command_line
from encoderlab.core.commands import COMMANDS
from encoderlab.core.progress import Bar, note, watch_progress
from encoderlab.core.runner import CompletedRun, run_command
from encoderlab.errors import as_ours
from encoderlab.web.choices import ModelChoices
from encoderlab.web.user_sessions import UserSession, UserSessions

EXPERIMENTS, SHORT = "experiments", "short answers"
TELL_EVERY_SECONDS = 0.2
IDLE_POLL_SECONDS = 0.5
CLOSING_SECONDS = 20.0
# Settings about which files are written and where; they change no number.
UNSAID = (
    "output_dir", "output.dir", "output.save_similarities", "visualization.save_individual",
)  # fmt: skip
Tell = Callable[[str, int, int | None], None]


class Stopped(Exception):
    """The visitor stopped the run."""


@dataclass(frozen=True)
class Outcome:
    """How a job ended: with a result, with an error, or stopped.

    Args:
        done: the finished run.
        command: the command line that gives the same result.
        error: the message of an error of the project's own classes.
        bug: the number under which an unexpected error is in the log.
        names: server path -> the name that the visitor sees.
        beside: how many other jobs ran at the same time.
    """

    done: CompletedRun | None = None
    command: str = ""
    error: str | None = None
    bug: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    beside: int = 0

    @property
    def stopped(self) -> bool:
        """Whether the visitor stopped it."""
        return self.done is None and self.error is None and self.bug is None

    def plain(self, text: str) -> str:
        """The text with the visitor's names in place of server paths, longest path first."""
        for path in sorted(self.names, key=len, reverse=True):
            text = text.replace(path, self.names[path])
        return text


@dataclass
class Example:
    """The answer of a tab to the values that its fields hold at the start, for every visitor.

    Args:
        make: computes the values of the tab's outputs; None where the run was stopped.
        lane: which queue its job waits in; short answers are computed first.
        outputs: what `make` gave.
    """

    make: Callable[[], list[Any] | None]
    lane: str
    outputs: list[Any] | None = None


class JobRunner:
    """Runs jobs in lanes.

    Args:
        offer: what visitors may choose.
        visitors: their folders.
        home: folder of the page's own files.
    """

    def __init__(self, offer: ModelChoices, visitors: UserSessions, home: Path) -> None:
        self.offer, self.visitors, self.home = offer, visitors, home
        self._working = 0
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self.examples: dict[str, Example] = {}
        self._lanes = {EXPERIMENTS: threading.Lock(), SHORT: threading.Lock()}

    def run(
        self,
        visitor: UserSession,
        job: str,
        command: str,
        settings: Callable[[], Any],
        tell: Tell,
        *,
        names: Mapping[str, str] | None = None,
        lane: str = EXPERIMENTS,
    ) -> Outcome:
        """The outcome of `encoderlab COMMAND` for a visitor."""
        # `job` is the name by which the visitor can stop it; `settings` makes the settings, and its
        # errors are handled like the command's; `names` maps server paths to what the visitor sees.
        paths = dict(names or {})
        stop = visitor.running[job] = threading.Event()
        of_visitor = visitor is not self.visitors.examples
        with self._lock:
            self._working += of_visitor
            beside = self._working - of_visitor
        # The examples give way, and run alone: a model that is loaded in half precision changes
        # PyTorch's default dtype in all threads meanwhile.
        lanes = [self._lanes[lane]] if of_visitor else list(self._lanes.values())
        if of_visitor:
            self.visitors.examples.stop()
        try:
            self.visitors.require_room()
            # Gradio keeps the queue; a stopped job may still run when the next one starts.
            with contextlib.ExitStack() as held:
                for lock in lanes:
                    held.enter_context(lock)
                held.enter_context(watch_progress(_watcher(stop, tell)))
                _set_threads(lane, alone=command == "speed")
                values = settings()
                folder = visitor.fresh(job)
                paths[str(folder)] = f"outputs/{command}"
                done = self._perform(command, values, folder)
            beside = max(beside, self._working - of_visitor)
            line = command_line(COMMANDS[command], values, UNSAID)
            outcome = Outcome(done, names=paths | visitor.names(), beside=beside)
            return dataclasses.replace(outcome, command=outcome.plain(line))
        except Stopped:
            return Outcome()
        except Exception as error:
            return _failed(error, paths | visitor.names())
        finally:
            with self._lock:
                self._working -= of_visitor
            if visitor.running.get(job) is stop:
                del visitor.running[job]
            if lane == EXPERIMENTS:
                _free_memory()

    def run_examples(self) -> None:
        """Runs the examples of all tabs while no visitor's job runs."""
        for example in sorted(self.examples.values(), key=lambda example: example.lane != SHORT):
            while example.outputs is None:
                if self._closed.is_set():
                    return
                if self._working:
                    time.sleep(IDLE_POLL_SECONDS)
                else:
                    example.outputs = example.make()

    def close(self) -> None:
        """Stops every job at its next step, and waits for it a while: torch aborts the process if a
        thread computes while it exits."""
        self._closed.set()
        self.visitors.stop_all()
        for lock in self._lanes.values():
            if lock.acquire(timeout=CLOSING_SECONDS):
                lock.release()

    def _perform(self, command: str, settings: Any, folder: Path) -> CompletedRun:
        for name in ("device", "features_dir"):
            value = getattr(self.offer, name)
            if value and getattr(settings, name, "") in ("auto", None):
                settings = dataclasses.replace(settings, **{name: value})
        done = run_command(COMMANDS[command], settings, ("encoderlab", "app"), folder=folder)
        # These name server paths, and the folder is served.
        for record in (run_folder.CONFIG, run_folder.RECORD):
            (folder / record).unlink(missing_ok=True)
        return done


def _watcher(stop: threading.Event, tell: Tell) -> Callable[[str, Bar], None]:
    last = 0.0

    def see(what: str, bar: Bar) -> None:
        nonlocal last
        if stop.is_set():
            raise Stopped
        if time.monotonic() - last >= TELL_EVERY_SECONDS or bar.done == 0:
            last = time.monotonic()
            tell(what, bar.done, bar.total)

    return see


def _set_threads(lane: str, *, alone: bool) -> None:
    """Divides the cores between the two lanes; a job that measures speed gets all."""
    import torch

    cores = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    torch.set_num_threads(cores if alone else 1 if lane == SHORT else max(1, cores - 1))


def _free_memory() -> None:
    """Returns the memory of figures to the system: they contain reference cycles, and glibc keeps
    freed memory per thread."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _failed(error: Exception, names: Mapping[str, str]) -> Outcome:
    known = as_ours(error)
    if known is not None:
        return Outcome(error=Outcome(names=names).plain(str(known)), names=names)
    # The visitor gets a number; the traceback goes to the log.
    number = secrets.token_hex(3)
    note(f"error {number}:\n" + "".join(traceback.format_exception(error)))
    sys.stderr.flush()
    return Outcome(bug=number, names=names)
