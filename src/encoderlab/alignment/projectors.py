"""Projectors fitted to pairs of pooled vectors: one, or a grid of encoder x LLM x kind x seed.

As ELAS is defined: Adam, full batch, mean squared error, 80 % of the pairs for training, the rest
held out. The grid trains stacked copies with torch.func and gives the same numbers as training one
after another. Takes vectors; loads no model, reads no file.

Shapes: n pairs, m copies in a stack, d_v and d_t widths.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import grad

from encoderlab.core.progress import progress
from encoderlab.errors import UsageError, WorkError, unknown
from encoderlab.models.projectors import INPUT_WEIGHTS, KINDS, create_projector, stacked_forward

# With more weights a step is dominated by matrix products, and a stack is no faster
# (benchmarks/bench_projector_grid.py).
STACKED_WEIGHTS = 1_000_000
# Numbers that one stack may hold (weights, gradients, moments, activations): half a gigabyte.
STACK_NUMBERS = 128_000_000

CONVERGED = 0.01

Vectors = np.ndarray | Tensor
Cell = tuple[str, str, str, int]


@dataclass(frozen=True)
class ProjectorRecipe:
    """How a projector is trained (the ELAS protocol by default)."""

    epochs: int = 300
    lr: float = 1e-3
    train_share: float = 0.8

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.lr <= 0:
            raise UsageError(
                "epochs and lr must be positive", got=f"epochs={self.epochs}, lr={self.lr}"
            )
        if not 0 < self.train_share < 1:
            raise UsageError(
                "train_share is out of range", got=self.train_share, want="between 0 and 1"
            )


@dataclass(frozen=True)
class TrainedProjector:
    """A fitted projector and its scores on held-out pairs.

    Args:
        projector: maps (b, d_v) to (b, d_t), in fp32.
        train_rows, held_out_rows: the rows of the pairs.
        held_out_cosine: mean cosine between prediction and target.
        target_variance: mean squared distance per number of held-out targets from the mean training
            target: what a projector that ignores the image reaches.
        losses: the training loss before each epoch's step, (epochs,).
    """

    kind: str
    seed: int
    projector: nn.Module
    train_rows: np.ndarray
    held_out_rows: np.ndarray
    train_mse: float
    held_out_mse: float
    held_out_cosine: float
    target_variance: float
    losses: np.ndarray

    @property
    def held_out_r2(self) -> float:
        """1 - MSE over the variance: 0 for a projector that ignores the image; can be negative."""
        return 1 - self.held_out_mse / max(self.target_variance, 1e-300)

    @property
    def converged(self) -> bool:
        """Whether the last tenth of the epochs lowered the training loss by less than 1 % of the
        variance of the targets, that is, raised R2 by less than 0.01."""
        last = max(1, len(self.losses) // 10)
        if len(self.losses) <= last:
            return False
        fall = float(self.losses[-1 - last] - self.losses[-1])
        return fall < CONVERGED * self.target_variance


def split_rows(
    n: int, train_share: float, seed: int, groups: Sequence[Any] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Splits rows at random; rows of one group stay together.

    Args:
        n: number of rows.
        train_share: share of groups for training, in (0, 1).
        seed: of the split.
        groups: one label per row, such as the image that a caption belongs to.

    Returns:
        (training rows, held-out rows), each in order.

    Raises:
        UsageError: one of the two sides would be empty.

    >>> train, held_out = split_rows(5, 0.8, seed=0)
    >>> len(train), len(held_out)
    (4, 1)
    """
    labels = np.arange(n) if groups is None else np.asarray(groups)
    if len(labels) != n:
        raise UsageError("one group per row is needed", got=f"{len(labels)} for {n} rows")
    names, group_of = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        raise UsageError(
            "too few pairs to train on some and test on others",
            got=f"{n} pairs in {len(names)} groups",
            want="at least 2 groups",
        )
    taken = min(max(round(len(names) * train_share), 1), len(names) - 1)
    order = np.random.default_rng(seed).permutation(len(names))
    in_training = np.zeros(len(names), dtype=bool)
    in_training[order[:taken]] = True
    return np.flatnonzero(in_training[group_of]), np.flatnonzero(~in_training[group_of])


