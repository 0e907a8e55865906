"""Any other vision transformer that gives `last_hidden_state` through AutoModel."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from encoderlab.encoders.loading import pretrained
from encoderlab.encoders.vision import Seen, VisionEncoder
from encoderlab.errors import UsageError


class AnyViT(VisionEncoder):
    """ViT, DeiT, BEiT, AIMv2, I-JEPA, … with their special tokens in front of the patches.

    Pooled: CLS of the last hidden state where there is one (not `pooler_output`: ViT's is a
    classification layer that most checkpoints leave untrained), else the mean of the patches.
    """

    @classmethod
    def load_tower(cls, folder: Path, config: Any, trust_remote_code: bool) -> nn.Module:
        from transformers import AutoModel

        if not hasattr(config, "patch_size") or not hasattr(config, "num_hidden_layers"):
            raise UsageError(
                "the checkpoint is no vision transformer that we can look into",
                got=config.model_type,
                want="clip, siglip, siglip2, dinov2, dinov3, internvl, paligemma, or a ViT with "
                "patch_size and last_hidden_state",
                hint="list the known ones: encoderlab ls encoders",
            )
        return pretrained(AutoModel, folder, trust_remote_code=trust_remote_code)

    @property
    def special_tokens(self) -> int:
        # What the embeddings hold beside the patches, whatever a family calls it.
        embeddings = getattr(self.tower, "embeddings", None)
        own = [
            tensor
            for name, tensor in (embeddings.named_parameters(recurse=False) if embeddings else ())
            if name in ("cls_token", "distillation_token", "register_tokens")
        ]
        return sum(tensor.shape[-2] for tensor in own)

    def look(self, pixels: Tensor, **wanted: bool) -> Seen:
        seen = super().look(pixels, **wanted)
        return Seen(seen.tokens, None, seen.hidden, seen.attention)

    def pool(self, seen: Seen, patches: Tensor) -> Tensor:
        return seen.tokens[:, 0] if self.special_tokens else self.mean_of(patches)

    def _resizing(self) -> dict[str, bool]:
        side = self.config.image_size
        own = tuple(side) if isinstance(side, list | tuple) else (side, side)
        if self.preprocess.shape == own:
            return {}
        if "interpolate_pos_encoding" not in inspect.signature(self.tower.forward).parameters:
            raise UsageError(
                "this family takes only the resolution it was trained at",
                got=f"{self.preprocess.shape} for {self.name} ({self.family})",
                want=str(own),
            )
        return {"interpolate_pos_encoding": True}
