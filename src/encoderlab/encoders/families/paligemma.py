"""PaliGemma's eye: a SigLIP tower and the linear map into its Gemma (Beyer et al. 2024)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from encoderlab.encoders.families.siglip import SigLIPVision
from encoderlab.encoders.loading import built, load_part
from encoderlab.encoders.vision import TowerOutput


class _TowerWithProjector(nn.Module):
    """Both parts, with the tower's configuration on top."""

    def __init__(self, tower: nn.Module, projector: nn.Module) -> None:
        super().__init__()
        self.tower, self.projector = tower, projector
        self.config = tower.config

    def forward(self, **inputs: Any) -> Any:
        return self.tower(**inputs)

    def set_attn_implementation(self, name: str) -> None:
        self.tower.set_attn_implementation(name)  # type: ignore[operator]


class PaliGemmaTower(SigLIPVision):
    """The vision tower of a PaliGemma, without loading its LLM; `projected` are the patches at the
    width of the LLM, as it reads them.

    Pooled: the mean of the projected patches. The tower has no pooling head (its patches alone go
    on to the LLM), and their mean is the image in the LLM's own space.
    """

    @classmethod
    def load_tower(cls, folder: Path, config: Any, trust_remote_code: bool) -> nn.Module:
        from transformers import SiglipVisionModel

        vision = config.vision_config
        tower = load_part(
            built(lambda: SiglipVisionModel(vision), folder),
            folder,
            (
                "model.vision_tower.vision_model.",
                "vision_tower.vision_model.",
                "model.vision_tower.",
                "vision_tower.",
            ),
        )
        projector = load_part(
            built(lambda: nn.Linear(vision.hidden_size, config.projection_dim), folder),
            folder,
            ("model.multi_modal_projector.linear.", "multi_modal_projector.linear."),
        )
        return _TowerWithProjector(tower, projector)

    @property
    def pooled_width(self) -> int:
        assert isinstance(self.tower, _TowerWithProjector)
        projector = self.tower.projector
        assert isinstance(projector, nn.Linear)
        return projector.out_features

    def project(self, patches: Tensor) -> Tensor:
        assert isinstance(self.tower, _TowerWithProjector)
        return self.tower.projector(patches)

    def pool(self, seen: TowerOutput, patches: Tensor) -> Tensor:
        return self.mean_of(self.project(patches))
