"""Places on a grid of tokens: windows of it, and tokens as an image and back.

(h, w) grid, n = h*w places in reading order, b images, c channels.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, tensor

from encoderlab.errors import UsageError

Grid = tuple[int, int]


def windows(size: int, budget: int) -> list[int]:
    """The window of every place when `size` places become `budget`: as even as whole numbers allow.

    >>> windows(5, 2)
    [0, 0, 0, 1, 1]
    """
    return [place * budget // size for place in range(size)]


def window_of(grid: Grid, budget: Grid) -> Int[Tensor, " n"]:
    """Which window each place of the grid lies in, in reading order."""
    rows, columns = (tensor(windows(*pair)) for pair in zip(grid, budget, strict=True))
    return (rows[:, None] * budget[1] + columns[None, :]).flatten()


def divides(grid: Grid, budget: Grid) -> bool:
    """Whether all windows are of one size."""
    return grid[0] % budget[0] == 0 and grid[1] % budget[1] == 0


def blocks_of(tokens: Float[Tensor, "b n c"], grid: Grid, budget: Grid) -> Float[Tensor, "b k rqc"]:
    """The tokens of every window side by side, where windows are of one size."""
    return rearrange(
        tokens, "b (h r w q) c -> b (h w) (r q c)",
        h=budget[0], w=budget[1], r=grid[0] // budget[0],
    )  # fmt: skip


def tokens_of_blocks(
    blocks: Float[Tensor, "b k rqc"], grid: Grid, budget: Grid
) -> Float[Tensor, "b n c"]:
    """The other way."""
    return rearrange(
        blocks, "b (h w) (r q c) -> b (h r w q) c",
        h=budget[0], r=grid[0] // budget[0], q=grid[1] // budget[1],
    )  # fmt: skip


def check_grids(grid: Grid, out_grid: Grid) -> None:
    """Refuses a target that is no smaller grid.

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
    """Values in a format that they can be summed in: fp32 for 16 bits, which overflow at 65,504 or
    keep three digits; fp32 and fp64 as they are.

    >>> at_least_fp32(tensor([1.0], dtype=torch.float16)).dtype
    torch.float32
    """
    return values.to(torch.promote_types(values.dtype, torch.float32))


def as_image(tokens: Float[Tensor, "b n c"], grid: Grid) -> Float[Tensor, "b c h w"]:
    """Tokens on their grid, channels first (in memory last, which is what convolutions like)."""
    return rearrange(tokens, "b (h w) c -> b c h w", h=grid[0])


def as_tokens(image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n c"]:
    """The other way."""
    return rearrange(image, "b c h w -> b (h w) c")
