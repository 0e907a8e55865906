"""What a command returns: its base class, and paragraphs and tables as a terminal shows them."""

from __future__ import annotations

import dataclasses
import html
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, ClassVar

from encoderlab.core.commands import load
from encoderlab.core.flat_table import flat
from encoderlab.errors import MissingError, UsageError, unknown

if TYPE_CHECKING:
    from pandas import DataFrame

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

    def to_html(self) -> str:
        """The same as an HTML table."""
        head, *rows = (
            "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in line)
            for tag, lines in (("th", [self.columns]), ("td", self.rows))
            for line in lines
        )
        caption = f"<caption>{html.escape(self.title)}</caption>" if self.title else ""
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        table = f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return table + "".join(f"<p><small>{html.escape(line)}</small></p>" for line in self.said)


Block = str | Table


class Result:
    """Base of the frozen dataclass that a command returns.

    A result gives its paragraphs and tables in `blocks`. Its JSON has one key per field; a field
    declared with `metadata={"json": False}` is left out.

    Args:
        draw: "module:function" from the JSON to the figures of the result; None: it has none.
        records: the attribute with a row for each measurement; None: the result is one row.
    """

    draw: ClassVar[str | None] = None
    records: ClassVar[str | None] = None

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

    def _repr_html_(self) -> str:
        """The result as Jupyter and marimo show it."""
        return "".join(
            block.to_html()
            if isinstance(block, Table)
            else f"<p>{html.escape(block).replace(chr(10), '<br>')}</p>"
            for block in shown(self)
        )

    def to_pandas(self) -> DataFrame:
        """The measurements as a table for further analysis.

        Returns:
            One row per measurement, one column per value; names of nested values are joined by
            dots, such as `scores.cka_linear.value`.

        Raises:
            MissingError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise MissingError(
                "pandas is not installed",
                got="to_pandas()",
                want="pandas, or to_json()",
                hint="install it: pip install pandas",
            ) from error
        rows = getattr(self, self.records) if self.records else [self]
        return pandas.DataFrame([flat(to_plain(row)) for row in rows])

    def figure_records(self) -> list[Any]:  # FigureRecord: core knows no matplotlib
        """The figures of the result, drawn now, each with its caption and its numbers."""
        return [] if self.draw is None else load(self.draw)(self.to_json())

    def plot(self, name: str | None = None) -> Any:
        """Draws a figure of the result.

        Args:
            name: which one, as its file is called in the run folder; the first if None.

        Returns:
            A matplotlib Figure, which a notebook shows.

        Raises:
            UsageError: the result has no figure, or none of that name.
        """  # noqa: DOC501
        figures = {record.name: record.figure for record in self.figure_records()}
        if not figures:
            raise UsageError("this result has no figure", got=type(self).__name__)
        if name is not None and name not in figures:
            raise unknown("figure", name, list(figures), "result.figure_records()")
        return figures[name or next(iter(figures))]


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
