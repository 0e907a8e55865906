"""Mutual nearest neighbours: do two encoders find the same samples close?

A local measure beside CKA's global one: one outlier in a thousand moves CKA and leaves this alone.
Equally near samples share the places that are left for them, so the order of the rows does not
matter. n samples, d width, k neighbours.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse
from torch import Tensor

from encoderlab.core.score import Score, undefined
from encoderlab.errors import UsageError
from encoderlab.metrics.matrix import Matrix, matrix, require_same_count, unit_rows
from encoderlab.metrics.uncertainty import jackknife_interval

NEIGHBOURS = 10
BLOCK = 512
# Similarities that differ by less differ by rounding alone: they are tied.
TIE = {torch.float64: 1e-12, torch.float32: 1e-6}
# What a sample is to another one. NEAR: nearer than the k-th nearest. EDGE: as near as the k-th.
# NEXT: the nearest beyond. FAR: all others.
FAR, NEAR, EDGE, NEXT = range(4)
# Which weights hold without a sample, by what it was: those without a NEAR or without an EDGE one.
WITHOUT = np.array([0, 1, 2, 0])


def mutual_knn(x: Matrix, y: Matrix, k: int = NEIGHBOURS) -> Score:
    """Share of the k nearest neighbours that a sample has in both x (n, d_x) and y (n, d_y).

    Cosine on rows as they are, self excluded (Huh et al. 2024, mutual k-NN alignment). Samples that
    are tied at the edge of the k nearest share the places that are left: each has the weight
    (places left) / (samples tied). The overlap of a sample is the sum over the others of the
    product of both weights: the expected overlap if ties were broken at random in each space. Its
    mean over all pairings, chance, is k / (n - 1) with ties and without. Where ties are many, equal
    features do not reach 1: the data do not say who the k nearest are.

    Args:
        k: how many neighbours.

    Returns:
        The score in [0, 1] with a delete-one jackknife interval; undefined, with the reason, for
        fewer than 2 k + 2 samples, and where all samples are equally near one another in x or in y,
        as rows of one direction are.

    Raises:
        UsageError: k below 1, values that are not finite, or other counts.
    """
    if k < 1:
        raise UsageError("k must be positive", got=k)
    n = require_same_count({"X": x, "Y": y})
    return mutual_knn_of(Neighbours.of(x, k, "X"), Neighbours.of(y, k, "Y"), k, n)


class Neighbours:
    """Who is near whom in one space, up to the nearest beyond the k nearest, so that the k nearest
    are known without any one sample.

    Args:
        classes: (n, n), sparse: NEAR, EDGE or NEXT; what is not stored is FAR.
        weights: (n, 3, 4): of each row the weight of a FAR, NEAR, EDGE and NEXT sample among the k
            nearest: of all samples, without a NEAR one, and without an EDGE one.
        collapsed: whether all samples are equally near one another.
    """

    def __init__(
        self, classes: sparse.csr_array, weights: Float[np.ndarray, "n 3 4"], collapsed: bool
    ) -> None:
        self.classes, self.weights, self.collapsed = classes, weights, collapsed

    @classmethod
    def of(cls, x: Matrix, k: int = NEIGHBOURS, name: str = "features") -> Neighbours | None:
        """The neighbours among features (n, d) by cosine; None where there are too few samples."""
        unit = unit_rows(matrix(x, name))
        if len(unit) < least(k):
            return None
        return cls._among((part @ unit.T for part in unit.split(BLOCK)), len(unit), k)

    @classmethod
    def by_similarity(cls, similarity: Float[Tensor, "n n"], k: int = NEIGHBOURS) -> Neighbours:
        """The neighbours by similarities: cell [i, j] says how near j is to i. n is at least
        k + 2."""
        return cls._among((part.clone() for part in similarity.split(BLOCK)), len(similarity), k)

    @classmethod
    def _among(cls, blocks: Iterable[Float[Tensor, "b n"]], n: int, k: int) -> Neighbours:
        rows, columns, classes = [], [], []
        lowest, highest, start = np.inf, -np.inf, 0
        for block in blocks:
            own = torch.arange(len(block), device=block.device)
            block[own, start + own] = torch.inf
            lowest = min(lowest, float(block.min()))
            block[own, start + own] = -torch.inf
            tie = TIE[block.dtype]
            best = block.topk(k + 1, dim=1).values
            highest = max(highest, float(best[:, 0].max()))
            edge, beyond = best[:, k - 1], best[:, k]
            row, column = (block >= (beyond - tie)[:, None]).nonzero(as_tuple=True)
            found, edge = block[row, column], edge[row]
            kind = torch.where(
                found > edge + tie, NEAR, torch.where(found < edge - tie, NEXT, EDGE)
            )
            rows.append((row + start).cpu().numpy())
            columns.append(column.cpu().numpy())
            classes.append(kind.cpu().numpy())
            start += len(block)
        every, kinds = np.concatenate(rows), np.concatenate(classes)
        counts = np.bincount(every * 4 + kinds, minlength=4 * n).reshape(n, 4)
        table = sparse.csr_array((kinds, (every, np.concatenate(columns))), shape=(n, n))
        return cls(table, _weights(counts, k), bool(highest - lowest <= tie))


def _weights(counts: Int[np.ndarray, "n 4"], k: int) -> Float[np.ndarray, "n 3 4"]:
    """`Neighbours.weights` from how many samples of each class a row has."""
    near, tied, beyond = counts[:, NEAR], counts[:, EDGE], counts[:, NEXT]
    weights = np.zeros((len(counts), 3, 4))
    weights[:, :, NEAR] = 1
    left = k - near
    weights[:, 0, EDGE] = left / tied
    # Without one of the k nearest a place is free: for another EDGE sample, else for a NEXT one.
    full = left == tied
    weights[:, 1, EDGE] = np.where(full, 1, (left + 1) / tied)
    weights[:, 2, EDGE] = np.where(full, 1, left / np.maximum(tied - 1, 1))
    weights[:, 1:, NEXT] = np.where(full, 1 / np.maximum(beyond, 1), 0)[:, None]
    return weights


def mutual_knn_of(left: Neighbours | None, right: Neighbours | None, k: int, n: int) -> Score:
    """`mutual_knn` of neighbours that are known."""
    name = f"mutual {k}-nearest neighbours, cosine, ties shared; delete-one jackknife"
    if left is None or right is None:
        return undefined(f"needs at least {least(k)} samples, and there are {n}", n, name)
    if left.collapsed or right.collapsed:
        return undefined("all samples are equally near one another", n, name)
    shared, without = overlap(left, right)
    low, high = jackknife_interval(shared.mean() / k, without / k) or (None, None)
    if low is not None and high is not None:
        low, high = max(0.0, low), min(1.0, high)
    return Score(float(shared.mean() / k), low, high, k / (n - 1), n, name)


def least(k: int) -> int:
    """The fewest samples that leave as many strangers as neighbours."""
    return 2 * k + 2


def overlap(
    left: Neighbours, right: Neighbours
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """How many of the k nearest each sample has in both spaces, ties shared, in [0, k]; and the
    mean of that without sample j, for every j."""
    both = (left.classes + 4 * right.classes).tocoo()
    row, column = both.coords
    x, y = both.data % 4, both.data // 4
    n = both.shape[0]
    counts = np.bincount(row * 16 + both.data, minlength=16 * n).reshape(n, 4, 4)
    # [i, a, b]: the overlap of sample i with weights a on the left and b on the right.
    overlaps = np.einsum("iax,iby,iyx->iab", left.weights, right.weights, counts)
    shared = overlaps[:, 0, 0]
    # Sample j takes its own overlap with it, and changes that of whom it was near.
    a, b = WITHOUT[x], WITHOUT[y]
    own = left.weights[row, a, x] * right.weights[row, b, y]
    change = np.bincount(column, overlaps[row, a, b] - own - shared[row], minlength=n)
    return shared, (shared.sum() - shared + change) / (n - 1)
