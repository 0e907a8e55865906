"""CLIP's vision transformer (Radford et al. 2021), beside its text tower or alone."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from encoderlab.encoders.loading import pretrained
from encoderlab.encoders.vision import VisionEncoder


class CLIPLike(VisionEncoder):
    """A tower built as transformers builds those of CLIP and SigLIP."""

    block_arguments: ClassVar[dict[str, Any]] = {"attention_mask": None}

    def final_norm(self, tokens: Tensor) -> Tensor:
        return self._inner.post_layernorm(tokens)

    def blocks(self) -> Sequence[nn.Module]:
        return self._inner.encoder.layers

    @property
    def _inner(self) -> Any:
        return getattr(self.tower, "vision_model", self.tower)

    def _resizing(self) -> dict[str, bool]:
        side = self.config.image_size
        return {"interpolate_pos_encoding": self.preprocess.shape != (side, side)}


class CLIPTowerAlone(CLIPLike):
    """A CLIP vision tower saved without its projection.

    Pooled: CLS after the final norm, the input of the missing projection.
    """

    @classmethod
    def load_tower(cls, folder: Path, config: Any, trust_remote_code: bool) -> nn.Module:
        from transformers import CLIPVisionModel

        return pretrained(CLIPVisionModel, folder)

    def pool_tokens(self, tokens: Tensor) -> Tensor:
        return self.final_norm(tokens[:, 0])


class CLIPVision(CLIPTowerAlone):
    """The vision side of a CLIP.

    Pooled: the projected image embedding, as it is trained to match the text embedding. `patches`
    and `cls` are the last block's output, to which CLIP applies no norm.
    """

    @classmethod
    def load_tower(cls, folder: Path, config: Any, trust_remote_code: bool) -> nn.Module:
        from transformers import CLIPVisionModelWithProjection

        # CLIPModel reads the width of its space from the top level, not from the tower's part.
        vision = copy.deepcopy(config.vision_config)
        vision.projection_dim = config.projection_dim
        return pretrained(CLIPVisionModelWithProjection, folder, config=vision)

    @property
    def pooled_width(self) -> int:
        return int(self.config.projection_dim)

    def embed_patches(self, patches: Tensor) -> Tensor:
        """Every patch treated as CLIP treats CLS: the final norm, then the projection."""
        return self.tower.visual_projection(self.final_norm(patches.to(self.dtype))).float()

    def pool_tokens(self, tokens: Tensor) -> Tensor:
        return self.tower.visual_projection(super().pool_tokens(tokens))

    def last_block(self) -> nn.Module:
        return self._inner.encoder.layers[-1]
