"""Discriminability: the share of the variance of features that lies between classes.

Knows feature matrices and labels. n samples, d width, c classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from encoderlab.core.score import Score, undefined
from encoderlab.errors import UsageError
from encoderlab.metrics.matrix import Matrix, centre, matrix, unit_rows
from encoderlab.metrics.uncertainty import jackknife_interval

NAME = "f / (1 + f) of the Fisher ratio f = tr(S_between) / tr(S_within)"
ESTIMATE = "estimate without labels: mean of embedding variance and twice the sd of the cosines"


def discriminability(x: Matrix, labels: Sequence[Any] | None) -> Score:
    """f / (1 + f) of the Fisher ratio f = tr(S_between) / tr(S_within).

    Args:
        x: (n, d).
        labels: the class of each sample; None for an estimate from the spread of the features
            alone, which `estimator` says, without chance and interval.

    Returns:
        The share in [0, 1] with a delete-one jackknife interval; chance, for random labels, is
        (c - 1) / (n - 1).

    Raises:
        UsageError: values that are not finite, or not one label per sample.
    """
    offset, constant = centre(x)
    n = len(offset)
    if labels is None:
        return _without_labels(x, constant)
    if len(labels) != n:
        raise UsageError("one label per sample is needed", got=f"{len(labels)} for {n} samples")
    classes, number = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    name = f"{NAME}; delete-one jackknife"
    if len(classes) < 2:
        return undefined("there is only one class", n, name)
    if n <= len(classes):
        return undefined(
            f"needs more samples than classes: {n} samples, {len(classes)} classes", n, name
        )
    if constant:
        return undefined("the features are the same for every sample", n, name)
    member = torch.from_numpy(np.asarray(number)).to(offset.device)
    value, left_out = _shares(offset, member, len(classes))
    low, high = jackknife_interval(value, left_out, bounds=(0.0, 1.0))
    return Score(value, low, high, (len(classes) - 1) / (n - 1), n, name)


def above_chance(score: Score) -> float:
    """(value - chance) / (1 - chance): epsilon squared (Kelley 1935).

    Args:
        score: of `discriminability`.

    Returns:
        0 for random labels, 1 for classes that are points; can be negative; NaN if undefined.
    """
    if score.value is None or score.chance is None:
        return float("nan")
    return (score.value - score.chance) / (1 - score.chance)


def _shares(
    x: Float[Tensor, "n d"], member: Tensor, classes: int
) -> tuple[float, Float[np.ndarray, " n"]]:
    """The share, and the share without each sample, from the sums of the classes."""
    n = len(x)
    sums = torch.zeros(classes, x.shape[1], dtype=x.dtype, device=x.device).index_add_(0, member, x)
    counts = torch.bincount(member, minlength=classes).to(x.dtype)
    square = x.square().sum(dim=1)
    within_means = sums.square().sum(dim=1) / counts

    def share(squares: Tensor, explained: Tensor, grand: Tensor, size: float) -> Tensor:
        total = squares - grand / size
        return (explained - grand / size) / total.clamp_min(1e-300)

    grand = sums.sum(dim=0)
    value = share(square.sum(), within_means.sum(), grand @ grand, n)
    reduced = (sums[member] - x).square().sum(dim=1)
    explained = (
        within_means.sum() - within_means[member] + reduced / (counts[member] - 1).clamp_min(1)
    )
    left_out = share(square.sum() - square, explained, (grand - x).square().sum(dim=1), n - 1)
    return float(value), left_out.cpu().numpy()


def _without_labels(x: Matrix, constant: bool) -> Score:
    n = len(x)
    if n < 3:
        return undefined(f"needs at least 3 samples, and there are {n}", n, ESTIMATE)
    if constant:
        return undefined("the features are the same for every sample", n, ESTIMATE)
    unit = unit_rows(matrix(x))
    spread = 1 - float(unit.mean(dim=0).square().sum())
    cosine = (unit @ unit.T)[~torch.eye(n, dtype=torch.bool, device=unit.device)]
    value = (spread + min(1.0, 2 * float(cosine.std()))) / 2
    return Score(value, None, None, None, n, ESTIMATE)
