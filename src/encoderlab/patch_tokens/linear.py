"""The best that a linear map can do: exact bounds that a trained compressor must beat.

b images, n tokens, c channels, k kept.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from encoderlab.errors import UsageError
from encoderlab.models.principal import principal_components
from encoderlab.models.token_grid import blocks_of, divides, tokens_of_blocks, window_of
from encoderlab.patch_tokens.reducer import (
    CompressedTokens,
    Grid,
    TokenReducer,
    merged,
)


class TokenPCA(TokenReducer):
    """The best mixing of places that all channels and images share: the top eigenvectors of the
    n x n second moment of tokens minus the mean token of their place.

    On the tokens it was fitted on its error is 1 - (top k eigenvalues) / trace, exactly.
    """

    name = "token_pca"
    trained = True

    def __init__(self) -> None:
        self.mean: Tensor | None = None
        self.basis: Tensor | None = None
        self.values: Tensor | None = None

    def fit(self, tokens: Float[Tensor, "b n c"]) -> TokenPCA:
        """Learns the eigenvectors from the tokens of many images."""
        x = tokens.double()
        self.mean = x.mean(dim=0)
        moment = torch.einsum("bnc,bmc->nm", x - self.mean, x - self.mean)
        values, vectors = torch.linalg.eigh(moment)
        self.values, self.basis = values.flip(0), vectors.flip(1)
        return self

    def _compress(self, tokens, grid, budget, side) -> CompressedTokens:
        mean, basis = self._fitted(self.mean), self._fitted(self.basis)[:, : budget[1]]
        kept = torch.einsum("nk,bnc->bkc", basis, tokens.double() - mean)
        b, n, _ = tokens.shape
        # Every token holds something of every place: none is anywhere.
        spread = torch.full((b, budget[1]), n / budget[1])
        middle = torch.tensor([(grid[0] - 1) / 2, (grid[1] - 1) / 2]).expand(b, budget[1], 2)
        nowhere = torch.zeros(b, n, dtype=torch.long)
        return CompressedTokens(kept, middle, spread, nowhere, None)

    def _decode(self, kept: CompressedTokens, grid: Grid) -> Float[Tensor, "b n c"]:
        mean, basis = self._fitted(self.mean), self._fitted(self.basis)
        count = kept.tokens.shape[1]
        return torch.einsum("nk,bkc->bnc", basis[:, :count], kept.tokens.double()) + mean

    def _fitted(self, part: Tensor | None) -> Tensor:
        if part is None:
            raise UsageError(f"{self.name} has not been fitted", want="fit(tokens) first")
        return part


class BlockPCA(TokenReducer):
    """The best linear strided convolution of the same shape: principal components of whole windows,
    as many as a token has channels. Windows must be of one size."""

    name = "block_pca"
    trained = True
    keeps_grid = True

    def __init__(self) -> None:
        self.fits: dict[tuple[Grid, Grid], tuple[Tensor, Tensor, Tensor]] = {}

    def fit(self, tokens: Float[Tensor, "b n c"], grid: Grid, budget: Grid) -> BlockPCA:
        """Learns the components from the windows of many images.

        Raises:
            UsageError: a budget that does not divide the grid.
        """
        blocks = self._blocks(tokens, grid, budget).flatten(0, 1)
        self.fits[grid, budget] = principal_components(blocks, tokens.shape[-1])
        return self

    def _compress(self, tokens, grid, budget, side) -> CompressedTokens:
        mean, basis, _ = self._fit_of(grid, budget)
        blocks = self._blocks(tokens, grid, budget)
        window = window_of(grid, budget).to(tokens.device).expand(len(tokens), -1)
        kept = merged(tokens, window, budget[0] * budget[1], grid, budget)
        return CompressedTokens(
            (blocks - mean.to(blocks.dtype)) @ basis.to(blocks.dtype),
            kept.positions,
            kept.sizes,
            window,
            budget,
        )

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

    def _blocks(
        self, tokens: Float[Tensor, "b n c"], grid: Grid, budget: Grid
    ) -> Float[Tensor, "b k rqc"]:
        if not divides(grid, budget):
            raise UsageError(
                f"{self.name} needs windows of one size",
                got=f"{budget[0]} x {budget[1]} of {grid[0]} x {grid[1]}",
                want="a budget that divides the grid",
            )
        return blocks_of(tokens, grid, budget)
