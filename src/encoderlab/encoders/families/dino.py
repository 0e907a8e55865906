"""DINOv2 (Oquab et al. 2024), with registers (Darcet et al. 2024), and DINOv3."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from encoderlab.encoders.loading import pretrained
from encoderlab.encoders.vision import VisionEncoder


class DINOv2(VisionEncoder):
    """A self-supervised vision transformer.

    Pooled: CLS after the final norm, which DINO's image-level loss trains and its linear probes
    read. `patches` are normed too. Positions are interpolated at any other resolution.
    """

    @classmethod
    def load_tower(cls, folder: Path, config: Any, trust_remote_code: bool) -> nn.Module:
        from transformers import AutoModel

        return pretrained(AutoModel, folder)

    def blocks(self) -> Sequence[nn.Module] | None:
        encoder = getattr(self.tower, "encoder", None)
        return getattr(encoder, "layer", None) or getattr(encoder, "layers", None)

    def pool_tokens(self, tokens: Tensor) -> Tensor:
        return self.tower.layernorm(tokens[:, 0])


class DINOv2WithRegisters(DINOv2):
    """DINOv2 with register tokens behind CLS; they are not patches. Pooled: as DINOv2."""

    @property
    def special_tokens(self) -> int:
        return 1 + int(self.config.num_register_tokens)


class DINOv3(DINOv2WithRegisters):
    """DINOv3's ViT: registers, rotary positions, so any resolution. Pooled: as DINOv2."""

    def blocks(self) -> None:
        return None  # they take the rotary positions that the tower computes
