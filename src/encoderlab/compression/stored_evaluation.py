"""Reads stored evaluations of token compression: the bundled one and the user's latest."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from encoderlab.compression import plots
from encoderlab.compression.evaluate import TITLES, CompressEvaluationResult
from encoderlab.core.atomic_io import write_text_atomic
from encoderlab.core.command_line import command_line
from encoderlab.core.commands import COMMANDS
from encoderlab.core.json_text import parsed
from encoderlab.core.run_folder import RECORD
from encoderlab.core.settings import from_dict, output_folder
from encoderlab.errors import UsageError
from encoderlab.patch_tokens.methods import METHODS
from encoderlab.plots.style import save
from encoderlab.zoo import ZOO

SHIPPED = ZOO / "compressors" / "evaluation.json"
CHART = "by_tokens"


@dataclass(frozen=True)
class Stored:
    """An evaluation, and the command line that reproduces it."""

    result: CompressEvaluationResult
    command: str


def stored() -> list[Stored]:
    """All stored evaluations, the bundled one first."""
    own = Path(output_folder("compress")()) / "evaluate" / RECORD
    return [read(path) for path in (SHIPPED, own) if path.is_file()]


def read(path: Path) -> Stored:
    """The evaluation in a run.json.

    Args:
        path: the file.

    Returns:
        The evaluation and its command line.

    Raises:
        UsageError: it holds no evaluation.
    """
    try:
        record = parsed(path.read_text(encoding="utf-8"))
        names = {field.name for field in fields(CompressEvaluationResult)}
        known: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in record["result"].items()
            if name in names
        }
        result = CompressEvaluationResult(**{**known, "figures": (), "skipped": ()})
        command = COMMANDS["compress"]
        settings = from_dict(command.settings, record["settings"])
        return Stored(result, command_line(command, settings, ("output.dir", "data.store")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            "the file holds no evaluation of token compression", got=f"{path}: {error}"
        ) from error


def keep(run: Path) -> Path:
    """Copies the evaluation in a run's folder to the bundled file, and gives its path."""
    record = json.loads((run / RECORD).read_text(encoding="utf-8"))
    record = {name: record[name] for name in ("settings", "result")}
    record["result"]["figures"] = []
    record["settings"].pop("output", None)  # a path on the machine of the run
    write_text_atomic(SHIPPED, json.dumps(record, ensure_ascii=False) + "\n")
    read(SHIPPED)
    return SHIPPED


def draw(stored: Stored, out: Path) -> Stored:
    """Draws the charts of an evaluation in `out`; gives it with its `figures`."""
    result = stored.result
    rows, whole, trained = result.rows, result.grid[0] * result.grid[1], _trained(result)
    chart = draw_chart(result, out)
    drawn = [*plots.kept(rows, trained, whole, TITLES), *plots.two_axes(rows, trained)]
    figures = (*([chart] if chart else []), *save(drawn, out))
    return replace(stored, result=replace(result, figures=figures))


def draw_chart(
    result: CompressEvaluationResult, out: Path, method: str | None = None
) -> dict[str, str] | None:
    """Draws the chart of one score: right answers where a VLM was asked, else the embedding.

    Args:
        result: the evaluation.
        out: where the chart is written.
        method: is named in any case, where it was measured.

    Returns:
        The file and the caption; None where the evaluation has no such score.
    """
    vlm = result.vlm
    ends = (vlm["full"]["value"], vlm["floor"]["value"]) if vlm else None
    whole = result.grid[0] * result.grid[1]
    chart = plots.by_tokens(result.rows, _trained(result), whole, ends, method)
    return save([replace(chart, name=CHART)], out)[0] if chart else None


def _trained(result: CompressEvaluationResult) -> list[str]:
    rows = [row for row in result.rows if row["method"] not in METHODS and not row["training_free"]]
    return list(dict.fromkeys(row["method"] for row in rows))
