"""Optimal linear compressions, fitted in closed form: bounds that a trained compressor must beat.

b images, n tokens, c channels, k kept.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from encoderlab.errors import UsageError
from encoderlab.models.principal import principal_components
from encoderlab.models.token_grid import blocks_of, tokens_of_blocks
from encoderlab.patch_tokens.reducer import CompressedTokens, Grid, TokenReducer, pooled


class TokenPCA(TokenReducer):
    """The optimal linear mixing of places, shared by all channels and images: the top eigenvectors
    of the n x n second moment of tokens minus the mean token of their place.

    On the tokens it was fitted on, its error is exactly 1 - (sum of top k eigenvalues) / trace.
    """

    name = "token_pca"
    trained = True

    def __init__(self) -> None:
        self.fitted: tuple[Tensor, Tensor] | None = None
        self.values: Tensor | None = None

    def fit(self, tokens: Float[Tensor, "b n c"]) -> TokenPCA:
        """Computes the eigenvectors from the tokens of many images."""
        x = tokens.double()
        mean = x.mean(dim=0)
        values, vectors = torch.linalg.eigh(torch.einsum("bnc,bmc->nm", x - mean, x - mean))
        self.values, self.fitted = values.flip(0), (mean, vectors.flip(1))
        return self

    def _compress(self, tokens, grid, budget, side) -> CompressedTokens:
        mean, basis = self._fit()
        kept = torch.einsum("nk,bnc->bkc", basis[:, : budget[1]], tokens.double() - mean)
        b, n, _ = tokens.shape
        # Every kept token mixes all places, so each stands for the middle of the grid.
        sizes = torch.full((b, budget[1]), n / budget[1])
        middle = torch.tensor([(grid[0] - 1) / 2, (grid[1] - 1) / 2]).expand(b, budget[1], 2)
        return CompressedTokens(kept, middle, sizes, torch.zeros(b, n, dtype=torch.long))

    def _decode(self, kept: CompressedTokens, grid: Grid) -> Float[Tensor, "b n c"]:
        mean, basis = self._fit()
        count = kept.tokens.shape[1]
        return torch.einsum("nk,bkc->bnc", basis[:, :count], kept.tokens.double()) + mean

    def _fit(self) -> tuple[Tensor, Tensor]:
        if self.fitted is None:
            raise UsageError(f"{self.name} has not been fitted", want="fit(tokens) first")
        return self.fitted


class BlockPCA(TokenReducer):
    """The optimal linear strided convolution: as many principal components of whole windows as a
    token has channels. All windows must have one size."""

    name = "block_pca"
    trained = True
    keeps_grid = True
    equal_windows = True

    def __init__(self) -> None:
        self.fits: dict[tuple[Grid, Grid], tuple[Tensor, Tensor, Tensor]] = {}

    def fit(self, tokens: Float[Tensor, "b n c"], grid: Grid, budget: Grid) -> BlockPCA:
        """Computes the components from the windows of many images.

        Args:
            tokens: tokens of all images.
            grid: (rows, columns) of the tokens.
            budget: (rows, columns) of the kept tokens.

        Returns:
            This object, with the components.

        Raises:
            UsageError: the budget does not divide the grid.
        """
        blocks = blocks_of(tokens, grid, self.exact(grid, budget)).flatten(0, 1)
        self.fits[grid, budget] = principal_components(blocks, tokens.shape[-1])
        return self

    def _compress(self, tokens, grid, budget, side) -> CompressedTokens:
        mean, basis, _ = self._fit_of(grid, budget)
        blocks = blocks_of(tokens, grid, budget)
        kept = (blocks - mean.to(blocks.dtype)) @ basis.to(blocks.dtype)
        return replace(pooled(tokens[..., :1], grid, budget), tokens=kept)

    def _decode(self, kept: CompressedTokens, grid: Grid) -> Float[Tensor, "b n c"]:
        assert kept.grid is not None
        mean, basis, _ = self._fit_of(grid, kept.grid)
        dtype = kept.tokens.dtype
        blocks = kept.tokens @ basis.T.to(dtype) + mean.to(dtype)
        return tokens_of_blocks(blocks, grid, kept.grid)

    def _fit_of(self, grid: Grid, budget: Grid) -> tuple[Tensor, Tensor, Tensor]:
        if (grid, budget) not in self.fits:
            raise UsageError(
                f"{self.name} has not been fitted for this budget",
                got=f"{budget[0]} x {budget[1]} of {grid[0]} x {grid[1]}",
                want="fit(tokens, grid, budget) first",
            )
        return self.fits[grid, budget]
