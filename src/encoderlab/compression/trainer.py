"""Trains a token compressor with a reconstruction loss, a distribution loss, and a VLM's answers.

`training.loop` knows epochs, checkpoints and resuming. Knows no encoder: tokens come from a
TokenSource.

The gradients of the losses are added at the compressed tokens. With `balance`, the
distribution's is first scaled to the norm of the reconstruction's, so that the weights mean the
same for every encoder. b images, n tokens, c channels, k kept.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from encoderlab.compression.answer_loss import AnswerLoss
from encoderlab.compression.compressor import FORMAT, Compressor
from encoderlab.compression.settings import Compress
from encoderlab.compression.token_source import TokenSource, first_tokens
from encoderlab.core.progress import note
from encoderlab.errors import UsageError
from encoderlab.losses.distribution import mmd, sinkhorn_divergence, sliced_wasserstein
from encoderlab.losses.reconstruction import reconstruction_loss
from encoderlab.losses.wgan_gp import (
    check_critic,
    corrected_distance,
    critic_loss,
    generator_loss,
)
from encoderlab.models.token_compressor import (
    AutoencoderShape,
    TokenAutoencoder,
    TokenCritic,
    TokensToWindows,
    WindowsToTokens,
    start_at_block_pca,
)
from encoderlab.models.token_grid import Grid, divides
from encoderlab.patch_tokens.pooling import one_of_each_window
from encoderlab.patch_tokens.reducer import normalised_error
from encoderlab.training.collectives import average_gradients, mean_over
from encoderlab.training.loop import CheckpointNames, Evaluation, TrainedRun, Trainer
from encoderlab.training.optimiser import learning_rate
from encoderlab.training.schedule import Schedule, check_batch

if TYPE_CHECKING:
    from lightning.fabric import Fabric
    from lightning.fabric.loggers.logger import Logger

NAMES = CheckpointNames("best_model.pt", "checkpoint_epoch_{}.pt", "latest.pt", FORMAT)
# Limits for the standardisation and the start, and for pairwise distances.
FIT_IMAGES, FIT_VALUES, PAIRWISE_TOKENS = 2000, 300_000_000, 1024
VALIDATED, CHECK_STEPS = 512, 20
SEEDS_APART = 1_000_003
LINEAR_SHARE = 0.1


@dataclass(frozen=True)
class Recipe:
    """The settings that determine a run's numbers, together with the tokens."""

    epochs: int
    batch_size: int
    lr: float
    critic_lr: float
    n_critic: int
    lambda_gp: float
    wgan_weight: float
    ae_weight: float
    distribution: str
    balance: bool
    start: str
    standardise: str
    grad_clip: float
    seed: int
    init: str | None
    answers: str | None
    answers_weight: float | None

    @classmethod
    def of(cls, settings: Compress | None = None, **changes: Any) -> Recipe:
        """The recipe in `settings`, by default the default ones, with other values in `changes`."""
        settings = settings or Compress()
        values = {
            **vars(settings.training), **vars(settings.loss), "seed": settings.seed,
            "start": settings.model.compressor.start, "answers": settings.evaluation.answers,
            **changes,
        }  # fmt: skip
        if not values["answers"]:  # None like the key that checkpoints before it do not have
            values["answers_weight"] = None
        return cls(**{field.name: values[field.name] for field in dataclasses.fields(cls)})

    def __post_init__(self) -> None:
        for name in ("lr", "critic_lr"):
            if getattr(self, name) <= 0:
                raise UsageError(f"{name} must be positive", got=getattr(self, name))
        if self.ae_weight <= 0 and not self.matches and not self.answers_weight:
            raise UsageError(
                "all loss weights are 0",
                got=f"ae_weight={self.ae_weight}, wgan_weight={self.wgan_weight}, "
                f"distribution={self.distribution}, answers_weight={self.answers_weight}",
                want="at least one weight above 0",
            )

    @property
    def matches(self) -> bool:
        """Whether there is a distribution loss."""
        return self.distribution != "none" and self.wgan_weight > 0

    @property
    def adversarial(self) -> bool:
        """Whether the distribution loss is a critic."""
        return self.distribution == "wgan" and self.wgan_weight > 0


