"""Standardised patch tokens of encoders side by side on one grid, as `complement` compares them.

Knows stored tokens; trains nothing. Letters: b images, n patch tokens, c channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from encoderlab.errors import UsageError
from encoderlab.feature_store.extract import StoredFeatures
from encoderlab.feature_store.pipeline import batches_of
from encoderlab.metrics.complement import random_rotation
from encoderlab.models.token_grid import Grid
from encoderlab.patch_tokens.reducer import pooled

READ_TOGETHER = 64  # images whose tokens are in memory at once


@dataclass(frozen=True)
class Standardised:
    """Makes the channels of an encoder's tokens have mean 0 and variance 1 on training images.

    Args:
        grid: (rows, columns) of the encoder's tokens.
        pooled: (rows, columns) that they are average-pooled to; `grid` for none.
        mean: of each channel over pooled tokens of training images (c,).
        scale: the standard deviation (c,); infinite for a constant channel, which becomes 0.
    """

    grid: Grid
    pooled: Grid
    mean: Tensor
    scale: Tensor

    @classmethod
    def on(cls, stored: StoredFeatures, what: str, grid: Grid, to: Grid) -> Standardised:
        """The statistics of stored tokens.

        Args:
            stored: of the training images, which alone are used.
            what: the kind of feature.
            grid: (rows, columns) of the tokens.
            to: (rows, columns) that they are pooled to.

        Returns:
            The standardisation, computed in fp64.

        Raises:
            UsageError: no stored image, or tokens that are not finite.
        """
        if not len(stored):
            raise UsageError("no training image can be read", got="0 images", want="one or more")
        count, first = 0, torch.empty(0)
        sums = squares = torch.zeros(())
        for rows in batches_of(range(len(stored)), READ_TOGETHER):
            tokens = _on_grid(stored.batch(rows, what), grid, to).double().flatten(0, 1)
            # Less the first token: the squares of a channel far from 0 would cancel.
            first = first if count else tokens[0]
            count += len(tokens)
            sums = sums + (tokens - first).sum(dim=0)
            squares = squares + (tokens - first).square().sum(dim=0)
        if not squares.isfinite().all():
            raise UsageError(
                "the patch tokens are not finite",
                got=f"{int((~squares.isfinite()).sum())} of {len(squares)} channels",
                want="numbers",
            )
        shift = sums / count
        sd = (squares / count - shift.square()).clamp_min(0).sqrt()
        scale = torch.where(sd > 1e-12 * sd.max().clamp_min(1e-300), sd, torch.inf)
        return cls(grid, to, (first + shift).float(), scale.float())

    def __call__(self, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b m c"]:
        """The pooled and standardised tokens, in fp32.

        Args:
            tokens: of `grid`.

        Returns:
            Tokens of the grid `pooled`.
        """
        kept = _on_grid(tokens, self.grid, self.pooled)
        return (kept - self.mean.to(kept.device)) / self.scale.to(kept.device)


@dataclass(frozen=True)
class SideBySide:
    """The channels of several encoders, or of one and a rotated copy of it, in one token.

    Args:
        parts: one per encoder, pooled to the same grid.
        rotation: (c, width) makes the copy of the first part, behind the others; None: no copy.
    """

    parts: tuple[Standardised, ...]
    rotation: Tensor | None = None

    @property
    def grid(self) -> Grid:
        """(rows, columns) of the tokens."""
        return self.parts[0].pooled

    @property
    def width(self) -> int:
        """Channels of a token."""
        copy = 0 if self.rotation is None else self.rotation.shape[1]
        return sum(len(part.mean) for part in self.parts) + copy

    def __call__(self, tokens: Sequence[Float[Tensor, "b _ _"]]) -> Float[Tensor, "b n c"]:
        """The tokens side by side.

        Args:
            tokens: the patch tokens of each encoder.

        Returns:
            fp32 tokens of `grid` with `width` channels.
        """
        sides = [part(own) for part, own in zip(self.parts, tokens, strict=True)]
        if self.rotation is not None:
            sides.append(sides[0] @ self.rotation.to(sides[0].device))
        return torch.cat(sides, dim=-1)


def with_rotated_copy(part: Standardised, width: int, seed: int) -> SideBySide:
    """An encoder beside a random rotation of its standardised tokens, which adds no information.

    Args:
        part: of the encoder.
        width: channels of the copy; of fewer than the encoder has, a random projection.
        seed: of the rotation.

    Returns:
        What makes the tokens.
    """
    matrix = random_rotation(len(part.mean), width, np.random.default_rng(seed))
    return SideBySide((part,), torch.from_numpy(matrix).float())


def _on_grid(tokens: Tensor, grid: Grid, to: Grid) -> Tensor:
    """fp32 tokens, average-pooled to a smaller grid."""
    return tokens.float() if grid == to else pooled(tokens.float(), grid, to).tokens
