"""Towers that were trained beside a text tower, or as one is: MetaCLIP 2 (Chuang et al. 2025),
Chinese-CLIP (Yang et al. 2022), MLCD (An et al. 2024), AIMv2 (Fini et al. 2024) and TIPS v2.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from torch import nn

from encoderlab.encoders.families.clip import CLIPTowerAlone, CLIPVision
from encoderlab.encoders.families.dino import DINOv2WithRegisters
from encoderlab.encoders.families.generic import AnyViT
from encoderlab.encoders.loading import pretrained
from encoderlab.encoders.vision import VisionEncoder


class MetaCLIP2Vision(CLIPVision):
    """The vision side of a MetaCLIP 2. Pooled: the projected image embedding, as of CLIP."""

    @classmethod
    def load_tower(cls, folder: Path, config: Any, trust_remote_code: bool) -> nn.Module:
        from transformers import MetaClip2VisionModelWithProjection

        vision = copy.deepcopy(config.vision_config)
        vision.projection_dim = config.projection_dim
        return pretrained(MetaClip2VisionModelWithProjection, folder, config=vision)


class MetaCLIP2TowerAlone(CLIPTowerAlone):
    """A MetaCLIP 2 tower without its projection. Pooled: CLS after the final norm."""

    @classmethod
    def load_tower(cls, folder: Path, config: Any, trust_remote_code: bool) -> nn.Module:
        from transformers import MetaClip2VisionModel

        return pretrained(MetaClip2VisionModel, folder)


class _ProjectedTower(nn.Module):
    """A tower whose pooled vector is projected, as one network with the tower's configuration."""

    def __init__(self, vision_model: Any, visual_projection: nn.Linear) -> None:
        super().__init__()
        self.vision_model, self.visual_projection = vision_model, visual_projection
        self.config = vision_model.config

    def forward(self, **inputs: Any) -> Any:
        output = self.vision_model(**inputs)
        output.pooler_output = self.visual_projection(output.pooler_output)
        return output

    def set_attn_implementation(self, name: str) -> None:
        self.vision_model.set_attn_implementation(name)


class _Projected(VisionEncoder):
    """Loads the tower with its projection, out of the model of both sides."""

    @classmethod
    def load_tower(cls, folder: Path, config: Any, trust_remote_code: bool) -> nn.Module:
        from transformers import AutoModel

        both = pretrained(AutoModel, folder)
        return _ProjectedTower(both.vision_model, both.visual_projection)

    @property
    def pooled_width(self) -> int:
        return int(self.tower.visual_projection.out_features)


class ChineseCLIPVision(_Projected, CLIPVision):
    """The vision side of a Chinese-CLIP. Pooled: the projected image embedding, as of CLIP."""

    def last_block(self) -> None:  # type: ignore[override]
        return None  # its attention is not laid out as CLIP's


class ChineseCLIPTowerAlone(CLIPTowerAlone):
    """A Chinese-CLIP tower without its projection. Pooled: CLS after the final norm."""

    @classmethod
    def load_tower(cls, folder: Path, config: Any, trust_remote_code: bool) -> nn.Module:
        from transformers import ChineseCLIPVisionModel

        return pretrained(ChineseCLIPVisionModel, folder)


class MLCD(CLIPTowerAlone):
    """MLCD, trained to tell clusters of images apart. Pooled: CLS after the final norm, which the
    clusters are read from. Its positions are rotary, so any resolution.
    """

    @classmethod
    def load_tower(cls, folder: Path, config: Any, trust_remote_code: bool) -> nn.Module:
        from transformers import MLCDVisionModel

        return pretrained(MLCDVisionModel, folder)

    def blocks(self) -> None:  # type: ignore[override]
        return None  # they take the rotary positions that the tower computes

    def _resizing(self) -> dict[str, bool]:
        return {}


class AIMv2TowerAlone(AnyViT):
    """An AIMv2 tower: patches alone, no CLS. Pooled: the attention-pooling head where the
    checkpoint has one, else the mean of the patches.
    """

    pool = VisionEncoder.pool


class AIMv2Vision(_Projected, AIMv2TowerAlone):
    """The vision side of an AIMv2 with a text tower. Pooled: the projected output of the
    attention-pooling head, as it is trained to match the text embedding.
    """


class TIPSv2Vision(DINOv2WithRegisters):
    """The vision side of a TIPS v2, beside its text tower or alone.

    Pooled: the first CLS after the final norm, which is trained to match captions of the web. The
    second one, trained on synthetic captions, is among the special tokens.
    """

    @classmethod
    def load_tower(cls, folder: Path, config: Any, trust_remote_code: bool) -> nn.Module:
        from transformers import AutoModel

        network = pretrained(AutoModel, folder)
        return getattr(network, "vision_model", network)

    def blocks(self) -> None:
        return None  # they take the mask that the tower makes
