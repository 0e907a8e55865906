"""Moments of stored features in a state of fixed size, updated a block of samples at a time.

An engine computes the blocks; they are merged in order. Samples are divided into shares by a digest
of their content, for a jackknife over shares. Each image should be given once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from encoderlab.feature_store.engines import Engine
from encoderlab.feature_store.extract import StoredFeatures
from encoderlab.feature_store.store import FeatureTable, Place, TableKey
from encoderlab.metrics.moments import Moments

SHARES = 20
# Rows that one worker reads at a time: a few thousand vectors.
BLOCK = 8192


@dataclass
class Streamed:
    """The moments of all samples so far.

    Args:
        shares: the state of each share, all models in one.
        unit: model -> the state of its features at length one, which CORAL is computed on.
    """

    shares: list[Moments]
    unit: dict[str, Moments]

    @classmethod
    def empty(cls, shares: int = SHARES) -> Streamed:
        """Before the first sample."""
        return cls([Moments() for _ in range(shares)], {})

    @property
    def n(self) -> int:
        """How many samples."""
        return sum(share.n for share in self.shares)

    def add(self, stored: Mapping[str, tuple[StoredFeatures, Sequence[int]]], by: Engine) -> None:
        """Takes the samples of which `stored` has features.

        Args:
            stored: model -> its features and row numbers; position i of each is sample i. The
                first model's samples decide the share.
            by: the engine.
        """
        first, rows = next(iter(stored.values()))
        deal = np.array([_share(first.digests[row], len(self.shares)) for row in rows], dtype=int)
        for share, moments in by.map(_moments_of, _blocks(stored, deal)):
            self.shares[share] = self.shares[share].merged(moments.raw)
            for name, state in moments.unit.items():
                self.unit[name] = self.unit.get(name, Moments()).merged(state)


@dataclass(frozen=True)
class _BlockMoments:
    raw: Moments
    unit: dict[str, Moments]


@dataclass(frozen=True)
class _Block:
    """Some samples of one share: model -> where its rows lie."""

    share: int
    rows: dict[str, tuple[Path, TableKey, list[Place]]]


def _share(digest: bytes, shares: int) -> int:
    # The last bytes: the first ones decide the order within a chunk.
    return int.from_bytes(digest[-8:], "big") % shares


def _blocks(
    stored: Mapping[str, tuple[StoredFeatures, Sequence[int]]], deal: np.ndarray
) -> Iterator[_Block]:
    for share in np.unique(deal):
        members = np.flatnonzero(deal == share)
        for start in range(0, len(members), BLOCK):
            chosen = members[start : start + BLOCK]
            rows = {}
            for name, (features, of) in stored.items():
                table = features.tables["pooled"]
                places = table.places([features.digests[of[i]] for i in chosen])
                rows[name] = (table.folder.parent.absolute(), table.key, places)
            yield _Block(int(share), rows)


def _moments_of(block: _Block) -> tuple[int, _BlockMoments]:
    features = {
        name: FeatureTable(root, key, listed=False).at(places).float()
        for name, (root, key, places) in block.rows.items()
    }
    unit = {
        name: Moments.of({name: torch.nn.functional.normalize(x, dim=1)})
        for name, x in features.items()
    }
    return block.share, _BlockMoments(Moments.of(features), unit)