def train_projector(
    kind: str,
    x: Vectors,
    y: Vectors,
    recipe: ProjectorRecipe | None = None,
    seed: int = 0,
    groups: Sequence[Any] | None = None,
) -> TrainedProjector:
    """Fits one projector of a kind from x (n, d_v) to y (n, d_t), on `split_rows` of them."""
    recipe = recipe or ProjectorRecipe()
    return _train_alone(_Job.of(kind, x, y, recipe, seed, groups), recipe)


def _train_alone(
    job: _Job, recipe: ProjectorRecipe, after_epoch: Callable[[], None] = lambda: None
) -> TrainedProjector:
    projector, x, y = job.untrained(), job.train_x, job.train_y
    optimiser = _adam(projector.parameters(), recipe.lr)
    losses = []
    for _ in range(recipe.epochs):
        optimiser.zero_grad()
        loss = F.mse_loss(projector(x), y)
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
        after_epoch()
    return job.finished(projector, torch.stack(losses))


def train_grid(
    pairs: Mapping[tuple[str, str], tuple[Vectors, Vectors]],
    kinds: Sequence[str] = KINDS,
    seeds: Sequence[int] = (0,),
    recipe: ProjectorRecipe | None = None,
    groups: Sequence[Any] | None = None,
) -> dict[Cell, TrainedProjector]:
    """`train_projector` of every (encoder, LLM, kind, seed), stacked where that is faster."""
    recipe = recipe or ProjectorRecipe()
    jobs: dict[Cell, _Job] = {
        (*names, kind, seed): _Job.of(kind, x, y, recipe, seed, groups)
        for names, (x, y) in pairs.items()
        for kind in kinds
        for seed in seeds
    }
    done: dict[Cell, TrainedProjector] = {}
    with progress("training projectors", total=len(jobs), unit="projector") as bar:
        # A run can be stopped after every epoch, before a projector is done.
        after_epoch = functools.partial(bar.advance, 0)
        for cells in _stacks(jobs):
            if len(cells) == 1:
                done[cells[0]] = _train_alone(jobs[cells[0]], recipe, after_epoch)
            else:
                trained = _train_stack([jobs[cell] for cell in cells], recipe, after_epoch)
                done.update(zip(cells, trained, strict=True))
            bar.advance(len(cells))
    return {cell: done[cell] for cell in jobs}


