"""The order of pairs that are read from shards during training: shards in a new order every epoch,
rows shuffled within a window of shards, ranks without overlap.

The order is a function of (seed, epoch, rank), so a run resumes at any step. Knows row numbers;
reads nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from encoderlab.data.sample import Sample
from encoderlab.data.shard_image import GROUPS_KEPT, ParquetCell, ShardImage
from encoderlab.training.schedule import Schedule

WINDOW = 20_000  # rows that are shuffled together


@dataclass(frozen=True)
class Units:
    """The unit, a tar or a row group, that each row is read from.

    Args:
        of: the number of the unit of every row; rows of one unit are consecutive.
        window: minimum of rows that are shuffled together.
        most: maximum of units in a window; None: no limit.
    """

    of: Int[np.ndarray, " rows"]
    window: int = WINDOW
    most: int | None = None

    @classmethod
    def of_samples(cls, samples: Sequence[Sample], rows_each: Sequence[int]) -> Units | None:
        """The units of samples in shards; None where any is elsewhere."""
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

    Every rank has its own stretch of each epoch's shards, all of the same number of rows: no row
    comes twice in an epoch, and at most two ranks read one shard.
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
        rng = np.random.default_rng([self.seed, epoch])
        starts = np.flatnonzero(np.r_[True, of[1:] != of[:-1]])
        ends = np.r_[starts[1:], len(of)]
        shards = rng.permutation(len(starts))
        rows = np.concatenate([np.arange(starts[s], ends[s]) for s in shards])
        each = self.rows // self.world_size
        own = rows[self.rank * each : (self.rank + 1) * each]
        rank_rng = np.random.default_rng([self.seed, epoch, 1 + self.rank])
        return np.concatenate([rank_rng.permutation(part) for part in self._windows(own)])

    def _share(self, order: np.ndarray, position: int) -> np.ndarray:
        size = self.batch_size // self.world_size
        return order[position * size : (position + 1) * size]

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
