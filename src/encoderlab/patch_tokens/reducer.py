"""The interface of a token reduction method, and the functions that several methods share.

Knows tokens and their grid, no encoder. b images, n = h*w tokens, c channels, k kept tokens.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from encoderlab.errors import UsageError
from encoderlab.models.token_grid import Grid, at_least_fp32, divides, window_of


@dataclass(frozen=True)
class CompressedTokens:
    """The kept tokens of some images.

    Args:
        tokens: (b, k, c).
        positions: (b, k, 2), the row and column that each token stands for, in patches; a language
            model without them loses the ability to localise (RefCOCO 56 to 15, GAP).
        sizes: (b, k), how many original tokens each stands for; they sum to n.
        assignment: (b, n), index of the kept token that stands for each original one.
        grid: (rows, columns) where the tokens lie on a grid, else None.
    """

    tokens: Tensor
    positions: Tensor
    sizes: Tensor
    assignment: Tensor
    grid: Grid | None = None


@dataclass(frozen=True)
class SideInputs:
    """Inputs that some methods need besides the tokens.

    Args:
        cls: (b, c), the CLS token.
        attention: (b, n), attention of CLS to each patch, mean over heads; of an encoder without
            CLS the attention that each patch receives, mean over heads and patches (VisionZip).
        keys: (b, n, d), keys of the block that outputs the tokens, mean over heads.
        text: (b, n), how well each patch matches the question, as a cosine.
        pixels: (b, 3, height, width) uint8, the input of the encoder.
    """

    cls: Tensor | None = None
    attention: Tensor | None = None
    keys: Tensor | None = None
    text: Tensor | None = None
    pixels: Tensor | None = None


# Source of each input, for error messages.
GIVEN_BY = {
    "cls": "an encoder with CLS",
    "attention": "a CLIP, SigLIP or DINOv2, or an encoder with CLS and attention maps, after the "
    "first block",
    "keys": "a CLIP, SigLIP or DINOv2, after the first block",
    "text": "a VLM that answers questions",
    "pixels": "the pixels of the images",
}


class TokenReducer(ABC):
    """Base of all token reduction methods.

    Attributes:
        needs: names of the `SideInputs` that the method requires.
        trained: whether it is fitted or trained.
        keeps_grid: whether its tokens lie on a grid; then its budget is a grid, else a number.
        equal_windows: whether the budget has to divide the grid.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    trained: ClassVar[bool] = False
    keeps_grid: ClassVar[bool] = False
    equal_windows: ClassVar[bool] = False

    def compress(
        self,
        tokens: Float[Tensor, "b n c"],
        grid: Grid,
        budget: int | Grid,
        side: SideInputs | None = None,
    ) -> CompressedTokens:
        """Reduces every image to exactly `budget` tokens.

        Args:
            tokens: patch tokens in row-major order; computed in fp32 at least.
            grid: (rows, columns) of `tokens`.
            budget: number of kept tokens, or their (rows, columns).
            side: further inputs; those in `needs` are required.

        Returns:
            The kept tokens, in the dtype of `tokens`.

        Raises:
            UsageError: the tokens do not match the grid, the method cannot give exactly this
                budget, or a required input is missing.
        """
        side = side or SideInputs()
        if tokens.ndim != 3 or tokens.shape[1] != grid[0] * grid[1]:
            raise UsageError(
                "the tokens do not make the grid",
                got=f"{tuple(tokens.shape)} for {grid[0]} x {grid[1]}",
                want="(images, rows * columns, channels)",
            )
        for name in self.needs:
            if getattr(side, name) is None:
                needed = "a question" if name == "text" else f"the {name} of the encoder"
                raise UsageError(
                    f"{self.name} needs {needed}",
                    got="none",
                    want=f"{GIVEN_BY[name]}, or a method of tokens alone, such as kmeans",
                )
        kept = self._compress(at_least_fp32(tokens), grid, self.exact(grid, budget), side)
        return replace(kept, tokens=kept.tokens.to(tokens.dtype))

    def decode(self, kept: CompressedTokens, grid: Grid) -> Float[Tensor, "b n c"]:
        """Reconstructs all tokens.

        Args:
            kept: result of `compress`.
            grid: (rows, columns) of the original tokens.

        Returns:
            One token for each place of the grid, in the dtype of the kept tokens.
        """
        dtype = kept.tokens.dtype
        return self._decode(replace(kept, tokens=at_least_fp32(kept.tokens)), grid).to(dtype)

    def _decode(self, kept: CompressedTokens, grid: Grid) -> Float[Tensor, "b n c"]:
        """By default a place gets the token that it was assigned to."""
        return picked(kept.tokens, kept.assignment)

    def exact(self, grid: Grid, budget: int | Grid) -> Grid:
        """Checks a budget.

        Args:
            grid: (rows, columns) of the original tokens.
            budget: number of kept tokens, or their (rows, columns).

        Returns:
            (rows, columns); (1, k) for a method without a grid.

        Raises:
            UsageError: more tokens than there are, none, no grid with that many places, or windows
                of several sizes for a method that needs one size.
        """
        count = budget if isinstance(budget, int) else budget[0] * budget[1]
        if not 1 <= count <= grid[0] * grid[1]:
            raise UsageError(
                "the budget does not fit the grid",
                got=f"{count} of {grid[0] * grid[1]} tokens",
                want=f"1 to {grid[0] * grid[1]}",
            )
        if not self.keeps_grid:
            return 1, count
        shape = grid_of(grid, count) if isinstance(budget, int) else budget
        if shape is None or shape[0] > grid[0] or shape[1] > grid[1]:
            raise UsageError(
                f"{self.name} keeps a grid, and cannot keep exactly so many tokens",
                got=f"{budget} of {grid[0]} x {grid[1]}",
                want=f"a grid such as {max(1, grid[0] // 2)} x {max(1, grid[1] // 2)}",
            )
        if self.equal_windows and not divides(grid, shape):
            raise UsageError(
                f"{self.name} needs windows of one size",
                got=f"{shape[0]} x {shape[1]} of {grid[0]} x {grid[1]}",
                want="a budget that divides the grid",
            )
        return shape

    def width(self, channels: int, grid: Grid, budget: Grid) -> int:
        """Channels of a kept token.

        Args:
            channels: of a patch token.
            grid: (rows, columns) of the original tokens.
            budget: (rows, columns) of the kept tokens, as `exact` gives them.

        Returns:
            `channels`, but for a method that puts several tokens side by side.
        """
        return channels

    @abstractmethod
    def _compress(
        self, tokens: Float[Tensor, "b n c"], grid: Grid, budget: Grid, side: SideInputs
    ) -> CompressedTokens: ...


