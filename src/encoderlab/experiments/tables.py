"""Paragraphs and tables: of scores, and of what is known about the data."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from encoderlab.metrics.catalogue import METRICS

Json = Mapping[str, Any]
UNTYPED = "all"  # the one type of data that names none
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


def _places(text: str) -> int:
    """The places that a text takes in a terminal: two for a Korean syllable, none for a mark above
    a letter."""
    # File names of macOS spell syllables in parts, which a terminal puts together.
    return sum(
        0 if unicodedata.combining(letter) else 1 + (unicodedata.east_asian_width(letter) in "WF")
        for letter in unicodedata.normalize("NFC", text)
    )


def as_text(blocks: Sequence[Block]) -> str:
    """Paragraphs and tables as the terminal shows them, with an empty line between them."""
    return "\n\n".join(one if isinstance(one, str) else one.to_text() for one in blocks)


def table(rows: Sequence[Json], columns: Sequence[str]) -> Table:
    """Encoder, LLM and some scores, controls below; reasons of what is undefined under it."""
    asked = [row for row in rows if not row.get("control_of")]
    controls = [row for row in rows if row.get("control_of")]
    columns = [name for name in columns if any(name in row["scores"] for row in rows)]
    lines = []
    reasons: dict[str, None] = {}
    for part in (asked, controls):
        for row in part:
            cells = [score_text(row["scores"].get(name), name) for name in columns]
            for name in columns:
                reason = (row["scores"].get(name) or {}).get("undefined")
                if reason:
                    reasons[f"{METRICS[name].title} undefined: {reason}"] = None
            lines.append((row["encoder"], row["llm"], *cells))
    said = "95 % intervals in brackets"
    if any(METRICS[name].published for name in columns):
        said += "; “floor” is what unrelated features reach by that estimator"
    heads = ("encoder", "LLM", *[METRICS[name].title for name in columns])
    return Table(heads, tuple(lines), said=(said, *reasons))


def score_text(score: Json | None, name: str = "", digits: int = 3) -> str:
    """One score: its interval, or the floor of a number as published, or "undefined"."""
    if score is None:
        return "-"
    if score.get("value") is None:
        return "undefined"
    text = f"{score['value']:.{digits}f}"
    if score.get("ci_low") is not None:
        text += f" [{score['ci_low']:.{digits}f}, {score['ci_high']:.{digits}f}]"
    elif name in METRICS and METRICS[name].published and score.get("chance") is not None:
        text += f" (floor {score['chance']:.{digits}f})"
    return text


def notes(facts: Json) -> str:
    """What the data is, and what was found before anything was computed."""
    data = facts["data"]
    kinds = ", ".join(f"{count} {name}" for name, count in data["types"].items())
    of_types = "" if list(data["types"]) == [UNTYPED] else f" ({kinds})"
    samples = f"{data['samples']:,} samples"
    images = data.get("images", data["samples"])  # a record of version 0.1 has none
    if images < data["samples"]:
        samples += f" of {images:,} images"
    lines = [f"data: {samples}{of_types} from {data['source']}"]
    lines += [f"{'! ' if one['serious'] else '- '}{one['what']}" for one in facts["preflight"]]
    if facts["skipped"]:
        first = facts["skipped"][0]
        said = f"{first['id']}: {first['reason']}"
        lines.append(f"! {len(facts['skipped'])} images left out, the first: {said}")
    return "\n".join(lines)
