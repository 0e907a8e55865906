"""The training run of a CLIP: one step after another until the schedule ends, resumable at any.

Lightning Fabric carries devices, precision and processes; the loop is ours, because a run that is
killed must go on to the same numbers: every random choice is a function of (seed, step), so the
step number, the weights and the optimiser's state are the whole state of a run.

Knows models, pairs and checkpoints. Parses no CSV, chooses no preset, draws nothing.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoderlab.contrastive.augment import augment, strength
from encoderlab.contrastive.cached_gradients import backward_in_chunks
from encoderlab.contrastive.dataset import (
    Batch,
    ImageTextDataset,
    loader,
    positives_of,
)
from encoderlab.contrastive.streaming import StreamSchedule
from encoderlab.contrastive.train_settings import Train
from encoderlab.core.progress import note, progress
from encoderlab.errors import EncoderLabError, UsageError, WorkError
from encoderlab.losses.contrastive import contrastive_loss
from encoderlab.losses.sigmoid import sigmoid_loss
from encoderlab.models import checkpoint
from encoderlab.models.clip import CLIP, TwoTowers
from encoderlab.training.collectives import (
    any_rank,
    average_gradients,
    collective_error,
    ignore_stop_signals,
    on_all_ranks,
    stop_on_signal,
)
from encoderlab.training.optimiser import RunningAverage, adamw, learning_rate
from encoderlab.training.resuming import (
    CheckpointNames,
    best_missing_error,
    best_unknown_note,
    check_resumed,
    copy_best,
    longer_run,
)
from encoderlab.training.schedule import Schedule, check_batch

if TYPE_CHECKING:
    from lightning.fabric import Fabric
    from lightning.fabric.loggers.logger import Logger

LOSSES = ("softmax", "sigmoid")
NAMES = CheckpointNames("best.ckpt", "epoch_{}.ckpt", "latest.ckpt", checkpoint.FORMAT)
# A loss within this share of ln(batch) after this many steps has not begun to learn.
STUCK_SHARE, STUCK_AFTER = 0.995, 200


@dataclass(frozen=True)
class Recipe:
    """How a run trains. Two runs with equal recipes and data have equal numbers."""

    epochs: int
    batch_size: int
    chunk_size: int | None
    lr: float
    wd: float
    warmup_steps: int | None
    grad_clip: float
    loss: str
    patch_dropout: float
    augment: str
    multi_positive: bool
    ema: float
    seed: int

    @classmethod
    def of(cls, settings: Train | None = None, **changes: Any) -> Recipe:
        """The recipe in the settings of `encoderlab train`, the default ones if not given.

        Args:
            changes: other values, by field.
        """
        settings = settings or Train()
        given = {field.name: getattr(settings, field.name) for field in dataclasses.fields(cls)}
        return cls(**{**given, **changes})

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise UsageError("unknown loss", got=self.loss, want=" or ".join(LOSSES))
        strength(self.augment)
        for name, low, high in (("patch_dropout", 0.0, 0.95), ("ema", 0.0, 0.99999)):
            if not low <= getattr(self, name) <= high:
                raise UsageError(
                    f"{name} is out of range", got=getattr(self, name), want=f"{low} to {high}"
                )
        for name in ("epochs", "batch_size", "lr"):
            if getattr(self, name) <= 0:
                raise UsageError(f"{name} must be positive", got=getattr(self, name))
        if self.batch_size == 1:
            raise UsageError(
                "a batch of one has nothing to contrast with",
                got="batch_size=1",
                want="at least 2; 64 and more work best",
            )
        if self.chunk_size is not None and self.chunk_size < 1:
            raise UsageError("chunk_size must be positive", got=self.chunk_size)


@dataclass(frozen=True)
class Validation:
    """What one validation found.

    Args:
        score: picks the best checkpoint, higher is better; None where the data gives no score. The
            lower `validation_loss` of `metrics`, then the lower training loss, decides between
            equal ones.
    """

    score: float | None
    metrics: dict[str, float]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainedRun:
    """Where a run ended: steps done, last training loss, one row of metrics per epoch."""

    step: int
    loss: float
    history: tuple[dict[str, float], ...]
    best_epoch: int
    best_score: float | None
    seconds: float
    pairs_per_second: float
    warnings: tuple[str, ...]


class Trainer:
    """One run of `recipe` over `pairs`.

    Args:
        model: trained in place.
        folder: checkpoints go to `folder/checkpoints`.
        validate: called after every epoch with the model in eval mode.
        val_pairs: what it validates on; a checkpoint keeps their fingerprint, as that of `pairs`.
        save_every: steps between two writes of `latest.ckpt` within an epoch; None writes one a
            minute.
        logger: a Lightning logger for the curves.
    """

    def __init__(
        self,
        model: TwoTowers,
        pairs: ImageTextDataset,
        recipe: Recipe,
        fabric: Fabric,
        folder: Path,
        *,
        validate: Callable[[TwoTowers], Validation] | None = None,
        val_pairs: ImageTextDataset | None = None,
        save_every: int | None = None,
        workers: int = 0,
        logger: Logger | None = None,
    ) -> None:
        self.fabric, self.recipe, self.pairs = fabric, recipe, pairs
        self.folder, self.validate, self.logger = folder / "checkpoints", validate, logger
        self.save_every, self.workers = save_every, workers
        self.data = {f"training {name}": mark for name, mark in pairs.fingerprint().items()}
        if val_pairs is not None:
            marks = val_pairs.fingerprint()
            self.data |= {f"validation {name}": marks[name] for name in ("images", "captions")}
        world = fabric.world_size
        check_batch(recipe.batch_size, len(pairs), world, "pairs", least=2)
        plan = (
            len(pairs),
            recipe.batch_size,
            recipe.epochs,
            recipe.seed,
            fabric.global_rank,
            world,
        )
        self.schedule = (
            Schedule(*plan) if pairs.units is None else StreamSchedule(*plan, units=pairs.units)
        )
        assert pairs.keep_padding == model.reads_padding
        if recipe.loss == "sigmoid" and isinstance(model, CLIP) and model.logit_bias is None:
            model.add_logit_bias()
            nn.init.constant_(model.logit_scale, math.log(10))
        self.module = model
        self.model = fabric.setup_module(model)
        self.optimiser: Any = fabric.setup_optimizers(adamw(model, recipe.lr, recipe.wd))
        self.average = RunningAverage(model, recipe.ema) if recipe.ema else None
        self.augmentation = strength(recipe.augment)
        total = self.schedule.total_steps
        self.warmup = min(total // 10, 2000) if recipe.warmup_steps is None else recipe.warmup_steps
        self.step = 0
        self.history: list[dict[str, float]] = []
        self.best_epoch = 0
        self.best_score: float | None = None
        # Score and negated losses of the best epoch: a larger tuple is better, an equal one is not.
        self._best: tuple[float, ...] = ()
        self.warnings: list[str] = []
        self._losses: list[float] = []

    def resume(self, path: Path) -> None:
        """Takes over the state of a checkpoint written by a run of the same recipe and data.

        More epochs are allowed. The best checkpoint so far is put into the run's own folder.

        Raises:
            UsageError: it was written with another recipe or other data, or is damaged.
            MissingError: the run is finished, and its best checkpoint is gone.
        """
        record = checkpoint.read(path)
        try:
            self._take_over(record)
        except EncoderLabError:
            raise
        except checkpoint.WRONG as error:
            raise checkpoint.incomplete(path, error) from error
        self._bring_best(path)

    @property
    def finished(self) -> bool:
        """Whether all steps of the schedule are done."""
        return self.step >= self.schedule.total_steps

    def _take_over(self, record: dict[str, Any]) -> None:
        before = record["recipe"]
        now = {**asdict(self.recipe), "rows": len(self.pairs)}
        check_resumed(now, before, self.data, record.get("data"))
        if now["epochs"] != before["epochs"]:
            self.warnings = [longer_run(record["step"], before["epochs"], now["epochs"])]
            note(f"warning: {self.warnings[0]}")
        self.module.load_state_dict(record["weights"])
        self.optimiser.load_state_dict(record["optimiser"])
        if self.average is not None:
            self.average.weights = record["average"]
        self.step = int(record["step"])
        self.history = list(record["history"])
        self.best_epoch, self.best_score = record["best_epoch"], record["best_score"]
        # A checkpoint of version 0.1 has no losses beside its score: a later equal score is no
        # better.
        self._best = tuple(record.get("best", (self.best_score, math.inf, math.inf)))
        self._losses = list(record["losses"])
        self.warnings = [*record.get("warnings", []), *self.warnings]

    def _bring_best(self, start: Path) -> None:
        """The best checkpoint before `start` lies beside it; the run goes on in its own folder."""
        if not self.best_epoch:
            return
        writes = self.fabric.is_global_zero
        if copy_best(start, self.folder, self.best_epoch, NAMES, writes):
            return
        if self.finished:
            raise best_missing_error(start, self.best_epoch, NAMES)
        self._warn(best_unknown_note(self.best_epoch))
        self.best_epoch, self.best_score, self._best = 0, None, ()

    def run(self) -> TrainedRun:
        """Trains to the end of the schedule.

        Raises:
            WorkError: the loss is no longer a number; the message names the last good checkpoint.
        """
        started, first_step = time.perf_counter(), self.step
        total, per_epoch = self.schedule.total_steps, self.schedule.steps_per_epoch
        if self.logger is not None and self.fabric.is_global_zero:
            with suppress(NotImplementedError):  # the CSV logger keeps no settings
                self.logger.log_hyperparams(asdict(self.recipe))
        saved_at = time.monotonic()
        self.model.train()
        loss = self._losses[-1] if self._losses else math.nan
        batches = loader(self.pairs, self.schedule, first_step, self.workers)
        if batches.worker_init_fn is None:
            batches.worker_init_fn = ignore_stop_signals
        with (
            stop_on_signal() as stop,
            progress(
                "training", total=(total - first_step) * self.recipe.batch_size, unit="pair"
            ) as bar,
        ):
            for batch in batches:
                loss = self._train_step(batch)
                bar.advance(self.recipe.batch_size)
                # The first process's clock is everyone's: all write, or wait, at the same step.
                due = self.fabric.is_global_zero and self._due(saved_at)
                stops, due = any_rank(self.fabric, stop.asked, due)
                if self.step % per_epoch == 0:
                    self._end_epoch(self.step // per_epoch)
                    saved_at = time.monotonic()
                elif due or stops:
                    self._save(NAMES.latest)
                    saved_at = time.monotonic()
                if stops and self.step < total:
                    raise stop.interrupt(
                        self.fabric, f"go on from step {self.step}: --resume {self.folder.parent}"
                    )
        seconds = time.perf_counter() - started
        pairs_done = (self.step - first_step) * self.recipe.batch_size
        return TrainedRun(
            self.step,
            loss,
            tuple(self.history),
            self.best_epoch,
            self.best_score,
            seconds,
            pairs_done / max(seconds, 1e-9),
            tuple(self.warnings),
        )

    def _train_step(self, batch: Batch) -> float:
        recipe = self.recipe
        self._seed_step()
        lr = learning_rate(self.step, recipe.lr, self.warmup, self.schedule.total_steps)
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        self.optimiser.zero_grad()
        loss = self.backward(batch)
        norm = self.fabric.clip_gradients(
            self.module, self.optimiser, max_norm=recipe.grad_clip, error_if_nonfinite=False
        )
        value = float(loss)
        if not math.isfinite(value):
            self._diverged(value)
        self.optimiser.step()
        self.module.clamp_logit_scale()
        self.step += 1
        self.module.trained_steps = self.step
        if self.average is not None:
            self.average.update(self.module, self.step)
        self._watch(value)
        self._log(
            {
                "train/loss": value,
                "train/lr": lr,
                "train/grad_norm": float(norm or 0),
                "train/logit_scale": self.module.logit_scale.exp().item(),
            }
        )
        return value

    def backward(self, batch: Batch) -> Tensor:
        """Leaves the gradient of the whole (all ranks') batch's loss in `.grad`; gives the loss."""
        batch = Batch(*(part.to(self.fabric.device, non_blocking=True) for part in batch))
        pixels = batch.pixels.float()
        if self.augmentation is not None:
            pixels = augment(pixels, self.augmentation)
        pixels = self.module.preprocess.standardise(pixels)
        positives = None
        if self.recipe.multi_positive:
            positives = positives_of(
                self._everyones(batch.image_ids), self._everyones(batch.text_ids)
            )

        def loss_of(image: Tensor, text: Tensor) -> Tensor:
            return self._loss(image, text, positives)

        chunk = self.recipe.chunk_size
        if chunk is None or chunk >= len(pixels):
            loss = loss_of(*self.model(pixels, batch.tokens))
            self.fabric.backward(loss)
            return loss.detach()
        # One reduction after all chunks: reducing at each would send every gradient many times.
        with self.fabric.no_backward_sync(self.model) if self._parallel else nullcontext():
            loss = backward_in_chunks(
                self.model, pixels, batch.tokens, loss_of, chunk, self.fabric.backward
            )
        average_gradients(self.fabric, self.module.parameters())
        return loss

    def _loss(self, image: Tensor, text: Tensor, positives: Tensor | None) -> Tensor:
        # In fp32 whatever the forward pass ran in: bf16 logits of a large batch tie.
        with torch.autocast(image.device.type, enabled=False):
            image = self._everyones(F.normalize(image.float(), dim=-1))
            text = self._everyones(F.normalize(text.float(), dim=-1))
            scale = self.module.logit_scale.exp()
            if self.recipe.loss == "sigmoid":
                assert self.module.logit_bias is not None
                return sigmoid_loss(image, text, scale, self.module.logit_bias, positives)
            return contrastive_loss(image, text, scale, positives)

    @property
    def _parallel(self) -> bool:
        return self.fabric.world_size > 1

    def _everyones(self, rows: Tensor) -> Tensor:
        """Rows of all ranks, in rank order, with gradients flowing back to their owners."""
        if not self._parallel:
            return rows
        gathered = self.fabric.all_gather(rows, sync_grads=rows.requires_grad)
        assert isinstance(gathered, Tensor)
        return gathered.flatten(0, 1)

    def _seed_step(self) -> None:
        # A fixed odd multiplier keeps (seed, step, rank) apart without a table of states.
        mixed = (self.recipe.seed * 1_000_003 + self.step) * 1_009 + self.fabric.global_rank
        torch.manual_seed(mixed % (2**63))

    def _end_epoch(self, epoch: int) -> None:
        metrics: dict[str, float] = {"epoch": float(epoch)}
        metrics["loss"] = sum(self._losses[-self.schedule.steps_per_epoch :]) / max(
            len(self._losses[-self.schedule.steps_per_epoch :]), 1
        )
        score: float | None = -metrics["loss"]
        if self.validate is not None:
            found = self._with_average(self.validate)
            score = found.score
            metrics.update(found.metrics)
            for warning in found.warnings:
                self._warn(f"epoch {epoch}: {warning}")
        self.history.append(metrics)
        rank = (score or 0.0, -metrics.get("validation_loss", 0.0), -metrics["loss"])
        better = rank > self._best
        if better:
            self.best_epoch, self.best_score, self._best = epoch, score, rank
        self._log({f"val/{name}": value for name, value in metrics.items() if name != "epoch"})
        text = "  ".join(
            f"{name} {value:.4g}"
            + (f" (chance {metrics[f'{name}/chance']:.2g})" if f"{name}/chance" in metrics else "")
            for name, value in metrics.items()
            if name != "epoch" and not name.endswith("/chance")
        )
        note(f"epoch {epoch} of {self.recipe.epochs}: {text}{'  (best)' if better else ''}")
        # The state to resume from comes last: a run killed before it does this epoch again.
        best = [NAMES.best] if better else []
        self._save(*best, NAMES.epoch.format(epoch), NAMES.latest)

    def _with_average(self, validate: Callable[[TwoTowers], Validation]) -> Validation:
        own = None
        if self.average is not None:
            own = {name: value.clone() for name, value in self.module.state_dict().items()}
            self.module.load_state_dict(self.average.weights)
        self.model.eval()
        try:
            return validate(self.module)
        finally:
            self.model.train()
            if own is not None:
                self.module.load_state_dict(own)

    def _due(self, saved_at: float) -> bool:
        if self.save_every is not None:
            return self.step % self.save_every == 0
        return time.monotonic() - saved_at > 60

    def _save(self, *names: str) -> None:
        on_all_ranks(self.fabric, self._write, names)

    def _write(self, names: Sequence[str]) -> None:
        if not self.fabric.is_global_zero:
            return
        record = {
            "model": checkpoint.describe(self.module),
            "weights": self.module.state_dict(),
            "average": None if self.average is None else self.average.weights,
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "recipe": {**asdict(self.recipe), "rows": len(self.pairs)},
            "data": self.data,
            "total_steps": self.schedule.total_steps,
            "history": list(self.history),
            "losses": self._losses,
            "warnings": list(self.warnings),
            "best_epoch": self.best_epoch,
            "best_score": self.best_score,
            "best": list(self._best),
        }
        for name in names:
            checkpoint.write(self.folder / name, record)

    def _watch(self, loss: float) -> None:
        self._losses.append(loss)
        chance = math.log(self.recipe.batch_size)
        if self.recipe.loss == "softmax" and self.step == min(
            STUCK_AFTER, self.schedule.total_steps
        ):
            recent = sum(self._losses[-20:]) / len(self._losses[-20:])
            if recent > STUCK_SHARE * chance:
                self._warn(
                    f"the loss is still {recent:.3f}, what guessing gives (ln "
                    f"{self.recipe.batch_size} = {chance:.3f}): try a larger --lr or a "
                    "longer run, and check that captions belong to their images"
                )

    def _warn(self, text: str) -> None:
        self.warnings.append(text)
        note(f"warning: {text}")

    def _diverged(self, value: float) -> None:
        kept = sorted(self.folder.glob(NAMES.latest))
        error = WorkError(
            f"the loss is {value} at step {self.step + 1}, so the run was stopped",
            want="a finite loss",
            hint=f"the last good checkpoint is {kept[0]}; go on from it with a smaller --lr"
            if kept
            else "no checkpoint was written yet; start again with a smaller --lr",
        )
        # Its loss is that of the whole batch, so every process is here.
        raise collective_error(self.fabric, error)

    def _log(self, values: Mapping[str, Any]) -> None:
        if self.logger is not None and self.fabric.is_global_zero:
            self.logger.log_metrics(dict(values), step=self.step)
