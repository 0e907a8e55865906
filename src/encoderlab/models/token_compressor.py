"""Networks on grids of tokens: a compressor to fewer, a decoder back, and a critic.

Compressor and decoder have a linear path from window to token and back, which starts as average
pooling and spreading out, or as the best linear map (`start_at_block_pca`); the convolutions beside
it are silent at first and learn what is left. Nothing is padded with zeros, which would mark the
edge: borders are repeated. b images, (h, w) grid, c channels, k kept tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from encoderlab.errors import UsageError, unknown
from encoderlab.models.principal import principal_components
from encoderlab.models.token_grid import (
    Grid,
    as_image,
    as_tokens,
    blocks_of,
    check_grids,
    divides,
    tokens_of_blocks,
    window_of,
)

DECODERS = ("convolution", "attention")
# Directions with less than this share of the largest variance are noise to a number format.
LEAST_VARIANCE = 1e-4


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each place."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ResidualBlock(nn.Module):
    """x + convolution of the normed x; the identity at first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.mix = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="replicate")
        self.out = nn.Conv2d(channels, channels, 1)
        silence(self.out)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x + self.out(F.gelu(self.mix(self.norm(x))))


class WindowsToTokens(nn.Module):
    """A linear map from each window to one token; the mean at first.

    Where windows are of one size the map sees every place of its window; otherwise their mean.
    """

    pool: Tensor

    def __init__(self, channels: int, grid: Grid, out_grid: Grid) -> None:
        super().__init__()
        self.grid, self.out_grid = grid, out_grid
        self.even = divides(grid, out_grid)
        self.register_buffer("pool", pooling(grid, out_grid), persistent=False)
        size = grid[0] * grid[1] // (out_grid[0] * out_grid[1]) if self.even else 1
        self.map = nn.Linear(channels * size, channels)
        with torch.no_grad():
            self.map.weight.copy_(torch.eye(channels).repeat(1, size) / size)
            self.map.bias.zero_()

    def forward(self, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b k c"]:
        if self.even:
            return self.map(blocks_of(tokens, self.grid, self.out_grid))
        return self.map(self.pool.to(tokens.dtype) @ tokens)


class TokensToWindows(nn.Module):
    """A linear map from each token to its window; the same token everywhere at first."""

    spread: Tensor

    def __init__(self, channels: int, grid: Grid, out_grid: Grid) -> None:
        super().__init__()
        self.grid, self.out_grid = grid, out_grid
        self.even = divides(grid, out_grid)
        # A product goes backward several times faster than an index.
        inside = (pooling(grid, out_grid).T > 0).float()
        self.register_buffer("spread", inside, persistent=False)
        size = grid[0] * grid[1] // (out_grid[0] * out_grid[1]) if self.even else 1
        self.map = nn.Linear(channels, channels * size)
        with torch.no_grad():
            self.map.weight.copy_(torch.eye(channels).repeat(size, 1))
            self.map.bias.zero_()

    def forward(self, kept: Float[Tensor, "b k c"]) -> Float[Tensor, "b n c"]:
        mapped = self.map(kept)
        if self.even:
            return tokens_of_blocks(mapped, self.grid, self.out_grid)
        return self.spread.to(mapped.dtype) @ mapped


class _Head(nn.Module):
    """What one budget has of its own: the linear path, and what the trunk adds to it."""

    pool: Tensor

    def __init__(self, channels: int, width: int, grid: Grid, at: Grid, out_grid: Grid) -> None:
        super().__init__()
        self.out_grid = out_grid
        self.linear = WindowsToTokens(channels, grid, out_grid)
        self.register_buffer("pool", pooling(at, out_grid), persistent=False)
        self.last = ResidualBlock(width)
        self.out = nn.Conv2d(width, channels, 1)
        silence(self.out)

    def forward(
        self, tokens: Float[Tensor, "b n c"], hidden: Float[Tensor, "b width h w"]
    ) -> Float[Tensor, "b k c"]:
        pooled = self.pool.to(hidden.dtype) @ as_tokens(hidden)
        return self.linear(tokens) + as_tokens(self.out(self.last(as_image(pooled, self.out_grid))))


class TokenCompressor(nn.Module):
    """(b, h*w, c) to (b, k_h*k_w, c): a linear map of windows plus what strided convolutions add.

    The trunk halves the grid as often as the smallest target allows; each target takes the last
    stage that is not smaller than itself and pools the rest of the way, so that any grid comes to
    any smaller one.

    Args:
        grid: rows and columns before.
        out_grids: rows and columns after; several make one network with nested budgets.
        width: channels inside.
    """

    def __init__(
        self, channels: int, grid: Grid, out_grids: Sequence[Grid], width: int = 128
    ) -> None:
        super().__init__()
        for out_grid in out_grids:
            check_grids(grid, out_grid)
        self.grid, self.out_grids = grid, tuple(out_grids)
        self.stem = nn.Sequential(nn.Conv2d(channels, width, 1), ResidualBlock(width))
        self.stages = nn.ModuleList()
        self.sizes = [grid]
        h, w = grid
        least = min(g[0] for g in out_grids), min(g[1] for g in out_grids)
        while (h + 1) // 2 >= least[0] and (w + 1) // 2 >= least[1] and max(h, w) > 1:
            self.stages.append(
                nn.Sequential(
                    ChannelNorm(width),
                    nn.Conv2d(width, width, 3, stride=2, padding=1, padding_mode="replicate"),
                    ResidualBlock(width),
                )
            )
            h, w = (h + 1) // 2, (w + 1) // 2
            self.sizes.append((h, w))
        self.heads = nn.ModuleDict(
            {
                _key(g): _Head(channels, width, grid, self.sizes[self._stage(g)], g)
                for g in self.out_grids
            }
        )

    def forward(
        self, tokens: Float[Tensor, "b n c"], out_grid: Grid | None = None
    ) -> Float[Tensor, "b k c"]:
        out_grid = out_grid or self.out_grids[0]
        hidden = self.stem(as_image(tokens, self.grid))
        for stage in self.stages[: self._stage(out_grid)]:
            hidden = stage(hidden)
        return self.heads[_key(out_grid)](tokens, hidden)

    def _stage(self, out_grid: Grid) -> int:
        """The last stage whose grid is not smaller than the target."""
        return max(
            i for i, (h, w) in enumerate(self.sizes) if h >= out_grid[0] and w >= out_grid[1]
        )


class ConvolutionDecoder(nn.Module):
    """(b, k, c) to (b, n, c): a linear map to windows plus what convolutions on the full grid
    add."""

    def __init__(
        self, channels: int, grid: Grid, out_grids: Sequence[Grid], width: int = 128, depth: int = 2
    ) -> None:
        super().__init__()
        for out_grid in out_grids:
            check_grids(grid, out_grid)
        self.grid, self.out_grids = grid, tuple(out_grids)
        self.linear = nn.ModuleDict(
            {_key(g): TokensToWindows(channels, grid, g) for g in self.out_grids}
        )
        self.into = nn.Conv2d(channels, width, 1)
        # Where in its window a place is, the small grid cannot say.
        self.place = nn.Parameter(torch.zeros(1, width, *grid))
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(depth)))
        self.out = nn.Conv2d(width, channels, 1)
        nn.init.normal_(self.place, std=0.02)
        silence(self.out)

    def forward(
        self, kept: Float[Tensor, "b k c"], out_grid: Grid | None = None
    ) -> Float[Tensor, "b n c"]:
        plain = self.linear[_key(out_grid or self.out_grids[0])](kept)
        hidden = self.into(as_image(plain, self.grid)) + self.place
        return plain + as_tokens(self.out(F.gelu(self.blocks(hidden))))


