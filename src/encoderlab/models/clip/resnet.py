"""The ResNet image tower (CLIP paper, 2.4), with the same output as the vision transformer.

Group normalisation replaces the batch normalisation of the paper: with batch statistics an
embedding depends on the rest of the batch, so that neither cached gradients nor several devices
could reproduce one large batch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from encoderlab.models.clip.config import ResNetConfig
from encoderlab.models.clip.vision import VisionTokens


def _convolution(channels_in: int, channels_out: int, size: int, groups: int, stride: int = 1):
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, size, stride, padding=size // 2, bias=False),
        nn.GroupNorm(min(groups, channels_out), channels_out),
    )


class Bottleneck(nn.Module):
    """relu(shortcut(x) + expand(pool(conv(reduce(x))))), downsampling by average pooling."""

    expansion = 4

    def __init__(self, channels_in: int, channels: int, stride: int, groups: int) -> None:
        super().__init__()
        channels_out = channels * self.expansion
        self.reduce = _convolution(channels_in, channels, 1, groups)
        self.spatial = _convolution(channels, channels, 3, groups)
        self.pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.expand = _convolution(channels, channels_out, 1, groups)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride) if stride > 1 else nn.Identity(),
                *_convolution(channels_in, channels_out, 1, groups),
            )
        # Each residual branch starts at zero (Goyal et al. 2017), so that each block is initially
        # the shortcut.
        nn.init.zeros_(self.expand[1].weight)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        """x after reduction, convolution, pooling and expansion, added to its shortcut."""
        branch = F.relu(self.spatial(F.relu(self.reduce(x))))
        return F.relu(self.shortcut(x) + self.expand(self.pool(branch)))


class AttentionPool(nn.Module):
    """One attention step with the mean of all positions as the query (CLIP paper, 2.4).

    Its output projection is the model's `visual_projection`.
    """

    def __init__(self, positions: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.position_embedding = nn.Parameter(torch.randn(positions + 1, width) * width**-0.5)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        for linear in (self.query, self.key, self.value):
            nn.init.normal_(linear.weight, std=width**-0.5)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b d"]:
        """One vector per image: attention of the mean token to all tokens."""
        mean = x.mean(dim=1, keepdim=True, dtype=torch.float32).to(x.dtype)
        x = torch.cat([mean, x], dim=1) + self.position_embedding
        q, k, v = (
            rearrange(project(part), "b t (h c) -> b h t c", h=self.heads)
            for project, part in ((self.query, x[:, :1]), (self.key, x), (self.value, x))
        )
        mixed = F.scaled_dot_product_attention(q, k, v)
        return rearrange(mixed, "b h 1 c -> b (h c)")


class ResNet(nn.Module):
    """Four stages of bottlenecks, attention-pooled."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.config = config
        self.recompute = False
        half, width, groups = config.width // 2, config.width, config.groups
        self.stem = nn.Sequential(
            *_convolution(3, half, 3, groups, stride=2),
            nn.ReLU(),
            *_convolution(half, half, 3, groups),
            nn.ReLU(),
            *_convolution(half, width, 3, groups),
            nn.ReLU(),
            nn.AvgPool2d(2),
        )
        stages, channels_in = [], width
        for stage, count in enumerate(config.blocks):
            channels = width * 2**stage
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                stages.append(Bottleneck(channels_in, channels, stride, groups))
                channels_in = channels * Bottleneck.expansion
        self.blocks = nn.ModuleList(stages)
        height, across = config.grid
        self.pool = AttentionPool(height * across, self.output_width, config.heads)

    @property
    def output_width(self) -> int:
        """Width of `pooled`."""
        return self.config.width * 32

    def forward(self, pixels: Float[Tensor, "b 3 height width"]) -> VisionTokens:
        """The pooled vector and the grid of the last stage."""
        x = self.stem(pixels)
        for block in self.blocks:
            if self.recompute and self.training:
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        patches = rearrange(x, "b d h w -> b (h w) d")
        return VisionTokens(self.pool(patches), patches, self.config.grid)
