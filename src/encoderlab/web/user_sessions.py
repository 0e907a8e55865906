"""Each visitor's own folder, which of their runs go on, and how much room all of them take.

A visitor is one opened page. Folders have names that cannot be guessed, lie where Gradio may serve
them from, and go when the page closes or nobody has used them for a while.
"""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from encoderlab.errors import WorkError

IDLE_SECONDS = 3600.0
# What the visitor would call the folders that are made for them.
CALLED = {"photos": "photos", "asked": "photos", "index": "outputs/index"}
LOOK_EVERY_SECONDS = 5.0


@dataclass
class UserSession:
    """One opened page."""

    folder: Path
    seen: float = field(default_factory=time.monotonic)
    running: dict[str, threading.Event] = field(default_factory=dict)

    def fresh(self, name: str) -> Path:
        """A new empty folder for a run; the one that the last run of this name left goes."""
        for old in self.folder.glob(f"{name}-*"):
            shutil.rmtree(old, ignore_errors=True)
        made = self.folder / f"{name}-{secrets.token_hex(4)}"
        made.mkdir(parents=True)
        return made

    def names(self) -> dict[str, str]:
        """The visitor's folders here -> what the visitor would call them."""
        found = {
            str(path): name
            for kind, name in CALLED.items()
            for path in self.folder.glob(f"{kind}-*")
        }
        return {**found, str(self.folder): "outputs"}

    def stop(self, name: str | None = None) -> None:
        """Asks a run to stop at its next step, or all."""
        for job, event in list(self.running.items()):
            if name in (None, job):
                event.set()


class UserSessions:
    """All visitors, in one folder that takes no more than so many megabytes.

    Args:
        root: Gradio's folder of uploads, which the visitors' own lie in.
    """

    def __init__(self, root: Path, most_mb: int) -> None:
        self.root, self.most = root, most_mb * 1_000_000
        self.by_session: dict[str, UserSession] = {}
        self._lock = threading.Lock()
        self._looked, self._size = 0.0, 0
        self._ours: set[Path] = set()

    def keep_what_is_there(self) -> None:
        """What lies in the folder now is the page's own: its examples do not grow old."""
        self._ours = {path for path in self.root.rglob("*") if path.is_file()}

    def of(self, session: str) -> UserSession:
        """The visitor behind a session of Gradio's."""
        with self._lock:
            if session not in self.by_session:
                folder = self.root / f"visitor-{secrets.token_hex(16)}"
                self.by_session[session] = UserSession(folder)
            one = self.by_session[session]
            one.seen = time.monotonic()
            return one

    def forget(self, session: str) -> None:
        """Stops what a visitor has running, and removes what they left."""
        with self._lock:
            one = self.by_session.pop(session, None)
        if one is not None:
            one.stop()
            shutil.rmtree(one.folder, ignore_errors=True)

    def is_full(self) -> bool:
        """Whether no more may be stored, after what nobody uses is gone."""
        with self._lock:
            now = time.monotonic()
            if now - self._looked > LOOK_EVERY_SECONDS:
                self._looked = now
                idle = [s for s, one in self.by_session.items() if now - one.seen > IDLE_SECONDS]
            else:
                return self._size > self.most
        for session in idle:
            self.forget(session)
        self._sweep()
        return self._size > self.most

    def require_room(self) -> None:
        """Refuses where no more may be stored.

        Raises:
            WorkError: the room for uploads and results is used up.
        """
        if self.is_full():
            raise WorkError(
                "the room for uploads and results is used up",
                want=f"less than {self.most // 1_000_000} MB by all visitors together",
                hint="try again in some minutes; the one who runs the page can raise "
                "--max-visitor-mb",
            )

    def _sweep(self) -> None:
        """Counts what is stored, and removes uploads that are older than a visit."""
        size, old = 0, time.time() - IDLE_SECONDS
        for path in self.root.rglob("*"):
            try:
                about = path.stat()
                if not path.is_file():
                    continue
                own = path.relative_to(self.root).parts[0].startswith("visitor-")
                if not own and path not in self._ours and about.st_mtime < old:
                    path.unlink()
                else:
                    size += about.st_size
            except OSError:
                continue  # gone meanwhile
        self._size = size
