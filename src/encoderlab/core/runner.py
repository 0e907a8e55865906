"""One command is carried out: settings become parameters, the result is kept in the run's folder.

The command line and `rerun` share it. Knows the table of commands; decides nothing about any.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from encoderlab.core import run_folder
from encoderlab.core.atomic_io import check_writable, record_writes
from encoderlab.core.commands import Command, load
from encoderlab.core.distributed import is_secondary_rank
from encoderlab.core.progress import collect_warnings
from encoderlab.core.project import load_config
from encoderlab.errors import UsageError

# Actions of a command whose run does not take the folder of the command's own.
KEPT_APART = ("evaluate", "show")


@dataclass(frozen=True)
class CompletedRun:
    """A finished run: its result, and the folder that keeps it, if any does.

    Args:
        warnings: what was warned of on the way and is not in the result.
    """

    result: Any
    folder: Path | None
    seconds: float
    warnings: tuple[str, ...] = ()

    @staticmethod
    def plain(values: dict[str, Any]) -> dict[str, Any]:
        """Values as strict JSON can hold them."""
        return run_folder.to_plain(values)


def run_command(
    command: Command,
    settings: Any,
    command_line: Sequence[str] = (),
    *,
    folder: Path | None = None,
) -> CompletedRun:
    """Runs the experiment behind a command and writes its run folder.

    Args:
        settings: an instance of the command's settings dataclass.
        folder: where the run is kept, instead of the folder that the settings name.

    Raises:
        EncoderLabError: whatever the experiment raises.
    """
    values = {one.name: getattr(settings, one.name) for one in dataclasses.fields(settings)}
    out = folder or _folder_of(values)
    if out is not None and command.leaves_folder:
        try:
            check_writable(out)
        except NotADirectoryError as error:
            raise UsageError(
                "the output folder is a file",
                got=error.filename,
                want="a folder",
                hint="choose another with --output-dir",
            ) from error
    alone: Any = nullcontext()
    if out is not None and command.shares_work and not is_secondary_rank():
        alone = run_folder.exclusive(out)  # hours of checkpoints
    with alone:
        return _run(command, settings, values, out, command_line, folder)


def _run(
    command: Command,
    settings: Any,
    values: dict[str, Any],
    out: Path | None,
    command_line: Sequence[str],
    folder: Path | None,
) -> CompletedRun:
    project = load_config().to_plain()  # as it is now: the file may change meanwhile
    started, clock = datetime.now(UTC), time.perf_counter()
    with collect_warnings() as warned, record_writes() as written:
        result = load(command.experiment).with_settings(settings, out)
        seconds = time.perf_counter() - clock
        warnings = (*getattr(result, "warnings", ()), *warned)
        if not command.leaves_folder or out is None or is_secondary_rank():
            return CompletedRun(result, None, seconds, tuple(warned))
        if folder is not None:
            values = _with_folder(values, folder)
        run = run_folder.record(
            command.name, command_line, values, result.to_json(), tuple(dict.fromkeys(warnings)),
            seconds=seconds, started=started, project=project,
        )  # fmt: skip
        if hasattr(result, "write_report"):
            result.write_report(out, run)
        run = dataclasses.replace(run, files=tuple(run_folder.written_figures(written, out)))
    return CompletedRun(result, run_folder.write(out, run), seconds, tuple(warned))


def _folder_of(values: dict[str, Any]) -> Path | None:
    named = values.get("output_dir") or getattr(values.get("output"), "dir", None)
    if named and values.get("action") in KEPT_APART:
        # Beside the run that made what it measures, unless a folder was chosen for it.
        default = type(values["output"])().dir
        named = Path(named, values["action"]) if named == default else named
    return Path(named) if named else None


def _with_folder(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    if "output_dir" in values:
        return values | {"output_dir": str(folder)}
    return values | {"output": dataclasses.replace(values["output"], dir=str(folder))}
