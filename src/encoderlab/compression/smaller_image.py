"""The control that needs no method: the same encoder on a smaller image, with as many tokens."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from encoderlab.encoders.load_spec import options_of
from encoderlab.encoders.vision import VisionEncoder, load_vision, stack
from encoderlab.models.token_grid import Grid, as_image, as_tokens, window_of
from encoderlab.patch_tokens.reducer import (
    CompressedTokens,
    SideInputs,
    TokenReducer,
    merged,
)


class SmallerImage(TokenReducer):
    """Tokens of the image at fewer pixels (Lanczos), positions interpolated; back by bilinear
    interpolation. The encoder runs again, on the smaller image alone.

    Args:
        encoder: the one that the tokens are of.
        layer: the hidden state that they are.
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
            np.asarray(Image.fromarray(one).resize((width, height), Image.Resampling.LANCZOS))
            for one in side.pixels.permute(0, 2, 3, 1).cpu().numpy()
        ]
        seen = encoder.encode_pixels(stack(small), layers=[self.layer]).layers[self.layer]
        window = window_of(grid, budget).to(tokens.device).expand(len(tokens), -1)
        where = merged(tokens[..., :1], window, budget[0] * budget[1], grid, budget)
        return CompressedTokens(
            seen.to(tokens.device, tokens.dtype), where.positions, where.sizes, window, budget
        )

    def _decode(self, kept: CompressedTokens, grid: Grid) -> Float[Tensor, "b n c"]:
        assert kept.grid is not None
        small = as_image(kept.tokens, kept.grid)
        return as_tokens(F.interpolate(small, size=grid, mode="bilinear", align_corners=False))

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
