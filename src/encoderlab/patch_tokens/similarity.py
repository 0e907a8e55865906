"""Similarity of a patch to its neighbours, to CLS, and to any other patch.

Pure functions of tokens on their grid, on any device. b images, (h, w) grid, d width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from encoderlab.errors import UsageError, unknown

METRICS = ("cosine", "dot_product")


@dataclass(frozen=True)
class Neighbours:
    """Similarities of adjacent patches; every pair occurs once.

    Args:
        right: (b, h, w - 1); cell [i, j] compares patch (i, j) with (i, j + 1).
        down: (b, h - 1, w); with (i + 1, j).
        down_right: (b, h - 1, w - 1); with (i + 1, j + 1).
        down_left: (b, h - 1, w - 1); cell [i, j] compares (i, j + 1) with (i + 1, j).
    """

    right: Tensor
    down: Tensor
    down_right: Tensor
    down_left: Tensor


def comparable(tokens: Float[Tensor, "*b d"], metric: str = "cosine") -> Float[Tensor, "*b d"]:
    """Tokens whose inner products are the metric.

    Args:
        tokens: any shape; the last axis is the width.
        metric: "cosine" or "dot_product".

    Returns:
        Tokens in fp32; unit vectors for cosines.

    Raises:
        UsageError: an unknown metric.
    """  # noqa: DOC501
    if metric not in METRICS:
        raise unknown("similarity metric", metric, METRICS, "encoderlab tokens --help")
    tokens = tokens.float()
    return F.normalize(tokens, dim=-1, eps=1e-30) if metric == "cosine" else tokens


def neighbours(ready: Float[Tensor, "b h w d"]) -> Neighbours:
    """The similarity of every patch to its neighbours.

    Args:
        ready: patches, from `comparable`.

    Returns:
        The pairs in four directions; the other four are the same pairs.
    """
    vecdot = torch.linalg.vecdot
    return Neighbours(
        vecdot(ready[:, :, :-1], ready[:, :, 1:]),
        vecdot(ready[:, :-1], ready[:, 1:]),
        vecdot(ready[:, :-1, :-1], ready[:, 1:, 1:]),
        vecdot(ready[:, :-1, 1:], ready[:, 1:, :-1]),
    )


def against(
    ready: Float[Tensor, "b h w d"], anchor: Float[Tensor, "b d"]
) -> Float[Tensor, "b h w"]:
    """The similarity of every patch to one vector per image.

    Args:
        ready: patches, from `comparable`.
        anchor: vectors, from `comparable`.

    Returns:
        The metric of `comparable`; cosines are in [-1, 1].
    """
    return torch.einsum("bhwd,bd->bhw", ready, anchor)


def patch_against_all(ready: Float[Tensor, "h w d"], row: int, column: int) -> Float[Tensor, "h w"]:
    """The similarity of one patch to all patches of its image.

    Args:
        ready: from `comparable`.
        row: of the patch, from 0.
        column: of the patch, from 0.

    Returns:
        Similarities in the metric of `comparable`; 1 at the patch itself for cosines.

    Raises:
        UsageError: the patch is outside the grid.
    """
    h, w, _ = ready.shape
    if not (0 <= row < h and 0 <= column < w):
        raise UsageError(
            "no patch stands there",
            got=f"row {row}, column {column}",
            want=f"rows 0 to {h - 1}, columns 0 to {w - 1}",
        )
    return ready @ ready[row, column]


def neighbour_mean(pairs: Neighbours) -> Float[Tensor, "b h w"]:
    """The mean similarity of each patch to its neighbours.

    Args:
        pairs: from `neighbours`.

    Returns:
        The mean of eight values, of fewer at the border.
    """
    b, h, w = (*pairs.right.shape[:2], pairs.right.shape[2] + 1)
    total = pairs.right.new_zeros(b, h, w)
    count = pairs.right.new_zeros(b, h, w)
    every, first, last = slice(None), slice(None, -1), slice(1, None)
    for values, patch, neighbour in (
        (pairs.right, (every, every, first), (every, every, last)),
        (pairs.down, (every, first, every), (every, last, every)),
        (pairs.down_right, (every, first, first), (every, last, last)),
        (pairs.down_left, (every, first, last), (every, last, first)),
    ):
        for cells in (patch, neighbour):
            total[cells] += values
            count[cells] += 1
    return total / count.clamp_min(1)
