"""Mutual nearest neighbours: do two encoders find the same samples close?

A local measure beside CKA's global one: one outlier in a thousand moves CKA and leaves this alone.
n samples, d width, k neighbours.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from encoderlab.errors import UsageError
from encoderlab.metrics.matrix import Matrix, is_constant, matrix, require_same_count, unit_rows
from encoderlab.metrics.score import Score, undefined
from encoderlab.metrics.uncertainty import jackknife_interval

NEIGHBOURS = 10
BLOCK = 512
SPARE = 16  # looked at beyond the k nearest, so that a tie seldom needs all


def mutual_knn(x: Matrix, y: Matrix, k: int = NEIGHBOURS) -> Score:
    """Share of the k nearest neighbours that a sample has in both x (n, d_x) and y (n, d_y).

    Cosine on rows as they are, self excluded; of equally near samples the one with the lower row
    counts as nearer (Huh et al. 2024, mutual k-NN alignment). Chance is k / (n - 1).

    Raises:
        UsageError: k below 1, values that are not finite, or other counts.
    """
    if k < 1:
        raise UsageError("k must be positive", got=k)
    n = require_same_count({"X": x, "Y": y})
    return mutual_knn_of(Neighbours.of(x, k, "X"), Neighbours.of(y, k, "Y"), k, n)


class Neighbours:
    """The k + 1 nearest of every sample, so that the k nearest are known without any one sample.

    Args:
        nearest: (n, k + 1) rows, nearest first; None where there are too few samples.
        constant: whether all samples are the same point.
    """

    def __init__(self, nearest: Int[np.ndarray, "n k1"] | None, constant: bool) -> None:
        self.nearest, self.constant = nearest, constant

    @classmethod
    def of(cls, x: Matrix, k: int = NEIGHBOURS, name: str = "features") -> Neighbours:
        """The neighbours among features (n, d)."""
        found = matrix(x, name)
        if len(found) < least(k):
            return cls(None, False)
        scale = float(found.abs().max())
        constant = is_constant(found - found.mean(dim=0), scale)
        return cls(_nearest(unit_rows(found), k + 1), constant)


def mutual_knn_of(left: Neighbours, right: Neighbours, k: int, n: int) -> Score:
    """`mutual_knn` of neighbours that are known."""
    name = f"mutual {k}-nearest neighbours, cosine; delete-one jackknife"
    if left.nearest is None or right.nearest is None:
        return undefined(f"needs at least {least(k)} samples, and there are {n}", n, name)
    if left.constant or right.constant:
        return undefined("the features are the same for every sample", n, name)
    found = float(_shared(left.nearest[:, :k], right.nearest[:, :k]).mean() / k)
    left_out = without_each(left.nearest, right.nearest, k)
    interval = jackknife_interval(found, left_out)
    low, high = interval or (None, None)
    if low is not None and high is not None:
        low, high = max(0.0, low), min(1.0, high)
    return Score(found, low, high, k / (n - 1), n, name)


def least(k: int) -> int:
    """The fewest samples that leave as many strangers as neighbours."""
    return 2 * k + 2


def without_each(
    left: Int[np.ndarray, "n k1"], right: Int[np.ndarray, "n k1"], k: int
) -> Float[np.ndarray, " n"]:
    """The mean overlap without sample j, for every j: where j was a neighbour, the next one moves
    up."""
    n = len(left)
    shared = _shared(left[:, :k], right[:, :k]).astype(np.float64)
    # Each row loses its own sample's overlap, and changes where j was among its neighbours.
    total = shared.sum() - shared
    owner = np.repeat(np.arange(n), 2 * k)
    gone = np.concatenate([left[:, :k], right[:, :k]], axis=1).ravel()
    pairs = np.unique(np.stack([owner, gone], axis=1), axis=0)
    for start in range(0, len(pairs), BLOCK * 32):
        i, j = pairs[start : start + BLOCK * 32].T
        after = _shared(_without(left[i], j, k), _without(right[i], j, k))
        np.add.at(total, j, after - shared[i])
    return total / (k * (n - 1))


def _nearest(unit: Float[Tensor, "n d"], k: int) -> Int[np.ndarray, "n k"]:
    n = len(unit)
    width = min(k + SPARE, n - 1)
    found = np.empty((n, k), dtype=np.int64)
    for start in range(0, n, BLOCK):
        rows = torch.arange(start, min(start + BLOCK, n), device=unit.device)
        cosine = unit[rows] @ unit.T
        cosine[rows - start, rows] = -torch.inf
        best = cosine.topk(width, dim=1)
        order = _ordered(best.values, best.indices, n, k)
        chosen = best.indices.gather(1, order)
        # A tie that reaches beyond the spare ones is settled among all.
        last = best.values.gather(1, order[:, -1:])[:, 0]
        tied = _digits(last, n) <= _digits(best.values[:, -1], n)
        if width < n - 1 and bool(tied.any()):
            columns = torch.arange(n, device=unit.device).expand(int(tied.sum()), n)
            chosen[tied] = _ordered(cosine[tied], columns, n, k)
        found[start : start + BLOCK] = chosen.cpu().numpy()
    return found


def _ordered(
    cosine: Float[Tensor, "r m"], row_of: Int[Tensor, "r m"], n: int, k: int
) -> Int[Tensor, "r k"]:
    """The places of the k largest, of equal ones the lower row first: the row in the low bits of a
    whole number makes the lower one the nearer, without a sort."""
    key = _digits(cosine, n) * 2 ** _bits(n) - row_of
    return key.topk(k, dim=1).indices


def _digits(cosine: Tensor, n: int) -> Int[Tensor, "..."]:
    """Cosines as whole numbers that leave room for the number of a row. The last digits are
    rounding, which differs from machine to machine: ties are ties."""
    known = cosine.clamp_min(-2.0)  # -inf, the sample itself, is no whole number
    return (known * 2.0 ** min(40, 60 - _bits(n))).round().long()


def _bits(n: int) -> int:
    return max(1, (n - 1).bit_length())


def _shared(left: Int[np.ndarray, "n k"], right: Int[np.ndarray, "n k"]) -> Int[np.ndarray, " n"]:
    """How many of the k stand in both lists of a row."""
    return (left[:, :, None] == right[:, None, :]).sum(axis=(1, 2))


def _without(
    lists: Int[np.ndarray, "m k1"], gone: Int[np.ndarray, " m"], k: int
) -> Int[np.ndarray, "m k"]:
    """The k nearest of each list without one sample."""
    keep = lists != gone[:, None]
    keep &= np.cumsum(keep, axis=1) <= k
    return lists[keep].reshape(len(lists), k)
