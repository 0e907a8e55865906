"""PaliGemma's vision side: a SigLIP tower and the linear map into its Gemma (Beyer et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from encoderlab.encoders.families.siglip import SigLIPVision
from encoderlab.encoders.loading import built, load_part
from encoderlab.encoders.vision import TowerOutput


class _TowerWithProjector(nn.Module):
    """Tower and projector as one network with the tower's configuration."""

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
    width of the LLM.

    Pooled: the mean of the projected patches, in the LLM's own space; the tower has no pooling
    head.
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
        return int(self.tower.projector.out_features)

    def project(self, patches: Tensor, grids: Sequence[tuple[int, int]] = ()) -> Tensor:
        return self.tower.projector(patches)

    def pool(self, output: TowerOutput, patches: Tensor) -> Tensor:
        return self.mean_of(self.project(patches))
