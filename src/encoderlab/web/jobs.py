"""One experiment for one visitor: it waits its turn, tells how far it is, can be stopped, and ends
as a result or as a sentence.

Two lanes, one job at a time in each: experiments, and short answers that need not wait for them.
Each lane's models are used by one thread only.
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
# Settings that say where and which files are written, and change no number.
UNSAID = (
    "output_dir", "output.dir", "output.save_similarities", "visualization.save_individual",
)  # fmt: skip
Tell = Callable[[str, int, int | None], None]


class Stopped(Exception):
    """The visitor asked for it."""


@dataclass(frozen=True)
class Outcome:
    """How a job ended: with a result, with a sentence, or stopped.

    Args:
        names: paths on this machine -> what a visitor calls them; said instead wherever they occur.
        beside: the most visitors that worked at the same time.
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
        """A text as the visitor may see it: their own names instead of our paths."""
        for path in sorted(self.names, key=len, reverse=True):
            text = text.replace(path, self.names[path])
        return text


class JobRunner:
    """What all visitors share: the offer, their folders, and the lanes."""

    def __init__(self, offer: ModelChoices, visitors: UserSessions, home: Path) -> None:
        self.offer, self.visitors, self.home = offer, visitors, home
        self._working = 0
        self._lock = threading.Lock()
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
        """Does what `encoderlab COMMAND` does.

        Args:
            job: the name under which the visitor can stop it.
            settings: makes the command's settings; what it raises is told as what the work raises.
            tell: hears what is done, how many units of it, and of how many.
            names: paths on this machine -> what the visitor calls them.
        """
        known = dict(names or {})
        stop = visitor.running[job] = threading.Event()
        with self._lock:
            self._working += 1
            beside = self._working - 1
        try:
            self.visitors.require_room()
            # Gradio keeps the queue; the lock is for the moments after one was stopped.
            with self._lanes[lane], watch_progress(_watcher(stop, tell)):
                _threads(lane, alone=command == "speed")
                given = settings()
                folder = visitor.fresh(job)
                known[str(folder)] = f"outputs/{command}"
                done = self._perform(command, given, folder)
            beside = max(beside, self._working - 1)
            line = command_line(COMMANDS[command], given, UNSAID)
            outcome = Outcome(done, names=known | visitor.names(), beside=beside)
            return dataclasses.replace(outcome, command=outcome.plain(line))
        except Stopped:
            return Outcome()
        except Exception as error:
            return _failed(error, known | visitor.names())
        finally:
            with self._lock:
                self._working -= 1
            if visitor.running.get(job) is stop:
                del visitor.running[job]
            if lane == EXPERIMENTS:
                _give_back()

    def _perform(self, command: str, settings: Any, folder: Path) -> CompletedRun:
        for own in ("device", "features_dir"):
            if getattr(settings, own, "") in ("auto", None):
                value = getattr(self.offer, own)
                settings = dataclasses.replace(settings, **{own: value}) if value else settings
        done = run_command(COMMANDS[command], settings, ("encoderlab", "app"), folder=folder)
        # They name this machine's paths, and lie where figures are served from.
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


def _threads(lane: str, *, alone: bool) -> None:
    """So many threads for this job that the two lanes do not fight over the cores; all of them
    where speed is measured."""
    import torch

    cores = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    torch.set_num_threads(cores if alone else 1 if lane == SHORT else max(1, cores - 1))


def _give_back() -> None:
    """Returns what figures took to the system: their parts refer to one another, and glibc keeps
    what is freed for a thread that may never ask again."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _failed(error: Exception, names: Mapping[str, str]) -> Outcome:
    known = as_ours(error)
    if known is not None:
        outcome = Outcome(error=str(known), names=names)
        return dataclasses.replace(outcome, error=outcome.plain(str(outcome.error)))
    # The visitor gets a number; what happened is for the log.
    number = secrets.token_hex(3)
    note(f"error {number}:\n" + "".join(traceback.format_exception(error)))
    sys.stderr.flush()
    return Outcome(bug=number, names=names)
