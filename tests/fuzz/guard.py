"""What a case may not do, watched while it runs: write outside its folder, run a program, reach for
the network, take too long, take too much memory.

Python tells an audit hook of everything that opens, renames or removes a file. What native code
writes is not told: for that the folder of the case is compared before and after.
"""

import contextlib
import faulthandler
import hashlib
import os
import resource
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# event -> positions of the paths that it changes, and of the folder each is relative to
CHANGES = {
    "os.mkdir": ((0, 2),), "os.rmdir": ((0, 1),), "os.remove": ((0, 1),), "os.truncate": ((0,
    None),),
    "os.rename": ((0, 2), (1, 3)), "os.link": ((1, 3),), "os.symlink": ((1, 2),),
    "os.chmod": ((0, 2),), "os.chown": ((0, 3),), "os.mkfifo": ((0, None),), "os.mknod": ((0,
    None),),
}  # fmt: skip
PROGRAMS = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen")
# A run's record asks for the commit of the folder it stands in; platform and matplotlib ask once.
QUESTIONS = (["git", "describe"], ["uname", "-p"], ["fc-list", "--help"],
             ["fc-list", "--format=%{file}\\n"])  # fmt: skip
HARMLESS = ("/dev/null", "/dev/tty", "/dev/shm", "/proc/self")
ROOM = 6 << 30  # address space beside what there is: threads of libraries take much and use little
MOST_RSS = 1 << 30
WAITING = 4
IN_NATIVE_CODE = 60.0  # seconds after which a case that no signal reaches ends the process
HANGING = Path(tempfile.gettempdir()) / f"encoderlab-fuzz-{os.getpid()}.txt"


class TooLong(BaseException):
    """A case that does not end: not an Exception, so that nothing in between swallows it."""


class Watch:
    """What one case did that it may not.

    Args:
        allowed: folders that may be written to.
    """

    def __init__(self, allowed: Sequence[Path]) -> None:
        self.allowed = tuple(os.path.realpath(path) for path in allowed)
        self.seen: list[str] = []
        self._busy = threading.local()

    def told(self, event: str, args: tuple[Any, ...]) -> None:
        """One audit event."""
        if getattr(self._busy, "now", False):
            return
        self._busy.now = True
        try:
            self._judge(event, args)
        finally:
            self._busy.now = False

    def _judge(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = args
            writes = isinstance(flags, int) and flags & WRITES
            if isinstance(path, str | bytes | os.PathLike) and (
                writes or (isinstance(mode, str) and any(sign in mode for sign in "wax+"))
            ):
                self._written(event, os.path.realpath(os.fsdecode(path)))
        elif event in CHANGES:
            for at, folder in CHANGES[event]:
                base = args[folder] if folder is not None and folder < len(args) else -1
                if isinstance(args[at], str | bytes | os.PathLike):
                    path = _place(os.fsdecode(args[at]), base)
                    # Asking for a folder that is there changes nothing.
                    if event != "os.mkdir" or not os.path.isdir(path):
                        self._written(event, path)
        elif event in PROGRAMS:
            if event != "subprocess.Popen" or list(args[1])[:2] not in QUESTIONS:
                self.seen.append(f"started a program: {event} {str(args[:2])[:200]}")
        elif event == "socket.connect":
            self.seen.append(f"reached for the network: {args[1]!r}")

    def _written(self, event: str, path: str) -> None:
        if path.startswith(HARMLESS):
            return
        if not any(path == one or path.startswith(one + os.sep) for one in self.allowed):
            self.seen.append(f"wrote outside its folder: {event} {path}")


def _place(path: str, folder: Any) -> str:
    """The path itself, its folder resolved: a link is changed, not what it points to."""
    if isinstance(folder, int) and folder >= 0 and not os.path.isabs(path):
        path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)
    head, tail = os.path.split(path.rstrip("/"))
    if tail in ("", ".", ".."):
        return os.path.realpath(path)
    return os.path.join(os.path.realpath(head), tail)


_watch: Watch | None = None
_installed = False


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _watch is not None:
        _watch.told(event, args)


@contextlib.contextmanager
def watching(allowed: Sequence[Path]) -> Iterator[Watch]:
    """Watches this process, all of its threads, for the time being."""
    global _watch, _installed
    if not _installed:
        sys.addaudithook(_hook)  # for good: there is no taking away of a hook
        _installed = True
    watch = _watch = Watch(allowed)
    try:
        yield watch
    finally:
        _watch = None


@contextlib.contextmanager
def limits(seconds: float, name: str) -> Iterator[contextlib.AbstractContextManager[None]]:
    """Gives a block that raises TooLong after so many seconds of the processor's time (of the clock
    WAITING times as many: machines are shared), and that cannot take much memory.

    Where native code lets no signal through, the process is ended a while later; HANGING then names
    the case and says where it was.
    """
    with HANGING.open("w") as report:
        report.write(f"{name}\n")
        report.flush()
        faulthandler.dump_traceback_later(
            WAITING * seconds + IN_NATIVE_CODE, exit=True, file=report
        )
        try:
            yield _limited(seconds)
        finally:
            faulthandler.cancel_dump_traceback_later()
    HANGING.unlink(missing_ok=True)


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    def late(*_: object) -> None:
        raise TooLong(f"more than {seconds:g} s")

    before = [(one, signal.signal(one, late)) for one in (signal.SIGALRM, signal.SIGPROF)]
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + ROOM, hard))
    signal.setitimer(signal.ITIMER_REAL, WAITING * seconds)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        for one, handler in before:
            signal.signal(one, handler)


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def peak_memory() -> int:
    """The most that this process has used so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def state_of(folder: Path) -> dict[str, str]:
    """Relative path -> what is there, to the byte."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        elif path.is_file():
            with path.open("rb") as file:
                found[name] = hashlib.file_digest(file, "blake2b").hexdigest()
        elif path.is_dir():
            found[name] = "folder"
    return found


def changed(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """What was there before and is gone or another now."""
    return [name for name, said in before.items() if after.get(name) != said]
