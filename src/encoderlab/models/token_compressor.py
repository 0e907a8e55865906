"""Networks on grids of tokens: a compressor, a decoder and a critic.

Compressor and decoder have a linear path from window to token and back. It starts as average
pooling and nearest-neighbour upsampling, or as the best linear map (`start_at_block_pca`). The
convolutions parallel to it start at zero. Borders are padded by repetition, since zeros would mark
them. Knows no training. b images, (h, w) grid, n = h*w tokens, c channels, k compressed tokens.
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
# Share of the largest variance below which a direction is rounding noise.
LEAST_VARIANCE = 1e-4


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each position."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """x, normalised over its channels at each position."""
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ResidualBlock(nn.Module):
    """x + convolution of the normalised x; initially the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.mix = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="replicate")
        self.out = nn.Conv2d(channels, channels, 1)
        zero_init(self.out)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """x plus its convolution."""
        return x + self.out(F.gelu(self.mix(self.norm(x))))


class WindowsToTokens(nn.Module):
    """A linear map from each window to one token; initially the mean.

    The map reads every position of its window if windows have the same size, otherwise their mean.
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
        """One linear map per window, its tokens joined or, in uneven windows, averaged."""
        if self.even:
            return self.map(blocks_of(tokens, self.grid, self.out_grid))
        return self.map(self.pool.to(tokens.dtype) @ tokens)


class TokensToWindows(nn.Module):
    """A linear map from each token to its window; initially a copy at every position."""

    spread: Tensor

    def __init__(self, channels: int, grid: Grid, out_grid: Grid) -> None:
        super().__init__()
        self.grid, self.out_grid = grid, out_grid
        self.even = divides(grid, out_grid)
        # The backward pass of a product is several times faster than that of an index.
        inside = (pooling(grid, out_grid).T > 0).float()
        self.register_buffer("spread", inside, persistent=False)
        size = grid[0] * grid[1] // (out_grid[0] * out_grid[1]) if self.even else 1
        self.map = nn.Linear(channels, channels * size)
        with torch.no_grad():
            self.map.weight.copy_(torch.eye(channels).repeat(size, 1))
            self.map.bias.zero_()

    def forward(self, compressed: Float[Tensor, "b k c"]) -> Float[Tensor, "b n c"]:
        """The tokens of each window from one compressed token."""
        mapped = self.map(compressed)
        if self.even:
            return tokens_of_blocks(mapped, self.grid, self.out_grid)
        return self.spread.to(mapped.dtype) @ mapped


class _Head(nn.Module):
    """The layers of one budget: the linear path, and the output of the trunk added to it."""

    pool: Tensor

    def __init__(self, channels: int, width: int, grid: Grid, at: Grid, out_grid: Grid) -> None:
        super().__init__()
        self.out_grid = out_grid
        self.linear = WindowsToTokens(channels, grid, out_grid)
        self.register_buffer("pool", pooling(at, out_grid), persistent=False)
        self.last = ResidualBlock(width)
        self.out = nn.Conv2d(width, channels, 1)
        zero_init(self.out)

    def forward(
        self, tokens: Float[Tensor, "b n c"], hidden: Float[Tensor, "b width h w"]
    ) -> Float[Tensor, "b k c"]:
        pooled = self.pool.to(hidden.dtype) @ as_tokens(hidden)
        return self.linear(tokens) + as_tokens(self.out(self.last(as_image(pooled, self.out_grid))))


class TokenCompressor(nn.Module):
    """(b, h*w, c) to (b, k_h*k_w, c): a linear map of windows plus strided convolutions.

    The trunk halves the grid as often as the smallest target allows. Each target pools the last
    stage that is not smaller than itself, so that any grid can be reduced to any smaller one.

    Args:
        channels: of the tokens.
        grid: rows and columns of the input.
        out_grids: rows and columns of the output; several share one network (nested budgets).
        width: number of hidden channels.

    Raises:
        UsageError: a target that does not fit into the grid.
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
        """k tokens from n, for the first of `out_grids` if none is given."""
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