def grid_of(grid: Grid, count: int) -> Grid | None:
    """The grid of `count` places with the nearest aspect ratio, None where there is none."""
    candidates = [
        (rows, count // rows)
        for rows in range(1, grid[0] + 1)
        if count % rows == 0 and count // rows <= grid[1]
    ]
    shape = math.log(grid[0] / grid[1])
    return min(candidates, key=lambda g: abs(math.log(g[0] / g[1]) - shape), default=None)


def positions_of(grid: Grid) -> Float[Tensor, "n 2"]:
    """(row, column) of every place, row-major."""
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    return torch.stack([rows.flatten(), columns.flatten()], dim=1).float()


def picked(tokens: Float[Tensor, "b n c"], index: Int[Tensor, "b k"]) -> Float[Tensor, "b k c"]:
    """The tokens of each image with these indices."""
    # Rows of one matrix are copied whole; `gather` reads an index for each number.
    return (
        tokens.flatten(0, 1)
        .index_select(0, _rows(index, tokens.shape[1]))
        .unflatten(0, index.shape)
    )


def summed(
    tokens: Float[Tensor, "b n c"], index: Int[Tensor, "b n"], count: int
) -> Float[Tensor, "b k c"]:
    """The sum of the tokens of each image that have the same index, 0 to `count - 1`."""
    b, _, c = tokens.shape
    total = tokens.new_zeros(b * count, c)
    return total.index_add_(0, _rows(index, count), tokens.flatten(0, 1)).unflatten(0, (b, count))


def _rows(index: Int[Tensor, "b k"], size: int) -> Int[Tensor, " bk"]:
    """Indices of tokens, as rows of the images one below the other, each of `size` rows."""
    first = torch.arange(len(index), device=index.device)[:, None] * size
    return (index + first).flatten()


def merged(
    tokens: Float[Tensor, "b n c"],
    assignment: Int[Tensor, "b n"],
    count: int,
    grid: Grid,
    out_grid: Grid | None = None,
) -> CompressedTokens:
    """Averages tokens and their places by group; sums in fp32 at least.

    Args:
        tokens: all tokens.
        assignment: group of each token, 0 to `count - 1`.
        count: number of groups.
        grid: (rows, columns) of `tokens`.
        out_grid: (rows, columns) of the groups, where they lie on a grid.

    Returns:
        One token per group; zero for an empty group.
    """
    b, n = tokens.shape[:2]
    sizes = torch.zeros(b, count, device=tokens.device).scatter_add_(
        1, assignment, torch.ones(b, n, device=tokens.device)
    )
    share = sizes.clamp_min(1).unsqueeze(-1)

    def mean(values: Float[Tensor, "b n d"]) -> Float[Tensor, "b k d"]:
        return (summed(at_least_fp32(values), assignment, count) / share).to(values.dtype)

    positions = positions_of(grid).to(tokens.device).expand(b, n, 2)
    return CompressedTokens(mean(tokens), mean(positions), sizes, assignment, out_grid)


def pooled(tokens: Float[Tensor, "b n c"], grid: Grid, budget: Grid) -> CompressedTokens:
    """Average pooling. Methods with other tokens per window replace `tokens` and keep the rest.

    Args:
        tokens: a grid of tokens for each image.
        grid: (rows, columns) of the tokens.
        budget: (rows, columns) of the windows.

    Returns:
        The mean of each window.
    """
    window = window_of(grid, budget).to(tokens.device).expand(len(tokens), -1)
    return merged(tokens, window, budget[0] * budget[1], grid, budget)


def selected(
    tokens: Float[Tensor, "b n c"],
    chosen: Int[Tensor, "b k"],
    grid: Grid,
    out_grid: Grid | None = None,
) -> CompressedTokens:
    """Keeps the tokens with index `chosen`; assigns every other one to the nearest kept place."""
    # A reader of the kept tokens knows nothing but their places.
    b, n, _ = tokens.shape
    positions = positions_of(grid).to(tokens.device)
    kept = positions[chosen]
    assignment = torch.cdist(positions.expand(b, n, 2), kept).argmin(dim=-1)
    sizes = torch.zeros(b, chosen.shape[1], device=tokens.device).scatter_add_(
        1, assignment, torch.ones(b, n, device=tokens.device)
    )
    return CompressedTokens(picked(tokens, chosen), kept, sizes, assignment, out_grid)


def normalised_error(
    tokens: Float[Tensor, "b n c"],
    decoded: Float[Tensor, "b n c"],
    mean_token: Float[Tensor, " c"] | None = None,
) -> float:
    """Normalised squared error: sum ||decoded - token||^2 / sum ||token - mean||^2.

    Args:
        tokens: the original tokens.
        decoded: their reconstruction.
        mean_token: reference of the variance; the mean of `tokens` if None.

    Returns:
        0 for a lossless reconstruction, 1 for the mean token everywhere; no upper bound.
    """
    tokens, decoded = tokens.double(), decoded.double()
    mean = tokens.mean(dim=(0, 1)) if mean_token is None else mean_token.double()
    total = float((tokens - mean).square().sum())
    return float((decoded - tokens).square().sum()) / max(total, 1e-300)
