"""Which rows make which step, as a function of (seed, step). Knows row numbers; reads no data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from encoderlab.errors import UsageError


@dataclass(frozen=True)
class Schedule:
    """Which rows make which step: epochs of shuffled full batches, divided over the ranks.

    Args:
        rows: of the data.
        batch_size: rows per step, of all ranks together.
        seed: of the shuffles.
    """

    rows: int
    batch_size: int
    epochs: int
    seed: int = 0
    rank: int = 0
    world_size: int = 1

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in one epoch; the remaining rows are left out of it."""
        return self.rows // self.batch_size

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.steps_per_epoch * self.epochs

    def order(self, epoch: int) -> np.ndarray:
        """The shuffled rows of one epoch."""
        return np.random.default_rng([self.seed, epoch]).permutation(self.rows)

    def batches(self, first_step: int = 0) -> Iterator[list[int]]:
        """This rank's share of every batch from `first_step` to the end of the run."""
        for epoch in range(first_step // self.steps_per_epoch, self.epochs):
            order = self.order(epoch)
            start = max(first_step - epoch * self.steps_per_epoch, 0)
            for position in range(start, self.steps_per_epoch):
                yield self._share(order, position).tolist()

    def _share(self, order: np.ndarray, position: int) -> np.ndarray:
        """This rank's rows of the batch at `position` of an epoch."""
        batch = order[position * self.batch_size : (position + 1) * self.batch_size]
        return batch[self.rank :: self.world_size]


def check_batch(batch_size: int, rows: int, world_size: int, things: str, least: int = 1) -> None:
    """Refuses a batch larger than the data, or no multiple of the number of ranks."""
    if batch_size > rows:
        raise UsageError(
            "the batch is larger than the data",
            got=f"batch_size={batch_size}",
            want=f"at most the {rows} {things} there are",
            hint=f"--batch-size {max(least, rows // 2)}",
        )
    if batch_size % world_size:
        raise UsageError(
            "the batch does not divide over the devices",
            got=f"batch_size={batch_size} over {world_size}",
            want=f"a multiple of {world_size}",
        )
