"""A control: the same encoder on a smaller image, which gives as many tokens as the budget."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from encoderlab.encoders.load_spec import options_of
from encoderlab.encoders.vision import VisionEncoder, load_vision, stack
from encoderlab.models.token_grid import Grid
from encoderlab.patch_tokens.pooling import resized
from encoderlab.patch_tokens.reducer import (
    CompressedTokens,
    SideInputs,
    TokenReducer,
    pooled,
)


class SmallerImage(TokenReducer):
    """Tokens of the downscaled image (Lanczos, position embeddings interpolated), decoded by
    bilinear interpolation. Runs the encoder again.

    Args:
        encoder: the encoder of the tokens.
        layer: their hidden state.
    """

    name = "smaller_image"
    needs: ClassVar[tuple[str, ...]] = ("pixels",)
    keeps_grid = True

    def __init__(self, encoder: VisionEncoder, layer: int) -> None:
        self.encoder, self.layer = encoder, layer
        self._small: dict[Grid, VisionEncoder] = {}

    def _compress(self, tokens, grid, budget, side: SideInputs) -> CompressedTokens:
        assert side.pixels is not None
        encoder = self._at(budget)
        height, width = encoder.preprocess.shape
        small = [
            np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))
            for image in side.pixels.permute(0, 2, 3, 1).cpu().numpy()
        ]
        kept = encoder.encode_pixels(stack(small), layers=[self.layer]).layers[self.layer]
        return replace(
            pooled(tokens[..., :1], grid, budget), tokens=kept.to(tokens.device, tokens.dtype)
        )

    def _decode(self, kept: CompressedTokens, grid: Grid) -> Float[Tensor, "b n c"]:
        assert kept.grid is not None
        return resized(kept.tokens, kept.grid, grid)

    def _at(self, budget: Grid) -> VisionEncoder:
        if budget not in self._small:
            patch = self.encoder.patch_size
            device, dtype = self.encoder.where
            size = (budget[0] * patch, budget[1] * patch)
            self._small[budget] = load_vision(
                self.encoder.checkpoint.name,
                device,
                dtype,
                resolution=size,
                **options_of(self.encoder).vision,
            )
        return self._small[budget]