class AttentionDecoder(nn.Module):
    """(b, k, c) to (b, n, c): every place asks all kept tokens, added to a linear map to windows.

    The products are written out: fused attention has no second derivative, which the critic's
    penalty may ask for.
    """

    def __init__(
        self, channels: int, grid: Grid, out_grids: Sequence[Grid], width: int = 128, heads: int = 4
    ) -> None:
        super().__init__()
        for out_grid in out_grids:
            check_grids(grid, out_grid)
        if width % heads:
            raise UsageError("heads must divide the width", got=f"{heads} heads, width {width}")
        self.grid, self.out_grids, self.heads = grid, tuple(out_grids), heads
        self.linear = nn.ModuleDict(
            {_key(g): TokensToWindows(channels, grid, g) for g in self.out_grids}
        )
        self.where = nn.ParameterDict(
            {_key(g): nn.Parameter(torch.randn(1, g[0] * g[1], width) * 0.02) for g in out_grids}
        )
        self.query = nn.Parameter(torch.randn(1, grid[0] * grid[1], width) * width**-0.5)
        self.stem = nn.Linear(channels, width)
        self.norm = nn.LayerNorm(width)
        self.key, self.value = nn.Linear(width, width), nn.Linear(width, width)
        self.mix = nn.Sequential(nn.Linear(width, width), nn.GELU())
        self.out = nn.Linear(width, channels)
        silence(self.out)

    def forward(
        self, kept: Float[Tensor, "b k c"], out_grid: Grid | None = None
    ) -> Float[Tensor, "b n c"]:
        name = _key(out_grid or self.out_grids[0])
        hidden = self.norm(self.stem(kept) + self.where[name])

        def split(x: Tensor) -> Float[Tensor, "b heads n d"]:
            return rearrange(x, "b n (heads d) -> b heads n d", heads=self.heads)

        q = split(self.query.expand(len(kept), -1, -1))
        k, v = split(self.key(hidden)), split(self.value(hidden))
        weights = (q @ k.mT * q.shape[-1] ** -0.5).softmax(dim=-1)
        seen = rearrange(weights @ v, "b heads n d -> b n (heads d)")
        return self.linear[name](kept) + self.out(self.mix(seen))


