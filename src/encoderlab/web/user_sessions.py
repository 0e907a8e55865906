"""The visitors' folders and running jobs, and the room that all of them take.

A visitor is one opened page. Folders have names that cannot be guessed, lie where Gradio may serve
them from, and are removed when the page closes or after an hour without use.
"""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from encoderlab.errors import WorkError

IDLE_SECONDS = 3600.0
# Prefix of a folder in the visitor's folder -> the name that the visitor sees.
CALLED = {"photos": "photos", "asked": "photos", "index": "outputs/index"}
LOOK_EVERY_SECONDS = 5.0
EXAMPLES = "examples"


@dataclass
class UserSession:
    """One opened page."""

    folder: Path
    seen: float = field(default_factory=time.monotonic)
    running: dict[str, threading.Event] = field(default_factory=dict)
    outputs: dict[str, list[Any]] = field(default_factory=dict)  # of runs that have just ended
    answered: set[str] = field(default_factory=set)  # the tabs that show an answer, or wait for it

    def fresh(self, name: str) -> Path:
        """A new empty folder for a run; removes the folder of the last run of this name."""
        for old in self.folder.glob(f"{name}-*"):
            shutil.rmtree(old, ignore_errors=True)
        folder = self.folder / f"{name}-{secrets.token_hex(4)}"
        folder.mkdir(parents=True)
        return folder

    def names(self) -> dict[str, str]:
        """Paths of the visitor's folders -> the names that the visitor sees."""
        folders = {
            str(path): name
            for prefix, name in CALLED.items()
            for path in self.folder.glob(f"{prefix}-*")
        }
        return {**folders, str(self.folder): "outputs"}

    def stop(self, name: str | None = None) -> bool:
        """Asks the run `name`, or every run, to stop at its next step; whether there is one."""
        events = [event for job, event in list(self.running.items()) if name in (None, job)]
        for event in events:
            event.set()
        return bool(events)


class UserSessions:
    """All visitors.

    Args:
        root: Gradio's folder of uploads, which holds the visitors' folders.
        most_mb: megabytes that may be stored in it.
    """

    def __init__(self, root: Path, most_mb: int) -> None:
        self.root, self.most = root, most_mb * 1_000_000
        self.by_session: dict[str, UserSession] = {}
        self._lock = threading.Lock()
        self._looked, self._size = 0.0, 0
        self._ours: set[Path] = set()
        # The page's own runs of its examples: every visitor may see them, and they stay.
        self.examples = UserSession(root / EXAMPLES)

    def keep_what_is_there(self) -> None:
        """Marks the files that lie in the folder now, the page's examples, as never outdated."""
        self._ours = {path for path in self.root.rglob("*") if path.is_file()}

    def of(self, session: str) -> UserSession:
        """The visitor of a Gradio session."""
        with self._lock:
            if session not in self.by_session:
                folder = self.root / f"visitor-{secrets.token_hex(16)}"
                self.by_session[session] = UserSession(folder)
            visitor = self.by_session[session]
            visitor.seen = time.monotonic()
            return visitor

    def stop_all(self) -> None:
        """Stops the jobs of all visitors, and the page's own."""
        with self._lock:
            visitors = [self.examples, *self.by_session.values()]
        for visitor in visitors:
            visitor.stop()

    def forget(self, session: str) -> None:
        """Stops a visitor's jobs and removes their folder."""
        with self._lock:
            visitor = self.by_session.pop(session, None)
        if visitor is not None:
            visitor.stop()
            shutil.rmtree(visitor.folder, ignore_errors=True)

    def is_full(self) -> bool:
        """Whether no more may be stored, after unused files are removed."""
        with self._lock:
            now = time.monotonic()
            if now - self._looked <= LOOK_EVERY_SECONDS:
                return self._size > self.most
            self._looked = now
            idle = [s for s, v in self.by_session.items() if now - v.seen > IDLE_SECONDS]
        for session in idle:
            self.forget(session)
        self._sweep()
        return self._size > self.most

    def require_room(self) -> None:
        """Raises where no more may be stored.

        Raises:
            WorkError: the room for uploads and results is used up.
        """
        if self.is_full():
            raise WorkError(
                "the limit for uploads and results is reached",
                want=f"less than {self.most // 1_000_000} MB by all visitors together",
                hint="try again in some minutes; the server's --max-visitor-mb sets the limit",
            )

    def _sweep(self) -> None:
        """Adds up what is stored, and removes uploads older than an hour."""
        size, old = 0, time.time() - IDLE_SECONDS
        for path in self.root.rglob("*"):
            try:
                stat = path.stat()
                if not path.is_file():
                    continue
                own = path.relative_to(self.root).parts[0].startswith(("visitor-", EXAMPLES))
                if not own and path not in self._ours and stat.st_mtime < old:
                    path.unlink()
                else:
                    size += stat.st_size
            except OSError:
                continue  # removed meanwhile
        self._size = size
