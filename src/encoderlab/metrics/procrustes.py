"""Procrustes: how far one space is the other but for a rotation and a scale.

n samples, d width.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from encoderlab.core.score import Score, undefined
from encoderlab.metrics.matrix import Matrix, is_constant, matrix, pair

RELABELINGS = 20


def procrustes_similarity(x: Matrix, y: Matrix, seed: int = 0) -> Score:
    """|Xc' Yc|_* / (|Xc| |Yc|) in [0, 1] (Williams et al. 2021; its arccos is the angular shape
    distance), beside its mean over shuffled pairings, which is high where samples are few.

    Raises:
        UsageError: values that are not finite, or other counts.
    """
    left, right = pair(x, y)
    n = len(left)
    name = f"Procrustes similarity; chance: mean of {RELABELINGS} shuffled pairings"
    if n < 2:
        return undefined(f"needs at least 2 samples, and there are {n}", n, name)
    for found, before in ((left, x), (right, y)):
        if is_constant(found, float(matrix(before).abs().max())):
            return undefined("the features are the same for every sample", n, name)
    # In the axes of the samples nothing is wider than n.
    left, right = _within_samples(left), _within_samples(right)
    scale = torch.linalg.norm(left) * torch.linalg.norm(right)
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(n) for _ in range(RELABELINGS)]
    shuffled = [_nuclear(left, right[torch.from_numpy(order)]) / scale for order in orders]
    value = float(_nuclear(left, right) / scale)
    return Score(value, None, None, float(torch.stack(shuffled).mean()), n, name)


def rotate_onto(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n d"]
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n d"]]:
    """Both centred and scaled to size one, x rotated to lie on y (scipy's orthogonal solution);
    the narrower is padded with zeros."""
    from scipy.linalg import orthogonal_procrustes

    width = max(x.shape[1], y.shape[1])
    a, b = (_normalised(np.asarray(one, dtype=np.float64), width) for one in (x, y))
    rotation, scale = orthogonal_procrustes(a, b)
    return a @ rotation * scale, b


def _normalised(x: np.ndarray, width: int) -> np.ndarray:
    found = np.pad(x - x.mean(axis=0), ((0, 0), (0, width - x.shape[1])))
    return found / max(float(np.linalg.norm(found)), 1e-300)


def _within_samples(x: Float[Tensor, "n d"]) -> Float[Tensor, "n r"]:
    if x.shape[1] <= len(x):
        return x
    u, s, _ = torch.linalg.svd(x, full_matrices=False)
    return u * s


def _nuclear(left: Tensor, right: Tensor) -> Tensor:
    return torch.linalg.svdvals(left.T @ right).sum()
