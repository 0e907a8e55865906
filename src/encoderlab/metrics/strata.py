"""CKA within strata: the alignment that is left when telling data types apart does not help.

Over charts, tables and photographs together, two models that distinguish the three types agree,
which alone makes CKA high. Here samples are compared with samples of their own type only: the sum
of the debiased HSIC of each type replaces the HSIC of all samples, so that chance is 0 at any size.

Knows Gram matrices and labels. n samples, t strata, m samples of a stratum that is used.
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
        rows: the samples of each.
        n: the number of all samples.
    """

    blocks: tuple[Gram, ...]
    rows: tuple[np.ndarray, ...]
    n: int

    @classmethod
    def of(cls, gram: Gram, labels: Sequence[Any]) -> Strata:
        """The blocks of a Gram matrix.

        Args:
            gram: of all samples.
            labels: the type of each sample; types with fewer than five samples are left out.

        Returns:
            The blocks of the types that are kept.
        """
        names = np.asarray(labels, dtype=str)
        of_type = [np.flatnonzero(names == name) for name in dict.fromkeys(names.tolist())]
        rows = tuple(samples for samples in of_type if len(samples) >= LEAST)
        device = gram.k.device
        blocks = tuple(gram.take(torch.from_numpy(samples).to(device)) for samples in rows)
        return cls(blocks, rows, gram.n)

    @property
    def square(self) -> float:
        """The sum over types of the HSIC of the model with itself."""
        return sum(_inner_products(self, self))


def within_strata(left: Strata, right: Strata) -> Score:
    """Debiased CKA of two models within types.

    Args:
        left: of one model.
        right: of the other model.

    Returns:
        The score in [-1, 1], chance 0, with a delete-one jackknife interval; undefined, with the
        reason, if no type has five samples or features are constant within types.
    """
    cka_within = value(left, right)
    if math.isnan(cka_within):
        reason = (
            "the features are the same for every sample of a type"
            if left.blocks
            else f"no data type has {LEAST} samples"
        )
        return undefined(reason, left.n, NAME)
    interval = jackknife_interval(
        cka_within,
        without_each(left, right),
        correlation=True,
        interaction=interaction([(left, right, 1.0)]),
    )
    count = sum(map(len, left.rows))
    z = cka_within / chance_error(left, right)
    return Score(cka_within, *interval, 0.0, count, NAME, z=z)


def value(left: Strata, right: Strata) -> float:
    """Debiased CKA within types: summed HSIC over the root of both self terms.

    Args:
        left: of one model.
        right: of the other model.

    Returns:
        A number in [-1, 1]; NaN where a self term vanishes.
    """
    scale = left.square * right.square
    return sum(_inner_products(left, right)) / math.sqrt(scale) if scale > 0 else math.nan


def chance_error(left: Strata, right: Strata) -> float:
    """Standard deviation of the value when pairs are shuffled within their types."""
    variance = sum(
        2 / (block.n * (block.n - 3)) * a * b
        for block, a, b in zip(
            left.blocks, _inner_products(left, left), _inner_products(right, right), strict=True
        )
    )
    return math.sqrt(variance / (left.square * right.square))


def without_each(left: Strata, right: Strata) -> Float[np.ndarray, " m"]:
    """`value` without each sample.

    Args:
        left: of one model.
        right: of the other model.

    Returns:
        One value per sample that has a stratum, in the order of the strata.
    """

    def sums(a: Strata, b: Strata) -> np.ndarray:
        wholes, pairs = _inner_products(a, b), zip(a.blocks, b.blocks, strict=True)
        parts = [cka.hsic_without(k, m).cpu().numpy() for k, m in pairs]
        return np.concatenate(
            [sum(wholes) - whole + part for whole, part in zip(wholes, parts, strict=True)]
        )

    scale = sums(left, left) * sums(right, right)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale > 0, sums(left, right) / np.sqrt(np.maximum(scale, 0)), np.nan)


def interaction(weighted: Sequence[tuple[Strata, Strata, float]]) -> float:
    """The variance from pairs of samples, of a weighted sum of values; see `metrics.cka`.

    Args:
        weighted: both models and the weight of each value; 1 and -1 for a difference.

    Returns:
        The variance, at least 0.
    """
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


def _inner_products(left: Strata, right: Strata) -> list[float]:
    """The debiased HSIC of each type, up to a factor."""
    pairs = zip(left.blocks, right.blocks, strict=True)
    return [float((a.u_centred * b.u_centred).sum()) for a, b in pairs]
