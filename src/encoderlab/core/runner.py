"""Runs one command and writes its run folder, for the command line, `rerun` and the web page.

Knows the table of commands, and nothing about any single command.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from contextlib import ExitStack
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

# Actions of a command whose run gets a folder of its own.
ACTIONS_WITH_FOLDER = ("evaluate", "show")


@dataclass(frozen=True)
class CompletedRun:
    """A finished run.

    Args:
        result: what the experiment returned.
        folder: the folder with its record; None where none was written.
        seconds: wall time of the experiment.
        warnings: warnings during the run; the result may have others.
    """

    result: Any
    folder: Path | None
    seconds: float
    warnings: tuple[str, ...] = ()


def run_command(
    command: Command,
    settings: Any,
    command_line: Sequence[str] = (),
    *,
    folder: Path | None = None,
) -> CompletedRun:
    """Runs the experiment behind a command and writes its run folder.

    Args:
        command: its row in the table.
        settings: an instance of the command's settings dataclass.
        command_line: the arguments that were typed, for the record.
        folder: the run folder, instead of the one that the settings name.

    Returns:
        The result, the run folder if one was written, seconds, and warnings.

    Raises:
        EncoderLabError: from the experiment.
        UsageError: the output folder is a file or in use.
    """
    values = {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings)}
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
    project = load_config().to_plain()  # read now: the file may change during the run
    with ExitStack() as stack:
        if out is not None and command.shares_work and not is_secondary_rank():
            stack.enter_context(run_folder.exclusive(out))
        started, clock = datetime.now(UTC), time.perf_counter()
        warned = stack.enter_context(collect_warnings())
        written = stack.enter_context(record_writes())
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
    if named and values.get("action") in ACTIONS_WITH_FOLDER:
        # By default a subfolder of the run whose output it measures.
        default = type(values["output"])().dir
        named = Path(named, values["action"]) if named == default else named
    return Path(named) if named else None


def _with_folder(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    if "output_dir" in values:
        return values | {"output_dir": str(folder)}
    return values | {"output": dataclasses.replace(values["output"], dir=str(folder))}
