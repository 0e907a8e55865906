"""Networks on grids of tokens: a compressor to fewer, a decoder back, and a critic.

All begin as what costs nothing: the compressor as average pooling, the decoder as spreading out
again. They learn what is left. Nothing is padded with zeros, which would mark the edge: borders are
repeated. b images, (h, w) grid, c channels.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from encoderlab.errors import UsageError, unknown

Grid = tuple[int, int]
DECODERS = ("convolution", "attention")


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


class TokenCompressor(nn.Module):
    """(b, h*w, c) to (b, k_h*k_w, c): average pooling plus what strided convolutions add.

    Halves the grid as often as the target allows, then pools the rest of the way, so that any grid
    comes to any smaller one.

    Args:
        grid, out_grid: rows and columns before and after.
        width: channels inside.
    """

    def __init__(self, channels: int, grid: Grid, out_grid: Grid, width: int = 256) -> None:
        super().__init__()
        check_grids(grid, out_grid)
        self.grid, self.out_grid = grid, out_grid
        self.stem = nn.Sequential(nn.Conv2d(channels, width, 1), ResidualBlock(width))
        steps: list[nn.Module] = []
        h, w = grid
        while h // 2 >= out_grid[0] and w // 2 >= out_grid[1]:
            steps += [
                ChannelNorm(width),
                nn.Conv2d(width, width, 3, stride=2, padding=1, padding_mode="replicate"),
                ResidualBlock(width),
            ]
            h, w = (h + 1) // 2, (w + 1) // 2
        self.steps = nn.Sequential(*steps)
        self.last = ResidualBlock(width)
        self.out = nn.Conv2d(width, channels, 1)
        silence(self.out)

    def forward(self, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b k c"]:
        x = as_image(tokens, self.grid)
        hidden = F.adaptive_avg_pool2d(self.steps(self.stem(x)), self.out_grid)
        kept = F.adaptive_avg_pool2d(x, self.out_grid) + self.out(self.last(hidden))
        return as_tokens(kept)


class ConvolutionDecoder(nn.Module):
    """(b, k, c) to (b, n, c): spreading out plus what convolutions on the full grid add."""

    def __init__(
        self, channels: int, grid: Grid, out_grid: Grid, width: int = 256, depth: int = 2
    ) -> None:
        super().__init__()
        check_grids(grid, out_grid)
        self.grid, self.out_grid = grid, out_grid
        self.stem = nn.Conv2d(channels, width, 1)
        # Where in its window a place is, the small grid cannot say.
        self.place = nn.Parameter(torch.zeros(1, width, *grid))
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(depth)))
        self.out = nn.Conv2d(width, channels, 1)
        nn.init.normal_(self.place, std=0.02)
        silence(self.out)

    def forward(self, kept: Float[Tensor, "b k c"]) -> Float[Tensor, "b n c"]:
        small = as_image(kept, self.out_grid)
        plain = F.interpolate(small, size=self.grid, mode="nearest")
        hidden = F.interpolate(self.stem(small), size=self.grid, mode="bilinear") + self.place
        return as_tokens(plain + self.out(F.gelu(self.blocks(hidden))))


class AttentionDecoder(nn.Module):
    """(b, k, c) to (b, n, c): every place asks all kept tokens, added to spreading out.

    The products are written out: fused attention has no second derivative, which the critic's
    penalty may ask for.
    """

    def __init__(
        self, channels: int, grid: Grid, out_grid: Grid, width: int = 256, heads: int = 4
    ) -> None:
        super().__init__()
        check_grids(grid, out_grid)
        if width % heads:
            raise UsageError("heads must divide the width", got=f"{heads} heads, width {width}")
        self.grid, self.out_grid, self.heads = grid, out_grid, heads
        self.query = nn.Parameter(torch.randn(1, grid[0] * grid[1], width) * width**-0.5)
        self.where = nn.Parameter(torch.randn(1, out_grid[0] * out_grid[1], width) * 0.02)
        self.stem = nn.Linear(channels, width)
        self.norm = nn.LayerNorm(width)
        self.key, self.value = nn.Linear(width, width), nn.Linear(width, width)
        self.mix = nn.Sequential(nn.Linear(width, width), nn.GELU())
        self.out = nn.Linear(width, channels)
        silence(self.out)

    def forward(self, kept: Float[Tensor, "b k c"]) -> Float[Tensor, "b n c"]:
        small = as_image(kept, self.out_grid)
        plain = as_tokens(F.interpolate(small, size=self.grid, mode="nearest"))
        hidden = self.norm(self.stem(kept) + self.where)

        def split(x: Tensor) -> Float[Tensor, "b heads n d"]:
            return rearrange(x, "b n (heads d) -> b heads n d", heads=self.heads)

        q = split(self.query.expand(len(kept), -1, -1))
        k, v = split(self.key(hidden)), split(self.value(hidden))
        weights = (q @ k.mT * q.shape[-1] ** -0.5).softmax(dim=-1)
        seen = rearrange(weights @ v, "b heads n d -> b n (heads d)")
        return plain + self.out(self.mix(seen))


class TokenCritic(nn.Module):
    """(b, k, c) to (b,): how real a grid of tokens looks, each sample alone, without batch
    normalisation.

    Layer norms, smooth kinks: the penalty differentiates twice.
    """

    def __init__(self, channels: int, grid: Grid, width: int = 128, depth: int = 2) -> None:
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

    def fit(self, tokens: Float[Tensor, "b n c"]) -> Standardise:
        """Takes the statistics of these tokens."""
        flat = tokens.flatten(0, -2).double()
        self.mean.copy_(flat.mean(dim=0))
        self.spread.copy_(flat.std(dim=0).clamp_min(1e-6))
        return self

    def forward(self, tokens: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        return (tokens - self.mean) / self.spread

    def back(self, tokens: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        """From standardised tokens to tokens."""
        return tokens * self.spread + self.mean


def create_decoder(
    kind: Literal["convolution", "attention"] | str,
    channels: int,
    grid: Grid,
    out_grid: Grid,
    width: int = 256,
) -> nn.Module:
    """A decoder by its name.

    Raises:
        UsageError: an unknown kind.
    """
    if kind == "convolution":
        return ConvolutionDecoder(channels, grid, out_grid, width)
    if kind == "attention":
        return AttentionDecoder(channels, grid, out_grid, width)
    raise unknown("decoder", kind, DECODERS, "encoderlab compress --help")


def silence(layer: nn.Conv2d | nn.Linear) -> None:
    """Makes a last layer say nothing at first: what is added to it is all there is."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def check_grids(grid: Grid, out_grid: Grid) -> None:
    """Refuses a target that is no smaller grid.

    Raises:
        UsageError: naming both.
    """
    if not (1 <= out_grid[0] <= grid[0] and 1 <= out_grid[1] <= grid[1]):
        raise UsageError(
            "the compressed grid does not fit into the grid",
            got=f"{out_grid[0]} x {out_grid[1]} of {grid[0]} x {grid[1]}",
            want=f"1 x 1 to {grid[0]} x {grid[1]}",
        )


def as_image(tokens: Float[Tensor, "b n c"], grid: Grid) -> Float[Tensor, "b c h w"]:
    """Tokens on their grid, channels first."""
    return rearrange(tokens, "b (h w) c -> b c h w", h=grid[0])


def as_tokens(image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n c"]:
    """The other way."""
    return rearrange(image, "b c h w -> b (h w) c")
