"""What a command returns: its base class, and paragraphs and tables as a terminal shows them."""

from __future__ import annotations

import dataclasses
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

Json = Mapping[str, Any]
LONGEST_RULE = 60  # a rule as long as a caption would fill several lines of a terminal


@dataclass(frozen=True)
class Table:
    """Cells under the heads of their columns.

    Args:
        rows: each as long as `columns`.
        title: what it shows, directly above it; may be empty.
        said: lines directly below it: how to read it, and why something is undefined.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""
    said: tuple[str, ...] = ()

    def to_text(self) -> str:
        """Cells under one another, the heads underlined."""
        widths = [max(map(_places, cells)) for cells in zip(self.columns, *self.rows, strict=True)]
        rule = ["-" * min(width, LONGEST_RULE) for width in widths]
        lines = [
            "  ".join(
                c + " " * (w - _places(c)) for c, w in zip(line, widths, strict=True)
            ).rstrip()
            for line in (self.columns, rule, *self.rows)
        ]
        return "\n".join([*([self.title] if self.title else []), *lines, *self.said])


Block = str | Table


class Result:
    """Base of the frozen dataclass that a command returns.

    A result gives its paragraphs and tables in `blocks`. Its JSON has one key per field; a field
    declared with `metadata={"json": False}` is left out.
    """

    def to_json(self) -> dict[str, Any]:
        """The result for run.json and `--json`.

        Returns:
            Field name -> plain value: numbers, texts, lists and mappings.
        """
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return {
            f.name: to_plain(getattr(self, f.name)) for f in fields if f.metadata.get("json", True)
        }

    def blocks(self) -> Sequence[Block]:
        """The result as paragraphs and tables, in reading order."""
        raise NotImplementedError

    def to_text(self) -> str:
        """The result as the terminal shows it."""
        return as_text(shown(self))


def shown(result: Any) -> list[Block]:
    """The blocks of a result for people.

    Args:
        result: has `blocks` and `to_json`.

    Returns:
        The blocks with brief names of the run's models; where these take a fingerprint, a last
        paragraph says which is which.
    """
    names = short_names(result.to_json().get("fingerprints"))
    blocks: list[Block] = [
        Table(**renamed(vars(block), names)) if isinstance(block, Table) else renamed(block, names)
        for block in result.blocks()
    ]
    alike = {name: brief for name, brief in names.items() if brief != PurePath(name).name}
    if alike:
        blocks.append("\n".join(f"{brief}: {name}" for name, brief in alike.items()))
    return blocks


def short_names(fingerprints: Mapping[str, str] | None) -> dict[str, str]:
    """Brief names of the models of one run: the last part of a path or hub id.

    Args:
        fingerprints: of the models, by the names that the run knows them by.

    Returns:
        Each name that is longer -> its brief one. Models whose last part is the same have the first
        six letters of the fingerprint behind it.

    >>> short_names({"runs/a/vit": "aaaaaaaa", "runs/b/vit": "bbbbbbbb", "tiny-clip": "cccccccc"})
    {'runs/a/vit': 'vit (aaaaaa)', 'runs/b/vit': 'vit (bbbbbb)'}
    """
    # A control has the name and the fingerprint of its model behind a prefix.
    models = {
        name.rpartition(":")[2]: digest.rpartition("-")[2]
        for name, digest in (fingerprints or {}).items()
    }
    times = Counter(PurePath(name).name for name in models)
    briefly = {}
    for name, digest in models.items():
        last = PurePath(name).name
        if last not in ("", name):
            briefly[name] = last if times[last] == 1 else f"{last} ({digest[:6]})"
    return briefly


def renamed(value: Any, names: Mapping[str, str]) -> Any:
    """A JSON value, or what a table holds, with models under other names.

    Args:
        value: texts, lists, tuples and mappings; anything else is unchanged.
        names: long name -> brief one.

    Returns:
        The same value; in every text and key each long name is replaced that is no part of a longer
        word or path.
    """
    if not names:
        return value
    longest_first = sorted(map(re.escape, names), key=len, reverse=True)
    found = re.compile(rf"(?<![\w/.~-])({'|'.join(longest_first)})(?![\w/-]|\.\w)")

    def inside(value: Any) -> Any:
        if isinstance(value, str):
            return found.sub(lambda match: names[match[0]], value)
        if isinstance(value, Mapping):
            return {inside(key): inside(entry) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(inside(entry) for entry in value)
        return value

    return inside(value)


def to_plain(value: Any) -> Any:
    """The value as strict JSON.

    Args:
        value: a result, dataclass, mapping, sequence, array, tensor, path or scalar.

    Returns:
        Numbers, texts, None, lists and mappings only: NaN and infinity become None, arrays lists,
        paths texts.
    """
    if hasattr(value, "to_json"):
        return to_plain(value.to_json())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_plain(inner) for inner in value]
    if hasattr(value, "tolist"):  # arrays, tensors and their scalars
        return to_plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int | bool):
        return value
    return str(value)


def _places(text: str) -> int:
    """The columns that a text takes in a terminal: two for a Korean syllable, none for accents."""
    # File names of macOS spell syllables in parts, which a terminal puts together.
    return sum(
        0 if unicodedata.combining(letter) else 1 + (unicodedata.east_asian_width(letter) in "WF")
        for letter in unicodedata.normalize("NFC", text)
    )


def as_text(blocks: Sequence[Block]) -> str:
    """Paragraphs and tables as the terminal shows them, with an empty line between them."""
    return "\n\n".join(one if isinstance(one, str) else one.to_text() for one in blocks)


def score_text(score: Json | None, digits: int = 3, *, floor: bool = False) -> str:
    """One score as text: value and interval, or "undefined".

    Args:
        score: `Score.to_json()`, or None where there is none.
        digits: after the decimal point.
        floor: whether the score's chance level stands beside a value without an interval.

    Returns:
        Such as `0.412 [0.310, 0.514]`.
    """
    if score is None:
        return "-"
    if score.get("value") is None:
        return "undefined"
    text = f"{score['value']:.{digits}f}"
    if score.get("ci_low") is not None:
        text += f" [{score['ci_low']:.{digits}f}, {score['ci_high']:.{digits}f}]"
    elif floor and score.get("chance") is not None:
        text += f" (floor {score['chance']:.{digits}f})"
    return text
