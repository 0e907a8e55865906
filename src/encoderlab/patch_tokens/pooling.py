"""Training-free methods that pool windows or select tokens.

b images, n tokens, c channels, k kept.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from encoderlab.models.token_grid import (
    as_image,
    as_tokens,
    at_least_fp32,
    blocks_of,
    tokens_of_blocks,
    window_of,
)
from encoderlab.patch_tokens.reducer import (
    CompressedTokens,
    Grid,
    SideInputs,
    TokenReducer,
    picked,
    pooled,
    positions_of,
    selected,
)

TOGETHER = 16  # images of a method with many steps: their tokens fit into the cache of a CPU


class AveragePooling(TokenReducer):
    """The mean of each window, which has the least squared error of one vector per window."""

    name = "average"
    keeps_grid = True

    def _compress(self, tokens, grid, budget, side) -> CompressedTokens:
        return pooled(tokens, grid, budget)


class Bilinear(TokenReducer):
    """Bilinear interpolation down, and up again."""

    name = "bilinear"
    keeps_grid = True

    def _compress(self, tokens, grid, budget, side) -> CompressedTokens:
        return replace(pooled(tokens, grid, budget), tokens=resized(tokens, grid, budget))

    def _decode(self, kept: CompressedTokens, grid: Grid) -> Float[Tensor, "b n c"]:
        assert kept.grid is not None
        return resized(kept.tokens, kept.grid, grid)


def resized(tokens: Float[Tensor, "b n c"], grid: Grid, size: Grid) -> Float[Tensor, "b k c"]:
    """Tokens interpolated bilinearly.

    Args:
        tokens: a grid of tokens for each image.
        grid: (rows, columns) of the tokens.
        size: (rows, columns) of the result.

    Returns:
        Tokens of the new grid, row by row.
    """
    image = as_image(tokens, grid)
    return as_tokens(F.interpolate(image, size=size, mode="bilinear", align_corners=False))


class PixelShuffle(TokenReducer):
    """The tokens of each window side by side in one token (InternVL, SmolVLM, Qwen-VL's merger).

    Lossless: of S x S windows, S * S times fewer tokens with S * S times as many channels.
    """

    name = "pixel_shuffle"
    keeps_grid = True
    equal_windows = True

    def _compress(self, tokens, grid, budget, side) -> CompressedTokens:
        kept = blocks_of(tokens, grid, budget)
        return replace(pooled(tokens[..., :1], grid, budget), tokens=kept)

    def _decode(self, kept: CompressedTokens, grid: Grid) -> Float[Tensor, "b n c"]:
        assert kept.grid is not None
        return tokens_of_blocks(kept.tokens, grid, kept.grid)

    def width(self, channels: int, grid: Grid, budget: Grid) -> int:
        """`channels` times the tokens of a window."""
        return channels * grid[0] * grid[1] // (budget[0] * budget[1])


class DCT(TokenReducer):
    """Low-pass filter of each channel's image: the lowest coefficients of its 2-D DCT-II.

    The inverse transform of that many coefficients makes a small image, scaled so that a constant
    stays itself; zeros for the other coefficients rebuild the grid.
    """

    name = "dct"
    keeps_grid = True

    def _compress(self, tokens, grid, budget, side) -> CompressedTokens:
        down = [_low_pass(*pair).to(tokens) for pair in zip(grid, budget, strict=True)]
        kept = torch.einsum("rh,qw,bchw->bcrq", *down, as_image(tokens, grid))
        return replace(pooled(tokens[..., :1], grid, budget), tokens=as_tokens(kept))

    def _decode(self, kept: CompressedTokens, grid: Grid) -> Float[Tensor, "b n c"]:
        assert kept.grid is not None
        up = [_low_pass(*pair).to(kept.tokens) for pair in zip(kept.grid, grid, strict=True)]
        image = as_image(kept.tokens, kept.grid)
        return as_tokens(torch.einsum("rh,qw,bchw->bcrq", *up, image))


def _low_pass(size: int, new: int) -> Float[Tensor, "new size"]:
    """A DCT of `size` values, cut off or filled with zeros, and the inverse of `new` values."""
    lowest = min(size, new)
    bases = []
    for count in (new, size):
        place = (2 * torch.arange(count).double() + 1) / (2 * count)
        cosines = torch.cos(torch.pi * torch.arange(lowest).double()[:, None] * place)
        bases.append(cosines * (2 / count) ** 0.5)
        bases[-1][0] /= 2**0.5
    return (new / size) ** 0.5 * bases[0].T @ bases[1]


class Strided(TokenReducer):
    """The token in the middle of each window."""

    name = "strided"
    keeps_grid = True

    def _compress(self, tokens, grid, budget, side) -> CompressedTokens:
        chosen = _middle_of_windows(grid, budget).to(tokens.device)
        return selected(tokens, chosen.expand(len(tokens), -1), grid, budget)


class Random(TokenReducer):
    """Tokens drawn at random, for each image independently."""

    name = "random"

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def _compress(self, tokens, grid, budget, side) -> CompressedTokens:
        generator = torch.Generator().manual_seed(self.seed)
        order = torch.rand(tokens.shape[:2], generator=generator).argsort(dim=1)
        chosen = order[:, : budget[1]].sort(dim=1).values
        return selected(tokens, chosen.to(tokens.device), grid)


class RandomInWindow(TokenReducer):
    """A random token of each window: the tokens keep their distribution, at twice the mean's
    squared error on average."""

    name = "random_in_window"
    keeps_grid = True

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def _compress(self, tokens, grid, budget, side) -> CompressedTokens:
        generator = torch.Generator().manual_seed(self.seed)
        chosen = one_of_each_window(len(tokens), grid, budget, generator).to(tokens.device)
        return replace(
            pooled(tokens[..., :1], grid, budget),
            tokens=picked(tokens, chosen),
            positions=positions_of(grid).to(tokens.device)[chosen],
        )


def one_of_each_window(
    images: int, grid: Grid, budget: Grid, generator: torch.Generator | None = None
) -> Int[Tensor, "b k"]:
    """A random place of every window, drawn for each image independently.

    Args:
        images: number of images.
        grid: (rows, columns) of the tokens.
        budget: (rows, columns) of the windows.
        generator: of the draw.

    Returns:
        Index of a token for each image and window.
    """
    window = window_of(grid, budget)
    draw = torch.rand(images, len(window), generator=generator)
    inside = window[None, :] == torch.arange(budget[0] * budget[1])[:, None]
    return torch.where(inside, draw[:, None, :], -1.0).argmax(dim=-1)


class CLSAttention(TokenReducer):
    """The tokens that CLS attends to most (FasterVLM, VisionZip's dominant tokens); of an encoder
    without CLS those that get most attention from all patches."""

    name = "cls_attention"
    needs: ClassVar[tuple[str, ...]] = ("attention",)

    def _compress(self, tokens, grid, budget, side: SideInputs) -> CompressedTokens:
        assert side.attention is not None
        chosen = side.attention.topk(budget[1], dim=1).indices.sort(dim=1).values
        return selected(tokens, chosen, grid)


class Diverse(TokenReducer):
    """Farthest-point sampling in cosine distance, as in DivPrune."""

    name = "diverse"

    def _compress(self, tokens, grid, budget, side) -> CompressedTokens:
        chosen = farthest_points(tokens, budget[1]).sort(dim=1).values
        return selected(tokens, chosen, grid)


def farthest_points(tokens: Float[Tensor, "b n c"], count: int) -> Int[Tensor, "b k"]:
    """Indices of `count` tokens by farthest-point sampling in cosine distance."""
    return torch.cat([_farthest(part, count) for part in tokens.split(TOGETHER)])


def _farthest(tokens: Float[Tensor, "b n c"], count: int) -> Int[Tensor, "b k"]:
    # The first is the token least similar to the mean; each next one is the least similar to those
    # chosen.
    unit = F.normalize(at_least_fp32(tokens), dim=-1)
    mean = F.normalize(unit.mean(dim=1, keepdim=True), dim=-1)
    nearest = (unit * mean).sum(dim=-1)
    chosen = [nearest.argmin(dim=1)]
    # One product of matrices takes less time than one of a matrix and a vector in every step.
    cosines = unit @ unit.mT
    nearest = torch.full_like(nearest, -torch.inf)
    rows = torch.arange(len(tokens), device=tokens.device)
    for _ in range(count - 1):
        nearest = torch.maximum(nearest, cosines[rows, chosen[-1]])
        nearest[rows, chosen[-1]] = torch.inf
        chosen.append(nearest.argmin(dim=1))
    return torch.stack(chosen, dim=1)


def _middle_of_windows(grid: Grid, budget: Grid) -> Int[Tensor, " k"]:
    """The place nearest to the middle of each window; among equally near ones the upper left."""
    window, positions = window_of(grid, budget), positions_of(grid)
    chosen = []
    for number in range(budget[0] * budget[1]):
        inside = (window == number).nonzero().flatten()
        middle = positions[inside].mean(dim=0)
        chosen.append(inside[(positions[inside] - middle).square().sum(dim=1).argmin()])
    return torch.stack(chosen)
