"""Tokens of pictures at one layer, with all inputs that a token reduction method may need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from encoderlab.encoders.encoder import ordinary
from encoderlab.encoders.layers import block_states
from encoderlab.encoders.vision import VisionEncoder, stack
from encoderlab.errors import UsageError
from encoderlab.patch_tokens.reducer import SideInputs

BATCH = 64


@dataclass(frozen=True)
class TokenSet:
    """Tokens of pictures.

    Args:
        tokens: (b, n, c) fp32.
        special: (b, s, c), CLS and registers at the same layer.
        side: further inputs of the methods.
    """

    tokens: Tensor
    special: Tensor
    side: SideInputs

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def mean_token(self) -> Float[Tensor, " c"]:
        """The mean over pictures and places."""
        return self.tokens.float().mean(dim=(0, 1))

    @classmethod
    def of(
        cls,
        encoder: VisionEncoder,
        pictures: Sequence[Image.Image],
        layer: int,
        advance: Callable[[int], None] = lambda n: None,
    ) -> TokenSet:
        """The tokens of pictures of any sizes, encoded in batches.

        Args:
            encoder: the vision encoder.
            pictures: of any sizes.
            layer: hidden state of the tokens.
            advance: called with the number of encoded pictures after every batch.

        Returns:
            Their tokens.
        """
        # Attention of the block that outputs the tokens; there is none before the first block.
        module, special = encoder.attention_module(layer), encoder.special_tokens
        maps = [layer] if encoder.has_cls and layer > 0 and module is None else []
        parts: dict[str, list[Tensor]] = {}
        for start in range(0, len(pictures), BATCH):
            pixels = stack(
                [encoder.preprocess.to_bytes(image) for image in pictures[start : start + BATCH]]
            )
            with block_states([] if module is None else [module]) as states:
                try:
                    output = encoder.encode_pixels(pixels, layers=[layer], attention=maps)
                except UsageError:  # a tower without attention maps, such as InternViT's own code
                    maps = []
                    output = encoder.encode_pixels(pixels, layers=[layer])
            batch = {
                "tokens": output.layers[layer],
                "special": output.layers_special[layer],
                "pixels": pixels,
            }
            if maps:
                batch["attention"] = output.attention[layer].mean(dim=1)[:, 0, special:]
            if module is not None:
                batch["attention"], batch["keys"] = _attention_and_keys(
                    module, states[0], special, encoder.has_cls
                )
            for name, value in batch.items():
                parts.setdefault(name, []).append(ordinary(value, "cpu"))
            advance(len(pixels))
        whole = {name: torch.cat(part) for name, part in parts.items()}
        first = whole["special"][:, 0] if encoder.has_cls else None
        side = SideInputs(
            cls=first, attention=whole.get("attention"), keys=whole.get("keys"),
            pixels=whole["pixels"],
        )  # fmt: skip
        return cls(whole["tokens"], whole["special"], side)

    def part(self, rows: slice | Int[np.ndarray, " k"]) -> TokenSet:
        """The tokens of some of the pictures."""
        side = {k: v if v is None else v[rows] for k, v in vars(self.side).items()}
        return replace(
            self, tokens=self.tokens[rows], special=self.special[rows], side=SideInputs(**side)
        )


@torch.inference_mode()
def _attention_and_keys(
    module: Any, hidden: Float[Tensor, "b t c"], special: int, has_cls: bool
) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n d"]]:
    """The attention that each patch gets, and its key, as VisionZip defines them.

    Args:
        module: the attention of a block of transformers.
        hidden: its input.
        special: number of tokens before the patches.
        has_cls: whether attention is that of CLS, else of all patches.

    Returns:
        Attention, mean over heads and over the tokens that attend; keys, mean over heads.
    """

    def split(linear: Any, x: Tensor) -> Float[Tensor, "b h t d"]:
        return linear(x).unflatten(-1, (-1, module.head_dim)).transpose(1, 2).float()

    keys = split(module.k_proj, hidden)
    queries = split(module.q_proj, hidden[:, :1] if has_cls else hidden[:, special:])
    # One image at a time: the maps of a batch take gigabytes.
    attention = [
        (query @ key.mT * module.head_dim**-0.5).softmax(dim=-1).mean(dim=(0, 1))
        for query, key in zip(queries, keys, strict=True)
    ]
    return torch.stack(attention)[:, special:], keys.mean(dim=1)[:, special:]
