"""Writes pictures of the synthetic world to disk, in the layouts that the readers of data know."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from encoderlab.core.atomic_io import temporary_folder, write_text_atomic
from encoderlab.data.synthetic.item import SyntheticItem, check_languages
from encoderlab.data.synthetic.world import KINDS, generate
from encoderlab.errors import UsageError

# After so many repeated captions in a row, next to no new caption of the kind is left.
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
) -> Path:
    """Writes `n` pictures with distinct complete captions to a new folder, or nothing on an error.

    In `folder`: `images/<kind>/*.png` (a folder per class), `captions.csv` with the complete
    caption of each picture in the first language, `captions.<language>.csv` in each, `labels.csv`
    (image_path,label) and `qa.jsonl` in the chat format.

    Args:
        folder: new or empty.
        n: how many pictures.
        split: "train" or "test".
        kinds: of the pictures, which take turns.
        languages: captions in these, of "en" and "ko".
        size: pixels a side.
        first_index: number of the first picture in the split.

    Returns:
        `folder`.

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
    check_languages(languages)
    check_no_file(target)
    if target.exists() and any(target.iterdir()):
        raise UsageError(
            "the folder is not empty",
            got=str(target),
            want="a new folder, so that nothing is overwritten",
        )
    items = distinct_items(n, split, size, first_index, kinds)
    with temporary_folder(target) as work:
        _write(work, items, languages)
        if target.exists():
            target.rmdir()
        work.rename(target)
    return target


def check_no_file(folder: Path) -> None:
    """Refuses a folder that cannot be made.

    Raises:
        UsageError: `folder` or one of its parents is a file.
    """
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise UsageError("a file is in the way", got=str(path), want="a new folder")


def distinct_items(
    n: int, split: str, size: int, first_index: int, kinds: Sequence[str] = KINDS
) -> Iterator[SyntheticItem]:
    """`n` pictures from `first_index` on, the kinds in turn, no complete caption twice."""
    captions: set[str] = set()
    indices = itertools.count(first_index)
    for number in range(n):
        kind = kinds[number % len(kinds)]
        for index in itertools.islice(indices, MOST_REPEATS):
            item = generate(index, split=split, kind=kind, size=size)
            if item.captions[0] not in captions:
                break
        else:
            raise UsageError(
                f"no more new captions can be generated of kind {kind!r}",
                got=f"n={n}, of which {number} could be made",
                want="a smaller n",
            )
        captions.add(item.captions[0])
        yield item


def _write(folder: Path, items: Iterable[SyntheticItem], languages: Sequence[str]) -> None:
    # Each picture is written when it is drawn: a large set never lies in memory.
    columns: dict[str, list[tuple[str, str]]] = {}
    with (folder / "qa.jsonl").open("w", encoding="utf-8") as questions:
        for number, item in enumerate(items):
            name = f"images/{item.label}/{number:05d}.png"
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            item.image.save(folder / name)
            questions.write(_json_line(chat_record(name, item, languages[0])))
            columns.setdefault("labels", []).append((name, item.label))
            for language in dict.fromkeys(languages):
                caption = item.captions_in(language)[0]
                columns.setdefault(f"captions.{language}", []).append((name, caption))
    columns["captions"] = columns[f"captions.{languages[0]}"]
    for file, rows in columns.items():
        column = "label" if file == "labels" else "caption"
        write_table(folder / f"{file}.csv", column, rows)


def write_table(path: Path, column: str, rows: Iterable[tuple[str, str]]) -> None:
    """Writes a CSV with the columns image_path and `column`."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("image_path", column), *rows])


def _json_line(record: dict) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def chat_record(image: str, item: SyntheticItem, language: str = "en") -> dict:
    """Caption, question and answer of `item` as a record of the chat format.

    Args:
        image: path of its file, as the record names it.
        item: the picture.
        language: "en" or "ko".

    Returns:
        The record, as a line of the JSONL holds it.
    """
    question, first, answer = (
        (item.question, "What does the picture show?", item.answer)
        if language == "en"
        else (item.question_ko, "그림에 무엇이 있습니까?", item.answer_ko)
    )
    caption = item.captions_in(language)[0]
    turns: list[tuple[str, list[dict[str, str]]]] = [
        ("user", [{"type": "text", "text": first}, {"type": "image", "image": image}]),
        ("assistant", [{"type": "text", "text": caption}]),
        ("user", [{"type": "text", "text": question}]),
        ("assistant", [{"type": "text", "text": answer}]),
    ]
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def write_sample_data(folder: Path) -> None:
    """Writes the nine pictures that ship with the package: three charts, tables and documents."""
    lines = []
    for kind in ("chart", "table", "document"):
        (folder / "images" / kind).mkdir(parents=True, exist_ok=True)
        for number in (1, 2, 3):
            item = generate(number, split="test", kind=kind, size=384)
            name = f"{kind}/{kind}_{number:02d}.png"
            item.image.save(folder / "images" / name, optimize=True)
            lines.append(_json_line(chat_record(name, item)))
    write_text_atomic(folder / "labels.jsonl", "".join(lines))
