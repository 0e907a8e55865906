"""CLIPs that learn from the patches with contrast: a scene with two shapes is mostly background.

A cheaper step means more pictures in the same time, and no shape loses its outline.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from encoderlab.models.clip import CLIP, TwoTowers
from encoderlab.models.clip.vision import blank_patches
from recipes.siglip import SigLIP


class SparseImages(TwoTowers):
    """A model whose training images keep a number of patches that suits their contrast.

    Attributes:
        kept: patches of an image with at most that many that are not blank, and of any other;
            None: by the tower's patch dropout.
        whole: share of the images of a batch that keep all patches.
    """

    kept: tuple[int, int] | None = None
    whole: float = 0.0

    @property
    def patch_size(self) -> int:
        """Pixels a side."""
        raise NotImplementedError

    def encode_image(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Image embeddings, not normalised."""
        if not self.training or self.kept is None:
            return super().encode_image(pixels)
        tower = self.vision if isinstance(self, CLIP) else self
        blank = blank_patches(pixels, self.patch_size)
        # Batches are shuffled: their first images are of every kind.
        whole = torch.arange(len(pixels), device=pixels.device) < round(self.whole * len(pixels))
        sparse = (~blank).sum(dim=1) <= self.kept[0]
        parts, rows = [], []
        tower.drops_blank_first = True
        groups = (sparse & ~whole, ~sparse & ~whole, whole)
        for group, kept in zip(groups, (*self.kept, blank.shape[1]), strict=True):
            if group.any():
                tower.patch_dropout = 1 - kept / blank.shape[1]
                parts.append(super().encode_image(pixels[group]))
                rows.append(group.nonzero().flatten())
        return torch.cat(parts)[torch.cat(rows).argsort()]


class SparseCLIP(SparseImages, CLIP):
    """Our CLIP."""

    @property
    def patch_size(self) -> int:
        """Pixels a side."""
        return self.config.vision.patch_size


class SparseSigLIP(SparseImages, SigLIP):
    """The adapter of transformers' SigLIP."""

    @property
    def patch_size(self) -> int:
        """Pixels a side."""
        return self.config.vision_config.patch_size