class _Decoder(nn.Module):
    """(b, k, c) to (b, n, c): a linear map to windows, to which a subclass adds."""

    def __init__(self, channels: int, grid: Grid, out_grids: Sequence[Grid]) -> None:
        super().__init__()
        for out_grid in out_grids:
            check_grids(grid, out_grid)
        self.grid, self.out_grids = grid, tuple(out_grids)
        self.linear = nn.ModuleDict(
            {_key(g): TokensToWindows(channels, grid, g) for g in self.out_grids}
        )


class ConvolutionDecoder(_Decoder):
    """(b, k, c) to (b, n, c): a linear map to windows plus convolutions on the full grid."""

    def __init__(
        self, channels: int, grid: Grid, out_grids: Sequence[Grid], width: int = 128, depth: int = 2
    ) -> None:
        super().__init__(channels, grid, out_grids)
        self.into = nn.Conv2d(channels, width, 1)
        # The position within a window, which the small grid does not contain.
        self.place = nn.Parameter(torch.zeros(1, width, *grid))
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(depth)))
        self.out = nn.Conv2d(width, channels, 1)
        nn.init.normal_(self.place, std=0.02)
        zero_init(self.out)

    def forward(
        self, compressed: Float[Tensor, "b k c"], out_grid: Grid | None = None
    ) -> Float[Tensor, "b n c"]:
        """n tokens from k, for the first of `out_grids` if none is given."""
        upsampled = self.linear[_key(out_grid or self.out_grids[0])](compressed)
        hidden = self.into(as_image(upsampled, self.grid)) + self.place
        return upsampled + as_tokens(self.out(F.gelu(self.blocks(hidden))))


class AttentionDecoder(_Decoder):
    """(b, k, c) to (b, n, c): a linear map to windows plus attention of every position to all
    compressed tokens.

    Without fused attention, which has no second derivative for the critic's penalty.
    """

    def __init__(
        self, channels: int, grid: Grid, out_grids: Sequence[Grid], width: int = 128, heads: int = 4
    ) -> None:
        super().__init__(channels, grid, out_grids)
        if width % heads:
            raise UsageError("heads must divide the width", got=f"{heads} heads, width {width}")
        self.heads = heads
        self.where = nn.ParameterDict(
            {_key(g): nn.Parameter(torch.randn(1, g[0] * g[1], width) * 0.02) for g in out_grids}
        )
        self.query = nn.Parameter(torch.randn(1, grid[0] * grid[1], width) * width**-0.5)
        self.stem = nn.Linear(channels, width)
        self.norm = nn.LayerNorm(width)
        self.key, self.value = nn.Linear(width, width), nn.Linear(width, width)
        self.mix = nn.Sequential(nn.Linear(width, width), nn.GELU())
        self.out = nn.Linear(width, channels)
        zero_init(self.out)

    def forward(
        self, compressed: Float[Tensor, "b k c"], out_grid: Grid | None = None
    ) -> Float[Tensor, "b n c"]:
        """n tokens from k, for the first of `out_grids` if none is given."""
        name = _key(out_grid or self.out_grids[0])
        hidden = self.norm(self.stem(compressed) + self.where[name])

        def split(x: Tensor) -> Float[Tensor, "b heads n d"]:
            return rearrange(x, "b n (heads d) -> b heads n d", heads=self.heads)

        q = split(self.query.expand(len(compressed), -1, -1))
        k, v = split(self.key(hidden)), split(self.value(hidden))
        weights = (q @ k.mT * q.shape[-1] ** -0.5).softmax(dim=-1)
        attended = rearrange(weights @ v, "b heads n d -> b n (heads d)")
        return self.linear[name](compressed) + self.out(self.mix(attended))


