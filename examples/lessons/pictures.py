"""The pictures of lesson 1: nine in memory, and two hundred files of several kinds.

They are generated from the test split of the synthetic data, which no bundled model was trained on;
nothing is downloaded. Some files are grey, some have a wrong extension. They are written once, into
the user's cache.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from encoderlab.data.synthetic import SyntheticItem, generate

SIDE = 160
# (kind, number in the test split, what a person would call it)
NINE = (
    ("scene", 60, "a red star"),
    ("scene", 247, "a blue square"),
    ("scene", 49, "a green circle"),
    ("scene", 193, "a black heart"),
    ("chart", 1, "a pie chart"),
    ("chart", 5, "a bar chart"),
    ("chart", 8, "a line chart"),
    ("table", 0, "a table"),
    ("document", 1, "a page of text"),
)
KINDS = ("scene", "scene", "chart", "scene", "table", "scene", "chart", "document", "scene", "math")
FILES = 200
FIRST = 20_000
# The targets of exercise 7: one of each kind, in colour.
TARGETS = (90, 70, 22, 174, 187)
# The targets of exercise 8: the bar charts with upright bars, one of them red.
THREE = (96, 102, 196)
EDITION = "pictures-1"  # change it when the drawing changes, or old files stay


class Picture(NamedTuple):
    """An image and a sentence that fits it."""

    image: Image.Image
    sentence: str


def nine_pictures() -> list[Picture]:
    """Four shapes, three charts, a table and a page."""
    return [
        Picture(generate(number, split="test", kind=kind, size=SIDE).image, sentence)
        for kind, number, sentence in NINE
    ]


def picture_folder() -> Path:
    """The folder of the two hundred files, which the first call draws (some seconds)."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "encoderlab" / "lessons" / EDITION
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Renamed when it is complete: another process may write the same folder.
        work = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{EDITION}."))
        try:
            for number in range(FILES):
                _write(number, work)
            work.chmod(0o755)
            if not folder.is_dir():
                work.rename(folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return folder


def item(number: int) -> SyntheticItem:
    """The item drawn in file `number`, with its captions."""
    kind = KINDS[number % len(KINDS)]
    return generate(FIRST + number, split="test", kind=kind, size=SIDE)


def _write(number: int, folder: Path) -> None:
    """One file. Of every twenty: two are grey, one has a palette, one an alpha channel, and four
    have a wrong extension."""
    image = item(number).image
    stem = folder / f"{number:03d}"
    match number % 20:
        case 3 | 17:
            image.convert("L").save(f"{stem}.png")
        case 6:
            image.convert("P", palette=Image.Palette.ADAPTIVE).save(f"{stem}.png")
        case 9:
            image.convert("RGBA").save(f"{stem}.png")
        case 1 | 12:
            image.save(f"{stem}.jpg", format="PNG")
        case 14:
            image.save(f"{stem}.png", format="JPEG", quality=90)
        case 18:
            image.convert("L").save(f"{stem}.jpeg", format="PNG")
        case 4 | 8 | 11 | 15:
            image.save(f"{stem}.jpg", format="JPEG", quality=90)
        case _:
            image.save(f"{stem}.png")
