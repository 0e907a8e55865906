"""What every method of compressing tokens takes and gives, trained or not.

b images, n = h*w tokens on their grid, c channels, k tokens that are kept.
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
from encoderlab.models.token_grid import Grid, at_least_fp32


@dataclass(frozen=True)
class CompressedTokens:
    """The tokens that are left.

    Args:
        tokens: (b, k, c).
        positions: (b, k, 2), the row and column that each stands for, in patches; a language model
            that loses them loses places (RefCOCO 56 to 15, GAP).
        sizes: (b, k), how many original tokens each stands for; they sum to n.
        assignment: (b, n), the token that each original one went to.
        grid: (rows, columns) where the tokens lie on a grid, else None.
    """

    tokens: Tensor
    positions: Tensor
    sizes: Tensor
    assignment: Tensor
    grid: Grid | None = None


@dataclass(frozen=True)
class SideInputs:
    """What some methods look at beside the tokens.

    Args:
        cls: (b, c).
        attention: (b, n), how much CLS attends to each patch, mean over heads.
        keys: (b, n, d), keys of the block that the tokens come from.
        pixels: (b, 3, height, width) bytes, what the encoder saw.
    """

    cls: Tensor | None = None
    attention: Tensor | None = None
    keys: Tensor | None = None
    pixels: Tensor | None = None


# Where what a method needs comes from.
GIVEN_BY = {
    "cls": "an encoder with CLS",
    "attention": "an encoder with CLS and a layer after its first block",
    "keys": "the keys of the tokens' block",
    "pixels": "the pixels of the images",
}


class TokenReducer(ABC):
    """One way to make fewer tokens.

    A method says what it needs (`needs`), whether it learns (`trained`), and whether its tokens lie
    on a grid (`keeps_grid`); then its budget is a grid, else a number.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    trained: ClassVar[bool] = False
    keeps_grid: ClassVar[bool] = False

    def compress(
        self,
        tokens: Float[Tensor, "b n c"],
        grid: Grid,
        budget: int | Grid,
        side: SideInputs | None = None,
    ) -> CompressedTokens:
        """Exactly `budget` tokens of each image, in the number format of `tokens`; the arithmetic
        is in fp32 at least.

        Raises:
            UsageError: tokens that do not make the grid, a budget that the method cannot give
                exactly, or an input that it needs and has not got.
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
                raise UsageError(
                    f"{self.name} needs the {name} of the encoder",
                    got="none",
                    want=f"{GIVEN_BY[name]}, or a method of tokens alone, such as kmeans",
                )
        kept = self._compress(at_least_fp32(tokens), grid, self.exact(grid, budget), side)
        return replace(kept, tokens=kept.tokens.to(tokens.dtype))

    def decode(self, kept: CompressedTokens, grid: Grid) -> Float[Tensor, "b n c"]:
        """Back to the full grid, in the number format of the kept tokens."""
        dtype = kept.tokens.dtype
        return self._decode(replace(kept, tokens=at_least_fp32(kept.tokens)), grid).to(dtype)

    def _decode(self, kept: CompressedTokens, grid: Grid) -> Float[Tensor, "b n c"]:
        """Every original token is given the one it went to."""
        index = kept.assignment.unsqueeze(-1).expand(-1, -1, kept.tokens.shape[-1])
        return kept.tokens.gather(1, index)

    def exact(self, grid: Grid, budget: int | Grid) -> Grid:
        """The budget as (rows, columns); (1, k) for a method without a grid.

        Raises:
            UsageError: more tokens than there are, none, or no grid of so many.
        """
        wanted = budget if isinstance(budget, int) else budget[0] * budget[1]
        if not 1 <= wanted <= grid[0] * grid[1]:
            raise UsageError(
                "the budget does not fit the grid",
                got=f"{wanted} of {grid[0] * grid[1]} tokens",
                want=f"1 to {grid[0] * grid[1]}",
            )
        if not self.keeps_grid:
            return 1, wanted
        shape = grid_of(grid, wanted) if isinstance(budget, int) else budget
        if shape is None or shape[0] > grid[0] or shape[1] > grid[1]:
            raise UsageError(
                f"{self.name} keeps a grid, and cannot keep exactly so many tokens",
                got=f"{budget} of {grid[0]} x {grid[1]}",
                want=f"a grid such as {max(1, grid[0] // 2)} x {max(1, grid[1] // 2)}",
            )
        return shape

    @abstractmethod
    def _compress(
        self, tokens: Float[Tensor, "b n c"], grid: Grid, budget: Grid, side: SideInputs
    ) -> CompressedTokens: ...


def grid_of(grid: Grid, count: int) -> Grid | None:
    """The grid of `count` places that is nearest in shape, None where there is none."""
    found = [
        (rows, count // rows)
        for rows in range(1, grid[0] + 1)
        if count % rows == 0 and count // rows <= grid[1]
    ]
    shape = math.log(grid[0] / grid[1])
    return min(found, key=lambda g: abs(math.log(g[0] / g[1]) - shape), default=None)


def positions_of(grid: Grid) -> Float[Tensor, "n 2"]:
    """The row and column of every place."""
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    return torch.stack([rows.flatten(), columns.flatten()], dim=1).float()


def merged(
    tokens: Float[Tensor, "b n c"],
    assignment: Int[Tensor, "b n"],
    count: int,
    grid: Grid,
    out_grid: Grid | None = None,
) -> CompressedTokens:
    """The means of the tokens that go together, and the means of their places; sums in fp32 at
    least."""
    b, n = tokens.shape[:2]
    sizes = torch.zeros(b, count, device=tokens.device).scatter_add_(
        1, assignment, torch.ones(b, n, device=tokens.device)
    )
    share = sizes.clamp_min(1).unsqueeze(-1)

    def mean(values: Float[Tensor, "b n d"]) -> Float[Tensor, "b k d"]:
        index = assignment.unsqueeze(-1).expand(-1, -1, values.shape[-1])
        wide = at_least_fp32(values)
        total = wide.new_zeros(b, count, values.shape[-1]).scatter_add_(1, index, wide)
        return (total / share).to(values.dtype)

    where = positions_of(grid).to(tokens.device).expand(b, n, 2)
    return CompressedTokens(mean(tokens), mean(where), sizes, assignment, out_grid)


def selected(
    tokens: Float[Tensor, "b n c"],
    chosen: Int[Tensor, "b k"],
    grid: Grid,
    out_grid: Grid | None = None,
) -> CompressedTokens:
    """Some of the tokens as they are; the others go to the nearest in place, which is all that who
    reads them can know."""
    b, n, c = tokens.shape
    where = positions_of(grid).to(tokens.device)
    kept = where[chosen]
    assignment = torch.cdist(where.expand(b, n, 2), kept).argmin(dim=-1)
    sizes = torch.zeros(b, chosen.shape[1], device=tokens.device).scatter_add_(
        1, assignment, torch.ones(b, n, device=tokens.device)
    )
    picked = tokens.gather(1, chosen.unsqueeze(-1).expand(-1, -1, c))
    return CompressedTokens(picked, kept, sizes, assignment, out_grid)


def normalised_error(
    tokens: Float[Tensor, "b n c"],
    decoded: Float[Tensor, "b n c"],
    mean_token: Float[Tensor, " c"] | None = None,
) -> float:
    """Squared error over the variance about the mean token (of these tokens if not given): 0 is
    lossless, 1 no better than the mean token everywhere."""
    tokens, decoded = tokens.double(), decoded.double()
    mean = tokens.mean(dim=(0, 1)) if mean_token is None else mean_token.double()
    total = float((tokens - mean).square().sum())
    return float((decoded - tokens).square().sum()) / max(total, 1e-300)