class TokenCritic(nn.Module):
    """(b, k, c) to (b,): how real a grid of tokens looks, each sample alone, without batch
    normalisation.

    Layer norms, smooth kinks: the penalty differentiates twice.
    """

    def __init__(self, channels: int, grid: Grid, width: int = 64, depth: int = 2) -> None:
        super().__init__()
        self.grid = grid
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 1), nn.LeakyReLU(0.2)]
        for _ in range(depth):
            layers += [
                nn.Conv2d(width, width, 3, padding=1, padding_mode="replicate"),
                ChannelNorm(width),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*layers)
        self.score = nn.Linear(width, 1)

    def forward(self, tokens: Float[Tensor, "b k c"]) -> Float[Tensor, " b"]:
        hidden = self.layers(as_image(tokens, self.grid)).mean(dim=(2, 3))
        return self.score(hidden)[:, 0]


class Standardise(nn.Module):
    """Channels with mean 0 and spread 1, by statistics that are stored with the weights: a few
    channels, and outlier tokens, would rule a raw squared error."""

    mean: Tensor
    spread: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("spread", torch.ones(channels))

    def fit(self, tokens: Float[Tensor, "b n c"], per_channel: bool = True) -> Standardise:
        """Takes the statistics of these tokens.

        Args:
            per_channel: a spread for every channel; otherwise one for all, which keeps what a
                squared error of raw tokens weighs.
        """
        flat = tokens.flatten(0, -2).double()
        self.mean.copy_(flat.mean(dim=0))
        spread = flat.std(dim=0)
        if not per_channel:
            spread = spread.square().mean().sqrt().expand_as(spread)
        self.spread.copy_(spread.clamp_min(1e-6))
        return self

    def forward(self, tokens: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        return (tokens - self.mean) / self.spread

    def back(self, tokens: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        """From standardised tokens to tokens."""
        return tokens * self.spread + self.mean


@dataclass(frozen=True)
class AutoencoderShape:
    """What a compressor and its decoder look like.

    Args:
        grid: rows and columns of the tokens.
        budgets: rows and columns of the compressed tokens; several are nested in one network.
        width: channels inside.
        decoder: one of DECODERS.
    """

    channels: int
    grid: Grid
    budgets: tuple[Grid, ...]
    width: int = 128
    decoder: str = "convolution"


class TokenAutoencoder(nn.Module):
    """Tokens to fewer and back, by way of standardised ones; both ends are tokens as the encoder
    gives them."""

    def __init__(self, shape: AutoencoderShape) -> None:
        super().__init__()
        self.shape = shape
        self.scale = Standardise(shape.channels)
        self.compressor = TokenCompressor(shape.channels, shape.grid, shape.budgets, shape.width)
        self.decoder = create_decoder(
            shape.decoder, shape.channels, shape.grid, shape.budgets, shape.width
        )

    def compress(self, tokens: Float[Tensor, "b n c"], budget: Grid) -> Float[Tensor, "b k c"]:
        """Fewer tokens."""
        return self.scale.back(self.compressor(self.scale(tokens), budget))

    def decode(self, kept: Float[Tensor, "b k c"], budget: Grid) -> Float[Tensor, "b n c"]:
        """Back to the full grid."""
        return self.scale.back(self.decoder(self.scale(kept), budget))


def create_decoder(
    kind: str, channels: int, grid: Grid, out_grids: Sequence[Grid], width: int = 128
) -> nn.Module:
    """A decoder by its name, one of DECODERS.

    Raises:
        UsageError: an unknown kind.
    """
    if kind == "convolution":
        return ConvolutionDecoder(channels, grid, out_grids, width)
    if kind == "attention":
        return AttentionDecoder(channels, grid, out_grids, width)
    raise unknown("decoder", kind, DECODERS, "encoderlab compress --help")


@torch.no_grad()
def start_at_block_pca(
    compressor: TokenCompressor,
    decoder: nn.Module,
    tokens: Float[Tensor, "b n c"],
    out_grid: Grid,
) -> None:
    """Sets the linear paths to the principal components of the windows of these (standardised)
    tokens: no linear map of windows rebuilds them better.

    The components are then turned and scaled, which loses nothing, so that the kept tokens have the
    mean and the covariance of tokens, and lie as near to the window's mean as they then can: what
    reads tokens can read them (orthogonal Procrustes in the whitened spaces).

    Raises:
        UsageError: windows of several sizes.
    """
    grid = compressor.grid
    if not divides(grid, out_grid):
        raise UsageError(
            "windows of several sizes have no common principal components",
            got=f"{out_grid[0]} x {out_grid[1]} of {grid[0]} x {grid[1]}",
            want="a budget that divides the grid, or start=average",
        )
    flat = tokens.flatten(0, 1).double()
    centre = flat.mean(dim=0)
    spread, spread_back = _roots((flat - centre).T @ (flat - centre) / len(flat))
    blocks = blocks_of(tokens, grid, out_grid).flatten(0, 1)
    channels = tokens.shape[-1]
    mean, basis, values = principal_components(blocks, channels)
    # A component as weak as rounding is left where it is: scaling it up would scale up noise.
    deviation = values[:channels].clamp_min(LEAST_VARIANCE * float(values[0])).sqrt()
    centred = blocks - mean.to(blocks.dtype)
    means = centred.unflatten(-1, (-1, channels)).mean(dim=1)
    shared = (means.T @ (centred @ basis.to(blocks.dtype))).double() / len(blocks)
    shared = spread @ shared / deviation
    left, _, right = torch.linalg.svd(shared)
    turn = left @ right
    down = spread @ turn / deviation @ basis.T
    up = basis * deviation @ turn.T @ spread_back
    key = _key(out_grid)
    head = compressor.heads[key].linear.map  # type: ignore[union-attr]
    head.weight.copy_(down)  # type: ignore[union-attr, operator]
    head.bias.copy_(centre - down @ mean)  # type: ignore[union-attr, operator]
    back = decoder.linear[key].map  # type: ignore[index, union-attr]
    back.weight.copy_(up)
    back.bias.copy_(mean - up @ centre)


def _roots(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """The symmetric square root of a covariance, and its inverse, weak directions held up."""
    values, vectors = torch.linalg.eigh(covariance)
    root = values.clamp_min(LEAST_VARIANCE * float(values[-1])).sqrt()
    return vectors * root @ vectors.T, vectors / root @ vectors.T


def pooling(grid: Grid, out_grid: Grid) -> Float[Tensor, "k n"]:
    """Average pooling over windows, as a matrix."""
    window = window_of(grid, out_grid)
    inside = window[None, :] == torch.arange(out_grid[0] * out_grid[1])[:, None]
    return inside / inside.sum(dim=1, keepdim=True)


def silence(layer: nn.Conv2d | nn.Linear) -> None:
    """Makes a last layer say nothing at first: what is added to it is all there is."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _key(grid: Grid) -> str:
    return f"{grid[0]}x{grid[1]}"
