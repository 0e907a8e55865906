"""Moments of stored features, a block of samples at a time: what any number of pairs leaves behind
in a state of fixed size. Blocks are computed by whichever engine is given, and merged in order.

Samples are dealt into shares by their content, so that shares are alike whatever the order of the
data: leaving a share out is then a fair jackknife. Each image should be given once.
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
    """What all samples so far have left behind.

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
        return sum(one.n for one in self.shares)

    def add(self, stored: Mapping[str, tuple[StoredFeatures, Sequence[int]]], by: Engine) -> None:
        """Takes the samples of which `stored` has features.

        Args:
            stored: model -> its features, and which rows of them, row i of each of sample i; the
                first one's samples say the share.
        """
        first, rows = next(iter(stored.values()))
        deal = np.array([_share(first.digests[row], len(self.shares)) for row in rows], dtype=int)
        for share, found in by.map(_moments_of, _blocks(stored, deal)):
            self.shares[share] = self.shares[share].merged(found.raw)
            for name, state in found.unit.items():
                self.unit[name] = self.unit.get(name, Moments()).merged(state)


@dataclass(frozen=True)
class _Found:
    raw: Moments
    unit: dict[str, Moments]


@dataclass(frozen=True)
class _Block:
    """Some samples of one share: model -> where its rows lie."""

    share: int
    rows: dict[str, tuple[Path, TableKey, list[Place]]]


def _share(digest: bytes, shares: int) -> int:
    # The last bytes: the order of digests within a chunk hangs on the first.
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
                shelf = features.shelves["pooled"]
                places = shelf.places([features.digests[of[i]] for i in chosen])
                rows[name] = (shelf.folder.parent.absolute(), shelf.key, places)
            yield _Block(int(share), rows)


def _moments_of(block: _Block) -> tuple[int, _Found]:
    features = {
        name: FeatureTable(root, key, listed=False).at(places).float()
        for name, (root, key, places) in block.rows.items()
    }
    unit = {
        name: Moments.of({name: torch.nn.functional.normalize(x, dim=1)})
        for name, x in features.items()
    }
    return block.share, _Found(Moments.of(features), unit)
