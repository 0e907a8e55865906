"""Files and folders that are there whole or as they were: written beside their place, synced,
renamed.

What is being written is called `.NAME-xxxxxxxx.part` and locked by its writer. The system lets go
of a lock when its process dies, so one that nobody holds is what a killed process has left, and
goes when the same name is written next. Knows nothing of what is written.
"""

from __future__ import annotations

import errno
import glob
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from encoderlab.errors import UsageError

UNFINISHED, OLD = ".part", ".part-old"
NO_ROOM = 64 << 10  # bytes
_recorders: list[list[Path]] = []


@contextmanager
def record_writes() -> Iterator[list[Path]]:
    """A list that receives the absolute path of every file that `replacing` writes in this process
    during the block."""
    written: list[Path] = []
    _recorders.append(written)
    try:
        yield written
    finally:
        # By identity: two lists that are still empty are equal.
        _recorders[:] = [other for other in _recorders if other is not written]


@contextmanager
def atomic_write(path: Path, *, in_a_folder: bool = False) -> Iterator[Path]:
    """Gives a path to write to; when the block ends well, that file takes the place of `path`.

    A reader, or a power cut, meets the old file or the new one. Whatever goes wrong inside the
    block leaves `path` as it was, and nothing beside it.

    Args:
        in_a_folder: write in a folder of its own, for a library that makes files of its own beside
            the one it is asked for: what it leaves when it is killed goes with the folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(path.parent, path.name)
    make = _new_folder if in_a_folder else _new_file
    with _locked(lambda: make(path)) as made:
        unfinished = made / path.name if in_a_folder else made
        try:
            with explain_full_disk(path):
                yield unfinished
                _sync(unfinished)
            # mkstemp makes files for the owner only; an ordinary file follows the umask.
            unfinished.chmod(0o666 & ~_umask())
            unfinished.replace(path)
            for written in _recorders:
                written.append(path.absolute())
        finally:
            if in_a_folder:
                shutil.rmtree(made, ignore_errors=True)
            else:
                made.unlink(missing_ok=True)


def write_text_atomic(path: Path, text: str) -> None:
    """`replacing` for a text in UTF-8. A byte of a file name that is not UTF-8 is written as an
    escape, `\\udce9`, which JSON reads back."""
    with atomic_write(path) as unfinished:
        # newline="": what a CSV writer has put at its line ends stays there
        unfinished.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """`replacing` for a folder: gives an empty one to write to, which takes the place of `path`
    when the block ends well.

    Between the going of the old folder and the coming of the new one is a moment with neither; a
    power cut then leaves the old one beside its place, whole, and `sweep` puts it back.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(path.parent, path.name)
    with temporary_folder(path) as unfinished:
        with explain_full_disk(path):
            yield unfinished
            for file in unfinished.rglob("*"):
                if file.is_file():
                    _sync(file)
        unfinished.chmod(0o777 & ~_umask())
        if path.exists():
            old = unfinished.with_name(unfinished.name.removesuffix(UNFINISHED) + OLD)
            path.rename(old)
            unfinished.rename(path)
            shutil.rmtree(old, ignore_errors=True)
        else:
            unfinished.rename(path)


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """An empty folder beside `path`, to be renamed within the block; if it is not, it goes."""
    with _locked(lambda: _new_folder(path)) as unfinished:
        try:
            yield unfinished
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


@contextmanager
def explain_full_disk(path: Path) -> Iterator[None]:
    """Whatever a library says of a disk that is full while it writes `path` becomes what the system
    would say: OSError with ENOSPC and the path. Torch speaks of positions, numpy of items."""
    try:
        yield
    except Exception as error:
        if not _is_full(path, error):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