class CompressorTrainer(Trainer[tuple[list[int], tuple[list[int], ...]]]):
    """One run of `recipe` over the tokens of `train`.

    Args:
        shape: of the network.
        train: tokens to train on.
        val: held-out tokens.
        recipe: losses, optimisers and their schedule.
        fabric: device, precision and processes.
        folder: checkpoints go to `folder/checkpoints`.
        answers: the loss through a VLM, whose training and held-out tokens `train` and `val` are.
        initial: a compressor of the same shape to start from.
        about: encoder and layer of the tokens; stored in every checkpoint.
        save_every: steps between two writes of `latest.pt` within an epoch; None: one a minute.
        logger: a Lightning logger for the curves.

    Raises:
        UsageError: the batch does not fit the data or the devices.
    """

    names = NAMES
    unit = "image"
    identity_key = "identity"

    def __init__(
        self,
        shape: AutoencoderShape,
        train: TokenSource,
        val: TokenSource,
        recipe: Recipe,
        fabric: Fabric,
        folder: Path,
        *,
        answers: AnswerLoss | None = None,
        initial: Compressor | None = None,
        about: dict[str, Any] | None = None,
        save_every: int | None = None,
        logger: Logger | None = None,
    ) -> None:
        world, rank = fabric.world_size, fabric.global_rank
        rows = "images" if answers is None else "questions"
        check_batch(recipe.batch_size, len(train), world, f"{rows} to train on")
        super().__init__(
            fabric,
            Schedule(len(train), recipe.batch_size, recipe.epochs, recipe.seed, rank, world),
            recipe,
            {
                "training images": train.fingerprint(),
                "validation images": val.fingerprint(),
                **({} if answers is None else {"weights of the VLM": answers.fingerprint()}),
                **({} if initial is None else {"initial compressor": initial.fingerprint()}),
            },
            folder,
            save_every=save_every,
            logger=logger,
        )
        self.train, self.val, self.about = train, val, about or {}
        self.answers, self.initial = answers, initial
        torch.manual_seed(recipe.seed)
        self.model = TokenAutoencoder(shape)
        self.critics = nn.ModuleList(TokenCritic(shape.channels, g) for g in shape.budgets)
        per_image = shape.grid[0] * shape.grid[1] * shape.channels
        count = min(FIT_IMAGES, max(2, FIT_VALUES // per_image))
        slow = self._initialise(first_tokens(train, count, recipe.seed))
        self.device = fabric.device
        self.model.to(self.device)
        self.critics.to(self.device)
        # No momentum against a critic (Gulrajani et al. 2017), unless there is a reconstruction
        # loss: its error is far higher without momentum.
        betas = (0.9, 0.99) if recipe.ae_weight else (0.0, 0.9)
        self.optimiser = torch.optim.Adam(_groups(self.model, slow), recipe.lr, betas, fused=True)
        self.critic_optimiser = torch.optim.Adam(
            self.critics.parameters(), recipe.critic_lr, (0.0, 0.9), fused=True
        )
        # fp16 underflows for small gradients, so they are scaled.
        fp16 = str(fabric._precision.precision) == "16-mixed"
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=fp16)
        # The critic has its own batches: n_critic for each of the compressor's.
        self.critic_schedule = Schedule(
            len(train), recipe.batch_size, recipe.epochs * recipe.n_critic,
            recipe.seed + SEEDS_APART, rank, world,
        )  # fmt: skip
        self.warmup = min(self.schedule.total_steps // 20, 500)
        # Everything with a state_dict, by its key in a checkpoint.
        self.parts: dict[str, Any] = {
            "weights": self.model,
            "critics": self.critics,
            "optimiser": self.optimiser,
            "critic_optimiser": self.critic_optimiser,
            "scaler": self.scaler,
        }
        self.checks: dict[str, float] = {}  # metrics of the critic before training
        self._sums: dict[str, float] = {}

    def _initialise(self, tokens: Float[Tensor, "b n c"]) -> bool:
        """Sets the standardisation and the linear maps; gives whether all maps are optimal."""
        if self.initial is not None:
            self.model.load_state_dict(self.initial.model.state_dict())
            self.began = dict.fromkeys(self.model.shape.budgets, str(self.recipe.init))
            return True
        self.model.scale.fit(tokens, per_channel=self.recipe.standardise == "channel")
        ready = self.model.scale(tokens)
        grid, channels = self.model.shape.grid, self.model.shape.channels
        # The initial linear map of each budget.
        self.began = dict.fromkeys(self.model.shape.budgets, "average pooling")
        for budget in self.model.shape.budgets if self.recipe.start == "block_pca" else ():
            windows = budget[0] * budget[1]
            dimensions = grid[0] * grid[1] // windows * channels
            average = f"{budget[0]} x {budget[1]} starts as average pooling"
            if not divides(grid, budget):
                note(f"{average}: its windows are not of one size")
            elif len(tokens) * windows < dimensions:
                note(f"{average}: too few images for the best linear map")
            else:
                start_at_block_pca(self.model.compressor, self.model.decoder, ready, budget)
                self.began[budget] = "block-PCA"
        return set(self.began.values()) == {"block-PCA"}

    def run(self) -> TrainedRun:
        """Checks the critic, evaluates the state before training as epoch 0, and trains."""
        # Each process computes the start, and two machines may round it differently.
        if self.fabric.world_size > 1:
            for module in (self.model, self.critics):
                for tensor in chain(module.parameters(), module.buffers()):
                    torch.distributed.broadcast(tensor.data, 0)
        if self.recipe.adversarial and not self.step:
            self.checks = self._check()
        if not self.history:
            self.end_epoch(0)
        return super().run()

    def batches(self, first_step: int) -> Iterator[tuple[list[int], tuple[list[int], ...]]]:
        """This rank's images of each step from `first_step` on, and those of the critic's steps."""
        count = self.recipe.n_critic
        critic = self.critic_schedule.batches(first_step * count)
        return zip(
            self.schedule.batches(first_step), zip(*[critic] * count, strict=True), strict=True
        )

    def identity(self) -> dict[str, Any]:
        """Everything that must be equal for equal numbers."""
        shape = self.model.shape
        return {
            **asdict(self.recipe),
            **asdict(shape),
            "grid": list(shape.grid),
            "budgets": [list(budget) for budget in shape.budgets],
            **self.about,
            "images": len(self.train),
        }

    def state(self) -> dict[str, Any]:
        """Both networks, their optimisers, the checks, and the sums for the epoch's means."""
        parts = {name: part.state_dict() for name, part in self.parts.items()}
        return {**parts, "checks": self.checks, "sums": self._sums}

    def load_state(self, record: dict[str, Any]) -> None:
        """Takes over what `state` gave, or a checkpoint of version 0.1."""
        for name, part in self.parts.items():
            part.load_state_dict(record[name])
        self.checks, self._sums = dict(record["checks"]), dict(record["sums"])
        if "best" not in record:  # version 0.1
            self.best_rank = tuple(-value for value in self.best_score)

    # -- one step ---------------------------------------------------------------------------------

    def train_step(self, batch: tuple[list[int], tuple[list[int], ...]]) -> dict[str, float]:
        """Trains the critics, where there are any, then the compressor."""
        images, critic_batches = batch
        rate = learning_rate(self.step, 1.0, self.warmup, self.schedule.total_steps)
        for optimiser, lr in (
            (self.optimiser, self.recipe.lr), (self.critic_optimiser, self.recipe.critic_lr),
        ):  # fmt: skip
            for group in optimiser.param_groups:
                group["lr"] = lr * rate * group.get("share", 1.0)
        values: dict[str, float] = {}
        if self.recipe.adversarial:
            for number, rows in enumerate(critic_batches):
                values = self._critic_step(rows, self._generator(number))
        values |= self._compressor_step(images, self._generator(self.recipe.n_critic))
        values["lr"] = self.recipe.lr * rate
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        return values

    def _critic_step(self, batch: Sequence[int], generator: torch.Generator) -> dict[str, float]:
        """One step of the critics, always in fp32."""
        tokens = self._standardised(batch)
        self.critic_optimiser.zero_grad()
        values: dict[str, float] = {}
        losses = []
        for critic, budget in zip(self.critics, self.model.shape.budgets, strict=True):
            with torch.no_grad(), self.fabric.autocast():
                fake = self.model.compressor(tokens, budget).float()
            # Real and fake of different images: a critic compares sets, not pairs.
            real = self._all_rows(self._real(tokens, budget, generator)).roll(1, dims=0)
            epsilon = self._own_rows(torch.rand(len(real), generator=generator))
            result = critic_loss(
                critic, self._own_rows(real), fake, self.recipe.lambda_gp, epsilon=epsilon
            )
            losses.append(result.loss)
            values |= mean_over(
                self.fabric,
                {
                    "critic/loss": float(result.loss.detach()),
                    "critic/estimate": float(result.distance),
                    "critic/penalty": float(result.penalty),
                },
            )
            values["critic/corrected"] = corrected_distance(
                values["critic/estimate"], self.recipe.lambda_gp
            )
            levels = torch.tensor([0.1, 0.5, 0.9], device=self.device)
            slopes = self._all_rows(result.slopes).quantile(levels).tolist()
            for percent, slope in zip((10, 50, 90), slopes, strict=True):
                values[f"critic/slope_p{percent}"] = slope
        self.check_finite(values["critic/loss"], "the critic's loss")
        torch.stack(losses).sum().backward()
        average_gradients(self.fabric, self.critics.parameters())
        self.critic_optimiser.step()
        return values

    def _compressor_step(
        self, batch: Sequence[int], generator: torch.Generator
    ) -> dict[str, float]:
        tokens = self._standardised(batch)
        recipe, values = self.recipe, dict[str, float]()
        self.optimiser.zero_grad()
        for number, budget in enumerate(self.model.shape.budgets):
            with self.fabric.autocast():
                kept = self.model.compressor(tokens, budget)
            # The graph is cut here: the gradients of both losses are added, then back-propagated
            # through the compressor once.
            leaf = kept.detach().float().requires_grad_(True)
            with self.fabric.autocast():
                decoded = self.model.decoder(leaf, budget)
            loss = reconstruction_loss(decoded.float(), tokens)
            if recipe.ae_weight:
                scaled = self.scaler.scale(loss * recipe.ae_weight)
                scaled.backward(retain_graph=self.answers is not None)
            gradient = self._gradient(leaf)
            losses = {"loss/reconstruction": float(loss.detach())}
            norm = self._norm(gradient)
            values["gradient/reconstruction"] = float(norm)
            if self.answers is not None:
                losses["loss/answers"] = self._answer(self.answers, decoded, batch)
                both = self._gradient(leaf)
                values["gradient/answers"] = float(self._norm(both - gradient))
                gradient = both
            if recipe.matches:
                losses["loss/distribution"], push = self._distribution(
                    number, kept, tokens, generator
                )
                push_norm = self._norm(push)
                values["gradient/distribution"] = float(push_norm)
                gradient = gradient + push * self._weight(norm, push_norm)
            values |= mean_over(self.fabric, losses)
            kept.backward((gradient * self.scaler.get_scale()).to(kept.dtype))
            if recipe.matches:
                self.check_finite(values["loss/distribution"], "the distribution loss")
            if self.answers is not None:
                self.check_finite(values["loss/answers"], "the loss of the answers")
        self.check_finite(values["loss/reconstruction"], "the reconstruction loss")
        average_gradients(self.fabric, self.model.parameters())
        self.scaler.unscale_(self.optimiser)
        norm = nn.utils.clip_grad_norm_(
            self.model.parameters(), recipe.grad_clip or math.inf, foreach=True
        )
        values["gradient/all"] = float(norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return values

    def _gradient(self, leaf: Float[Tensor, "b k c"]) -> Float[Tensor, "b k c"]:
        """The gradient that has been accumulated at the compressed tokens, without its scale."""
        if leaf.grad is None:
            return torch.zeros_like(leaf)
        return leaf.grad / self.scaler.get_scale()

    def _answer(
        self, answers: AnswerLoss, decoded: Float[Tensor, "b n c"], batch: Sequence[int]
    ) -> float:
        """Back-propagates the answers' loss; gives it, in nats per answer token of this process."""
        with self.fabric.autocast():
            loss, count = answers(self.model.scale.back(decoded.float()), batch)
        # Gradients are averaged over the processes: the mean is over the tokens of all of them.
        mean_count = mean_over(self.fabric, {"tokens": float(count)})["tokens"]
        weight = self.recipe.answers_weight or 0.0
        self.scaler.scale(loss / mean_count * weight).backward()
        return float(loss.detach()) / mean_count

    def _distribution(
        self,
        number: int,
        kept: Float[Tensor, "b k c"],
        tokens: Float[Tensor, "b n c"],
        generator: torch.Generator,
    ) -> tuple[float, Float[Tensor, "b k c"]]:
        """The distribution loss, and its gradient at the compressed tokens."""
        budget = self.model.shape.budgets[number]
        if self.recipe.distribution == "wgan":
            fake = kept.detach().float().requires_grad_(True)
            loss = generator_loss(self.critics[number], fake)
            (gradient,) = torch.autograd.grad(loss, fake)
        else:
            # A distance of two sets is not a mean over images: it needs those of all processes.
            fake = self._all_rows(kept.detach().float()).requires_grad_(True)
            real = self._all_rows(self._real(tokens, budget, generator)).flatten(0, 1)
            flat = fake.flatten(0, 1)
            if self.recipe.distribution == "sliced_wasserstein":
                loss = sliced_wasserstein(flat, real, generator=generator)
            else:
                flat, real = flat[:PAIRWISE_TOKENS], real[:PAIRWISE_TOKENS]
                sinkhorn = self.recipe.distribution == "sinkhorn"
                loss = sinkhorn_divergence(flat, real) if sinkhorn else mmd(flat, real)
            (whole,) = torch.autograd.grad(loss, fake)
            # Gradients are averaged over the processes.
            gradient = self._own_rows(whole) * self.fabric.world_size
        return float(loss.detach()), gradient

    def _weight(self, own: Tensor, push: Tensor) -> float | Tensor:
        """Factor of the distribution's gradient; `own` and `push` are norms of both gradients."""
        if not self.recipe.balance or not self.recipe.ae_weight:
            return self.recipe.wgan_weight
        return self.recipe.wgan_weight * own / self.recipe.ae_weight / push.clamp_min(1e-12)

    def _real(
        self, tokens: Float[Tensor, "b n c"], budget: Grid, generator: torch.Generator
    ) -> Float[Tensor, "b k c"]:
        """One real token of each window: the mean of a window would teach average pooling."""
        whole = len(tokens) * self.fabric.world_size
        chosen = one_of_each_window(whole, self.model.shape.grid, budget, generator)
        return _gather(tokens, self._own_rows(chosen))

    def _standardised(self, batch: Sequence[int]) -> Float[Tensor, "b n c"]:
        with torch.no_grad():
            return self.model.scale(self.train.batch(batch).to(self.device).float())

    def _generator(self, number: int) -> torch.Generator:
        """A generator that depends on (seed, step, number) alone."""
        # Every process draws for the whole batch and takes its share, so that results do not
        # depend on the number of processes.
        mixed = (self.recipe.seed * SEEDS_APART + self.step) * 1_009 + number
        return torch.Generator().manual_seed(mixed * 97 % 2**63)

    def _all_rows(self, rows: Tensor) -> Tensor:
        """The rows of all processes, in the order of the whole batch."""
        world = self.fabric.world_size
        if world == 1:
            return rows
        parts = [torch.empty_like(rows) for _ in range(world)]
        torch.distributed.all_gather(parts, rows.contiguous())
        return torch.stack(parts, dim=1).flatten(0, 1)

    def _own_rows(self, rows: Tensor) -> Tensor:
        """This process's share of the whole batch's rows."""
        return rows[self.fabric.global_rank :: self.fabric.world_size]

    def _norm(self, gradient: Tensor) -> Tensor:
        """The norm of the whole batch's gradient, from this process's part of it."""
        world = self.fabric.world_size
        if world == 1:
            return gradient.norm()
        squares = (gradient / world).square().sum()
        torch.distributed.all_reduce(squares)
        return squares.sqrt()

    # -- checks and records -----------------------------------------------------------------------

    def _check(self) -> dict[str, float]:
        """Refuses critics that mix samples; gives metrics after some steps, which are undone."""
        batches = self.critic_schedule.batches()
        tokens = self._standardised(next(batches))
        for critic, budget in zip(self.critics, self.model.shape.budgets, strict=True):
            check_critic(critic, self._real(tokens, budget, self._generator(0)))
        critics = {name: value.clone() for name, value in self.critics.state_dict().items()}
        optimiser = self.critic_optimiser.state_dict()
        values: dict[str, float] = {}
        for number, batch in enumerate(islice(batches, CHECK_STEPS)):
            values = self._critic_step(batch, self._generator(number))
        self.critics.load_state_dict(critics)
        self.critic_optimiser.load_state_dict(optimiser)
        if values:
            note(
                f"critic checks: no leak between samples; after {CHECK_STEPS} steps slopes "
                f"{values['critic/slope_p10']:.2f} to {values['critic/slope_p90']:.2f} "
                f"(10 to 90 %), Wasserstein estimate {values['critic/estimate']:.3f} "
                f"({values['critic/corrected']:.3f} corrected)"
            )
        return values

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Metrics on held-out tokens: means over the budgets, and each where there are several."""
        tokens = first_tokens(self.val, VALIDATED, seed=0).to(self.device)
        self.model.eval()
        rows = [self._validated(tokens, budget) for budget in self.model.shape.budgets]
        if self.answers is not None:
            for row, budget in zip(rows, self.model.shape.budgets, strict=True):
                row |= self.answers.measure(functools.partial(self._rebuilt, budget))
        self.model.train()
        means = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
        if len(rows) > 1:
            for budget, row in zip(self.model.shape.budgets, rows, strict=True):
                means |= {f"{name}/{budget[0]}x{budget[1]}": v for name, v in row.items()}
        if self.answers is not None:
            means |= {f"{name}_of_all_tokens": v for name, v in self.answers.full.items()}
        return means

    def _rebuilt(self, budget: Grid, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        return self.model.decode(
            self.model.compress(tokens.to(self.device).float(), budget), budget
        )

    def _validated(self, tokens: Float[Tensor, "b n c"], budget: Grid) -> dict[str, float]:
        kept = torch.cat([self.model.compress(part, budget) for part in tokens.split(256)])
        decoded = torch.cat([self.model.decode(part, budget) for part in kept.split(256)])
        generator = torch.Generator().manual_seed(0)
        ready = self.model.scale(tokens)
        grid = self.model.shape.grid
        real, again = (
            _gather(ready, one_of_each_window(len(ready), grid, budget, generator)).flatten(0, 1)
            for _ in range(2)
        )
        fake = self.model.scale(kept).flatten(0, 1)
        return {
            "nmse": normalised_error(tokens, decoded, self.model.scale.mean),
            "cosine": float(F.cosine_similarity(decoded, tokens, dim=-1).mean()),
            "sliced_wasserstein": float(sliced_wasserstein(fake, real, generator=generator)),
            "sliced_wasserstein_floor": float(sliced_wasserstein(again, real, generator=generator)),
            "norm_ratio": float(kept.norm(dim=-1).mean() / tokens.norm(dim=-1).mean()),
        }

    def evaluate(self, epoch: int) -> Evaluation:
        """Validates; the best epoch has the lowest error, of equal ones the nearest tokens."""
        steps = self.schedule.steps_per_epoch if epoch else 1
        row = {"epoch": float(epoch), **{k: v / steps for k, v in self._sums.items()}}
        self._sums = {}
        metrics = self.validate()
        validation = {f"val/{name}": value for name, value in metrics.items()}
        self.log(validation)
        # Not a loss with an adversarial term, which does not measure what is kept.
        score = (float(f"{metrics['nmse']:.3g}"), metrics["sliced_wasserstein"])
        when = f"epoch {epoch} of {self.recipe.epochs}" if epoch else "before training"
        text = (
            f"{when}: normalised error {metrics['nmse']:.4g}  cosine {metrics['cosine']:.4f}  "
            f"sliced Wasserstein {metrics['sliced_wasserstein']:.3f} "
            f"(floor {metrics['sliced_wasserstein_floor']:.3f})"
        )
        if self.answers is not None:
            # What is kept for the answers, not how near the tokens are.
            score = (metrics["answer_nll"], metrics["nmse"])
            text += (
                f"  {metrics['answer_nll']:.3f} nats per answer token "
                f"(all tokens {metrics['answer_nll_of_all_tokens']:.3f})  "
                f"{metrics['answers']:.1%} right (all tokens "
                f"{metrics['answers_of_all_tokens']:.1%})"
            )
        return Evaluation(row | validation, (-score[0], -score[1]), score, text)


def _gather(tokens: Float[Tensor, "b n c"], chosen: Tensor) -> Float[Tensor, "b k c"]:
    index = chosen.to(tokens.device).unsqueeze(-1).expand(-1, -1, tokens.shape[-1])
    return tokens.gather(1, index)


def _groups(model: TokenAutoencoder, slow: bool) -> list[dict[str, Any]]:
    """Parameter groups: linear maps that start as the optimum have a smaller learning rate."""
    linear = {
        id(p)
        for module in model.modules()
        if isinstance(module, WindowsToTokens | TokensToWindows)
        for p in module.parameters()
    }
    groups: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
    for parameter in model.parameters():
        groups[id(parameter) in linear].append(parameter)
    rest, maps = groups
    return [
        {"params": rest, "share": 1.0},
        {"params": maps, "share": LINEAR_SHARE if slow else 1.0},
    ]
