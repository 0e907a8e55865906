"""The base of the alignment results, their table of scores, and the paragraph about the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from encoderlab.core.progress import counted
from encoderlab.core.results import Json, Result, Table, score_text
from encoderlab.metrics.catalogue import METRICS

UNTYPED = "all"  # the data type of samples without one
ResultT = TypeVar("ResultT", bound="AlignmentResult")


@dataclass(frozen=True, kw_only=True)
class AlignmentResult(Result):
    """Base of the results on features of samples.

    Args:
        facts: what the record keeps of the data; in the JSON its entries stand beside the fields.
        figures: file and caption of each figure.
    """

    facts: dict[str, Any]
    figures: tuple[dict[str, str], ...] = ()
    warnings: tuple[str, ...] = field(default=(), metadata={"json": False})

    def to_json(self) -> dict[str, Any]:
        """The fields, with the facts about the data at the top level."""
        values = super().to_json()
        return values | values.pop("facts")

    def with_figures(self: ResultT, out: Path | None, svg: bool) -> ResultT:
        """The result with its figures written to `out` if that is given."""
        if out is None:
            return self
        from encoderlab.plots.style import save

        return replace(self, figures=save(self.figure_records(), out, svg=svg))


def table(rows: Sequence[Json], columns: Sequence[str]) -> Table:
    """Encoder, LLM and some scores, controls below; reasons of what is undefined under it."""
    columns = [name for name in columns if any(name in row["scores"] for row in rows)]
    lines = []
    reasons: dict[str, None] = {}
    for row in sorted(rows, key=lambda row: bool(row.get("control_of"))):
        scores = {name: row["scores"].get(name) for name in columns}
        for name, score in scores.items():
            if score and score.get("undefined"):
                reasons[f"{METRICS[name].title} undefined: {score['undefined']}"] = None
        cells = (score_text(score, floor=METRICS[name].published) for name, score in scores.items())
        lines.append((row["encoder"], row["llm"], *cells))
    note = "95 % intervals in brackets"
    if any(METRICS[name].published for name in columns):
        note += "; “floor” is what unrelated features reach by that estimator"
    heads = ("encoder", "LLM", *[METRICS[name].title for name in columns])
    return Table(heads, tuple(lines), said=(note, *reasons))


def notes(facts: Json) -> str:
    """The data, and the findings of the checks before any computation."""
    data = facts["data"]
    kinds = ", ".join(f"{count} {name}" for name, count in data["types"].items())
    of_types = "" if list(data["types"]) == [UNTYPED] else f" ({kinds})"
    samples = counted(data["samples"], "sample")
    images = data.get("images", data["samples"])  # a record of version 0.1 has none
    if images < data["samples"]:
        samples += f" of {counted(images, 'image')}"
    lines = [f"data: {samples}{of_types} from {data['source']}"]
    lines += [f"{'!' if row['serious'] else '-'} {row['what']}" for row in facts["preflight"]]
    if facts["skipped"]:
        first = facts["skipped"][0]
        left_out = f"{counted(len(facts['skipped']), 'image')} left out"
        lines.append(f"! {left_out}, the first: {first['id']}: {first['reason']}")
    return "\n".join(lines)
