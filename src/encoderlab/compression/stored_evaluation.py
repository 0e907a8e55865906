"""Evaluations of token compression that were kept: the shipped one, and the last of one's own."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from encoderlab.compression.evaluate import TITLES, CompressEvaluationResult
from encoderlab.core.atomic_io import write_text_atomic
from encoderlab.core.command_line import command_line
from encoderlab.core.commands import COMMANDS
from encoderlab.core.json_text import parsed
from encoderlab.core.run_folder import RECORD
from encoderlab.core.settings import from_dict, output_folder
from encoderlab.errors import UsageError
from encoderlab.patch_tokens.methods import METHODS
from encoderlab.zoo import ZOO

SHIPPED = ZOO / "compressors" / "evaluation.json"


@dataclass(frozen=True)
class Stored:
    """An evaluation, and the command line that gives it."""

    result: CompressEvaluationResult
    command: str


def stored() -> list[Stored]:
    """Every kept evaluation, the shipped one first."""
    own = Path(output_folder("compress")()) / "evaluate" / RECORD
    return [read(path) for path in (SHIPPED, own) if path.is_file()]


def read(path: Path) -> Stored:
    """The evaluation in a run.json.

    Raises:
        UsageError: it holds no evaluation.
    """
    try:
        record = parsed(path.read_text(encoding="utf-8"))
        found = record["result"]
        names = {one.name for one in fields(CompressEvaluationResult)}
        known = {name: _frozen(value) for name, value in found.items() if name in names}
        result = CompressEvaluationResult(**{**known, "figures": (), "skipped": ()})
        command = COMMANDS["compress"]
        line = command_line(command, from_dict(command.settings, record["settings"]),
                            ("output.dir", "data.store"))  # fmt: skip
        return Stored(result, line)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            "the file holds no evaluation of token compression", got=f"{path}: {error}"
        ) from error


def keep(run: Path) -> Path:
    """Makes the evaluation in a run's folder the shipped one."""
    record = json.loads((run / RECORD).read_text(encoding="utf-8"))
    kept = {name: record[name] for name in ("settings", "result")}
    kept["result"]["figures"] = []
    kept["settings"].pop("output", None)  # where it was made is nobody's concern
    write_text_atomic(SHIPPED, json.dumps(kept, ensure_ascii=False) + "\n")
    read(SHIPPED)
    return SHIPPED


def draw(one: Stored, out: Path) -> Stored:
    """The same with its charts in `out`."""
    from encoderlab.compression import plots as plots
    from encoderlab.plots.style import save

    result = one.result
    rows, whole = result.rows, result.grid[0] * result.grid[1]
    trained = list(dict.fromkeys(row["method"] for row in rows if row["method"] not in METHODS))
    drawn = [plots.two_axes(rows, trained)]
    if any(row["kept"] for row in rows):
        drawn.insert(0, plots.pareto(rows, trained, whole, TITLES))
    return replace(one, result=replace(result, figures=save(drawn, out)))


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
