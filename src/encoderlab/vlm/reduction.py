"""Fewer image tokens before the projector: `METHOD:TOKENS`, or pixel shuffle."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from encoderlab.errors import UsageError, unknown
from encoderlab.models.token_grid import Grid
from encoderlab.patch_tokens.methods import METHODS, is_fitted, reducers
from encoderlab.vlm.prompt import Rows

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
        self.spec, self.grid, self.method, self.windows = spec, grid, None, grid
        self.tokens = grid[0] * grid[1]
        if not spec:
            return
        name, _, number = spec.partition(":")
        if not number.isdigit() or int(number) < 1:
            raise UsageError("the token reduction has no number", got=spec, want=WANT)
        if name not in METHODS:
            raise unknown("token reduction", name, METHODS, "ls methods")
        able = METHODS[name].made_by and not is_fitted(name)
        self.method = reducers(name)[0] if able else None
        if self.method is None or self.method.needs:
            raise UsageError(
                "a VLM cannot contain a method that is fitted or needs more than the tokens",
                got=spec,
                want="a method of tokens alone: average, kmeans, tome, diverse",
            )
        count = int(number)
        budget: int | Grid = count
        if name == PIXEL_SHUFFLE:
            if grid[0] % count or grid[1] % count:
                raise UsageError(
                    "pixel shuffle does not divide the grid",
                    got=f"{spec} of {grid[0]} x {grid[1]}",
                    want=f"a divisor of {math.gcd(*grid)}",
                )
            budget = grid[0] // count, grid[1] // count
        self.windows = self.method.exact(grid, budget)
        self.tokens = self.windows[0] * self.windows[1]

    @property
    def lossless(self) -> bool:
        """Whether all tokens can be read from the reduced ones."""
        return self.method is None or self.method.name == PIXEL_SHUFFLE

    def width(self, width: int) -> int:
        """Channels of a reduced token, from those of a patch token."""
        return width if self.method is None else self.method.width(width, self.grid, self.windows)

    def __call__(
        self, tokens: Float[Tensor, "b n c"], rows: Rows | None = None
    ) -> Float[Tensor, "b k d"]:
        """The reduced tokens.

        Args:
            tokens: patch tokens in reading order.
            rows: the text beside each image, which a method of tokens alone does not read.

        Returns:
            `self.tokens` tokens of `self.width(c)` channels.
        """
        if self.method is None:
            return tokens
        return self.method.compress(tokens, self.grid, self.windows).tokens
