"""InternViT: the tower of a Hugging Face InternVL, and the original checkpoints with their own code
(Chen et al. 2024).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from encoderlab.encoders.loading import built, load_part, pretrained
from encoderlab.encoders.vision import TowerOutput, VisionEncoder


class InternVLTower(VisionEncoder):
    """The vision tower of an InternVL, alone or out of the whole model (without loading its LLM).

    Pooled: the mean of the patches. InternVL drops CLS and gives the patches to its LLM, so
    training shapes the patches.
    """

    @classmethod
    def load_tower(cls, folder: Path, config: Any, trust_remote_code: bool) -> nn.Module:
        from transformers import InternVLVisionModel

        if config.model_type == "internvl_vision":
            return pretrained(InternVLVisionModel, folder)
        tower = built(lambda: InternVLVisionModel(config.vision_config), folder)
        return load_part(tower, folder, ("model.vision_tower.", "vision_tower."))

    def pool(self, output: TowerOutput, patches: Tensor) -> Tensor:
        return self.mean_of(patches)


class OriginalInternViT(VisionEncoder):
    """InternViT as OpenGVLab publishes it, through the Python that comes with it.

    Pooled: the checkpoint's pooler output, CLS of the last block. No attention maps.
    """

    any_resolution = False

    @classmethod
    def load_tower(cls, folder: Path, config: Any, trust_remote_code: bool) -> nn.Module:
        from transformers import AutoModel

        return pretrained(AutoModel, folder, trust_remote_code=trust_remote_code)

    def pool(self, output: TowerOutput, patches: Tensor) -> Tensor:
        return output.tokens[:, 0] if output.pooled is None else output.pooled
