"""The vision sides of PaliGemma (Beyer et al. 2024) and Gemma 3: a SigLIP tower and a projector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from encoderlab.encoders.families.siglip import SigLIPVision
from encoderlab.encoders.loading import built, load_part
from encoderlab.encoders.vision import TowerOutput

Make = Callable[[], Any]
SIGLIP_AT = (
    "model.vision_tower.vision_model.",
    "vision_tower.vision_model.",
    "model.vision_tower.",
    "vision_tower.",
)


class TowerWithProjector(nn.Module):
    """Tower and projector as one network with the tower's configuration."""

    def __init__(self, make_tower: Make, make_projector: Make) -> None:
        super().__init__()
        self.makers = make_tower, make_projector
        self.tower, self.projector = make_tower(), make_projector()
        self.config = self.tower.config

    def new(self) -> TowerWithProjector:
        """The same with random weights."""
        return TowerWithProjector(*self.makers)

    @classmethod
    def read(
        cls,
        make_tower: Make,
        make_projector: Make,
        folder: Path,
        tower_at: Sequence[str],
        projector_at: Sequence[str],
    ) -> nn.Module:
        """Both from the tensors of a checkpoint behind a prefix of each."""
        network: Any = built(lambda: cls(make_tower, make_projector), folder)
        load_part(network.tower, folder, tower_at)
        load_part(network.projector, folder, projector_at)
        return network

    def forward(self, **inputs: Any) -> Any:
        return self.tower(**inputs)

    def set_attn_implementation(self, name: str) -> None:
        self.tower.set_attn_implementation(name)


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
        return TowerWithProjector.read(
            lambda: SiglipVisionModel(vision),
            lambda: nn.Linear(vision.hidden_size, config.projection_dim),
            folder,
            SIGLIP_AT,
            ("model.multi_modal_projector.linear.", "multi_modal_projector.linear."),
        )

    def new_tower(self) -> nn.Module:
        return self.tower.new()

    @property
    def pooled_width(self) -> int:
        return int(self.tower.projector.out_features)

    def project(self, patches: Tensor, grids: Sequence[tuple[int, int]] = ()) -> Tensor:
        return self.tower.projector(patches)

    def pool(self, output: TowerOutput, patches: Tensor) -> Tensor:
        return self.mean_of(self.project(patches))

    def pool_tokens(self, tokens: Tensor) -> Tensor:
        return self.mean_of(self.project(self.final_norm(tokens)))

    @property
    def _inner(self) -> Any:
        return getattr(self.tower.tower, "vision_model", self.tower.tower)

    @property
    def _head(self) -> None:
        return None


class Gemma3Tower(PaliGemmaTower):
    """The vision tower of a Gemma 3, without loading its LLM, which gets the means of squares of
    patches; `projected` are they at the width of the LLM.

    Pooled: as PaliGemma.
    """

    any_resolution = False

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.merge = int(self.tower.projector.kernel_size)

    @classmethod
    def load_tower(cls, folder: Path, config: Any, trust_remote_code: bool) -> nn.Module:
        from transformers import SiglipVisionModel
        from transformers.models.gemma3.modeling_gemma3 import Gemma3MultiModalProjector

        return TowerWithProjector.read(
            lambda: SiglipVisionModel(config.vision_config),
            lambda: Gemma3MultiModalProjector(config),
            folder,
            SIGLIP_AT,
            ("model.multi_modal_projector.", "multi_modal_projector."),
        )

    @property
    def pooled_width(self) -> int:
        return int(self.tower.projector.mm_input_projection_weight.shape[1])
