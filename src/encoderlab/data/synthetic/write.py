"""A part of the synthetic world as a data set on disk, in every layout that the readers know."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from encoderlab.core.atomic_io import temporary_folder, write_text_atomic
from encoderlab.data.synthetic.item import SyntheticItem, check_language
from encoderlab.data.synthetic.world import KINDS, generate
from encoderlab.errors import UsageError

# So many repeats in a row say that next to no caption of a kind is left.
MOST_REPEATS = 2000


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
        UsageError: nothing to write, an unknown kind, split or language, `folder` is a file or
            has something in it already, or there are not `n` distinct captions.
    """
    target = Path(folder)
    if n < 1 or not kinds or not languages:
        raise UsageError(
            "nothing to write",
            got=f"n={n}, kinds={list(kinds)}",
            want="at least one picture of one kind in one language",
        )
    for language in languages:
        check_language(language)
    for place in (target, *target.parents):
        if place.exists() and not place.is_dir():
            raise UsageError("a file is in the way", got=str(place), want="a new folder")
    if target.exists() and any(target.iterdir()):
        raise UsageError(
            "the folder is not empty",
            got=str(target),
            want="a new folder, so that nothing is overwritten",
        )
    with temporary_folder(target) as work:
        items = distinct_items(
            n, split=split, kinds=kinds, size=size, first_index=first_index,
            distinct=distinct_captions,
        )  # fmt: skip
        _write(work, items, languages)
        if target.exists():
            target.rmdir()
        work.rename(target)
    return target


def distinct_items(
    n: int,
    *,
    split: str,
    kinds: Sequence[str] = KINDS,
    size: int = 96,
    first_index: int = 0,
    distinct: bool = True,
) -> Iterator[SyntheticItem]:
    """`n` pictures from `first_index` on, the kinds taking turns, no complete caption twice.

    Args:
        distinct: off, a caption may come again.

    Raises:
        UsageError: a kind has run out of new captions.
    """
    said: set[str] = set()
    index, repeats = first_index, 0
    for number in range(n):
        kind = kinds[number % len(kinds)]
        item = generate(index, split=split, kind=kind, size=size)
        index += 1
        while distinct and item.captions[0] in said:
            repeats += 1
            if repeats == MOST_REPEATS:
                raise UsageError(
                    f"the world has run out of new captions of kind {kind!r}",
                    got=f"n={n}, of which {number} could be made",
                    want="a smaller n, or repeated captions (distinct_captions=False)",
                )
            item = generate(index, split=split, kind=kind, size=size)
            index += 1
        repeats = 0
        said.add(item.captions[0])
        yield item


def _write(folder: Path, items: Iterable[SyntheticItem], languages: Sequence[str]) -> None:
    # Pictures are written as they are drawn: a large set never lies in memory.
    names, labels = [], []
    captions: dict[str, list[str]] = {language: [] for language in languages}
    with (folder / "qa.jsonl").open("w", encoding="utf-8") as questions:
        for number, item in enumerate(items):
            name = f"images/{item.label}/{number:05d}.png"
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            item.image.save(folder / name)
            record = chat_record(name, item, languages[0])
            questions.write(json.dumps(record, ensure_ascii=False) + "\n")
            names.append(name)
            labels.append(item.label)
            for language, said in captions.items():
                said.append(item.captions_in(language)[0])
    for language, said in captions.items():
        _write_table(folder / f"captions.{language}.csv", "caption", names, said)
    _write_table(folder / "captions.csv", "caption", names, captions[languages[0]])
    _write_table(folder / "labels.csv", "label", names, labels)


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
    caption = item.captions_in(language)[0]
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
    write_text_atomic(folder / "labels.jsonl", text)