def check_writable(folder: Path) -> None:
    """Raises now what writing into `folder` would raise: before the work rather than after it.

    Raises:
        OSError: a file is in the way, the name is too long, or the disk is read-only or full.
    """
    place = folder.absolute()
    while True:
        try:
            is_folder = stat.S_ISDIR(os.stat(place).st_mode)
            break
        except FileNotFoundError:
            place = place.parent
        except NotADirectoryError:  # a parent is a file
            place = place.parent
    if not is_folder:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(place))
    number = 0
    if not os.access(place, os.W_OK | os.X_OK):
        read_only = sys.platform != "win32" and os.statvfs(place).f_flag & os.ST_RDONLY
        number = errno.EROFS if read_only else errno.EACCES
    elif shutil.disk_usage(place).free < NO_ROOM:
        number = errno.ENOSPC
    if number:
        raise OSError(number, os.strerror(number), str(folder))


def _is_full(path: Path, error: Exception) -> bool:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    if f"(os error {errno.ENOSPC})" in str(error):  # libraries in Rust
        return True
    if not isinstance(error, OSError | RuntimeError):
        return False
    folder = path.absolute()
    while not folder.is_dir():
        folder = folder.parent
    return shutil.disk_usage(folder).free < NO_ROOM


def remove_stale(folder: Path, name: str | None = None) -> None:
    """Takes away what processes that died have left in `folder`, of one name or of all; what
    others are writing stays. A folder that was about to be replaced goes back to its place."""
    which = f".{'*' if name is None else glob.escape(name)}-????????"
    for old in folder.glob(which + OLD):
        new = old.with_name(old.name.removesuffix(OLD) + UNFINISHED)
        with _if_left(new) as left:
            if new.exists() and not left:
                continue
            with suppress(OSError):  # the new one may have come
                old.rename(folder / old.name[1 : -len("-????????" + OLD)])
            shutil.rmtree(old, ignore_errors=True)
    for unfinished in folder.glob(which + UNFINISHED):
        with _if_left(unfinished) as left:
            if not left:
                continue
            if unfinished.is_dir():
                shutil.rmtree(unfinished, ignore_errors=True)
            else:
                unfinished.unlink(missing_ok=True)


def _new_file(path: Path) -> tuple[Path, int | None]:
    with _about(path):
        handle, name = tempfile.mkstemp(UNFINISHED, f".{path.name}-", path.parent)
    return Path(name), handle


def _new_folder(path: Path) -> tuple[Path, int | None]:
    while True:
        with _about(path):
            made = Path(tempfile.mkdtemp(UNFINISHED, f".{path.name}-", path.parent))
        if sys.platform == "win32":
            return made, None
        with suppress(FileNotFoundError):  # swept away before it was opened
            return made, os.open(made, os.O_RDONLY)


@contextmanager
def _about(path: Path) -> Iterator[None]:
    """An error of the system names what is to be written, not what it is called meanwhile."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


@contextmanager
def _locked(make: Callable[[], tuple[Path, int | None]]) -> Iterator[Path]:
    """What `make` makes, locked for the time of the block."""
    while True:
        made, handle = make()
        if sys.platform == "win32":  # what is open there cannot be renamed
            if handle is not None:
                os.close(handle)
            yield made
            return
        assert handle is not None
        try:
            if _lock(handle) is False or not made.exists():
                continue  # swept away before it was locked
            yield made
            return
        finally:
            os.close(handle)


@contextmanager
def _if_left(unfinished: Path) -> Iterator[bool]:
    """Whether the process that was writing this is gone. If so, the lock is ours for the time of
    the block: who has just made it finds it locked, or gone, and makes another."""
    try:
        handle = None if sys.platform == "win32" else os.open(unfinished, os.O_RDONLY)
    except OSError:
        handle = None
    try:
        yield handle is not None and _lock(handle) is True
    finally:
        if handle is not None:
            os.close(handle)


def _lock(handle: int) -> bool | None:
    """Whether the lock is ours now; None where the file system has none."""
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _sync(file: Path) -> None:
    with file.open("rb") as written:
        os.fsync(written.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def refuse_symlink(path: Path) -> None:
    """Passes a file of ours, or none: behind a link may be anything, and it would be written to.

    Raises:
        UsageError: a link stands there.
    """
    if path.is_symlink():
        raise UsageError(
            "a link is where a file of ours should be", got=str(path), hint="remove the link"
        )
