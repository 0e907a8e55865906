"""SigLIP 2 with flexible resolution, "NaFlex" (Tschannen et al. 2025)."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from encoderlab.encoders.checkpoint import Checkpoint
from encoderlab.encoders.loading import pretrained
from encoderlab.encoders.vision import TowerOutput, VisionEncoder
from encoderlab.models.clip import Preprocess


class SigLIP2Vision(VisionEncoder):
    """The vision side of a NaFlex SigLIP 2: patches alone, no CLS.

    Pooled: the attention-pooling head, SigLIP's image embedding. NaFlex gives every image a grid of
    its own; here a batch shares one, the square of as many patches as the tower was made for, or
    what `resolution` asks for: images are squashed to it, as SigLIP with fixed resolution does.
    """

    has_cls = False

    def __init__(
        self,
        tower: nn.Module,
        preprocess: Preprocess,
        checkpoint: Checkpoint,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        config: Any = tower.config
        if preprocess.width is None:  # no resolution was requested
            side = math.isqrt(config.num_patches) * config.patch_size
            preprocess = dataclasses.replace(
                preprocess, size=side, fit="squash", resize_to=None, width=side
            )
        super().__init__(tower, preprocess, checkpoint, device, dtype)

    @classmethod
    def load_tower(cls, folder: Path, config: Any, trust_remote_code: bool) -> nn.Module:
        from transformers import Siglip2VisionModel

        return pretrained(Siglip2VisionModel, folder)

    def run_tower(self, pixels: Tensor, **outputs: bool) -> TowerOutput:
        p, (h, w) = self.patch_size, self.grid
        b = len(pixels)
        output = self.tower(
            pixel_values=rearrange(pixels, "b c (h p) (w q) -> b (h w) (p q c)", p=p, q=p),
            pixel_attention_mask=torch.ones(b, h * w, dtype=torch.long, device=pixels.device),
            spatial_shapes=torch.tensor([[h, w]] * b, device=pixels.device),
            **outputs,
        )
        return TowerOutput.of(output)