class TokenCritic(nn.Module):
    """(b, k, c) to (b,): the score of each grid of tokens, independent of the rest of the batch.

    Layer normalisation only, and activations that the penalty can differentiate twice.
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
        """A score per image, without a fixed scale."""
        hidden = self.layers(as_image(tokens, self.grid)).mean(dim=(2, 3))
        return self.score(hidden)[:, 0]


class Standardise(nn.Module):
    """Standardises channels, with statistics that are stored with the weights. Otherwise a few
    channels and outlier tokens would dominate a squared error."""

    mean: Tensor
    spread: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("spread", torch.ones(channels))

    def fit(self, tokens: Float[Tensor, "b n c"], per_channel: bool = True) -> Standardise:
        """Computes mean and standard deviation.

        Args:
            tokens: to be standardised.
            per_channel: a standard deviation for each channel; otherwise one for all, which keeps
                the relative weight of channels in a squared error.

        Returns:
            Itself.
        """
        flat = tokens.flatten(0, -2).double()
        self.mean.copy_(flat.mean(dim=0))
        spread = flat.std(dim=0)
        if not per_channel:
            spread = spread.square().mean().sqrt().expand_as(spread)
        self.spread.copy_(spread.clamp_min(1e-6))
        return self

    def forward(self, tokens: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        """Tokens with mean 0 and deviation 1 per channel."""
        return (tokens - self.mean) / self.spread

    def back(self, tokens: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        """The inverse: from standardised tokens to tokens."""
        return tokens * self.spread + self.mean


@dataclass(frozen=True)
class AutoencoderShape:
    """The sizes of a compressor and its decoder.

    Args:
        channels: of the tokens.
        grid: rows and columns of the tokens.
        budgets: rows and columns of the compressed tokens; several share one network.
        width: number of hidden channels.
        decoder: one of DECODERS.
    """

    channels: int
    grid: Grid
    budgets: tuple[Grid, ...]
    width: int = 128
    decoder: str = "convolution"


class TokenAutoencoder(nn.Module):
    """A compressor and a decoder of standardised tokens; input and output are the encoder's tokens,
    not standardised."""

    def __init__(self, shape: AutoencoderShape) -> None:
        super().__init__()
        self.shape = shape
        self.scale = Standardise(shape.channels)
        self.compressor = TokenCompressor(shape.channels, shape.grid, shape.budgets, shape.width)
        self.decoder = create_decoder(
            shape.decoder, shape.channels, shape.grid, shape.budgets, shape.width
        )

    def compress(self, tokens: Float[Tensor, "b n c"], budget: Grid) -> Float[Tensor, "b k c"]:
        """The compressed tokens, one per cell of `budget`."""
        return self.scale.back(self.compressor(self.scale(tokens), budget))

    def decode(self, compressed: Float[Tensor, "b k c"], budget: Grid) -> Float[Tensor, "b n c"]:
        """The tokens of the full grid, reconstructed."""
        return self.scale.back(self.decoder(self.scale(compressed), budget))


def create_decoder(
    kind: str, channels: int, grid: Grid, out_grids: Sequence[Grid], width: int = 128
) -> nn.Module:
    """A decoder of a kind in DECODERS; the other parameters are those of `TokenCompressor`."""
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
    """Sets the linear paths to the principal components of windows, the best linear reconstruction.

    The components are then rotated and scaled, which loses no information, so that the compressed
    tokens have the mean and covariance of tokens and are as near as possible to the mean of their
    window (orthogonal Procrustes in the whitened spaces): a model that reads tokens can read them.

    Args:
        compressor: changed in place.
        decoder: changed in place.
        tokens: standardised tokens, from which the components are computed.
        out_grid: the budget whose linear paths are set.

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
    # The scale of a component as weak as rounding is limited, so that noise is not amplified.
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
    """The symmetric square root of a covariance and its inverse, with a least variance."""
    values, vectors = torch.linalg.eigh(covariance)
    root = values.clamp_min(LEAST_VARIANCE * float(values[-1])).sqrt()
    return vectors * root @ vectors.T, vectors / root @ vectors.T


def pooling(grid: Grid, out_grid: Grid) -> Float[Tensor, "k n"]:
    """The matrix of average pooling over windows; each row sums to one."""
    window = window_of(grid, out_grid)
    inside = window[None, :] == torch.arange(out_grid[0] * out_grid[1])[:, None]
    return inside / inside.sum(dim=1, keepdim=True)


def zero_init(layer: nn.Conv2d | nn.Linear) -> None:
    """Sets weights and bias to zero, so that a residual branch has no effect at first."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _key(grid: Grid) -> str:
    return f"{grid[0]}x{grid[1]}"
