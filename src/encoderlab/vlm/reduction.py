"""Fewer image tokens before the projector: `METHOD:TOKENS`, or pixel shuffle."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from encoderlab.errors import UsageError, unknown
from encoderlab.models.token_grid import Grid, blocks_of
from encoderlab.patch_tokens.methods import METHODS, is_fitted, reducers

PIXEL_SHUFFLE = "pixel_shuffle"
WANT = "METHOD:TOKENS such as average:36, pixel_shuffle:2, or nothing"


class Reduction:
    """Reduces the patch tokens of images to a fixed number.

    Args:
        spec: "METHOD:TOKENS" with a training-free method of tokens alone; "pixel_shuffle:S", which
            puts S x S neighbours side by side into one token; or None.
        grid: (rows, columns) of the tokens.

    Raises:
        UsageError: an unknown method, one that needs more than tokens, or a number of tokens that
            the grid does not give.
    """

    def __init__(self, spec: str | None, grid: Grid) -> None:
        self.spec, self.grid = spec, grid
        self.factor, self.method, self.windows = 1, None, grid
        self.tokens = grid[0] * grid[1]
        if not spec:
            return
        name, _, number = spec.partition(":")
        if not number.isdigit() or int(number) < 1:
            raise UsageError("the token reduction has no number", got=spec, want=WANT)
        if name == PIXEL_SHUFFLE:
            self.factor = int(number)
            if grid[0] % self.factor or grid[1] % self.factor:
                raise UsageError(
                    "pixel shuffle does not divide the grid",
                    got=f"{spec} of {grid[0]} x {grid[1]}",
                    want=f"a divisor of {math.gcd(*grid)}",
                )
            self.windows = grid[0] // self.factor, grid[1] // self.factor
            self.tokens = self.windows[0] * self.windows[1]
            return
        if name not in METHODS:
            raise unknown("token reduction", name, [PIXEL_SHUFFLE, *METHODS], "ls methods")
        if not METHODS[name].made_by or is_fitted(name):
            raise UsageError(
                "the method is fitted, or runs the encoder again, so a VLM cannot carry it",
                got=name,
                want="a method of tokens alone: average, kmeans, tome, diverse",
            )
        self.method = reducers(name)[0]
        if self.method.needs:
            raise UsageError(
                f"{name} needs the {' and '.join(self.method.needs)} of the encoder",
                got=spec,
                want="a method of tokens alone: average, kmeans, tome, diverse",
            )
        rows, columns = self.method.exact(grid, int(number))
        self.tokens = rows * columns

    def width(self, width: int) -> int:
        """Channels of a reduced token, from those of a patch token."""
        return width * self.factor**2

    def __call__(self, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b k d"]:
        """The reduced tokens.

        Args:
            tokens: patch tokens in reading order.

        Returns:
            `self.tokens` tokens of `self.width(c)` channels.
        """
        if self.method is not None:
            return self.method.compress(tokens, self.grid, self.tokens).tokens
        return blocks_of(tokens, self.grid, self.windows)
