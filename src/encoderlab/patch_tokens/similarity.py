"""How alike a patch is to its neighbours, to CLS, and to any other patch.

Pure functions of tokens on their grid, on the device they are on. b images, (h, w) grid, d width.
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
    """Each patch with the next one; every pair stands here once.

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
    """Tokens whose inner products are the metric, in fp32.

    Raises:
        UsageError: an unknown metric.
    """
    if metric not in METRICS:
        raise unknown("similarity metric", metric, METRICS, "encoderlab tokens --help")
    tokens = tokens.float()
    return F.normalize(tokens, dim=-1, eps=1e-30) if metric == "cosine" else tokens


def neighbours(ready: Float[Tensor, "b h w d"]) -> Neighbours:
    """The similarity of every patch to its eight neighbours; `ready` is from `comparable`."""

    def inner(a: Tensor, b: Tensor) -> Tensor:
        return torch.linalg.vecdot(a, b)

    return Neighbours(
        inner(ready[:, :, :-1], ready[:, :, 1:]),
        inner(ready[:, :-1], ready[:, 1:]),
        inner(ready[:, :-1, :-1], ready[:, 1:, 1:]),
        inner(ready[:, :-1, 1:], ready[:, 1:, :-1]),
    )


def against(
    ready: Float[Tensor, "b h w d"], anchor: Float[Tensor, "b d"]
) -> Float[Tensor, "b h w"]:
    """The similarity of every patch to one vector per image; both from `comparable`."""
    return torch.einsum("bhwd,bd->bhw", ready, anchor)


def patch_against_all(ready: Float[Tensor, "h w d"], row: int, column: int) -> Float[Tensor, "h w"]:
    """Click a patch: its similarity to all others of its image.

    Raises:
        UsageError: no patch stands there.
    """
    h, w, _ = ready.shape
    if not (0 <= row < h and 0 <= column < w):
        raise UsageError(
            "no patch stands there",
            got=f"row {row}, column {column}",
            want=f"rows 0 to {h - 1}, columns 0 to {w - 1}",
        )
    return ready @ ready[row, column]


def neighbour_mean(found: Neighbours) -> Float[Tensor, "b h w"]:
    """The mean similarity of each patch to those of its eight neighbours that it has."""
    b, h, w = (*found.right.shape[:2], found.right.shape[2] + 1)
    total = found.right.new_zeros(b, h, w)
    count = found.right.new_zeros(b, h, w)
    for values, one, other in (
        (found.right, (slice(None), slice(None, -1)), (slice(None), slice(1, None))),
        (found.down, (slice(None, -1), slice(None)), (slice(1, None), slice(None))),
        (found.down_right, (slice(None, -1), slice(None, -1)), (slice(1, None), slice(1, None))),
        (found.down_left, (slice(None, -1), slice(1, None)), (slice(1, None), slice(None, -1))),
    ):
        for place in (one, other):
            total[:, place[0], place[1]] += values
            count[:, place[0], place[1]] += 1
    return total / count.clamp_min(1)
