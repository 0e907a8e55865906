"""A part of the synthetic world as a data set on disk, in every layout that the readers know."""

from __future__ import annotations

import csv
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from encoderlab.data.synthetic.item import SyntheticItem
from encoderlab.data.synthetic.world import KINDS, generate
from encoderlab.errors import UsageError


def write_dataset(
    folder: str | Path,
    n: int,
    *,
    split: str = "test",
    kinds: Sequence[str] = KINDS,
    languages: Sequence[str] = ("en",),
    size: int = 96,
    first_index: int = 0,
    distinct_captions: bool = True,
) -> Path:
    """Writes `n` pictures, the kinds taking turns; all of them or, if interrupted, none.

    In `folder`: `images/<kind>/*.png` (a folder per class), `captions.csv` with the complete
    caption of each picture in the first language, `captions.<language>.csv` in each, `labels.csv`
    (image_path,label) and `qa.jsonl` in the chat format.

    Args:
        distinct_captions: leave out a picture whose complete caption has come before.

    Raises:
        UsageError: nothing to write, or `folder` has something in it already.
    """
    target = Path(folder)
    if n < 1 or not kinds or not languages:
        raise UsageError(
            "nothing to write",
            got=f"n={n}, kinds={list(kinds)}",
            want="at least one picture of one kind in one language",
        )
    if target.exists() and any(target.iterdir()):
        raise UsageError(
            "the folder is not empty",
            got=str(target),
            want="a new folder, so that nothing is overwritten",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        _write(work, _items(n, split, kinds, size, first_index, distinct_captions), languages)
        if target.exists():
            target.rmdir()
        os.chmod(work, 0o755)
        work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _items(
    n: int, split: str, kinds: Sequence[str], size: int, first: int, distinct: bool
) -> list[SyntheticItem]:
    said: set[str] = set()
    items: list[SyntheticItem] = []
    index = first
    while len(items) < n:
        item = generate(index, split=split, kind=kinds[len(items) % len(kinds)], size=size)
        index += 1
        if not distinct or item.captions[0] not in said:
            said.add(item.captions[0])
            items.append(item)
    return items


def _write(folder: Path, items: Sequence[SyntheticItem], languages: Sequence[str]) -> None:
    names = []
    for number, item in enumerate(items):
        name = f"images/{item.label}/{number:05d}.png"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        item.image.save(folder / name)
        names.append(name)
    captions = {
        language: [(item.captions if language == "en" else item.captions_ko)[0] for item in items]
        for language in languages
    }
    for language, said in captions.items():
        _write_table(folder / f"captions.{language}.csv", "caption", names, said)
    _write_table(folder / "captions.csv", "caption", names, captions[languages[0]])
    _write_table(folder / "labels.csv", "label", names, [item.label for item in items])
    with (folder / "qa.jsonl").open("w", encoding="utf-8") as file:
        for name, item in zip(names, items, strict=True):
            file.write(json.dumps(chat_record(name, item, languages[0]), ensure_ascii=False) + "\n")


def _write_table(path: Path, column: str, names: Sequence[str], values: Sequence[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image_path", column])
        rows.writerows(zip(names, values, strict=True))


def chat_record(image: str, item: SyntheticItem, language: str = "en") -> dict:
    """The question and answer of `item` as a record of the chat format."""
    english = language == "en"
    question, answer = (
        (item.question, item.answer) if english else (item.question_ko, item.answer_ko)
    )
    caption = (item.captions if english else item.captions_ko)[0]
    asked = "What does the picture show?" if english else "그림에 무엇이 있습니까?"
    return {
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": asked}, {"type": "image", "image": image}],
            },
            {"role": "assistant", "content": [{"type": "text", "text": caption}]},
            {"role": "user", "content": [{"type": "text", "text": question}]},
            {"role": "assistant", "content": [{"type": "text", "text": answer}]},
        ]
    }


def write_sample_data(folder: Path) -> None:
    """The nine pictures that ship with the package: three charts, tables and documents."""
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for kind in ("chart", "table", "document"):
        for number in (1, 2, 3):
            item = generate(number, split="test", kind=kind, size=384)
            name = f"{kind}/{kind}_{number:02d}.png"
            (folder / "images" / kind).mkdir(parents=True, exist_ok=True)
            item.image.save(folder / "images" / name, optimize=True)
            records.append(chat_record(name, item))
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    (folder / "labels.jsonl").write_text(text, encoding="utf-8")
