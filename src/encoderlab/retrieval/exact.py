"""Exact top-k by inner product. Pure: arrays in, scores and places out.

`top_k` over vectors in memory; `Nearest` over blocks of them that come one after another.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int

# Scores held at a time: small enough for the cache, large enough for the matrix product.
BLOCK = 1 << 22


def top_k(
    query: Float[np.ndarray, "n d"], vectors: Float[np.ndarray, "m d"], k: int
) -> tuple[Float[np.ndarray, "n k"], Int[np.ndarray, "n k"]]:
    """The k largest inner products of each query, largest first, and whose they are.

    Of equal scores the earlier vector comes first. k is at most m.
    """
    q, v = (torch.from_numpy(np.require(a, np.float32, ("C", "W"))) for a in (query, vectors))
    n, m = len(q), len(v)
    width = max(k, min(m, BLOCK // max(n, 1)))
    best = torch.empty((n, 0))
    where = torch.empty((n, 0), dtype=torch.long)
    for start in range(0, m, width):
        scores = q @ v[start : start + width].T
        found = scores.topk(min(k, scores.shape[1]), dim=1)
        best = torch.cat([best, found.values], dim=1)
        where = torch.cat([where, found.indices + start], dim=1)
        if best.shape[1] > k:
            kept = best.topk(k, dim=1).indices
            best, where = best.gather(1, kept), where.gather(1, kept)
    order = np.lexsort((where.numpy(), -best.numpy()), axis=1)
    return np.take_along_axis(best.numpy(), order, 1), np.take_along_axis(where.numpy(), order, 1)


class Nearest:
    """The k best of each query among all vectors seen so far, a block at a time.

    Holds k scores a query and no vectors. Of equal scores the one that was seen first comes first.
    """

    def __init__(self, query: Float[np.ndarray, "n d"], k: int) -> None:
        self._query, self._k = query, k
        self.scores: Float[np.ndarray, "n k"] = np.empty((len(query), 0), np.float32)
        self.names: Int[np.ndarray, "n k"] = np.empty((len(query), 0), np.int64)

    def see(self, vectors: Float[np.ndarray, "m d"], names: Int[np.ndarray, " m"]) -> None:
        """Takes in a block; `names[j]` is what vector j is known by."""
        if not len(vectors):
            return
        scores, places = top_k(self._query, vectors, min(self._k, len(vectors)))
        both = np.concatenate([self.scores, scores], axis=1)
        named = np.concatenate([self.names, names[places]], axis=1)
        order = np.argsort(-both, axis=1, kind="stable")[:, : self._k]
        self.scores = np.take_along_axis(both, order, 1)
        self.names = np.take_along_axis(named, order, 1)
