"""LLaVA-NeXT: the base image and the picture of its tiles, each compressed behind the projector.

The tiles of an image are compressed together, where the model has put them side by side and cut off
their padding: no token stands for padding, and none is lost to it. A method that keeps a grid gets
the end of line (`image_newline`) after each row, any other one at the end; a picture that is kept
whole keeps all. The tokens take consecutive positions, as all tokens did.

n tokens of a picture, k kept ones, d width of the language model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from encoderlab.compression.hooks.base import Piece
from encoderlab.compression.hooks.encoded import EncodedVision
from encoderlab.compression.hooks.square import LlavaVision
from encoderlab.errors import UsageError
from encoderlab.models.token_grid import Grid
from encoderlab.patch_tokens.reducer import TokenReducer


class LlavaNextVision(EncodedVision):
    """A `LlavaNextForConditionalGeneration` with a CLIP or SigLIP tower.

    Args:
        model: the VLM.
        method: the token reduction method.
        budget: tokens of the base image, and as many for each tile beside it, or their (rows,
            columns).

    Raises:
        UsageError: a method that the model does not support, or one that does not give the budget
            for the base image.
    """

    def __init__(self, model: Any, method: TokenReducer, budget: int | Grid) -> None:
        super().__init__(model, method, budget)
        # Tower, layer and attention are those of a LLaVA, each tile an image.
        self.tower = LlavaVision(model, method, budget)
        self.side = self.tower.grid[0]

    def attention_layer(self) -> Any:
        """That of the layer of the tokens."""
        return self.tower.attention_layer()

    def attend(self, module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Keeps attention and keys of all tiles."""
        self.tower.attend(module, arguments, named)

    def pieces(self, inputs: Mapping[str, Any]) -> list[Piece]:
        """Base image and tiles of each image, by `image_sizes`."""
        sizes = inputs.get("image_sizes")
        pieces = []
        for size in [] if sizes is None else _sizes(sizes):
            tiles, grid = self._tiles(size)
            budget = (
                self.budget * tiles[0] * tiles[1]
                if isinstance(self.budget, int)
                # Cut-off padding may leave fewer rows or columns than that.
                else (
                    min(self.budget[0] * tiles[0], grid[0]),
                    min(self.budget[1] * tiles[1], grid[1]),
                )
            )
            if 0 in grid:
                raise UsageError(
                    "the image is so narrow that none of its tiles' tokens remains",
                    got=f"{size[0]} x {size[1]} pixels",
                    want="an image of which the model has tokens beside the base image",
                )
            picture = self.piece(grid, budget)
            lines = grid[0] if picture.budget is None else picture.budget[0]
            pieces += [
                self.tower.one,
                Piece(grid, picture.budget, picture.whole + grid[0], picture.kept + lines),
            ]
        return pieces

    def compressed(self, features: Any, pieces: Sequence[Piece], given: Mapping[str, Any]) -> Any:
        """The packed features of the images with the kept tokens alone."""
        tokens, newlines = [], []
        for packed, piece in zip(features.pooler_output, pieces[1::2], strict=True):
            base, picture = packed.split([self.side**2, piece.whole])
            rows = picture.unflatten(0, (piece.grid[0], piece.grid[1] + 1))
            tokens += [base, rows[:, :-1].flatten(0, 1)]
            newlines.append(rows[0, -1])
        self.reduce(tokens, pieces, self._sides(given["image_sizes"], pieces))
        features.pooler_output = [
            torch.cat([base.tokens[0], _with_newlines(picture.tokens[0], piece, newline)])
            for base, picture, piece, newline in zip(
                self.last[::2], self.last[1::2], pieces[1::2], newlines, strict=True
            )
        ]
        return features

    def _sides(self, sizes: Any, pieces: Sequence[Piece]) -> list[dict[str, Tensor]]:
        """Attention and keys of each piece, packed by the model as its tokens are."""
        sides: list[dict[str, Tensor]] = [{} for _ in pieces]
        counts = [1 + tiles[0] * tiles[1] for tiles, _ in map(self._tiles, _sizes(sizes))]
        for name, values in self.tower.side_inputs().items():
            wide = values if values.ndim == 3 else values[..., None]
            packed, _ = self.inner.pack_image_features(
                wide.split(counts),
                sizes,
                vision_feature_select_strategy=self.config.vision_feature_select_strategy,
                image_newline=None,
            )
            parts = [
                part for image in packed for part in (image[: self.side**2], image[self.side**2 :])
            ]
            for side, part in zip(sides, parts, strict=True):
                side[name] = part[None] if values.ndim == 3 else part[None, :, 0]
        return sides

    def _tiles(self, size: Sequence[int]) -> tuple[Grid, Grid]:
        """(rows, columns) of the tiles of an image, and of their tokens without padding.

        Args:
            size: (height, width) of the image.

        Returns:
            Both.
        """
        # The rules of LLaVA-NeXT: the resolution that keeps most pixels of the image, then the
        # smaller one; the image lies in its middle.
        best = max(self.config.image_grid_pinpoints, key=lambda shape: _fit(size, shape))
        edge = self.config.vision_config.image_size
        tiles = (best[0] // edge, best[1] // edge)
        height, width = tiles[0] * self.side, tiles[1] * self.side
        if size[1] / size[0] > width / height:
            inside = int(round(size[0] * (width / size[1]), 7))
            height -= 2 * ((height - inside) // 2)
        else:
            inside = int(round(size[1] * (height / size[0]), 7))
            width -= 2 * ((width - inside) // 2)
        return tiles, (height, width)


def _fit(size: Sequence[int], shape: Sequence[int]) -> tuple[int, int]:
    """(pixels of the image that remain in this resolution, minus its unused pixels)."""
    scale = min(shape[1] / size[1], shape[0] / size[0])
    pixels = int(size[0] * scale) * int(size[1] * scale)
    used = min(pixels, size[0] * size[1])
    return used, used - shape[0] * shape[1]


def _sizes(sizes: Any) -> list[list[int]]:
    return torch.as_tensor(sizes).tolist()


def _with_newlines(
    tokens: Float[Tensor, "k d"], piece: Piece, newline: Float[Tensor, " d"]
) -> Float[Tensor, "l d"]:
    """The tokens of a picture with the end of line after each row."""
    rows = piece.kept - len(tokens)
    lines = tokens.unflatten(0, (rows, -1))
    ends = newline.expand(rows, 1, -1)
    return torch.cat([lines, ends], dim=1).flatten(0, 1)
