"""SigLIP's vision transformer (Zhai et al. 2023), and SigLIP 2 at a fixed resolution."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from encoderlab.encoders.families.clip import CLIPLike
from encoderlab.encoders.loading import pretrained


class SigLIPVision(CLIPLike):
    """The vision side of a SigLIP: patches alone, no CLS.

    Pooled: the attention-pooling head over the normed patches, which is SigLIP's image embedding;
    the mean of the patches where a tower was saved without its head.
    """

    has_cls = False

    @classmethod
    def load_tower(cls, folder: Path, config: Any, trust_remote_code: bool) -> nn.Module:
        from transformers import SiglipVisionModel

        return pretrained(SiglipVisionModel, folder)

    def last_block(self) -> nn.Module | None:
        return self._inner.encoder.layers[-1] if self._head is not None else None

    def pool_tokens(self, tokens: Tensor) -> Tensor:
        normed = self.final_norm(tokens)
        return self.mean_of(normed) if self._head is None else self._head(normed)

    @property
    def _head(self) -> Any:
        return getattr(self._inner, "head", None)

    def embed_patches(self, patches: Tensor) -> Tensor | None:
        """The pooling head's output for each patch alone."""
        head = self._head
        if head is None:
            return None
        b, n, d = patches.shape
        return head(patches.reshape(b * n, 1, d).to(self.dtype)).reshape(b, n, -1).float()
