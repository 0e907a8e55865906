"""Any other vision transformer that gives `last_hidden_state` through AutoModel."""

from __future__ import annotations

import functools
import inspect
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from encoderlab.encoders.loading import pretrained
from encoderlab.encoders.vision import TowerOutput, VisionEncoder, names_class_token
from encoderlab.errors import UsageError


class AnyViT(VisionEncoder):
    """ViT, DeiT, BEiT, AIMv2, I-JEPA, … with their special tokens, if any, before the patches.

    Special tokens are found by a run on two images: before the first block they are the same for
    both. CLS is the first of them, unless they are several and no weight is named a class token.

    Pooled: CLS of the last hidden state, or the mean of the patches without CLS. Not
    `pooler_output`: ViT's is a classification layer that most checkpoints leave untrained.
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
        tower = pretrained(AutoModel, folder, trust_remote_code=trust_remote_code)
        missing = [
            name
            for name, argument in inspect.signature(tower.forward).parameters.items()
            if argument.default is argument.empty
            and argument.kind is argument.POSITIONAL_OR_KEYWORD
            and name != "pixel_values"
        ]
        if missing:
            raise UsageError(
                "this family takes more than images of one size, so it needs an adapter of its own",
                got=f"{config.model_type}, which takes {', '.join(missing)}",
                want="a network that takes pixel_values",
            )
        return tower

    @property
    def special_tokens(self) -> int:
        return self._special

    @property
    def has_cls(self) -> bool:  # type: ignore[override]
        return self._special == 1 or (self._special > 1 and names_class_token(self.tower))

    @functools.cached_property
    @torch.inference_mode()
    def _special(self) -> int:
        noise = torch.Generator().manual_seed(0)
        pixels = torch.randn(2, 3, *self.preprocess.shape, generator=noise)
        with self._first_run:
            output = self.run_tower(pixels.to(self.device, self.dtype), output_hidden_states=True)
        if output.tokens.ndim != 3 or len(output.tokens) != len(pixels):
            self.require_grid(output.tokens, 0)  # a feature map, or all images in one row
        first = output.hidden[0] if output.hidden else None
        if first is None or first.shape != output.tokens.shape:
            special = max(0, output.tokens.shape[1] - self.grid[0] * self.grid[1])
            self.require_grid(output.tokens, special)
            return special
        same = (first[0] == first[1]).all(dim=-1)
        special = int(same.sum())
        self.require_grid(output.tokens, special)
        if not bool(same[:special].all()):
            raise UsageError(
                "the tower's special tokens do not stand before its patches",
                got=f"special tokens at {same.nonzero().flatten().tolist()[:5]}",
                want=f"at 0 to {special - 1}",
                hint=f"checkpoint: {self.name} ({self.family})",
            )
        return special

    def pool(self, output: TowerOutput, patches: Tensor) -> Tensor:
        return output.tokens[:, 0] if self.has_cls else self.mean_of(patches)

    def _resizing(self) -> dict[str, bool]:
        side = getattr(self.config, "image_size", None)
        own = tuple(side) if isinstance(side, list | tuple) else (side, side)
        if side is None or self.preprocess.shape == own:
            return {}
        if "interpolate_pos_encoding" not in inspect.signature(self.tower.forward).parameters:
            raise UsageError(
                "this family takes only the resolution it was trained at",
                got=f"{self.preprocess.shape} for {self.name} ({self.family})",
                want=str(own),
            )
        return {"interpolate_pos_encoding": True}
