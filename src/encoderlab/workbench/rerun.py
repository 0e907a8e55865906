"""Repeats a run from its folder and compares the two results, number by number."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from encoderlab.core import run_folder
from encoderlab.core.commands import COMMANDS
from encoderlab.core.project import configured
from encoderlab.core.results import Block, Result
from encoderlab.core.run_folder import RunRecord
from encoderlab.core.runner import run_command
from encoderlab.core.settings import from_dict, value_at, without_effect
from encoderlab.core.spec import takes
from encoderlab.encoders.load_spec import TRUST_HINT, TRUST_WANT
from encoderlab.errors import UsageError, unknown
from encoderlab.workbench.settings import Rerun

# Keys whose values are times or locations, not results.
INCIDENTAL = ("second", "time", "folder", "path", "device", "warnings")


@dataclass(frozen=True)
class RerunResult(Result):
    """The repeated run, and how its result differs from the first one.

    Args:
        differences: (key, first value, repeated value) wherever they are not equal; times and
            locations are not compared.
    """

    command: str
    first_folder: str
    folder: str
    result: dict[str, Any]
    text: str
    differences: tuple[tuple[str, Any, Any], ...]
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values for the command line."""
        return {
            "command": self.command,
            "first_folder": self.first_folder,
            "folder": self.folder,
            "same": not self.differences,
            "differences": [list(difference) for difference in self.differences],
            "result": self.result,
        }

    def blocks(self) -> list[Block]:
        """The repeated result, then what changed."""
        shown, more = self.differences[:10], len(self.differences) - 10
        if shown:
            lines = [f"{len(self.differences)} values differ from {self.first_folder}:"]
            lines += [f"  {key}: {old!r}, now {new!r}" for key, old, new in shown]
            lines += [f"  and {more} more"] if more > 0 else []
        else:
            lines = [f"the result is the same as in {self.first_folder}"]
        return [self.text, "\n".join([*lines, f"the repeated run is in {self.folder}"])]


@takes(Rerun)
def run(settings: Rerun, out: Path | None = None) -> RerunResult:
    """Repeats the run that a folder keeps.

    Returns:
        The new result, and how its numbers differ from those of the first run.

    Raises:
        MissingError: no run in that folder.
        UsageError: the folder is unnamed or broken, `out` is the folder itself, or the run ran
            Python of a checkpoint and `trust_remote_code` is False.
    """  # noqa: DOC501
    if not settings.run_folder:
        raise UsageError(
            "no run folder was named",
            want="encoderlab rerun RUN_FOLDER",
            hint="a run's folder is outputs/COMMAND, or its --output-dir",
        )
    first = Path(settings.run_folder)
    before = run_folder.read(first)
    command = COMMANDS.get(before.command)
    if command is None:
        raise unknown("command", before.command, COMMANDS, "encoderlab ls commands")
    target = out or first.with_name(first.resolve().name + "-rerun")
    if target.resolve() == first.resolve():
        raise UsageError(
            "a repeated run must not overwrite the first",
            got=str(target),
            want="another --output-dir",
        )
    repeated = from_dict(command.settings, before.settings)
    # A run of version 0.1 may keep settings that were ignored: the command refuses them now.
    for ignored, _ in without_effect(repeated):
        group, _, name = ignored.key.rpartition(".")
        setattr(value_at(repeated, group) if group else repeated, name, ignored.default)
    if getattr(repeated, "trust_remote_code", False) and not settings.trust_remote_code:
        raise UsageError(
            "the run ran Python of its checkpoints, which is off unless asked for again",
            got=str(first),
            want=TRUST_WANT,
            hint=TRUST_HINT,
        )
    with _project_of(before):
        done = run_command(command, repeated, before.command_line, folder=target)
    again = run_folder.read(target).result
    return RerunResult(
        command=command.name,
        first_folder=str(first),
        folder=str(target),
        result=again,
        text=done.result.to_text(),
        differences=tuple(_differences(before.result, again)),
        warnings=(*getattr(done.result, "warnings", ()), *done.warnings),
    )


@contextmanager
def _project_of(before: RunRecord) -> Iterator[None]:
    """Within the block, names of models and data sets mean what they meant in the first run."""
    if before.project is None:  # an older record
        yield
        return
    with TemporaryDirectory() as folder:
        file = Path(folder) / "project.yaml"
        file.write_text(yaml.safe_dump(before.project, allow_unicode=True), encoding="utf-8")
        with configured(file if before.project else None):
            yield


def _differences(first: Any, again: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(first, dict) and isinstance(again, dict):
        for name in dict.fromkeys([*first, *again]):
            if not any(word in name.lower() for word in INCIDENTAL):
                inner = f"{key}.{name}" if key else name
                yield from _differences(first.get(name), again.get(name), inner)
    elif isinstance(first, list) and isinstance(again, list) and len(first) == len(again):
        for i, (old, new) in enumerate(zip(first, again, strict=True)):
            yield from _differences(old, new, f"{key}[{i}]")
    elif first != again:
        yield key, first, again
