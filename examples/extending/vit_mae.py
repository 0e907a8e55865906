"""Masked autoencoders (He et al. 2022) that see the whole picture. Pooled: CLS."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import ViTMAEModel

from encoderlab.encoders.families.generic import AnyViT
from encoderlab.encoders.loading import pretrained
from encoderlab.encoders.vision import TowerOutput


class ViTMAE(AnyViT):
    """As any ViT, but the checkpoint would hide three patches of four, and shuffle the rest."""

    @classmethod
    def load_tower(cls, folder: Path, config: Any, trust_remote_code: bool) -> ViTMAEModel:
        config.mask_ratio = 0.0
        return pretrained(ViTMAEModel, folder, config=config)

    def run_tower(self, pixels: Tensor, **wanted: bool) -> TowerOutput:
        in_order = torch.arange(math.prod(self.grid), device=pixels.device).expand(len(pixels), -1)
        out = self.tower(pixels, noise=in_order, **self._resizing(), **wanted)
        return TowerOutput(
            out.last_hidden_state, None, out.hidden_states or (), out.attentions or ()
        )
