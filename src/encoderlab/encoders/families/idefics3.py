"""The vision sides of Idefics3 (Laurençon et al. 2024) and SmolVLM (Marafioti et al. 2025)."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from einops import rearrange
from torch import Tensor, nn

from encoderlab.encoders.families.paligemma import TowerWithProjector
from encoderlab.encoders.vision import TowerOutput, VisionEncoder


class Idefics3Tower(VisionEncoder):
    """The vision tower of an Idefics3 or SmolVLM, without loading its LLM; `projected` are the
    patches, merged by its connector, at the width of the LLM.

    An image is squashed to the one square that the tower was made for. The tiles of which the LLM
    gets a large image as well are not made. Pooled: the mean of the patches.
    """

    has_cls = False

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.merge = int(self.tower.projector.scale_factor)

    @classmethod
    def load_tower(cls, folder: Path, config: Any, trust_remote_code: bool) -> nn.Module:
        family = config.model_type
        theirs = importlib.import_module(f"transformers.models.{family}.modeling_{family}")
        name = {"idefics3": "Idefics3", "smolvlm": "SmolVLM"}[family]
        return TowerWithProjector.read(
            lambda: getattr(theirs, f"{name}VisionTransformer")(config.vision_config),
            lambda: getattr(theirs, f"{name}Connector")(config),
            folder,
            ("model.vision_model.",),
            ("model.connector.",),
        )

    def new_tower(self) -> nn.Module:
        return self.tower.new()

    def final_norm(self, tokens: Tensor) -> Tensor:
        return self.tower.tower.post_layernorm(tokens)

    def pool(self, output: TowerOutput, patches: Tensor) -> Tensor:
        return self.mean_of(patches)

    def project(self, patches: Tensor, grids: Sequence[tuple[int, int]]) -> Tensor:
        m, (_, w) = self.merge, grids[0]
        # Their own shuffle takes square grids only.
        squares = rearrange(patches, "b (h a w c) d -> b (h w) (a c d)", a=m, c=m, w=w // m)
        return self.tower.projector.modality_projection(squares)
