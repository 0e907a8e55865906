"""Samples from a folder of images: flat, or one sub-folder per class. Decodes no image."""

from __future__ import annotations

import os
import re
from pathlib import Path

from encoderlab.data.sample import Sample
from encoderlab.errors import MissingError, NoImagesError, UsageError

ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})


def read_folder(path: str | Path) -> list[Sample]:
    """Every image under `path`, in natural order (2 before 10), hidden files left out.

    The label of an image is the name of the first folder below `path`, if it is in one: that is the
    class, in a flat set of class folders and in one split of ImageNet alike.

    Raises:
        MissingError: no such folder.
        NoImagesError: no image in it.
        UsageError: an image whose name is no text.
    """
    root = Path(path)
    if not root.is_dir():
        raise MissingError("no such folder", got=str(path), want="a folder of images")
    samples = []
    for folder, inside, files in os.walk(root):
        inside[:] = sorted((name for name in inside if not name.startswith(".")), key=_natural)
        for name in sorted(files, key=_natural):
            if not name.startswith(".") and Path(name).suffix.lower() in ENDINGS:
                file = Path(folder) / name
                below = file.relative_to(root)
                _check_name(below)
                samples.append(
                    Sample(
                        below.as_posix(),
                        file,
                        label=below.parts[0] if len(below.parts) > 1 else None,
                    )
                )
    if not samples:
        raise NoImagesError(
            "the folder has no images",
            got=str(root),
            want=f"files ending in {', '.join(sorted(ENDINGS))}",
        )
    return samples


def _check_name(path: Path) -> None:
    """Names are kept in JSON and in tables, which hold UTF-8 only."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            "the name of an image is no UTF-8",
            got=os.fsencode(path),
            hint="rename the file; what wrote it used another encoding",
        ) from error


def _natural(name: str) -> list[tuple[int, int | str]]:
    parts = re.split(r"(\d+)", name.lower())
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts if part]
