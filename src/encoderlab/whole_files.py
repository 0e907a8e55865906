"""Files that are there whole or as they were: written beside their place, synced, renamed.

Standard library only; knows nothing of what is written.
"""

from __future__ import annotations

import os
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
        with unfinished.open("rb") as written:
            os.fsync(written.fileno())
        # mkstemp makes files for the owner only; an ordinary file follows the umask.
        mask = os.umask(0)
        os.umask(mask)
        unfinished.chmod(0o666 & ~mask)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """`replacing` for a text in UTF-8."""
    with replacing(path) as unfinished:
        # newline="": what a CSV writer has put at its line ends stays there
        unfinished.write_text(text, encoding="utf-8", newline="")
