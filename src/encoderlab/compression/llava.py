"""Inserts a token reduction method between vision tower and projector of a transformers LLaVA.

    with compressed_vision(model, Compressor.from_pretrained(FOLDER), 36) as vision:
        inputs = vision.fit(processor(images=image, text=question, return_tensors="pt"))
        answer = model.generate(**inputs)

Uses hooks, which are removed at the end of the block. b images, n tokens, c channels, r rows of
text, t their length.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from encoderlab.errors import UsageError
from encoderlab.models.token_grid import Grid
from encoderlab.patch_tokens.reducer import CompressedTokens, SideInputs, TokenReducer

# Supported vision towers -> tokens before the patches.
TOWERS = {"clip_vision_model": 1, "siglip_vision_model": 0}
# `vision_feature_select_strategy` -> how many first tokens the projector does not get.
LEFT_OUT = {"default": 1, "full": 0}
IGNORED = -100  # label that the loss ignores


class CompressedVision:
    """A LLaVA whose image tokens are compressed.

    Args:
        model: a `LlavaForConditionalGeneration` with a CLIP or SigLIP tower.
        method: the token reduction method.
        budget: tokens per image, or their (rows, columns).

    Attributes:
        last: the kept tokens of the latest images.

    Raises:
        UsageError: another kind of model, or a method or budget that it does not support.
    """

    def __init__(self, model: Any, method: TokenReducer, budget: int | Grid) -> None:
        config: Any = getattr(model, "config", None)
        if getattr(config, "model_type", None) != "llava":
            # LLaVA-NeXT, LLaVA-OneVision and Video-LLaVA have several grids for an image.
            raise UsageError(
                "this kind of model cannot be compressed",
                got=type(model).__name__,
                want="a LlavaForConditionalGeneration (LLaVA 1.5 and its like)",
            )
        vision, strategy = config.vision_config, config.vision_feature_select_strategy
        if vision.model_type not in TOWERS:
            raise UsageError(
                "tokens of this vision tower cannot be compressed",
                got=vision.model_type,
                want=" or ".join(TOWERS),
            )
        if not isinstance(config.vision_feature_layer, int):
            raise UsageError(
                "tokens of several layers at once cannot be compressed",
                got=f"vision_feature_layer={config.vision_feature_layer}",
                want="one layer",
            )
        special = TOWERS[vision.model_type]
        if LEFT_OUT.get(strategy) != special:
            raise UsageError(
                f"{'CLS is among' if special else 'the first patch is not among'} the image tokens",
                got=f"vision_feature_select_strategy={strategy} for a {vision.model_type}",
                want="default, which leaves CLS out" if special else "full: there is no CLS",
            )
        if "pixels" in method.needs:
            raise UsageError(
                f"{method.name} runs the encoder again, so it cannot stand behind it",
                want="a smaller image for the processor instead",
            )
        missing = set(method.needs) - ({"attention"} if special else set())
        if missing:
            raise UsageError(
                f"{method.name} needs what this vision tower does not give",
                got=f"{', '.join(sorted(missing))} of a {vision.model_type}",
                want="a method of tokens alone, such as average, kmeans or tome",
            )
        self.model, self.inner, self.method = model, getattr(model, "model", model), method
        side = vision.image_size // vision.patch_size
        self.grid: Grid = (side, side)
        self.budget = budget
        shape = method.exact(self.grid, budget)
        if method.width(1, self.grid, shape) != 1:
            raise UsageError(
                f"{method.name} gives tokens of more channels than the projector takes",
                want="a method that keeps the channels, such as average or tome",
            )
        self.count = shape[0] * shape[1]
        self.last: CompressedTokens | None = None
        self._cls_attention: Tensor | None = None

    def attach(self) -> list[Any]:
        """Registers the hooks.

        Returns:
            Their handles, each with `remove()`.

        Raises:
            UsageError: the method needs attention, and no block is before the layer.
        """
        hooks = [self.inner.multi_modal_projector.register_forward_pre_hook(self._compress)]
        if "attention" in self.method.needs:
            layer = self.model.config.vision_feature_layer
            tower = getattr(self.inner.vision_tower, "vision_model", self.inner.vision_tower)
            blocks = tower.encoder.layers
            # Hidden state k is the output of block k, so -2 is that of the last but one.
            number = layer if layer >= 0 else len(blocks) + 1 + layer
            if number < 1:
                raise UsageError(
                    "no block has attended before the first layer",
                    got=f"vision_feature_layer={layer}",
                )
            hooks.append(
                blocks[number - 1].self_attn.register_forward_pre_hook(
                    self._attend, with_kwargs=True
                )
            )
        return hooks

    def fit(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Removes surplus image placeholders from the inputs of a processor.

        Every (r, t) tensor loses the same columns; shorter rows are padded on the left. Padding is
        the padding token in `input_ids`, -100 in `labels` (ignored by the loss), 0 elsewhere.
        `position_ids`, where given, are renumbered.

        Args:
            inputs: as the processor returns them.

        Returns:
            The inputs with as many placeholders per image as tokens are kept.

        Raises:
            UsageError: the placeholders are not a multiple of an image's tokens.
        """
        ids: Tensor = inputs["input_ids"]
        is_image = ids == self.model.config.image_token_id
        whole = self.grid[0] * self.grid[1]
        kept = torch.ones_like(is_image)
        for row, mask in enumerate(is_image):
            columns = mask.nonzero().flatten()
            if len(columns) % whole:
                raise UsageError(
                    "the placeholders are not those of whole images",
                    got=f"{len(columns)} in row {row}",
                    want=f"a multiple of {whole}, as the processor makes them",
                )
            kept[row, columns[torch.arange(len(columns)) % whole >= self.count]] = False
        attended = inputs.get("attention_mask")
        attended = torch.ones_like(ids) if attended is None else attended
        length = int(kept.sum(dim=1).max())
        fitted = dict(inputs, attention_mask=attended)
        fillers = {"input_ids": self._padding, "labels": IGNORED}
        for name, value in fitted.items():
            if isinstance(value, Tensor) and value.shape == ids.shape:
                filler = fillers.get(name, 0)
                fitted[name] = torch.stack(
                    [
                        torch.cat([row.new_full((length - int(k.sum()),), filler), row[k]])
                        for row, k in zip(value, kept, strict=True)
                    ]
                )
        if fitted.get("position_ids") is not None:
            fitted["position_ids"] = (fitted["attention_mask"].cumsum(dim=1) - 1).clamp_min(0)
        return fitted

    @property
    def _padding(self) -> int:
        """The padding token of the language model, else of the whole model, else 0."""
        config = self.model.config
        tokens = (config.get_text_config().pad_token_id, getattr(config, "pad_token_id", None))
        return next((token for token in tokens if token is not None), 0)

    def _compress(self, module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        tokens: Float[Tensor, "b n c"] = arguments[0]
        side = SideInputs(attention=self._cls_attention)
        self.last = self.method.compress(tokens, self.grid, self.budget, side)
        return (self.last.tokens.to(tokens.dtype), *arguments[1:])

    def _attend(self, module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Computes the attention of CLS to each patch: fused attention returns no weights."""
        hidden = named["hidden_states"] if "hidden_states" in named else arguments[0]

        def split(linear: Any, x: Tensor) -> Float[Tensor, "b heads t d"]:
            return linear(x).unflatten(-1, (module.num_heads, -1)).transpose(1, 2).float()

        with torch.no_grad():
            query = split(module.q_proj, hidden[:, :1])
            key = split(module.k_proj, hidden)
            weights = (query @ key.mT * module.scale).softmax(dim=-1)
        self._cls_attention = weights.mean(dim=1)[:, 0, 1:]


@contextmanager
def compressed_vision(
    model: Any, method: TokenReducer, budget: int | Grid
) -> Iterator[CompressedVision]:
    """Inserts `method` between tower and projector for the duration of a `with` block.

    Args:
        model: a `LlavaForConditionalGeneration` with a CLIP or SigLIP tower.
        method: the token reduction method.
        budget: tokens per image, or their (rows, columns).

    Yields:
        The LLaVA with compressed tokens, whose `fit` the inputs of a processor need.

    Raises:
        UsageError: another kind of model, or a method or budget that it does not support.
    """
    vision = CompressedVision(model, method, budget)
    hooks = vision.attach()
    try:
        yield vision
    finally:
        for hook in hooks:
            hook.remove()
