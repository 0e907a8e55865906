"""Procrustes: how similar two spaces are up to rotation and scale.

Knows feature matrices only. n samples, d width, r rank.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from encoderlab.core.score import Score, undefined
from encoderlab.metrics.matrix import Matrix, centre, in_sample_axes, require_same_count

RELABELINGS = 20


def procrustes_similarity(x: Matrix, y: Matrix, seed: int = 0) -> Score:
    """|Xc' Yc|_* / (|Xc| |Yc|) (Williams et al. 2021; its arccos is the angular shape distance).

    Args:
        x: features (n, d_x).
        y: features (n, d_y), row i of the same sample.
        seed: of the shuffled pairings.

    Returns:
        The score in [0, 1]; its chance is the mean over shuffled pairings, which is high for few
        samples.

    Raises:
        UsageError: values that are not finite, or numbers of rows that differ.
    """
    (left, left_constant), (right, right_constant) = centre(x, "X"), centre(y, "Y")
    n = require_same_count({"X": left, "Y": right})
    name = f"Procrustes similarity; chance: mean of {RELABELINGS} shuffled pairings"
    if n < 2:
        return undefined(f"needs at least 2 samples, and there are {n}", n, name)
    if left_constant or right_constant:
        return undefined("the features are the same for every sample", n, name)
    left, right = in_sample_axes(left), in_sample_axes(right)
    scale = torch.linalg.norm(left) * torch.linalg.norm(right)
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(n) for _ in range(RELABELINGS)]
    shuffled = [_nuclear(left, right[torch.from_numpy(order)]) / scale for order in orders]
    value = float(_nuclear(left, right) / scale)
    return Score(value, None, None, float(torch.stack(shuffled).mean()), n, name)


def rotate_onto(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n d"]
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n d"]]:
    """Rotates x onto y by `scipy.linalg.orthogonal_procrustes`.

    Args:
        x: the features to rotate.
        y: the target; the narrower of both sides is padded with zeros.

    Returns:
        x and y, both centred and scaled to norm 1, x rotated and scaled to be nearest to y.
    """
    from scipy.linalg import orthogonal_procrustes

    width = max(x.shape[1], y.shape[1])
    a, b = (_normalised(np.asarray(side, dtype=np.float64), width) for side in (x, y))
    rotation, scale = orthogonal_procrustes(a, b)
    return a @ rotation * scale, b


def _normalised(x: np.ndarray, width: int) -> np.ndarray:
    padded = np.pad(x - x.mean(axis=0), ((0, 0), (0, width - x.shape[1])))
    return padded / max(float(np.linalg.norm(padded)), 1e-300)


def _nuclear(left: Tensor, right: Tensor) -> Tensor:
    return torch.linalg.svdvals(left.T @ right).sum()
