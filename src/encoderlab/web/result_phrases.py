"""Korean text of results: sentences are matched with the templates of words/results.yaml.

Results are made in English only. A sentence that fits no template stays English.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

import yaml

TEMPLATES = Path(__file__).parent / "words" / "results.yaml"
SENTENCE_END = re.compile(r"(?<=[.!?]) (?=[A-Z])")
# Not the comma inside an interval such as [0.1, 0.2].
LIST_SEPARATOR = re.compile(r", (?![-\d.]+\])| and ")
FIELD = re.compile(r"\\{(\w+)(?::([nw]))?\\}")
TAKES = {None: ".*?", "n": r"[-+]?[\d.,]+%?", "w": r"\S+"}
MOST_LETTERS = 1000  # of a text that is matched: captions and messages are shorter


def korean(text: str) -> str:
    """A text of a result in Korean.

    Args:
        text: a paragraph, a cell or the head of a table, in English.

    Returns:
        The translation; a sentence without a template is unchanged.
    """
    if len(text) > MOST_LETTERS:
        return text
    sentences = SENTENCE_END.split(text)
    translated = [_translated(sentence) for sentence in sentences]
    if None in translated and (whole := _translated(text)) is not None:
        return whole
    return " ".join(new or old for new, old in zip(translated, sentences, strict=True))


def _translated(text: str) -> str | None:
    """The text by the first template that fits it; None where none fits."""
    for pattern, translation in _templates():
        match = pattern.fullmatch(text)
        if match is None:
            continue
        values = {
            name: ", ".join(map(_part, LIST_SEPARATOR.split(value)))
            if name.endswith("list")
            else _part(value)
            for name, value in match.groupdict().items()
        }
        return translation.format(**values)
    return None


def _part(text: str) -> str:
    return _translated(text) or text


@functools.cache
def _templates() -> list[tuple[re.Pattern[str], str]]:
    rows: dict[str, str] = yaml.safe_load(TEMPLATES.read_text(encoding="utf-8"))
    return [
        (re.compile(FIELD.sub(_group, re.escape(english))), translation)
        for english, translation in rows.items()
    ]


def _group(field: re.Match[str]) -> str:
    return f"(?P<{field[1]}>{TAKES[field[2]]})"
