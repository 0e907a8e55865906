"""Grids of tokens: windows of positions, and tokens as an image and back.

(h, w) grid, n = h*w positions in row-major order, k windows of r x q, b images, c channels.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, tensor

from encoderlab.errors import UsageError

Grid = tuple[int, int]


def windows(size: int, budget: int) -> list[int]:
    """The window of each position, for windows of nearly equal size.

    Args:
        size: number of positions.
        budget: number of windows.

    Returns:
        One number of a window per position, from 0.

    >>> windows(5, 2)
    [0, 0, 0, 1, 1]
    """
    return [position * budget // size for position in range(size)]


def window_of(grid: Grid, budget: Grid) -> Int[Tensor, " n"]:
    """The window of each position of the grid, in row-major order."""
    rows, columns = (tensor(windows(*pair)) for pair in zip(grid, budget, strict=True))
    return (rows[:, None] * budget[1] + columns[None, :]).flatten()


def divides(grid: Grid, budget: Grid) -> bool:
    """Whether all windows have the same size."""
    return grid[0] % budget[0] == 0 and grid[1] % budget[1] == 0


def blocks_of(tokens: Float[Tensor, "b n c"], grid: Grid, budget: Grid) -> Float[Tensor, "b k rqc"]:
    """The tokens of each window, concatenated; needs windows of equal size."""
    return rearrange(
        tokens, "b (h r w q) c -> b (h w) (r q c)",
        h=budget[0], w=budget[1], r=grid[0] // budget[0],
    )  # fmt: skip


def tokens_of_blocks(
    blocks: Float[Tensor, "b k rqc"], grid: Grid, budget: Grid
) -> Float[Tensor, "b n c"]:
    """The inverse of `blocks_of`."""
    return rearrange(
        blocks, "b (h w) (r q c) -> b (h r w q) c",
        h=budget[0], r=grid[0] // budget[0], q=grid[1] // budget[1],
    )  # fmt: skip


def check_grids(grid: Grid, out_grid: Grid) -> None:
    """Raises if `out_grid` is larger than `grid` or empty.

    Raises:
        UsageError: naming both.
    """
    if not (1 <= out_grid[0] <= grid[0] and 1 <= out_grid[1] <= grid[1]):
        raise UsageError(
            "the compressed grid does not fit into the grid",
            got=f"{out_grid[0]} x {out_grid[1]} of {grid[0]} x {grid[1]}",
            want=f"1 x 1 to {grid[0]} x {grid[1]}",
        )


def at_least_fp32(values: Tensor) -> Tensor:
    """Values in fp32 if they have 16 bits, else unchanged."""
    # In 16 bits, sums overflow at 65,504 or keep three digits.
    return values.to(torch.promote_types(values.dtype, torch.float32))


def as_image(tokens: Float[Tensor, "b n c"], grid: Grid) -> Float[Tensor, "b c h w"]:
    """Tokens on their grid, channels first (in memory last, the fast layout of convolutions)."""
    return rearrange(tokens, "b (h w) c -> b c h w", h=grid[0])


def as_tokens(image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n c"]:
    """The inverse of `as_image`."""
    return rearrange(image, "b c h w -> b (h w) c")
