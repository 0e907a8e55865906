"""Files and folders that are there whole or as they were: written beside their place, synced,
renamed.

Standard library only; knows nothing of what is written.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a path to write to; when the block ends well, that file takes the place of `path`.

    A reader, or a power cut, meets the old file or the new one. Whatever goes wrong inside the
    block leaves `path` as it was, and nothing beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    os.close(handle)
    unfinished = Path(name)
    try:
        yield unfinished
        _sync(unfinished)
        # mkstemp makes files for the owner only; an ordinary file follows the umask.
        unfinished.chmod(0o666 & ~_umask())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """`replacing` for a text in UTF-8."""
    with replacing(path) as unfinished:
        # newline="": what a CSV writer has put at its line ends stays there
        unfinished.write_text(text, encoding="utf-8", newline="")


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """`replacing` for a folder: gives an empty one to write to, which takes the place of `path`
    when the block ends well.

    Between the going of the old folder and the coming of the new one is a moment with neither; a
    power cut then leaves the old one beside its place, whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
    try:
        yield unfinished
        for file in unfinished.rglob("*"):
            if file.is_file():
                _sync(file)
        unfinished.chmod(0o777 & ~_umask())
        if path.exists():
            old = unfinished.with_name(f"{unfinished.name}-old")
            path.rename(old)
            unfinished.rename(path)
            shutil.rmtree(old, ignore_errors=True)
        else:
            unfinished.rename(path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _sync(file: Path) -> None:
    with file.open("rb") as written:
        os.fsync(written.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
