"""The order of pairs that are read from shards as they are needed: shard after shard in another
order every epoch, shuffled within a window of shards, shared out over the ranks without overlap.

Like every order here a pure function of (seed, epoch, rank), so a run goes on at any step. Knows
numbers of rows; reads nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from encoderlab.data.sample import Sample
from encoderlab.data.shard_image import GROUPS_KEPT, ParquetCell, ShardImage
from encoderlab.training.schedule import Schedule

# Rows that are shuffled together: many batches, and few enough shards to have at hand.
WINDOW = 20_000


@dataclass(frozen=True)
class Units:
    """What is read together: the tar, or the row group, that each row comes from.

    Args:
        of: the unit of every row; rows of one unit stand together.
        window: rows that are shuffled together, at least.
        most: units that a window has at most; None where any number can be read at once.
    """

    of: Int[np.ndarray, " rows"]
    window: int = WINDOW
    most: int | None = None

    @classmethod
    def of_samples(cls, samples: Sequence[Sample], rows_each: Sequence[int]) -> Units | None:
        """The units of samples that lie in shards; None where any lies elsewhere."""
        if not samples or not all(isinstance(sample.image, ShardImage) for sample in samples):
            return None
        number: dict[tuple[str, int], int] = {}
        units = []
        for sample in samples:
            image = sample.image
            group = image.group if isinstance(image, ParquetCell) else 0
            key = (image.shard, group)  # type: ignore[union-attr]
            units.append(number.setdefault(key, len(number)))
        grouped = any(isinstance(sample.image, ParquetCell) for sample in samples)
        return cls(np.repeat(units, rows_each), most=GROUPS_KEPT if grouped else None)


@dataclass(frozen=True)
class StreamSchedule(Schedule):
    """Which rows make which step when rows are read shard by shard.

    Every rank has its own stretch of each epoch's shards, of the same number of rows: no row comes
    twice in an epoch, on whatever rank, and at most two ranks read one shard.
    """

    units: Units | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Full batches of all ranks in one pass."""
        return (self.rows // self.world_size) // (self.batch_size // self.world_size)

    def order(self, epoch: int) -> np.ndarray:
        """The rows of this rank in one epoch."""
        assert self.units is not None
        of = self.units.of
        chance = np.random.default_rng([self.seed, epoch])
        starts = np.flatnonzero(np.r_[True, of[1:] != of[:-1]])
        ends = np.r_[starts[1:], len(of)]
        shards = chance.permutation(len(starts))
        rows = np.concatenate([np.arange(starts[s], ends[s]) for s in shards])
        each = self.rows // self.world_size
        mine = rows[self.rank * each : (self.rank + 1) * each]
        own = np.random.default_rng([self.seed, epoch, 1 + self.rank])
        return np.concatenate([own.permutation(part) for part in self._windows(mine)])

    def batches(self, first_step: int = 0) -> Iterator[list[int]]:
        """This rank's share of every batch from `first_step` to the end of the run."""
        size = self.batch_size // self.world_size
        for epoch in range(first_step // self.steps_per_epoch, self.epochs):
            order = self.order(epoch)
            start = max(first_step - epoch * self.steps_per_epoch, 0)
            for position in range(start, self.steps_per_epoch):
                yield order[position * size : (position + 1) * size].tolist()

    def _windows(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        assert self.units is not None
        of = self.units.of[rows]
        changes = [*np.flatnonzero(of[1:] != of[:-1]) + 1, len(rows)]
        start = count = 0
        for end in changes:
            count += 1
            full = end - start >= self.units.window or count == self.units.most
            if full or end == len(rows):
                yield rows[start:end]
                start, count = end, 0
