"""The training loop that all trainers share: steps of a schedule, epochs, checkpoints, resuming.

A subclass gives the step, the evaluation and its own state. Every random choice of a subclass must
be a function of (seed, step): then a run that was killed goes on to the same numbers. Knows
Fabric, schedules and checkpoints; no model, no loss and no data.
"""

from __future__ import annotations

import math
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from encoderlab.core.atomic_io import atomic_write, remove_stale
from encoderlab.core.progress import note, progress
from encoderlab.errors import EncoderLabError, MissingError, UsageError, WorkError
from encoderlab.models import checkpoint
from encoderlab.training.collectives import (
    any_rank,
    collective_error,
    on_all_ranks,
    stop_on_signal,
)
from encoderlab.training.schedule import Schedule

if TYPE_CHECKING:
    from lightning.fabric import Fabric
    from lightning.fabric.loggers.logger import Logger

BatchT = TypeVar("BatchT")
SECONDS_BETWEEN_SAVES = 60.0


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
    """The checkpoint `resume`, or the latest one of the run's folder `resume`; None for None."""
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


@dataclass(frozen=True)
class Evaluation:
    """The evaluation at the end of an epoch.

    Args:
        row: the metrics for the history, with the number of the epoch under "epoch".
        rank: the epoch with the largest tuple is the best one; of equal ones the first.
        score: what the checkpoint and the result give as the score of the best epoch.
        text: one line for the terminal.
    """

    row: dict[str, float]
    rank: tuple[float, ...]
    score: Any
    text: str


@dataclass(frozen=True)
class TrainedRun:
    """A run that reached the end of its schedule.

    Args:
        history: one row of metrics per epoch.
        seconds: of this process, without the steps before it was resumed.
        rows_per_second: rows trained on, over `seconds`.
    """

    step: int
    history: tuple[dict[str, float], ...]
    best_epoch: int
    best_score: Any
    seconds: float
    rows_per_second: float
    warnings: tuple[str, ...]


