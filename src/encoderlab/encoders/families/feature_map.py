"""CNNs and hierarchical transformers, whose patches are the positions of the last feature map."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

import torch
from einops import rearrange
from torch import Tensor, nn

from encoderlab.encoders.loading import pretrained
from encoderlab.encoders.vision import TowerOutput, VisionEncoder


class FeatureMap(VisionEncoder):
    """ConvNeXt, ResNet, RegNet, BiT, MobileNet: a last hidden state (b, d, h, w), no CLS.

    Pooled: the tower's own, the mean over the map (and ConvNeXt's final norm), which its classifier
    reads. The stages have grids of their own, so there are no layers and no attention maps.
    """

    has_cls = False
    local_patches: ClassVar[bool] = False

    @classmethod
    def load_tower(cls, folder: Path, config: Any, trust_remote_code: bool) -> nn.Module:
        from transformers import AutoModel

        return pretrained(AutoModel, folder)

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) of the map."""
        return self._grid

    @torch.inference_mode()
    def _geometry(self) -> tuple[int, int, int]:
        """Taken from the map of a black image, as configurations of CNNs have no common key."""
        height, width = self.preprocess.shape
        black = torch.zeros(1, 3, height, width, device=self.device, dtype=self.dtype)
        with self._first_run:
            _, d, h, w = self.map_of(self.tower(pixel_values=black)).shape
        self._grid = h, w
        # Padding rounds up what is left of an image: 240 pixels make 8 rows at a stride of 32.
        stride = 2 ** round(math.log2(height / h))
        return stride, d, len(getattr(self.config, "depths", None) or [0])

    def map_of(self, output: Any) -> Tensor:
        """The last feature map (b, d, h, w) of an output of transformers."""
        return output.last_hidden_state

    def run_tower(self, pixels: Tensor, **outputs: bool) -> TowerOutput:
        output = self.tower(pixel_values=pixels)
        pooled = getattr(output, "pooler_output", None)
        tokens = rearrange(self.map_of(output), "b d h w -> b (h w) d")
        return TowerOutput(tokens, None if pooled is None else pooled.flatten(1))


class DINOv3ConvNeXt(FeatureMap):
    """DINOv3 distilled into a ConvNeXt: the map after the final norm.

    Pooled: the normed mean over the map, which DINOv3 trains as it trains the CLS of its ViTs.
    """

    def map_of(self, output: Any) -> Tensor:
        height, width = self.preprocess.shape
        tokens = output.last_hidden_state[:, 1:]  # the first one is the pooled vector
        h, w = (side // 2 ** (1 + len(self.config.depths)) for side in (height, width))
        return rearrange(tokens, "b (h w) d -> b d h w", h=h, w=w)


class Hiera(VisionEncoder):
    """Hiera (Ryali et al. 2023): the tokens of the last stage, in reading order.

    Pooled: the mean of the patches. Not the tower's pooler: its norm is not in checkpoints of
    masked autoencoders.
    """

    has_cls = False
    local_patches: ClassVar[bool] = False
    any_resolution: ClassVar[bool] = False

    @classmethod
    def load_tower(cls, folder: Path, config: Any, trust_remote_code: bool) -> nn.Module:
        from transformers import HieraModel

        return pretrained(HieraModel, folder)

    def _patch_size(self) -> int:
        config = self.config
        return int(config.patch_stride[0] * config.query_stride[0] ** config.num_query_pool)

    def run_tower(self, pixels: Tensor, **outputs: bool) -> TowerOutput:
        tokens = self.tower(pixel_values=pixels).last_hidden_state
        # Stages that do not pool leave their tokens ordered by window.
        ordered = self.tower.encoder.reroll(tokens, stage_idx=len(self.config.depths) - 1)
        return TowerOutput(ordered.flatten(1, 2))


class Swin(VisionEncoder):
    """Swin (Liu et al. 2021) and Swin v2: the tokens of the last stage after the final norm.

    Pooled: the mean of the patches, which the classifier reads.
    """

    has_cls = False
    local_patches: ClassVar[bool] = False

    @classmethod
    def load_tower(cls, folder: Path, config: Any, trust_remote_code: bool) -> nn.Module:
        from transformers import AutoModel

        return pretrained(AutoModel, folder)

    def _patch_size(self) -> int:
        return super()._patch_size() * 2 ** (len(self.config.depths) - 1)

    def run_tower(self, pixels: Tensor, **outputs: bool) -> TowerOutput:
        resizing = self.preprocess.shape != (self.config.image_size,) * 2
        output = self.tower(pixel_values=pixels, interpolate_pos_encoding=resizing)
        return TowerOutput(output.last_hidden_state)
