"""The table of encoders, LLMs and scores, and the paragraph about the data."""

from __future__ import annotations

from collections.abc import Sequence

from encoderlab.core.progress import counted
from encoderlab.core.results import Json, Table, score_text
from encoderlab.metrics.catalogue import METRICS

UNTYPED = "all"  # the one type of data that names none


def table(rows: Sequence[Json], columns: Sequence[str]) -> Table:
    """Encoder, LLM and some scores, controls below; reasons of what is undefined under it."""
    asked = [row for row in rows if not row.get("control_of")]
    controls = [row for row in rows if row.get("control_of")]
    columns = [name for name in columns if any(name in row["scores"] for row in rows)]
    lines = []
    reasons: dict[str, None] = {}
    for part in (asked, controls):
        for row in part:
            cells = [
                score_text(row["scores"].get(name), floor=METRICS[name].published)
                for name in columns
            ]
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


def notes(facts: Json) -> str:
    """What the data is, and what was found before anything was computed."""
    data = facts["data"]
    kinds = ", ".join(f"{count} {name}" for name, count in data["types"].items())
    of_types = "" if list(data["types"]) == [UNTYPED] else f" ({kinds})"
    samples = counted(data["samples"], "sample")
    images = data.get("images", data["samples"])  # a record of version 0.1 has none
    if images < data["samples"]:
        samples += f" of {counted(images, 'image')}"
    lines = [f"data: {samples}{of_types} from {data['source']}"]
    lines += [f"{'! ' if one['serious'] else '- '}{one['what']}" for one in facts["preflight"]]
    if facts["skipped"]:
        first = facts["skipped"][0]
        said = f"{first['id']}: {first['reason']}"
        lines.append(f"! {counted(len(facts['skipped']), 'image')} left out, the first: {said}")
    return "\n".join(lines)
