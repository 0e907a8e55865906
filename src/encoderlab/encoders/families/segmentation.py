"""Towers of detection and segmentation: ViTDet (Li et al. 2022) and Segment Anything, 1 to 3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from einops import rearrange
from torch import Tensor, nn

from encoderlab.encoders.families.feature_map import FeatureMap
from encoderlab.encoders.loading import pretrained
from encoderlab.encoders.vision import TowerOutput, VisionEncoder


def _vision_part(folder: Path) -> Any:
    """The tower of a checkpoint, alone or out of the whole model, without the neck behind it."""
    from transformers import AutoModel

    network = pretrained(AutoModel, folder)
    tower = getattr(network, "vision_encoder", network)
    return getattr(tower, "backbone", tower)


class ViTDet(VisionEncoder):
    """A ViT without CLS whose blocks look at windows, but for a few. Pooled: the mean of the
    patches. No attention maps: those of a window are not those of the image.
    """

    has_cls = False

    @classmethod
    def load_tower(cls, folder: Path, config: Any, trust_remote_code: bool) -> nn.Module:
        return _vision_part(folder)

    def run_tower(self, pixels: Tensor, **outputs: bool) -> TowerOutput:
        hidden = outputs.get("output_hidden_states", False)
        output = self.tower(pixel_values=pixels, output_hidden_states=hidden)
        return TowerOutput(
            self.in_a_row(output.last_hidden_state),
            hidden=tuple(self.in_a_row(state) for state in output.hidden_states or ()),
        )

    def in_a_row(self, tokens: Tensor) -> Tensor:
        """(b, n, d) of a hidden state (b, d, h, w)."""
        return rearrange(tokens, "b d h w -> b (h w) d")


class SAM3(ViTDet):
    """The tower of a SAM 3. Pooled: the mean of the patches; SAM is trained on patches alone."""

    any_resolution = False  # its rotary positions are those of one grid

    @classmethod
    def vision_config(cls, config: Any) -> Any:
        vision = super().vision_config(config)
        return getattr(vision, "backbone_config", vision)

    def in_a_row(self, tokens: Tensor) -> Tensor:
        """(b, n, d) of a hidden state (b, h, w, d), or one in a row."""
        return tokens.flatten(1, 2) if tokens.ndim == 4 else tokens


class SAM(FeatureMap):
    """The tower of a SAM: the map behind its neck, which is its image embedding.

    Pooled: the mean of the patches; SAM is trained on patches alone.
    """

    any_resolution = False

    @classmethod
    def load_tower(cls, folder: Path, config: Any, trust_remote_code: bool) -> nn.Module:
        return _vision_part(folder)


class SAM2(SAM):
    """The hierarchical tower of a SAM 2 (Hiera), without its neck. Pooled: the mean of the patches.

    The map is that of the last stage.
    """

    any_resolution = True

    @classmethod
    def vision_config(cls, config: Any) -> Any:
        vision = super().vision_config(config)
        return getattr(vision, "backbone_config", vision)

    def map_of(self, output: Any) -> Tensor:
        return rearrange(output.last_hidden_state, "b h w d -> b d h w")