@dataclass(frozen=True)
class _Job:
    """One cell, checked, split and initialised."""

    kind: str
    seed: int
    x: Tensor
    y: Tensor
    train_rows: np.ndarray
    held_out_rows: np.ndarray

    @classmethod
    def of(
        cls,
        kind: str,
        x: Vectors,
        y: Vectors,
        recipe: ProjectorRecipe,
        seed: int,
        groups: Sequence[Any] | None,
    ) -> _Job:
        if kind not in KINDS:
            raise unknown("projector", kind, KINDS, "encoderlab.models.projectors")
        x, y = (torch.as_tensor(vectors).detach().float() for vectors in (x, y))
        if x.ndim != 2 or y.ndim != 2 or len(x) != len(y):
            raise UsageError(
                "x and y must be vectors of the same pairs",
                got=f"{tuple(x.shape)} and {tuple(y.shape)}",
                want="(n, d_v) and (n, d_t)",
            )
        for name, value in (("x", x), ("y", y)):
            if not bool(value.isfinite().all()):
                row = int((~value.isfinite()).any(dim=1).nonzero()[0])
                raise UsageError("a vector is not finite", got=f"row {row} of {name}")
        train_rows, held_out_rows = split_rows(len(x), recipe.train_share, seed, groups)
        return cls(kind, seed, x, y, train_rows, held_out_rows)

    def untrained(self) -> nn.Module:
        """The initialised projector; it depends on the seed alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return create_projector(self.kind, *self.widths).to(self.x.device)

    @property
    def widths(self) -> tuple[int, int]:
        return self.x.shape[1], self.y.shape[1]

    @property
    def train_x(self) -> Tensor:
        return self.x[self.train_rows]

    @property
    def train_y(self) -> Tensor:
        return self.y[self.train_rows]

    @property
    def weights(self) -> int:
        """The number of weights, computed without allocating them."""
        with torch.device("meta"):
            return sum(p.numel() for p in create_projector(self.kind, *self.widths).parameters())

    @torch.no_grad()
    def finished(self, projector: nn.Module, losses: Tensor) -> TrainedProjector:
        if not bool(losses.isfinite().all()):
            epoch = int((~losses.isfinite()).nonzero()[0])
            raise WorkError(
                "the loss of a projector is no longer finite",
                got=f"{self.kind}, seed {self.seed}, epoch {epoch + 1}",
                want="a smaller lr, or vectors of a common scale",
            )
        target, train_y = self.y[self.held_out_rows], self.train_y
        prediction = projector(self.x[self.held_out_rows])
        return TrainedProjector(
            self.kind,
            self.seed,
            projector.eval(),
            self.train_rows,
            self.held_out_rows,
            float(F.mse_loss(projector(self.train_x), train_y)),
            float(F.mse_loss(prediction, target)),
            float(F.cosine_similarity(prediction, target, dim=-1).mean()),
            float((target - train_y.mean(dim=0)).square().mean()),
            losses.cpu().numpy(),
        )


def _stacks(jobs: Mapping[Cell, _Job]) -> Iterator[list[Cell]]:
    """Cells that are trained together: of one kind, LLM width and number of training pairs."""
    # A cell with more than STACKED_WEIGHTS weights is alone.
    alike: dict[tuple[Any, ...], list[Cell]] = defaultdict(list)
    for cell, job in jobs.items():
        if job.weights > STACKED_WEIGHTS:
            yield [cell]
        else:
            alike[job.kind, job.y.shape[1], len(job.train_rows)].append(cell)
    for cells in alike.values():
        largest = max(
            4 * jobs[cell].weights + 4 * len(jobs[cell].x) * (sum(jobs[cell].y.shape[1:]) + 1)
            for cell in cells
        )
        most = max(1, STACK_NUMBERS // largest)
        for start in range(0, len(cells), most):
            yield cells[start : start + most]


def _train_stack(
    jobs: list[_Job], recipe: ProjectorRecipe, after_epoch: Callable[[], None]
) -> list[TrainedProjector]:
    kind = jobs[0].kind
    widest = max(job.x.shape[1] for job in jobs)
    x = torch.stack([F.pad(job.train_x, (0, widest - job.x.shape[1])) for job in jobs])
    y = torch.stack([job.train_y for job in jobs])
    projectors = [job.untrained() for job in jobs]
    weights = {
        name: torch.stack(
            [_widened(kind, name, p.get_parameter(name).detach(), widest) for p in projectors]
        )
        for name, _ in projectors[0].named_parameters()
    }

    def losses_of(stack: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        each = (stacked_forward(kind, stack, x) - y).square().mean(dim=(1, 2))
        return each.sum(), each.detach()  # the losses share no weights: the sum has their gradients

    gradient = grad(losses_of, has_aux=True)
    optimiser = _adam((weight.requires_grad_(True) for weight in weights.values()), recipe.lr)
    losses = []
    for _ in range(recipe.epochs):
        gradients, loss = gradient({name: weight.detach() for name, weight in weights.items()})
        for name, weight in weights.items():
            # The fused kernel assumes the memory layout of the weight; these are transposed.
            weight.grad = gradients[name].contiguous()
        optimiser.step()
        losses.append(loss)
        after_epoch()
    for index, projector in enumerate(projectors):
        _fill(projector, kind, {name: weight[index] for name, weight in weights.items()})
    return [
        job.finished(projector, course)
        for job, projector, course in zip(jobs, projectors, torch.stack(losses, dim=1), strict=True)
    ]


def _widened(kind: str, name: str, weight: Tensor, widest: int) -> Tensor:
    """Adds zero columns for the zero columns of x; their gradient is zero, so they stay zero."""
    return F.pad(weight, (0, widest - weight.shape[1])) if name in INPUT_WEIGHTS[kind] else weight


@torch.no_grad()
def _fill(projector: nn.Module, kind: str, weights: Mapping[str, Tensor]) -> None:
    """Copies a model's slice of the stack into its projector, without the added columns."""
    for name, parameter in projector.named_parameters():
        own = weights[name]
        parameter.copy_(own[:, : parameter.shape[1]] if name in INPUT_WEIGHTS[kind] else own)


def _adam(parameters: Any, lr: float) -> torch.optim.Adam:
    # Fused: at small widths the update costs as much as the gradient.
    return torch.optim.Adam(list(parameters), lr=lr, fused=True)
