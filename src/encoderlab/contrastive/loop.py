"""Contrastive training of two towers: the recipe, one step, and the evaluation of an epoch.

Knows models and pairs; `training.loop` knows epochs, checkpoints and resuming. Parses no CSV,
chooses no preset, draws nothing.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from encoderlab.contrastive.augment import augment, strength
from encoderlab.contrastive.cached_gradients import backward_in_chunks
from encoderlab.contrastive.dataset import Batch, ImageTextDataset, loader, positives_of
from encoderlab.contrastive.streaming import StreamSchedule
from encoderlab.contrastive.train_settings import Train
from encoderlab.errors import UsageError
from encoderlab.losses.contrastive import contrastive_loss
from encoderlab.losses.sigmoid import sigmoid_loss
from encoderlab.models import checkpoint
from encoderlab.models.clip import CLIP, TwoTowers
from encoderlab.training.collectives import average_gradients, ignore_stop_signals
from encoderlab.training.loop import CheckpointNames, Evaluation, Trainer
from encoderlab.training.optimiser import RunningAverage, adamw, learning_rate
from encoderlab.training.schedule import Schedule, check_batch

if TYPE_CHECKING:
    from lightning.fabric import Fabric
    from lightning.fabric.loggers.logger import Logger

LOSSES = ("softmax", "sigmoid")
NAMES = CheckpointNames("best.ckpt", "epoch_{}.ckpt", "latest.ckpt", checkpoint.FORMAT)
# A model whose loss is above this share of ln(batch) after this many steps has learnt nothing.
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
        """The recipe in the settings of `encoderlab train`, default ones if None, with changes."""
        settings = settings or Train()
        values = {field.name: getattr(settings, field.name) for field in dataclasses.fields(cls)}
        return cls(**values | changes)

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
                "a batch of one pair has no negatives",
                got="batch_size=1",
                want="at least 2; 64 and more work best",
            )
        if self.chunk_size is not None and self.chunk_size < 1:
            raise UsageError("chunk_size must be positive", got=self.chunk_size)


@dataclass(frozen=True)
class Validation:
    """The result of one validation.

    Args:
        score: selects the best checkpoint, higher is better; None where the data gives no score.
            Of equal scores the lower `validation_loss` of `metrics`, then the lower training loss,
            decides.
    """

    score: float | None
    metrics: dict[str, float]
    warnings: tuple[str, ...] = ()


class ContrastiveTrainer(Trainer[Batch]):
    """One run of `recipe` over `pairs`.

    Args:
        model: trained in place.
        folder: checkpoints go to `folder/checkpoints`.
        validate: called after every epoch with the model in eval mode.
        val_pairs: what it validates on; a checkpoint keeps their fingerprint, as that of `pairs`.
        save_every: steps between two writes of `latest.ckpt` within an epoch; None writes one a
            minute.
        workers: processes that prepare batches; 0: this one.
        logger: a Lightning logger for the curves.

    Raises:
        UsageError: the batch does not fit the data or the devices.
    """

    names = NAMES
    unit = "pair"
    identity_key = "recipe"

    def __init__(
        self,
        model: TwoTowers,
        pairs: ImageTextDataset,
        recipe: Recipe,
        fabric: Fabric,
        folder: Path,
        *,
        workers: int,
        validate: Callable[[TwoTowers], Validation] | None = None,
        val_pairs: ImageTextDataset | None = None,
        save_every: int | None = None,
        logger: Logger | None = None,
    ) -> None:
        check_batch(recipe.batch_size, len(pairs), fabric.world_size, "pairs", least=2)
        data = {f"training {name}": digest for name, digest in pairs.fingerprint().items()}
        if val_pairs is not None:
            digests = val_pairs.fingerprint()
            data |= {f"validation {name}": digests[name] for name in ("images", "captions")}
        plan = (
            len(pairs),
            recipe.batch_size,
            recipe.epochs,
            recipe.seed,
            fabric.global_rank,
            fabric.world_size,
        )
        schedule = Schedule(*plan) if pairs.units is None else StreamSchedule(*plan, pairs.units)
        super().__init__(
            fabric, schedule, recipe, data, folder, save_every=save_every, logger=logger
        )
        self.pairs, self.validate, self.workers = pairs, validate, workers
        assert pairs.keep_padding == model.reads_padding
        if recipe.loss == "sigmoid" and isinstance(model, CLIP) and model.logit_bias is None:
            model.add_logit_bias()
            nn.init.constant_(model.logit_scale, math.log(10))
        self.module = model
        self.model = fabric.setup_module(model)
        self.optimiser: Any = fabric.setup_optimizers(adamw(model, recipe.lr, recipe.wd))
        self.average = RunningAverage(model, recipe.ema) if recipe.ema else None
        self.augmentation = strength(recipe.augment)
        total = schedule.total_steps
        self.warmup = min(total // 10, 2000) if recipe.warmup_steps is None else recipe.warmup_steps
        self.losses: list[float] = []
        self.model.train()

    @property
    def loss(self) -> float:
        """The training loss of the last step; NaN before the first."""
        return self.losses[-1] if self.losses else math.nan

    def batches(self, first_step: int) -> DataLoader:
        """This rank's batches from `first_step` to the end."""
        batches = loader(self.pairs, self.schedule, first_step, self.workers)
        if batches.worker_init_fn is None:
            batches.worker_init_fn = ignore_stop_signals
        return batches

    def identity(self) -> dict[str, Any]:
        """The recipe and the number of pairs."""
        return {**asdict(self.recipe), "rows": len(self.pairs)}

    def state(self) -> dict[str, Any]:
        """The model, its running average, the optimiser, and the loss of every step."""
        return {
            "model": checkpoint.describe(self.module),
            "weights": self.module.state_dict(),
            "average": None if self.average is None else self.average.weights,
            "optimiser": self.optimiser.state_dict(),
            "losses": self.losses,
        }

    def load_state(self, record: dict[str, Any]) -> None:
        """Takes over what `state` gave, or a checkpoint of version 0.1."""
        self.module.load_state_dict(record["weights"])
        self.optimiser.load_state_dict(record["optimiser"])
        if self.average is not None:
            self.average.weights = record["average"]
        self.losses = list(record["losses"])
        if "best" not in record and self.best_epoch:
            # Version 0.1 kept no losses beside the score: a later equal score is no better.
            self.best_rank = (self.best_score or 0.0, math.inf, math.inf)

    def train_step(self, batch: Batch) -> dict[str, float]:
        """Trains on one batch.

        Returns:
            Loss, learning rate, norm of the gradient, and logit scale.
        """
        recipe = self.recipe
        self._seed_step()
        lr = learning_rate(self.step, recipe.lr, self.warmup, self.schedule.total_steps)
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        self.optimiser.zero_grad()
        loss = float(self.backward(batch))
        norm = self.fabric.clip_gradients(
            self.module, self.optimiser, max_norm=recipe.grad_clip, error_if_nonfinite=False
        )
        self.check_finite(loss)
        self.optimiser.step()
        self.module.clamp_logit_scale()
        self.module.trained_steps = self.step + 1
        if self.average is not None:
            self.average.update(self.module, self.step + 1)
        self.losses.append(loss)
        if self.step + 1 == min(STUCK_AFTER, self.schedule.total_steps):
            self._check_learning()
        return {
            "train/loss": loss,
            "train/lr": lr,
            "train/grad_norm": float(norm or 0),
            "train/logit_scale": self.module.logit_scale.exp().item(),
        }

    def backward(self, batch: Batch) -> Tensor:
        """Computes the gradients of the loss of the batch of all ranks, into `.grad`.

        Returns:
            The loss, detached.
        """
        batch = Batch(*(part.to(self.fabric.device, non_blocking=True) for part in batch))
        pixels = batch.pixels.float()
        if self.augmentation is not None:
            pixels = augment(pixels, self.augmentation)
        pixels = self.module.preprocess.standardise(pixels)
        positives = None
        if self.recipe.multi_positive:
            positives = positives_of(
                self._all_gather(batch.image_ids), self._all_gather(batch.text_ids)
            )

        loss_of = partial(self._loss, positives=positives)
        chunk = self.recipe.chunk_size
        if chunk is None or chunk >= len(pixels):
            loss = loss_of(*self.model(pixels, batch.tokens))
            self.fabric.backward(loss)
            return loss.detach()
        # One reduction after all chunks: reducing at each would send every gradient many times.
        parallel = self.fabric.world_size > 1
        with self.fabric.no_backward_sync(self.model) if parallel else nullcontext():
            loss = backward_in_chunks(
                self.model, pixels, batch.tokens, loss_of, chunk, self.fabric.backward
            )
        average_gradients(self.fabric, self.module.parameters())
        return loss

    def _loss(self, image: Tensor, text: Tensor, positives: Tensor | None) -> Tensor:
        # In fp32 whatever the forward pass ran in: bf16 logits of a large batch tie.
        with torch.autocast(image.device.type, enabled=False):
            image = self._all_gather(F.normalize(image.float(), dim=-1))
            text = self._all_gather(F.normalize(text.float(), dim=-1))
            scale = self.module.logit_scale.exp()
            if self.recipe.loss == "sigmoid":
                assert self.module.logit_bias is not None
                return sigmoid_loss(image, text, scale, self.module.logit_bias, positives)
            return contrastive_loss(image, text, scale, positives)

    def _all_gather(self, rows: Tensor) -> Tensor:
        """Rows of all ranks, in rank order, with gradients flowing back to their owners."""
        if self.fabric.world_size == 1:
            return rows
        gathered = self.fabric.all_gather(rows, sync_grads=rows.requires_grad)
        assert isinstance(gathered, Tensor)
        return gathered.flatten(0, 1)

    def _seed_step(self) -> None:
        # A fixed odd multiplier keeps (seed, step, rank) apart without a table of states.
        mixed = (self.recipe.seed * 1_000_003 + self.step) * 1_009 + self.fabric.global_rank
        torch.manual_seed(mixed % (2**63))

    def evaluate(self, epoch: int) -> Evaluation:
        """Validates, with the averaged weights where there are any."""
        losses = self.losses[-self.schedule.steps_per_epoch :]
        metrics = {"epoch": float(epoch), "loss": sum(losses) / max(len(losses), 1)}
        score: float | None = -metrics["loss"]
        if self.validate is not None:
            validation = self._with_average(self.validate)
            score = validation.score
            metrics.update(validation.metrics)
            for warning in validation.warnings:
                self.warn(f"epoch {epoch}: {warning}")
        shown = {name: value for name, value in metrics.items() if name != "epoch"}
        self.log({f"val/{name}": value for name, value in shown.items()})
        text = "  ".join(
            f"{name} {value:.4g}"
            + (f" (chance {metrics[f'{name}/chance']:.2g})" if f"{name}/chance" in metrics else "")
            for name, value in shown.items()
            if not name.endswith("/chance")
        )
        rank = (score or 0.0, -metrics.get("validation_loss", 0.0), -metrics["loss"])
        return Evaluation(metrics, rank, score, f"epoch {epoch} of {self.recipe.epochs}: {text}")

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

    def _check_learning(self) -> None:
        recent, chance = float(np.mean(self.losses[-20:])), math.log(self.recipe.batch_size)
        if self.recipe.loss == "softmax" and recent > STUCK_SHARE * chance:
            self.warn(
                f"the loss is still {recent:.3f}, what guessing gives (ln "
                f"{self.recipe.batch_size} = {chance:.3f}): try a larger --lr or a "
                "longer run, and check that captions belong to their images"
            )
