"""VLMs whose images or tiles all have the same grid: LLaVA, PaliGemma, InternVL, Gemma 3.

The tokens are compressed at the projector: before it, so that a compressor trained on the tokens of
the tower fits; in Gemma 3, whose projector pools, behind it. The kept tokens take consecutive
positions, as all tokens did.

b images or tiles, p patches, n tokens, c channels, d width of the language model.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from encoderlab.compression.block_attention import Heads
from encoderlab.compression.hooks.base import HookedModel, Piece
from encoderlab.errors import UsageError
from encoderlab.models.token_grid import Grid, as_image, as_tokens
from encoderlab.patch_tokens.reducer import SideInputs, TokenReducer

# `vision_feature_select_strategy` -> how many first tokens the projector does not get.
LEFT_OUT = {"default": 1, "full": 0}


class SquareVision(HookedModel):
    """A VLM with one grid for all images or tiles.

    Args:
        model: the VLM.
        method: the token reduction method.
        budget: tokens per image or tile, or their (rows, columns).

    Raises:
        UsageError: a method or budget that the model does not support, or one that the grid does
            not give.
    """

    behind_projector: ClassVar[bool] = False

    def __init__(self, model: Any, method: TokenReducer, budget: int | Grid) -> None:
        super().__init__(model, method, budget)
        # Tokens before the patches, which have no place on the grid.
        self.special = self._special_tokens()
        self.layer = getattr(self.config, "vision_feature_layer", -1)
        if not isinstance(self.layer, int):
            raise UsageError(
                "tokens of several layers at once cannot be compressed",
                got=f"vision_feature_layer={self.layer}",
                want="one layer",
            )
        vision = self.config.vision_config
        height, width = (
            (size, size) if isinstance(size, int) else size
            for size in (vision.image_size, vision.patch_size)
        )
        self.patches: Grid = (height[0] // width[0], height[1] // width[1])
        self.grid = self._token_grid(self.patches)
        shape = method.exact(self.grid, budget)
        n = self.grid[0] * self.grid[1]
        self.one = Piece(self.grid, shape, n, shape[0] * shape[1])
        self._heads: Heads | None = None

    @abstractmethod
    def _special_tokens(self) -> int:
        """The number of tokens before the patches.

        Raises:
            UsageError: the tokens of this tower do not make a grid.
        """

    def _token_grid(self, patches: Grid) -> Grid:
        """(rows, columns) of the tokens."""
        return patches

    def attach(self) -> list[Any]:
        """Registers the hooks.

        Returns:
            Their handles, each with `remove()`.

        Raises:
            UsageError: the method needs attention or keys, and no block is before the layer.
        """
        projector = self.inner.multi_modal_projector
        hooks = super().attach()
        if self.behind_projector:
            hooks.append(projector.register_forward_hook(self._after))
        else:
            hooks.append(projector.register_forward_pre_hook(self._before))
        if {"attention", "keys"} & set(self.method.needs):
            hooks.append(
                self.attention_layer().register_forward_pre_hook(self.attend, with_kwargs=True)
            )
        return hooks

    def attention_layer(self) -> Any:
        """The attention of the block that gives the tokens.

        Returns:
            The module.

        Raises:
            UsageError: no block is before the layer.
        """
        tower = getattr(self.inner.vision_tower, "vision_model", self.inner.vision_tower)
        blocks = tower.encoder.layers if hasattr(tower.encoder, "layers") else tower.encoder.layer
        # Hidden state k is the output of block k, so -2 is that of the last but one.
        number = self.layer if self.layer >= 0 else len(blocks) + 1 + self.layer
        if number < 1:
            raise UsageError(
                "no block has attended before the first layer",
                got=f"vision_feature_layer={self.layer}",
            )
        block = blocks[number - 1]
        return block.self_attn if hasattr(block, "self_attn") else block.attention

    def pieces(self, inputs: Mapping[str, Any]) -> list[Piece]:
        """One per image or tile, as many as the placeholders of each row make."""
        pieces = []
        counts = (inputs["input_ids"] == self.config.image_token_id).sum(dim=1).tolist()
        for row, count in enumerate(counts):
            if count % self.one.whole:
                raise UsageError(
                    "the placeholders are not those of whole images",
                    got=f"{count} in row {row}",
                    want=f"a multiple of {self.one.whole}, as the processor makes them",
                )
            pieces += [self.one] * (count // self.one.whole)
        return pieces

    def _before(self, module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return self._compress(arguments[0], module.forward), *arguments[1:]

    def _after(self, module: Any, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
        return self._compress(output, lambda tokens: tokens)

    def _compress(self, tokens: Float[Tensor, "b n c"], project: Any) -> Float[Tensor, "b k c"]:
        side = self.side_inputs()
        self.counts = [self.one.kept] * len(tokens)
        if self.ids is not None:
            self.located(self.ids, self.counts)
        if "text" in self.method.needs:
            with torch.no_grad():
                side["text"] = torch.stack(self.text(list(project(tokens))))
        self.last = tuple(self.reduced(tokens, self.one, SideInputs(**side)))
        return torch.cat([kept.tokens for kept in self.last])

    def attend(self, module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Keeps queries and keys of the running images."""
        self._heads = Heads.of(module, arguments[0] if arguments else named["hidden_states"])

    def side_inputs(self) -> dict[str, Tensor]:
        """Attention (b, n) and keys (b, n, c) of the running images, if the method needs them."""
        side: dict[str, Tensor] = {}
        heads, self._heads = self._heads, None
        if heads is None:
            return side
        if "attention" in self.method.needs:
            weights = heads.from_first() if self.special else heads.received()
            side["attention"] = self._on_grid(weights[:, self.special :, None])[..., 0]
        if "keys" in self.method.needs:
            side["keys"] = self._on_grid(heads.content[:, self.special :])
        return side

    def _on_grid(self, values: Float[Tensor, "b p c"]) -> Float[Tensor, "b n c"]:
        """The means over the patches that make each token."""
        if self.patches == self.grid:
            return values
        window = (self.patches[0] // self.grid[0], self.patches[1] // self.grid[1])
        return as_tokens(F.avg_pool2d(as_image(values, self.patches), window))


class LlavaVision(SquareVision):
    """A `LlavaForConditionalGeneration` with a CLIP or SigLIP tower, compressed before the
    projector."""

    # Supported vision towers -> tokens before the patches.
    TOWERS: ClassVar[dict[str, int]] = {"clip_vision_model": 1, "siglip_vision_model": 0}

    def _special_tokens(self) -> int:
        vision, strategy = self.config.vision_config, self.config.vision_feature_select_strategy
        if vision.model_type not in self.TOWERS:
            raise UsageError(
                "tokens of this vision tower cannot be compressed",
                got=vision.model_type,
                want=" or ".join(self.TOWERS),
            )
        special = self.TOWERS[vision.model_type]
        if LEFT_OUT.get(strategy) != special:
            raise UsageError(
                f"{'CLS is among' if special else 'the first patch is not among'} the image tokens",
                got=f"vision_feature_select_strategy={strategy} for a {vision.model_type}",
                want="default, which leaves CLS out" if special else "full: there is no CLS",
            )
        return special


class PaliGemmaVision(SquareVision):
    """A PaliGemma (1 or 2), compressed before the projector."""

    def _special_tokens(self) -> int:
        return 0


class InternVLVision(SquareVision):
    """An InternVL of transformers, each tile compressed between pixel shuffle and projector."""

    def _special_tokens(self) -> int:
        strategy = self.config.vision_feature_select_strategy
        if LEFT_OUT.get(strategy) != 1:
            raise UsageError(
                "CLS is among the image tokens",
                got=f"vision_feature_select_strategy={strategy}",
                want="default, which leaves CLS out",
            )
        return 1

    def _token_grid(self, patches: Grid) -> Grid:
        ratio = self.config.downsample_ratio
        return int(patches[0] * ratio), int(patches[1] * ratio)


class Gemma3Vision(SquareVision):
    """A Gemma 3, compressed behind the projector, which pools 4,096 patches to 256 tokens."""

    behind_projector = True

    def _special_tokens(self) -> int:
        return 0

    def _token_grid(self, patches: Grid) -> Grid:
        side = math.isqrt(self.config.mm_tokens_per_image)
        return side, side