class Trainer(ABC, Generic[BatchT]):
    """One training run.

    A subclass sets the class attributes and defines `train_step`, `evaluate`, `identity`, `state`
    and `load_state`.

    Args:
        schedule: which rows make which step.
        recipe: a dataclass with at least `epochs` and `batch_size`.
        data: digests of the data by name; a run only resumes with the same ones.
        folder: checkpoints go to `folder/checkpoints`.
        save_every: steps between two writes of the latest state within an epoch; None writes one a
            minute.
        logger: a Lightning logger for the curves.
    """

    names: ClassVar[CheckpointNames]
    unit: ClassVar[str]  # what a row of the schedule is
    identity_key: ClassVar[str]  # where a checkpoint keeps `identity`

    def __init__(
        self,
        fabric: Fabric,
        schedule: Schedule,
        recipe: Any,
        data: dict[str, str],
        folder: Path,
        *,
        save_every: int | None = None,
        logger: Logger | None = None,
    ) -> None:
        self.fabric, self.schedule, self.recipe, self.data = fabric, schedule, recipe, data
        self.folder = folder / "checkpoints"
        self.save_every, self.logger = save_every, logger
        self.step = 0
        self.history: list[dict[str, float]] = []
        self.best_epoch = 0
        self.best_score: Any = None
        self.best_rank: tuple[float, ...] = ()
        self.warnings: list[str] = []

    # --- what a subclass defines ---

    @abstractmethod
    def train_step(self, batch: BatchT) -> dict[str, float]:
        """Trains on one batch; `self.step` counts the steps before it. Gives the values to log."""

    @abstractmethod
    def evaluate(self, epoch: int) -> Evaluation:
        """Evaluates the model after `epoch` epochs."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """The settings that must be equal for the same numbers; `epochs` may grow."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Weights, optimiser state and all else that a checkpoint keeps of the subclass."""

    @abstractmethod
    def load_state(self, record: dict[str, Any]) -> None:
        """Takes over what `state` gave; called after the state of this class is taken over."""

    def batches(self, first_step: int) -> Iterable[BatchT]:
        """This rank's batches from `first_step` to the end; by default the numbers of the rows."""
        return self.schedule.batches(first_step)  # type: ignore[return-value]

    # --- the run ---

    @property
    def finished(self) -> bool:
        """Whether all steps of the schedule are done."""
        return self.step >= self.schedule.total_steps

    def run(self) -> TrainedRun:
        """Trains to the end, or to SIGINT or SIGTERM: KeyboardInterrupt, with the state saved."""
        started, first_step = time.perf_counter(), self.step
        total, per_epoch = self.schedule.total_steps, self.schedule.steps_per_epoch
        batch_size = self.recipe.batch_size
        if self.logger is not None and self.fabric.is_global_zero:
            with suppress(NotImplementedError):  # the CSV logger keeps no settings
                self.logger.log_hyperparams(asdict(self.recipe))
        saved_at = time.monotonic()
        batches = self.batches(first_step)
        with (
            stop_on_signal() as stop,
            progress("training", total=(total - first_step) * batch_size, unit=self.unit) as bar,
        ):
            for batch in batches:
                values = self.train_step(batch)
                self.step += 1
                self.log(values)
                bar.advance(batch_size)
                # Only rank 0 looks at its clock: all ranks save, or wait, at the same step.
                due = self.fabric.is_global_zero and self._save_due(saved_at)
                stops, due = any_rank(self.fabric, stop.asked, due)
                if self.step % per_epoch == 0:
                    self.end_epoch(self.step // per_epoch)
                    saved_at = time.monotonic()
                elif due or stops:
                    self._save(self.names.latest)
                    saved_at = time.monotonic()
                if stops and self.step < total:
                    note(f"stopped; go on from step {self.step}: --resume {self.folder.parent}")
                    raise collective_error(self.fabric, KeyboardInterrupt())
        seconds = time.perf_counter() - started
        return TrainedRun(
            self.step,
            tuple(self.history),
            self.best_epoch,
            self.best_score,
            seconds,
            (self.step - first_step) * batch_size / max(seconds, 1e-9),
            tuple(self.warnings),
        )

    def end_epoch(self, epoch: int) -> None:
        """Evaluates, updates the best epoch, and writes the checkpoints of the epoch."""
        evaluation = self.evaluate(epoch)
        self.history.append(evaluation.row)
        better = evaluation.rank > self.best_rank
        if better:
            self.best_epoch = epoch
            self.best_score, self.best_rank = evaluation.score, evaluation.rank
        note(f"{evaluation.text}{'  (best)' if better else ''}")
        best = [self.names.best] if better else []
        # The state to resume from comes last: a run killed before it does this epoch again.
        self._save(*best, self.names.epoch.format(epoch), self.names.latest)

    def log(self, values: dict[str, float]) -> None:
        """Sends values to the logger, on rank 0, at the current step."""
        if self.logger is not None and self.fabric.is_global_zero:
            self.logger.log_metrics(values, step=self.step)

    def warn(self, text: str) -> None:
        """Shows a warning and keeps it for the result and the checkpoints."""
        self.warnings.append(text)
        note(f"warning: {text}")

    def check_finite(self, value: float, what: str = "the loss") -> None:
        """Stops the run with a WorkError where a value, the same on all ranks, is not finite."""
        if math.isfinite(value):
            return
        latest = self.folder / self.names.latest
        error = WorkError(
            f"{what} is {value} at step {self.step + 1}, so the run was stopped",
            want="a finite loss",
            hint=f"the last good checkpoint is {latest}; go on from it with a smaller --lr"
            if latest.is_file()
            else "no checkpoint was written yet; start again with a smaller --lr",
        )
        raise collective_error(self.fabric, error)

    # --- checkpoints ---

    def resume(self, path: Path) -> None:
        """Takes over the state of a run of the same settings, but for more epochs, and data."""
        record = checkpoint.read(path, self.names.format)
        try:
            self._restore(record)
        except EncoderLabError:
            raise
        except checkpoint.WRONG as error:
            raise checkpoint.incomplete(path, error) from error
        if self.best_rank and not self._copy_best(path):
            if self.finished:
                raise MissingError(
                    "the run is finished, and the checkpoint of its best epoch is not there",
                    got=str(path.parent / self.names.best),
                    want=f"that of epoch {self.best_epoch} beside {path.name}",
                    hint="copy the run's whole folder, or train on with more --epochs",
                )
            self.warn(
                f"the checkpoint of the best epoch so far, {self.best_epoch}, is not there: the "
                "best is chosen among the epochs to come"
            )
            self.best_epoch, self.best_score, self.best_rank = 0, None, ()
        if self.fabric.is_global_zero and self.finished:
            # A run that was killed right after its last checkpoint writes none again.
            remove_stale(self.folder)
        note(f"going on from step {self.step} of {self.schedule.total_steps} ({path})")
        if self.finished:
            epochs = self.recipe.epochs
            note(
                f"the run is finished, all {self.step} steps of {epochs} epochs are done, so "
                f"nothing was trained; to go on, set --epochs above {epochs}"
            )

    def _restore(self, record: dict[str, Any]) -> None:
        settings, before = self.identity(), record[self.identity_key]
        for key, value in settings.items():
            if value == before.get(key) or (key == "epochs" and value > before["epochs"]):
                continue
            raise UsageError(
                "the checkpoint was trained with other settings, so resuming would not give the "
                "same numbers",
                got=f"{key}={value}",
                want=f"{key}={before.get(key)}",
                hint="resume with the settings in the run's config.yaml, or start a new run",
            )
        data = record.get("data")
        if data is None:  # version 0.1
            note(
                "warning: the checkpoint is of a version that kept no digest of its data, so "
                "whether this is the same data cannot be checked"
            )
            data = self.data
        if differing := [name for name in self.data if data.get(name) != self.data[name]]:
            raise UsageError(
                "the checkpoint was trained on other data, so resuming would not give the same "
                "numbers",
                got=f"other {', '.join(differing)}",
                want="the data that the run began with, in the same order",
                hint="name the same data, or start a new run without --resume",
            )
        self.step = int(record["step"])
        self.history = list(record["history"])
        self.best_epoch, self.best_score = record["best_epoch"], record["best_score"]
        self.best_rank = tuple(record.get("best", ()))
        self.load_state(record)
        self.warnings = list(record.get("warnings", []))
        if settings["epochs"] != before["epochs"]:
            self.warn(
                f"the first {self.step} steps followed the learning rate of a run of "
                f"{before['epochs']} epochs, so the numbers are not those of one run of "
                f"{settings['epochs']} epochs"
            )

    def _copy_best(self, start: Path) -> bool:
        """Copies the best checkpoint of the run that is resumed; False where it is missing."""
        names = (self.names.best, self.names.epoch.format(self.best_epoch))
        # The file of the best epoch may be of a later epoch than the state that is resumed.
        best = next((n for n in names if self._epoch_of(start.parent / n) == self.best_epoch), None)
        if best is not None and self.fabric.is_global_zero:
            other_folder = start.parent.resolve() != self.folder.resolve()
            if other_folder or best != self.names.best:
                _copy(start.parent / best, self.folder / self.names.best)
            if other_folder:  # to go on from there, if nothing is left to train
                _copy(start, self.folder / self.names.latest)
        return best is not None

    def _epoch_of(self, path: Path) -> float | None:
        try:
            history = checkpoint.read(path, self.names.format, lazily=True).get("history")
        except EncoderLabError:  # missing or damaged
            return None
        return history[-1].get("epoch") if history else None

    def _save_due(self, saved_at: float) -> bool:
        if self.save_every is not None:
            return self.step % self.save_every == 0
        return time.monotonic() - saved_at > SECONDS_BETWEEN_SAVES

    def _save(self, *names: str) -> None:
        on_all_ranks(self.fabric, self._write, names)

    def _write(self, names: Sequence[str]) -> None:
        if not self.fabric.is_global_zero:
            return
        record = {
            **self.state(),
            self.identity_key: self.identity(),
            "data": self.data,
            "step": self.step,
            "total_steps": self.schedule.total_steps,
            "history": list(self.history),
            "warnings": list(self.warnings),
            "best_epoch": self.best_epoch,
            "best_score": self.best_score,
            "best": list(self.best_rank),
        }
        for name in names:
            checkpoint.write(self.folder / name, record, self.names.format)


def _copy(source: Path, target: Path) -> None:
    with atomic_write(target) as unfinished:
        shutil.copyfile(source, unfinished)
