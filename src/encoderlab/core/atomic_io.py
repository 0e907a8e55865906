"""Atomic writes: temporary sibling, fsync, rename.

NAME is written in a folder `.NAME-xxxxxxxx.part` beside it, which its writer keeps locked. The
system releases the lock of a process that dies, so an unlocked folder is stale; it is removed when
the same name is written next. Knows nothing of what is written.
"""

from __future__ import annotations

import errno
import glob
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from encoderlab.errors import UsageError

PART, OLD = ".part", ".old"
NO_ROOM = 64 << 10  # bytes
_recorders: list[list[Path]] = []


@contextmanager
def record_writes() -> Iterator[list[Path]]:
    """A list that receives the path of every file that `atomic_write` writes during the block."""
    written: list[Path] = []
    _recorders.append(written)
    try:
        yield written
    finally:
        # By identity: two lists that are still empty are equal.
        _recorders[:] = [other for other in _recorders if other is not written]


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Gives an empty file to write to; when the block ends well, it replaces `path`."""
    # A reader, or a power cut, sees the old file or the new one. An error inside the block leaves
    # `path` as it was, and nothing beside it.
    with _work_folder(path) as folder:
        unfinished = folder / path.name
        unfinished.touch()
        mode = stat.S_IMODE(unfinished.stat().st_mode)
        with explain_full_disk(path):
            yield unfinished
            _sync(unfinished)
        unfinished.chmod(mode)  # safetensors makes files that only their owner may read
        unfinished.replace(path)
        for written in _recorders:
            written.append(path.absolute())


def write_text_atomic(path: Path, text: str) -> None:
    """`atomic_write` for a text in UTF-8. A byte of a file name that is not UTF-8 is written as an
    escape, `\\udce9`, which JSON reads back."""
    with atomic_write(path) as unfinished:
        # newline="": the line ends that a CSV writer has chosen stay
        unfinished.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Gives an empty folder to write to; when the block ends well, it replaces `path`."""
    # Two renames replace an old folder. After a power cut between them there is none at `path`, and
    # `remove_stale` puts the old one back.
    with temporary_folder(path) as unfinished:
        with explain_full_disk(path):
            yield unfinished
            for file in unfinished.rglob("*"):
                if file.is_file():
                    _sync(file)
        if path.exists():
            path.rename(unfinished.with_name(path.name + OLD))
        unfinished.rename(path)


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """An empty folder for the block; rename it to `path` to keep it."""
    with _work_folder(path) as folder:
        (folder / path.name).mkdir()
        yield folder / path.name


@contextmanager
def explain_full_disk(path: Path) -> Iterator[None]:
    """Turns any error of a disk that is full while it writes `path` into OSError with ENOSPC."""
    # Torch reports positions, numpy numbers of items.
    try:
        yield
    except Exception as error:
        if not _is_full(path, error):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


def check_writable(folder: Path) -> None:
    """Raises what writing into `folder` would raise: before the work rather than after it.

    Raises:
        OSError: a file is in the way, the name is too long, or the disk is read-only or full.
    """
    parent = _existing(folder)
    try:
        with tempfile.TemporaryFile(dir=parent) as probe:
            probe.write(bytes(NO_ROOM))
    except OSError as error:
        error.filename = str(folder if parent.is_dir() else parent)
        raise


def remove_stale(folder: Path, name: str | None = None) -> None:
    """Removes what processes that died have left in `folder`, of one name or of all; what others
    are writing stays. A folder that was about to be replaced is put back."""
    for left in folder.glob(f".{'*' if name is None else glob.escape(name)}-????????{PART}"):
        with _locked(left) as ours:
            if ours:
                _discard(left)


def refuse_symlink(path: Path) -> None:
    """Refuses a link in the place of a file of ours: what it leads to would be written to.

    Raises:
        UsageError: `path` is a link.
    """
    if path.is_symlink():
        raise UsageError(
            "a link is where a file of ours should be", got=str(path), hint="remove the link"
        )


@contextmanager
def _work_folder(path: Path) -> Iterator[Path]:
    """A new folder beside `path`, locked for the block and then removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(path.parent, path.name)
    while True:
        try:
            made = Path(tempfile.mkdtemp(PART, f".{path.name}-", path.parent))
        except OSError as error:
            error.filename = str(path)  # the user does not know the temporary name
            raise
        with _locked(made) as ours:
            if ours is False or not made.exists():
                continue  # `remove_stale` of another process came before the lock
            try:
                yield made
            finally:
                _discard(made)
            return


@contextmanager
def _locked(folder: Path) -> Iterator[bool | None]:
    """Whether the block has the lock of `folder`; None where there are no locks."""
    try:
        handle = None if sys.platform == "win32" else os.open(folder, os.O_RDONLY)
    except (FileNotFoundError, PermissionError):
        yield False
        return
    if handle is None:
        yield None
        return
    import fcntl

    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours: bool | None = True
        except BlockingIOError:
            ours = False
        except OSError:  # a file system without locks
            ours = None
        yield ours
    finally:
        os.close(handle)


def _discard(work: Path) -> None:
    name = work.name[1 : -len(f"-????????{PART}")]
    old, place = work / (name + OLD), work.with_name(name)
    if old.exists() and not place.exists():
        old.rename(place)
    shutil.rmtree(work, ignore_errors=True)


def _existing(path: Path) -> Path:
    """The nearest of `path` and its parents that exists."""
    place = path.absolute()
    while True:
        try:
            os.stat(place)
            return place
        except (FileNotFoundError, NotADirectoryError):
            place = place.parent


def _is_full(path: Path, error: Exception) -> bool:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    if f"(os error {errno.ENOSPC})" in str(error):  # libraries in Rust
        return True
    vague = isinstance(error, OSError | RuntimeError)
    return vague and shutil.disk_usage(_existing(path)).free < NO_ROOM


def _sync(file: Path) -> None:
    with file.open("rb") as written:
        os.fsync(written.fileno())
