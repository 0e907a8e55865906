"""Example data for every command: a folder of pictures, and image-text pairs in CSV tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from encoderlab.core.atomic_io import atomic_folder
from encoderlab.data.synthetic.item import SyntheticItem, check_languages
from encoderlab.data.synthetic.world import KINDS, SPLIT_SIZE
from encoderlab.data.synthetic.write import check_no_file, distinct_items, write_table
from encoderlab.errors import UsageError

# Each seed has its own window of indices, each part its own stretch of the window.
WINDOW, STRETCH = 1_000_000, 250_000
PARTS = {"train": ("train", 0), "photos": ("test", 0), "val": ("test", 1), "test": ("test", 2)}


@dataclass(frozen=True)
class Example:
    """The two folders written, and the number of images by part."""

    photos: Path
    pairs: Path
    counts: dict[str, int]


def write_example(
    folder: str | Path,
    *,
    photos: int = 100,
    pairs: int = 1000,
    languages: Sequence[str] = ("en",),
    size: int = 96,
    seed: int = 0,
) -> Example:
    """Writes `photos/` and `pairs/` into `folder`; each completely or not at all.

    `photos/<kind>/<kind>-000.png`: a folder of pictures, one sub-folder per class.
    `pairs/train.csv`, `val.csv` and `test.csv` with the columns image_path,caption, a row per
    language, over `pairs/images/`. Only `train.csv` is from the world's training split, and no
    picture is in two parts.

    Args:
        folder: where they go.
        photos: pictures in `photos/`, the kinds taking turns.
        pairs: pictures in `train.csv`; `val.csv` and `test.csv` have a fifth as many each.
        languages: captions in these, of "en" and "ko".
        size: pixels a side.
        seed: another one draws other pictures.

    Returns:
        The folders and the numbers of pictures in them.

    Raises:
        UsageError: no pictures or more than there are, a language other than "en" and "ko", or
            `photos` or `pairs` are there already.
    """
    counts = {"photos": photos, "train": pairs, "val": max(pairs // 5, 1)}
    counts["test"] = counts["val"]
    for part, n in counts.items():
        if not 1 <= n <= STRETCH // 2:
            raise UsageError(f"no such number of pictures for {part}", got=n, want="1 to 125,000")
    if not languages:
        raise UsageError("no language for the captions", want="en, ko, or both")
    check_languages(languages)
    home = Path(folder)
    example = Example(home / "photos", home / "pairs", counts)
    check_no_file(home)
    for path in (example.photos, example.pairs):
        if path.exists():
            raise UsageError(
                "the folder exists already",
                got=str(path),
                want="a name that is free",
                hint="draw into another folder: encoderlab draw FOLDER",
            )
    with atomic_folder(example.photos) as work:
        for number, item in enumerate(_items("photos", photos, size, seed)):
            (work / item.label).mkdir(exist_ok=True)
            item.image.save(work / item.label / f"{item.label}-{number // len(KINDS):03d}.png")
    with atomic_folder(example.pairs) as work:
        (work / "images").mkdir()
        for part in ("train", "val", "test"):
            rows = []
            for number, item in enumerate(_items(part, counts[part], size, seed)):
                name = f"images/{part}-{number:05d}.png"
                item.image.save(work / name)
                rows += [(name, item.captions_in(language)[0]) for language in languages]
            write_table(work / f"{part}.csv", "caption", rows)
    return example


def _items(part: str, n: int, size: int, seed: int) -> Iterator[SyntheticItem]:
    split, stretch = PARTS[part]
    first = seed % (SPLIT_SIZE // WINDOW) * WINDOW + stretch * STRETCH
    return distinct_items(n, split, size, first)
