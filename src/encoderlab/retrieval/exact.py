"""Exact top-k by inner product: `top_k` over one array, `nearest` over blocks of vectors.

Knows arrays only; reads no table.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float, Int

# Scores held at a time: small enough for the cache, large enough for the matrix product.
BLOCK = 1 << 22


def top_k(
    query: Float[np.ndarray, "n d"], vectors: Float[np.ndarray, "m d"], k: int
) -> tuple[Float[np.ndarray, "n k"], Int[np.ndarray, "n k"]]:
    """The k largest inner products of each query; of equal ones the earlier vector comes first.

    Args:
        query: n vectors.
        vectors: m vectors to search.
        k: at most m.

    Returns:
        Scores, largest first, and the indices of their vectors.
    """
    q, v = (torch.from_numpy(np.require(a, np.float32, ("C", "W"))) for a in (query, vectors))
    n, m = len(q), len(v)
    width = max(k, min(m, BLOCK // max(n, 1)))
    best = torch.empty((n, 0))
    where = torch.empty((n, 0), dtype=torch.long)
    for start in range(0, m, width):
        scores = q @ v[start : start + width].T
        top = scores.topk(min(k, scores.shape[1]), dim=1)
        best = torch.cat([best, top.values], dim=1)
        where = torch.cat([where, top.indices + start], dim=1)
        if best.shape[1] > k:
            columns = best.topk(k, dim=1).indices
            best, where = best.gather(1, columns), where.gather(1, columns)
    order = np.lexsort((where.numpy(), -best.numpy()), axis=1)
    return np.take_along_axis(best.numpy(), order, 1), np.take_along_axis(where.numpy(), order, 1)


# Vectors and the name, a number, of each.
Block = tuple[Float[np.ndarray, "m d"], Int[np.ndarray, " m"]]


def nearest(
    query: Float[np.ndarray, "n d"], blocks: Iterable[Block], k: int
) -> tuple[Float[np.ndarray, "n k"], Int[np.ndarray, "n k"]]:
    """`top_k` over all blocks. Holds one block and k scores per query.

    Returns:
        Scores, largest first, and the names of their vectors; all where there are fewer than k.
    """
    best = np.empty((len(query), 0), np.float32)
    names = np.empty((len(query), 0), np.int64)
    for vectors, its_names in blocks:
        if not len(vectors):
            continue
        scores, indices = top_k(query, vectors, min(k, len(vectors)))
        best = np.concatenate([best, scores], axis=1)
        names = np.concatenate([names, its_names[indices]], axis=1)
        order = np.argsort(-best, axis=1, kind="stable")[:, :k]
        best = np.take_along_axis(best, order, 1)
        names = np.take_along_axis(names, order, 1)
    return best, names
