"""Methods without training that keep or pick places: pooling, striding, choosing.

b images, n tokens, c channels, k kept.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from encoderlab.models.token_grid import at_least_fp32, window_of
from encoderlab.patch_tokens.reducer import (
    CompressedTokens,
    Grid,
    SideInputs,
    TokenReducer,
    merged,
    positions_of,
    selected,
)


class AveragePooling(TokenReducer):
    """The mean of each window: the least squared error of all that give a window one vector."""

    name = "average"
    keeps_grid = True

    def _compress(self, tokens, grid, budget, side) -> CompressedTokens:
        window = window_of(grid, budget).to(tokens.device).expand(len(tokens), -1)
        return merged(tokens, window, budget[0] * budget[1], grid, budget)


class Bilinear(TokenReducer):
    """Bilinear interpolation down, and up again; windows are for the record alone."""

    name = "bilinear"
    keeps_grid = True

    def _compress(self, tokens, grid, budget, side) -> CompressedTokens:
        image = rearrange(tokens, "b (h w) c -> b c h w", h=grid[0])
        small = F.interpolate(image, size=budget, mode="bilinear", align_corners=False)
        window = window_of(grid, budget).to(tokens.device).expand(len(tokens), -1)
        kept = merged(tokens, window, budget[0] * budget[1], grid, budget)
        return CompressedTokens(
            rearrange(small, "b c h w -> b (h w) c"), kept.positions, kept.sizes, window, budget
        )

    def _decode(self, kept: CompressedTokens, grid: Grid) -> Float[Tensor, "b n c"]:
        assert kept.grid is not None
        small = rearrange(kept.tokens, "b (h w) c -> b c h w", h=kept.grid[0])
        large = F.interpolate(small, size=grid, mode="bilinear", align_corners=False)
        return rearrange(large, "b c h w -> b (h w) c")


class Strided(TokenReducer):
    """The token in the middle of each window."""

    name = "strided"
    keeps_grid = True

    def _compress(self, tokens, grid, budget, side) -> CompressedTokens:
        chosen = _middle_of_windows(grid, budget).to(tokens.device)
        return selected(tokens, chosen.expand(len(tokens), -1), grid, budget)


class Random(TokenReducer):
    """Any tokens, each image its own.

    Args:
        seed: of the choice.
    """

    name = "random"

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def _compress(self, tokens, grid, budget, side) -> CompressedTokens:
        generator = torch.Generator().manual_seed(self.seed)
        order = torch.rand(tokens.shape[:2], generator=generator).argsort(dim=1)
        chosen = order[:, : budget[1]].sort(dim=1).values
        return selected(tokens, chosen.to(tokens.device), grid)


class RandomInWindow(TokenReducer):
    """One token of each window, any: the distribution is exact, the error on average twice that of
    the mean."""

    name = "random_in_window"
    keeps_grid = True

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def _compress(self, tokens, grid, budget, side) -> CompressedTokens:
        b, n, _ = tokens.shape
        count = budget[0] * budget[1]
        window = window_of(grid, budget)
        generator = torch.Generator().manual_seed(self.seed)
        chosen = one_of_each_window(b, grid, budget, generator).to(tokens.device)
        kept = tokens.gather(1, chosen.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
        assignment = window.to(tokens.device).expand(b, n)
        sizes = torch.bincount(window, minlength=count).float().to(tokens.device).expand(b, count)
        return CompressedTokens(
            kept, positions_of(grid).to(tokens.device)[chosen], sizes, assignment, budget
        )


def one_of_each_window(
    images: int, grid: Grid, budget: Grid, generator: torch.Generator | None = None
) -> Int[Tensor, "b k"]:
    """A place of every window, drawn for each image alone."""
    window = window_of(grid, budget)
    draw = torch.rand(images, len(window), generator=generator)
    inside = window[None, :] == torch.arange(budget[0] * budget[1])[:, None]
    return torch.where(inside, draw[:, None, :], -1.0).argmax(dim=-1)


class CLSAttention(TokenReducer):
    """The tokens that CLS attends to most (FasterVLM, VisionZip's dominant tokens)."""

    name = "cls_attention"
    needs: ClassVar[tuple[str, ...]] = ("attention",)

    def _compress(self, tokens, grid, budget, side: SideInputs) -> CompressedTokens:
        assert side.attention is not None
        chosen = side.attention.topk(budget[1], dim=1).indices.sort(dim=1).values
        return selected(tokens, chosen, grid)


class Diverse(TokenReducer):
    """Tokens far from one another: each next is the one least like all that are kept (cosine;
    farthest-point sampling, as DivPrune's)."""

    name = "diverse"

    def _compress(self, tokens, grid, budget, side) -> CompressedTokens:
        chosen = farthest_points(tokens, budget[1]).sort(dim=1).values
        return selected(tokens, chosen, grid)


def farthest_points(tokens: Float[Tensor, "b n c"], count: int) -> Int[Tensor, "b k"]:
    """`count` tokens by farthest-point sampling in cosine distance, from the one least like the
    mean on."""
    unit = F.normalize(at_least_fp32(tokens), dim=-1)
    mean = F.normalize(unit.mean(dim=1, keepdim=True), dim=-1)
    nearest = (unit * mean).sum(dim=-1)
    chosen = [nearest.argmin(dim=1)]
    nearest = torch.full_like(nearest, -torch.inf)
    rows = torch.arange(len(tokens), device=tokens.device)
    for _ in range(count - 1):
        last = unit[rows, chosen[-1]]
        nearest = torch.maximum(nearest, torch.einsum("bnc,bc->bn", unit, last))
        nearest[rows, chosen[-1]] = torch.inf
        chosen.append(nearest.argmin(dim=1))
    return torch.stack(chosen, dim=1)


def _middle_of_windows(grid: Grid, budget: Grid) -> Int[Tensor, " k"]:
    """The place nearest to the middle of each window; of equally near ones the upper left."""
    window, where = window_of(grid, budget), positions_of(grid)
    chosen = []
    for number in range(budget[0] * budget[1]):
        inside = (window == number).nonzero().flatten()
        middle = where[inside].mean(dim=0)
        chosen.append(inside[(where[inside] - middle).square().sum(dim=1).argmin()])
    return torch.stack(chosen)
