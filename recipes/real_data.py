"""The real image-text sets for training and evaluation, as samples in two languages.

Each set is a folder with one table of all its splits. Knows the columns of the tables; reads no
image.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from encoderlab.data.sample import Sample
from encoderlab.errors import MissingError

Row = Mapping[str, str]
Texts = Callable[[Row], list[str]]


@dataclass(frozen=True)
class RealSet:
    """One set.

    Args:
        name: of its folder.
        table: file name of its table.
        english, korean: the texts of a row.
        credit: authors and licence.
        kind: names of its kind of images.
        label: the class of a row; None where it has none.
    """

    name: str
    table: str
    english: Texts
    korean: Texts
    credit: str
    kind: tuple[str, ...]
    label: Callable[[Row], str | None] = lambda row: None


def _emoji_words(column: str) -> Texts:
    def words(row: Row) -> list[str]:
        keywords = row["keywords" if column == "caption" else "keywords_ko"]
        return [row[column], keywords.replace("|", ", ")]

    return words


def _math(language: str) -> Texts:
    return lambda row: [row["caption"]] if row["lang"] == language else []


SETS = (
    RealSet(
        "emoji-bilingual", "pairs.csv", _emoji_words("caption"), _emoji_words("caption_ko"),
        "emoji: Noto Emoji (Apache-2.0), Fluent Emoji (MIT), Twemoji (CC BY 4.0) and OpenMoji "
        "(CC BY-SA 4.0); their names: Unicode CLDR (Unicode-3.0)",
        kind=("an emoji", "이모티콘"),
    ),
    RealSet(
        "clothing-small", "labels.csv", lambda row: [row["caption"], row["name"]],
        lambda row: [f"{row['name_ko']} 사진", row["name_ko"]],
        "clothes: Alexey Grigorev's clothing-dataset-small (CC0 1.0)",
        kind=("clothes", "a piece of clothing", "옷"),
        label=lambda row: row["label"],
    ),
    RealSet(
        "vega-charts", "charts.csv",
        lambda row: [row["caption"], row["generated_caption"]], lambda row: [],
        "charts: the Vega-Lite examples (BSD-3-Clause)",
        kind=("a chart", "a graph", "차트"),
    ),
    RealSet(
        "wikitables-mini", "tables.csv", lambda row: [row["caption"]], lambda row: [],
        "tables: WikiTableQuestions (CC BY-SA 4.0)",
        kind=("a table", "a table of text", "표"),
    ),
    RealSet(
        "math-ko-en", "problems.csv", _math("en"), _math("ko"),
        "mathematics: MWP Korean data 2021 (MIT) and GSM8K (MIT)",
        kind=("a math problem", "수학 문제"),
    ),
)  # fmt: skip


def read_set(which: RealSet, root: Path, split: str, languages: tuple[str, ...]) -> list[Sample]:
    """The samples of one split that have a text in `languages`.

    Args:
        root: folder of the unpacked sets.
        split: train, val or test.
        languages: "en", "ko" or both.

    Raises:
        MissingError: the set is not under `root`.
    """
    table = root / which.name / which.table
    if not table.is_file():
        raise MissingError(
            "a set of real pairs is not there",
            got=str(table),
            want=f"the folder {which.name} unpacked under {root}",
        )
    samples = []
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["split"] != split:
                continue
            texts = [
                text
                for language in languages
                for text in (which.english if language == "en" else which.korean)(row)
            ]
            unique = tuple(dict.fromkeys(text for text in texts if text.strip()))
            if unique:
                path = row["image_path"]
                name = f"{which.name}/{path}"
                samples.append(Sample(name, table.parent / path, unique, which.label(row)))
    return samples
