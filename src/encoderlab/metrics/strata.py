"""CKA within strata: what is left of an alignment when telling data types apart no longer helps.

Over charts, tables and photographs together, any two models that tell the three apart agree: that
alone makes CKA high. Here samples are compared with samples of their own type only. The sum of the
debiased HSIC of each type stands in the place of the whole one, so that chance is 0 at any size.

Knows Gram matrices and labels. n samples, t strata.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from encoderlab.core.score import Score, undefined
from encoderlab.metrics import cka
from encoderlab.metrics.cka import Gram
from encoderlab.metrics.uncertainty import jackknife_interval

LEAST = cka.LEAST["debiased"] + 1  # one more, so that each can be left out
NAME = "debiased CKA within data types, linear; delete-one jackknife on Fisher's z"


@dataclass(frozen=True)
class Strata:
    """One model's Gram matrix of each type that has enough samples.

    Args:
        blocks: a Gram matrix per type.
        rows: which samples each is of.
        n: how many samples there are in all.
    """

    blocks: tuple[Gram, ...]
    rows: tuple[np.ndarray, ...]
    n: int

    @classmethod
    def of(cls, gram: Gram, labels: Sequence[Any]) -> Strata:
        """The blocks of a Gram matrix; types with fewer than five samples are left out."""
        names = np.asarray(labels, dtype=str)
        rows = tuple(
            found for name in dict.fromkeys(names.tolist())
            if len(found := np.flatnonzero(names == name)) >= LEAST
        )  # fmt: skip
        device = gram.k.device
        blocks = tuple(gram.take(torch.from_numpy(one).to(device)) for one in rows)
        return cls(blocks, rows, gram.n)

    @property
    def square(self) -> float:
        """The sum of the self terms."""
        return sum(float(block.u_centred.square().sum()) for block in self.blocks)


def within_strata(left: Strata, right: Strata) -> Score:
    """The score of two models; undefined where no type has five samples."""
    found = value(left, right)
    if math.isnan(found):
        reason = (
            "the features are the same for every sample of a type"
            if left.blocks
            else f"no data type has {LEAST} samples"
        )
        return undefined(reason, left.n, NAME)
    low, high = jackknife_interval(
        found,
        without_each(left, right),
        correlation=True,
        interaction=interaction([(left, right, 1.0)]),
    ) or (None, None)
    count = sum(map(len, left.rows))
    return Score(found, low, high, 0.0, count, NAME, z=found / chance_error(left, right))


def value(left: Strata, right: Strata) -> float:
    """The sum of inner products over the root of the self terms; NaN where they vanish."""
    scale = left.square * right.square
    return _inner(left, right) / math.sqrt(scale) if scale > 0 else math.nan


def chance_error(left: Strata, right: Strata) -> float:
    """Its standard deviation when pairs are shuffled within their types."""
    variance = sum(
        2
        / (a.n * (a.n - 3))
        * float(a.u_centred.square().sum())
        * float(b.u_centred.square().sum())
        for a, b in zip(left.blocks, right.blocks, strict=True)
    )
    return math.sqrt(variance / (left.square * right.square))


def without_each(left: Strata, right: Strata) -> Float[np.ndarray, " m"]:
    """The value without each sample that has a stratum, in the order of the strata."""

    def sums(one: Strata, other: Strata) -> np.ndarray:
        parts = [cka.hsic_without(a, b) for a, b in zip(one.blocks, other.blocks, strict=True)]
        wholes = [
            float((a.u_centred * b.u_centred).sum())
            for a, b in zip(one.blocks, other.blocks, strict=True)
        ]
        return np.concatenate(
            [
                sum(wholes) - whole + part.cpu().numpy()
                for whole, part in zip(wholes, parts, strict=True)
            ]
        )

    scale = sums(left, left) * sums(right, right)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale > 0, sums(left, right) / np.sqrt(np.maximum(scale, 0)), np.nan)


def interaction(weighted: Sequence[tuple[Strata, Strata, float]]) -> float:
    """The variance that comes from pairs of samples, of a weighted sum of such values (1 and -1:
    of a difference); see `encoderlab.metrics.cka.interaction`."""
    total = 0.0
    for number in range(len(weighted[0][0].blocks)):
        terms: Any = 0.0
        for left, right, weight in weighted:
            k = left.blocks[number].u_centred / math.sqrt(left.square)
            m = right.blocks[number].u_centred / math.sqrt(right.square)
            half = value(left, right) / 2
            terms = terms + weight * (k * m - half * (k.square() + m.square()))
        total += cka.interaction(terms)
    return total


def _inner(left: Strata, right: Strata) -> float:
    return sum(
        float((a.u_centred * b.u_centred).sum())
        for a, b in zip(left.blocks, right.blocks, strict=True)
    )
