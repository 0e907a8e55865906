"""SigLIP 2 with flexible resolution, "NaFlex" (Tschannen et al. 2025)."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from encoderlab.encoders.loading import pretrained
from encoderlab.encoders.vision import TowerOutput, VisionEncoder, mask_of
from encoderlab.models.native_resolution import Cells


class SigLIP2Vision(VisionEncoder):
    """The vision side of a NaFlex SigLIP 2: patches alone, no CLS.

    Pooled: the attention-pooling head, SigLIP's image embedding. NaFlex gives every image a grid of
    its own, as `resolution="native"` does; else a batch shares one, the square of as many patches
    as the tower was made for, or what `resolution` asks for: images are squashed to it.
    """

    has_cls = False

    @classmethod
    def own_side(cls, config: Any) -> int:
        vision = cls.vision_config(config)
        return math.isqrt(vision.num_patches) * vision.patch_size

    @classmethod
    def cells(cls, config: Any) -> Cells:
        return Cells(cls.vision_config(config).patch_size)

    @classmethod
    def load_tower(cls, folder: Path, config: Any, trust_remote_code: bool) -> nn.Module:
        from transformers import Siglip2VisionModel

        return pretrained(Siglip2VisionModel, folder)

    def run_tower(self, pixels: Any, **outputs: bool) -> TowerOutput:
        p, grids = self.patch_size, self.grids_of(pixels)
        mask = mask_of(grids, pixels[0].device)
        output = self.tower(
            pixel_values=patch_rows(pixels, p),
            pixel_attention_mask=mask.long(),
            spatial_shapes=torch.tensor(grids, device=mask.device),
            **outputs,
        )
        found = TowerOutput.of(output)
        return replace(
            found,
            tokens=found.tokens * mask[..., None],
            hidden=tuple(state * mask[..., None] for state in found.hidden),
        )


def patch_rows(images: Any, p: int) -> Tensor:
    """The pixels of the patches of each image (b, n, p * p * 3), padded with zeros."""
    rows = [rearrange(image, "c (h p) (w q) -> (h w) (p q c)", p=p, q=p) for image in images]
    return pad_sequence(rows, batch_first=True)
