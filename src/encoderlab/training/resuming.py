"""Checks that a checkpoint fits the settings and data of a run, and copies the best checkpoint.

Compares plain values; knows no model.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encoderlab.core.atomic_io import atomic_write
from encoderlab.core.progress import note
from encoderlab.errors import EncoderLabError, MissingError, UsageError
from encoderlab.models import checkpoint


@dataclass(frozen=True)
class CheckpointNames:
    """File names in a folder of checkpoints, and the format of the files.

    Args:
        best: of the best epoch.
        epoch: of each epoch, with {} for its number.
        latest: of the state to resume from.
        format: the value of "format" in each file.
    """

    best: str
    epoch: str
    latest: str
    format: str


def checkpoint_to_resume(resume: str | None, names: CheckpointNames) -> Path | None:
    """The checkpoint to resume from: `resume` itself, or the latest one of a run's folder.

    Returns:
        Its path; None where `resume` is None.

    Raises:
        MissingError: there is none.
    """
    if resume is None:
        return None
    path = Path(resume).expanduser()
    for file in (path, path / "checkpoints" / names.latest, path / names.latest):
        if file.is_file():
            return file
    why = "the folder has no checkpoint" if path.is_dir() else "no such folder or file"
    raise MissingError(
        f"nothing to resume from: {why}",
        got=resume,
        want=f"a run's folder with checkpoints/{names.latest}, or a "
        f"{Path(names.latest).suffix} file",
    )


def check_resumed(
    settings: Mapping[str, Any],
    settings_before: Mapping[str, Any],
    data: Mapping[str, str],
    data_before: Mapping[str, str] | None,
) -> None:
    """Compares the settings and the data of a run with those that its checkpoint keeps.

    Args:
        settings: `epochs` may be larger than before.
        settings_before: those in the checkpoint.
        data: digests by name, such as "training captions".
        data_before: those in the checkpoint; None in one of version 0.1.

    Raises:
        UsageError: something differs; the message names it.
    """
    for key, value in settings.items():
        before = settings_before.get(key)
        if value == before or (key == "epochs" and value > (before or 0)):
            continue
        raise UsageError(
            "the checkpoint was trained with other settings, so resuming would not give the "
            "same numbers",
            got=f"{key}={value}",
            want=f"{key}={before}",
            hint="resume with the settings in the run's config.yaml, or start a new run",
        )
    if data_before is None:
        note(
            "warning: the checkpoint is of a version that kept no digest of its data, so whether "
            "this is the same data cannot be checked"
        )
        return
    differing = [name for name, digest in data.items() if data_before.get(name) != digest]
    if differing:
        raise UsageError(
            "the checkpoint was trained on other data, so resuming would not give the same numbers",
            got=f"other {', '.join(differing)}",
            want="the data that the run began with, in the same order",
            hint="name the same data, or start a new run without --resume",
        )


def longer_run(step: int, epochs_before: int, epochs: int) -> str:
    """The warning about a run that goes on for more epochs than it was planned for."""
    return (
        f"the first {step} steps followed the learning rate of a run of {epochs_before} epochs, so "
        f"the numbers are not those of one run of {epochs} epochs"
    )


def finished_run(steps: int, epochs: int) -> str:
    """The note about a finished run that is resumed."""
    return (
        f"the run is finished, all {steps} steps of {epochs} epochs are done, so nothing was "
        f"trained; to go on, set --epochs above {epochs}"
    )


def copy_best(
    start: Path, folder: Path, best_epoch: int, names: CheckpointNames, writes: bool
) -> bool:
    """Copies the best checkpoint up to the state at `start` into `folder`, and the state itself
    where `folder` is not its own.

    Args:
        start: the checkpoint that is resumed; the others of its run are in the same folder.
        folder: checkpoints of the resumed run.
        best_epoch: the best epoch in the state.
        names: file names.
        writes: whether this process copies; the others only look.

    Returns:
        Whether the best checkpoint exists.
    """
    paths = [start.parent / name for name in (names.best, names.epoch.format(best_epoch))]
    # best.ckpt may be of a later epoch than the state that is resumed.
    best = next((path for path in paths if _is_of(path, best_epoch, names.format)), None)
    if best is not None and writes:
        other_folder = start.parent.resolve() != folder.resolve()
        if other_folder or best.name != names.best:
            _copy(best, folder / names.best)
        if other_folder:
            _copy(start, folder / names.latest)
    return best is not None


def _is_of(path: Path, epoch: int, format: str) -> bool:
    if not path.is_file():
        return False
    try:
        history = checkpoint.read(path, format, lazily=True).get("history") or []
    except EncoderLabError:
        return False
    return bool(history) and history[-1].get("epoch") == epoch


def _copy(source: Path, target: Path) -> None:
    with atomic_write(target) as unfinished:
        shutil.copyfile(source, unfinished)


def best_missing_error(start: Path, best_epoch: int, names: CheckpointNames) -> MissingError:
    """The error for a finished run without its best checkpoint."""
    return MissingError(
        "the run is finished, and the checkpoint of its best epoch is not there",
        got=str(start.parent / names.best),
        want=f"that of epoch {best_epoch} beside {start.name}",
        hint="copy the run's whole folder, or train on with more --epochs",
    )


def best_unknown_note(best_epoch: int) -> str:
    """The warning about an unfinished run without its best checkpoint."""
    return (
        f"the checkpoint of the best epoch so far, {best_epoch}, is not there: the best is chosen "
        "among the epochs to come"
    )
