"""Tokens of pictures at one layer, with all inputs that a token reduction method may need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from encoderlab.compression.block_attention import Heads
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
                heads = Heads.of(module, states[0])
                attention = heads.from_first() if encoder.has_cls else heads.received()
                batch["attention"] = attention[:, special:]
                batch["keys"] = heads.content[:, special:]
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
