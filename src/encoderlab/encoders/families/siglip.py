"""SigLIP's vision transformer (Zhai et al. 2023), and SigLIP 2 at a fixed resolution."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from encoderlab.encoders.loading import pretrained
from encoderlab.encoders.vision import TowerOutput, VisionEncoder


class SigLIPVision(VisionEncoder):
    """The vision side of a SigLIP: patches alone, no CLS.

    Pooled: the attention-pooling head over the normed patches, which is SigLIP's image embedding;
    the mean of the patches where a tower was saved without its head.
    """

    has_cls = False
    block_arguments: ClassVar[dict[str, Any]] = {"attention_mask": None}

    @classmethod
    def load_tower(cls, folder: Path, config: Any, trust_remote_code: bool) -> nn.Module:
        from transformers import SiglipVisionModel

        return pretrained(SiglipVisionModel, folder)

    def pool(self, seen: TowerOutput, patches: Tensor) -> Tensor:
        return self.mean_of(patches) if seen.pooled is None else seen.pooled

    def final_norm(self, tokens: Tensor) -> Tensor | None:
        return self._inner.post_layernorm(tokens)

    def last_block(self) -> nn.Module | None:
        return self._inner.encoder.layers[-1] if self._head is not None else None

    def blocks(self) -> Sequence[nn.Module]:
        return self._inner.encoder.layers

    def pool_tokens(self, tokens: Tensor) -> Tensor:
        normed = self.final_norm(tokens)
        assert normed is not None
        return self.mean_of(normed) if self._head is None else self._head(normed)

    @property
    def _inner(self) -> Any:
        return getattr(self.tower, "vision_model", self.tower)

    @property
    def _head(self) -> Any:
        return getattr(self._inner, "head", None)

    def embed_patches(self, patches: Tensor) -> Tensor | None:
        """What the pooling head makes of each patch when it is the only one there is to look at."""
        head = self._head
        if head is None:
            return None
        b, n, d = patches.shape
        return head(patches.reshape(b * n, 1, d).to(self.dtype)).reshape(b, n, -1).float()

    def _resizing(self) -> dict[str, bool]:
        side = self.config.image_size
        return {"interpolate_pos_encoding": self.preprocess.shape != (side, side)}
