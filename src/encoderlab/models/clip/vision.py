"""The vision transformer of a CLIP: from pixels to one vector and the patch tokens.

Shapes: b batch, n patches, d width, (h, w) grid of patches.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

from encoderlab.models.clip.blocks import Transformer
from encoderlab.models.clip.config import ViTConfig

# Of standardised pixels: above the noise of JPEG files, below the edge of a pale shape.
BLANK_RANGE = 0.2


@dataclass(frozen=True)
class VisionTokens:
    """The output of an image tower before the projection into the shared space.

    Args:
        pooled: (b, d), the vector that is projected.
        patches: (b, h*w, d), patch tokens of the last layer in row-major order, without CLS.
        grid: (h, w), or None if patch dropout has removed some patches.
    """

    pooled: Tensor
    patches: Tensor
    grid: tuple[int, int] | None


class VisionTransformer(nn.Module):
    """Dosovitskiy et al. 2021 with CLIP's extra norm before the blocks; pooled = norm(CLS).

    Args:
        config: sizes of the tower.
        patch_dropout: share of patches left out of each training image (Li et al. 2023, FLIP),
            which reduces the cost of attention and MLP. Nothing is dropped in eval.

    Attributes:
        drops_blank_first: of each training image, patches of one colour are left out first.
    """

    drops_blank_first = False

    def __init__(self, config: ViTConfig, patch_dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.patch_dropout = patch_dropout
        height, width = config.grid
        self.patch_embedding = nn.Conv2d(
            3, config.width, config.patch_size, stride=config.patch_size, bias=False
        )
        scale = config.width**-0.5
        self.class_embedding = nn.Parameter(scale * torch.randn(config.width))
        self.position_embedding = nn.Parameter(
            scale * torch.randn(1 + height * width, config.width)
        )
        self.pre_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.transformer = Transformer(
            config.width,
            config.layers,
            config.heads,
            config.mlp_width,
            config.activation,
            config.norm_eps,
        )
        self.post_norm = nn.LayerNorm(config.width, eps=config.norm_eps)

    @property
    def output_width(self) -> int:
        """Width of `pooled`."""
        return self.config.width

    def forward(self, pixels: Float[Tensor, "b 3 height width"]) -> VisionTokens:
        """The pooled vector (normalised class token) and the patch tokens of each image."""
        patches = rearrange(self.patch_embedding(pixels), "b d h w -> b (h w) d")
        patches = patches + self.position_embedding[1:]
        dropping = self.training and self.patch_dropout > 0
        if dropping:
            last = blank_patches(pixels, self.config.patch_size) if self.drops_blank_first else None
            patches = drop_patches(patches, self.patch_dropout, last)
        cls = repeat(
            self.class_embedding + self.position_embedding[0], "d -> b 1 d", b=patches.shape[0]
        ).to(patches.dtype)
        x = self.transformer(self.pre_norm(torch.cat([cls, patches], dim=1)))
        grid = None if dropping else self.config.grid
        return VisionTokens(self.post_norm(x[:, 0]), x[:, 1:], grid)


def drop_patches(
    patches: Float[Tensor, "b n d"], share: float, blank: Bool[Tensor, "b n"] | None = None
) -> Float[Tensor, "b kept d"]:
    """Leaves `share` of the patches out, a random set in each image.

    Args:
        patches: tokens.
        share: from 0 to 1.
        blank: those that are left out first.

    Returns:
        The other patches, in random order.
    """
    b, n, d = patches.shape
    kept = max(1, round(n * (1 - share)))
    # argsort of noise gives an independent uniform subset for each image.
    noise = torch.rand(b, n, device=patches.device)
    if blank is not None:
        noise = noise + blank
    order = noise.argsort(dim=1)[:, :kept]
    return patches.gather(1, order.unsqueeze(-1).expand(b, kept, d))


def blank_patches(pixels: Float[Tensor, "b 3 h w"], side: int) -> Bool[Tensor, "b n"]:
    """Which patches have one colour, in row-major order."""
    tiles = rearrange(pixels, "b c (h p) (w q) -> b (h w) c (p q)", p=side, q=side)
    return (tiles.amax(dim=-1) - tiles.amin(dim=-1)).amax(dim=-1) < BLANK_RANGE
