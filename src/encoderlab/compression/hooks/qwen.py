"""Qwen2-VL, Qwen2.5-VL, Qwen3-VL and Qwen3.5: compressed behind the merger.

A kept token has the M-RoPE position of its place, a merged one that of the rounded mean place; the
text has the positions of the uncompressed inputs. The features that Qwen3-VL adds in its first
layers (DeepStack) are selected or averaged as the tokens are.

n tokens of an image, on half the rows and columns of its patches, k kept ones, d width of the
language model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from encoderlab.compression.block_attention import Heads
from encoderlab.compression.hooks.base import Piece
from encoderlab.compression.hooks.encoded import EncodedVision
from encoderlab.errors import UsageError
from encoderlab.models.token_grid import Grid
from encoderlab.patch_tokens.reducer import (
    CompressedTokens,
    SideInputs,
    TokenReducer,
    merged,
    positions_of,
)

# Values of `mm_token_type_ids`.
TEXT, IMAGE = 0, 1
# Grid on which a method is tried before an image is there. Its windows have several sizes, of even
# and odd number: with those of 2 x 2, bilinear interpolation averages, and with 3 x 3 it selects.
TRIAL, TRIAL_BUDGET = (5, 7), 6


class QwenVision(EncodedVision):
    """A Qwen2-VL, Qwen2.5-VL, Qwen3-VL or Qwen3.5.

    Args:
        model: its `ForConditionalGeneration`.
        method: the token reduction method.
        budget: tokens per image; an image with fewer keeps all.

    Raises:
        UsageError: a method that the model does not support.
    """

    def __init__(self, model: Any, method: TokenReducer, budget: int | Grid) -> None:
        super().__init__(model, method, budget)
        self._heads: Heads | None = None
        if getattr(self.config.vision_config, "deepstack_visual_indexes", None):
            _require_selection_or_means(method)

    def pieces(self, inputs: Mapping[str, Any]) -> list[Piece]:
        """One per image, by `image_grid_thw`."""
        if inputs.get("pixel_values_videos") is not None:
            raise UsageError("videos cannot be compressed", got="a video", want="images")
        grids = inputs.get("image_grid_thw")
        return [
            self.piece(self._grid(grid), self.budget) for grid in ([] if grids is None else grids)
        ]

    def positions(self, inputs: Mapping[str, Any]) -> Tensor:
        """(3, b, t), by the model itself."""
        ids = inputs["input_ids"]
        types = inputs.get("mm_token_type_ids")
        if types is None:
            types = torch.where(ids == self.config.image_token_id, IMAGE, TEXT)
        positions, _ = self.inner.get_rope_index(
            input_ids=ids,
            mm_token_type_ids=types,
            image_grid_thw=inputs.get("image_grid_thw"),
            attention_mask=inputs["attention_mask"],
        )
        return positions

    def attention_layer(self) -> Any:
        """The last block that attends over whole images."""
        whole = getattr(self.config.vision_config, "fullatt_block_indexes", None)
        blocks = self.inner.visual.blocks
        return blocks[max(whole) if whole else len(blocks) - 1].attn

    def attend(self, module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Keeps queries and keys of all images, whose patches stand one after another."""
        hidden = arguments[0] if arguments else named["hidden_states"]
        self._heads = Heads.of(module, hidden, named["position_embeddings"])

    def attach(self) -> list[Any]:
        """Registers the hooks.

        Returns:
            Their handles, each with `remove()`.
        """
        language = self.inner.language_model
        return [
            *super().attach(),
            language.register_forward_pre_hook(self._place, with_kwargs=True),
        ]

    def compressed(self, features: Any, pieces: Sequence[Piece], given: Mapping[str, Any]) -> Any:
        """The features of the images with the kept tokens alone."""
        tokens = features.pooler_output
        self.reduce(tokens, pieces, self._sides(pieces))
        if getattr(features, "deepstack_features", None):
            features.deepstack_features = [
                tuple(
                    _as_kept(layer, image, kept, piece.grid)
                    for layer, image, kept, piece in zip(
                        layers, tokens, self.last, pieces, strict=True
                    )
                )
                for layers in features.deepstack_features
            ]
        features.pooler_output = tuple(kept.tokens[0] for kept in self.last)
        return features

    def _place(
        self, module: Any, arguments: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Sets the positions of the kept tokens among those of `fit`."""
        ids = self.ids
        if ids is None or not bool((ids == self.config.image_token_id).any()):
            return None
        positions = named.get("position_ids")
        if positions is None or positions.ndim != 3:
            raise UsageError(
                "the inputs have no positions in time, rows and columns",
                got="none" if positions is None else f"position_ids {tuple(positions.shape)}",
                want="the inputs of fit",
            )
        # `generate` repeats each row for its beams.
        times = max(1, int((ids == self.config.image_token_id).sum()) // max(1, sum(self.counts)))
        positions = positions.clone()
        axes = positions[-3:]  # a row of positions of the text may precede them
        for place, kept in zip(self.located(ids[::times], self.counts), self.last, strict=True):
            rows = place[0, 0] * times + torch.arange(times, device=place.device)
            # The first placeholder of `fit` has the first place of the grid.
            start = axes[:, rows[0], place[0, 1]]
            moved = kept.positions[0].round().to(start)
            moved = torch.stack([torch.zeros_like(moved[:, 0]), moved[:, 0], moved[:, 1]])
            axes[:, rows[:, None], place[:, 1]] = (start[:, None] + moved)[:, None]
        if self.mask is not None:
            # Later tokens that come without positions are counted from here.
            lengths = self.mask.sum(dim=1)
            self.inner.rope_deltas = (axes.amax(dim=(0, 2)) + 1 - lengths)[:, None]
        return arguments, {**named, "position_ids": positions}

    def _sides(self, pieces: Sequence[Piece]) -> list[dict[str, Tensor]]:
        """Attention and keys of each image, as far as the method needs them."""
        heads, self._heads = self._heads, None
        if heads is None:
            return [{} for _ in pieces]
        merge = self.config.vision_config.spatial_merge_size**2
        counts = [piece.grid[0] * piece.grid[1] * merge for piece in pieces]
        sides = []
        for query, key, content, piece in zip(
            heads.query.split(counts, dim=-2),
            heads.key.split(counts, dim=-2),
            heads.content.split(counts, dim=-2),
            pieces,
            strict=True,
        ):
            own = Heads(query, key, content, heads.scale)
            order = self._order(piece.grid).to(content.device)
            side = {}
            if "attention" in self.method.needs:
                side["attention"] = (
                    own.received().unflatten(0, (-1, merge)).mean(dim=1)[order][None]
                )
            if "keys" in self.method.needs:
                side["keys"] = content.unflatten(0, (-1, merge)).mean(dim=1)[order][None]
            sides.append(side)
        return sides

    def _order(self, grid: Grid) -> Tensor:
        """Index of each token, in reading order, among those of the tower."""
        vision = self.config.vision_config
        places = positions_of(grid).long()
        if getattr(vision, "window_size", None) is None:
            return torch.arange(len(places))
        # The tower of Qwen2.5-VL works window by window.
        side = vision.window_size // vision.spatial_merge_size // vision.patch_size
        across = -(-grid[1] // side)
        window = places[:, 0] // side * across + places[:, 1] // side
        return window.argsort(stable=True).argsort()

    def _grid(self, thw: Tensor) -> Grid:
        time, height, width = thw.tolist()
        if time != 1:
            raise UsageError("videos cannot be compressed", got=f"{time} frames", want="images")
        merge = self.config.vision_config.spatial_merge_size
        return height // merge, width // merge


def _as_kept(
    features: Float[Tensor, "n d"], tokens: Float[Tensor, "n d"], kept: CompressedTokens, grid: Grid
) -> Float[Tensor, "k d"]:
    """Other features of the tokens, selected where a token was, else averaged over its group."""
    place = kept.positions.round().long()
    index = place[0, :, 0] * grid[1] + place[0, :, 1]
    is_selected = (tokens[index] == kept.tokens[0]).all(dim=-1)
    if bool(is_selected.all()):
        return features[index]
    means = merged(features[None], kept.assignment, kept.tokens.shape[1], grid).tokens[0]
    return torch.where(is_selected[:, None], features[index], means)


def _require_selection_or_means(method: TokenReducer) -> None:
    """Tries a method on random tokens.

    Raises:
        UsageError: a kept token is neither an original one nor the mean of its group, so that
            nothing says what becomes of the other features of the tokens.
    """
    generator = torch.Generator().manual_seed(0)
    n = TRIAL[0] * TRIAL[1]
    tokens = torch.randn(1, n, 8, generator=generator)
    extra = {
        name: torch.rand(1, n, *([8] if name == "keys" else []), generator=generator)
        for name in method.needs
    }
    fits = False
    if not method.trained:
        kept = method.compress(tokens, TRIAL, TRIAL_BUDGET, SideInputs(**extra))
        again = _as_kept(tokens[0], tokens[0], kept, TRIAL)
        fits = torch.allclose(again, kept.tokens[0], atol=1e-4)
    if not fits:
        raise UsageError(
            "the model adds features of each image token in later layers (DeepStack), which the "
            "method cannot reduce alike",
            got=method.name,
            want="a method that selects or averages tokens, such as strided, average or tome",
        )
