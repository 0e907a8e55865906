"""Mutual nearest neighbours: the share of nearest neighbours that two encoders have in common.

A local measure, where CKA is global: one outlier in a thousand changes CKA and does not change this
one. Tied samples share the remaining ranks, so the order of the rows does not matter. n samples,
d width, k neighbours.
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
# Similarities with a smaller difference are tied: the difference is rounding.
TIE = {torch.float64: 1e-12, torch.float32: 1e-6}
# The class of a sample among the neighbours of another. NEAR: nearer than the k-th nearest. EDGE:
# as near as the k-th. NEXT: the nearest after them. FAR: all others.
FAR, NEAR, EDGE, NEXT = range(4)
# Index into `Neighbours.weights` once a sample is removed, by the class of that sample.
WITHOUT = np.array([0, 1, 2, 0])


def mutual_knn(x: Matrix, y: Matrix, k: int = NEIGHBOURS) -> Score:
    """Share of the k nearest neighbours that a sample has in both x (n, d_x) and y (n, d_y).

    Cosine on rows as they are, self excluded (Huh et al. 2024, mutual k-NN alignment). Samples
    that are tied for the k-th rank share the remaining ranks: each has the weight (ranks left) /
    (samples tied). The overlap of a sample is the sum over the others of the product of both
    weights, which is the expected overlap if ties are broken at random in each space. With many
    ties equal features do not reach 1, because the data do not determine the k nearest.

    Args:
        x: features (n, d_x).
        y: features (n, d_y), row i of the same sample.
        k: number of neighbours.

    Returns:
        The score in [0, 1] with a delete-one jackknife interval; chance, the mean over all
        pairings, is k / (n - 1). Undefined, with the reason, for fewer than 2 k + 2 samples, and
        where all samples are equally near one another in x or in y.

    Raises:
        UsageError: k below 1, values that are not finite, or numbers of rows that differ.
    """
    if k < 1:
        raise UsageError("k must be positive", got=k)
    n = require_same_count({"X": x, "Y": y})
    return mutual_knn_of(Neighbours.of(x, k, "X"), Neighbours.of(y, k, "Y"), k, n)


class Neighbours:
    """The k nearest samples of each sample in one space, and those that follow, from which the k
    nearest without any one sample are known.

    Args:
        classes: (n, n), sparse: NEAR, EDGE or NEXT; cells that are not stored are FAR.
        weights: (n, 3, 4): for each row the weight of a FAR, NEAR, EDGE and NEXT sample among the k
            nearest: with all samples, without a NEAR one, and without an EDGE one.
        collapsed: whether all samples are equally near one another.
    """

    def __init__(
        self, classes: sparse.csr_array, weights: Float[np.ndarray, "n 3 4"], collapsed: bool
    ) -> None:
        self.classes, self.weights, self.collapsed = classes, weights, collapsed

    @classmethod
    def of(cls, x: Matrix, k: int = NEIGHBOURS, name: str = "features") -> Neighbours | None:
        """The neighbours of features (n, d) by cosine; None for fewer than `least(k)` samples."""
        unit = unit_rows(matrix(x, name))
        if len(unit) < least(k):
            return None
        return cls._among((part @ unit.T for part in unit.split(BLOCK)), len(unit), k)

    @classmethod
    def by_similarity(cls, similarity: Float[Tensor, "n n"], k: int = NEIGHBOURS) -> Neighbours:
        """The neighbours of at least k + 2 samples; `similarity[i, j]` compares i with j."""
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
            near, edge = block[row, column], edge[row]
            kind = torch.where(near > edge + tie, NEAR, torch.where(near < edge - tie, NEXT, EDGE))
            rows.append((row + start).cpu().numpy())
            columns.append(column.cpu().numpy())
            classes.append(kind.cpu().numpy())
            start += len(block)
        every, kinds = np.concatenate(rows), np.concatenate(classes)
        counts = np.bincount(every * 4 + kinds, minlength=4 * n).reshape(n, 4)
        table = sparse.csr_array((kinds, (every, np.concatenate(columns))), shape=(n, n))
        return cls(table, _weights(counts, k), bool(highest - lowest <= tie))


def _weights(counts: Int[np.ndarray, "n 4"], k: int) -> Float[np.ndarray, "n 3 4"]:
    """`Neighbours.weights` from the number of samples of each class in each row."""
    near, tied, beyond = counts[:, NEAR], counts[:, EDGE], counts[:, NEXT]
    weights = np.zeros((len(counts), 3, 4))
    weights[:, :, NEAR] = 1
    left = k - near
    weights[:, 0, EDGE] = left / tied
    # Without one of the k nearest a rank is free: for another EDGE sample, else for a NEXT one.
    full = left == tied
    weights[:, 1, EDGE] = np.where(full, 1, (left + 1) / tied)
    weights[:, 2, EDGE] = np.where(full, 1, left / np.maximum(tied - 1, 1))
    weights[:, 1:, NEXT] = np.where(full, 1 / np.maximum(beyond, 1), 0)[:, None]
    return weights


def mutual_knn_of(left: Neighbours | None, right: Neighbours | None, k: int, n: int) -> Score:
    """`mutual_knn` from neighbours that are already computed.

    Args:
        left: of one model; None for too few samples.
        right: of the other model; None for too few samples.
        k: number of neighbours.
        n: number of samples.

    Returns:
        The score, as `mutual_knn`.
    """
    name = f"mutual {k}-nearest neighbours, cosine, ties shared; delete-one jackknife"
    if left is None or right is None:
        return undefined(f"needs at least {least(k)} samples, and there are {n}", n, name)
    if left.collapsed or right.collapsed:
        return undefined("all samples are equally near one another", n, name)
    shared, without = overlap(left, right)
    value = float(shared.mean() / k)
    low, high = jackknife_interval(value, without / k, bounds=(0.0, 1.0))
    return Score(value, low, high, k / (n - 1), n, name)


def least(k: int) -> int:
    """The fewest samples for k neighbours: each then has more other samples than neighbours."""
    return 2 * k + 2


def overlap(
    left: Neighbours, right: Neighbours
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """The number of common neighbours.

    Args:
        left: neighbours in one space.
        right: neighbours of the same samples in the other space.

    Returns:
        For each sample the number of its k nearest that are the same in both spaces, ties shared,
        in [0, k]; and the mean of that number without sample j, for every j.
    """
    both = (left.classes + 4 * right.classes).tocoo()
    row, column = both.coords
    x, y = both.data % 4, both.data // 4
    n = both.shape[0]
    counts = np.bincount(row * 16 + both.data, minlength=16 * n).reshape(n, 4, 4)
    # [i, a, b]: the overlap of sample i with weights a on the left and b on the right.
    overlaps = np.einsum("iax,iby,iyx->iab", left.weights, right.weights, counts)
    shared = overlaps[:, 0, 0]
    # Removing sample j removes its own overlap and changes the overlap of the samples near it.
    a, b = WITHOUT[x], WITHOUT[y]
    own = left.weights[row, a, x] * right.weights[row, b, y]
    change = np.bincount(column, overlaps[row, a, b] - own - shared[row], minlength=n)
    return shared, (shared.sum() - shared + change) / (n - 1)
