"""Inserts a token reduction method between the vision tower and the language model of a VLM.

    with compressed_vision(model, Compressor.from_pretrained(FOLDER), 36) as vision:
        inputs = vision.fit(processor(images=image, text=question, return_tensors="pt"))
        answer = model.generate(**inputs)

Uses hooks, which are removed at the end of the block. One class per family of models.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from encoderlab.compression.hooks.base import CompressedVision
from encoderlab.compression.hooks.llava_next import LlavaNextVision
from encoderlab.compression.hooks.own import OwnVision
from encoderlab.compression.hooks.qwen import QwenVision
from encoderlab.compression.hooks.square import (
    Gemma3Vision,
    InternVLVision,
    LlavaVision,
    PaliGemmaVision,
)
from encoderlab.errors import UsageError
from encoderlab.models.token_grid import Grid
from encoderlab.patch_tokens.reducer import TokenReducer
from encoderlab.vlm.model import VLM

# `model_type` of the configuration -> family.
FAMILIES: dict[str, type[CompressedVision]] = {
    "llava": LlavaVision,
    "qwen2_vl": QwenVision,
    "qwen2_5_vl": QwenVision,
    "qwen3_vl": QwenVision,
    "qwen3_vl_moe": QwenVision,
    "qwen3_5": QwenVision,
    "internvl": InternVLVision,
    "gemma3": Gemma3Vision,
    "paligemma": PaliGemmaVision,
    "llava_next": LlavaNextVision,
}


def family_of(model: Any) -> type[CompressedVision]:
    """The class that compresses the image tokens of a model.

    Args:
        model: a VLM of transformers, or our own.

    Returns:
        The class; its instances have `attach` and `fit`.

    Raises:
        UsageError: no family supports the model.
    """
    if isinstance(model, VLM):
        return OwnVision
    model_type = getattr(getattr(model, "config", None), "model_type", None)
    if model_type not in FAMILIES:
        raise UsageError(
            "this kind of model cannot be compressed",
            got=type(model).__name__ + (f" ({model_type})" if model_type else ""),
            want=f"a VLM of vlm train, or a model of type {', '.join(FAMILIES)}",
        )
    return FAMILIES[model_type]


@contextmanager
def compressed_vision(
    model: Any, method: TokenReducer, budget: int | Grid
) -> Iterator[CompressedVision]:
    """Compresses the image tokens of a VLM for the duration of a `with` block.

    Args:
        model: a LLaVA, LLaVA-NeXT, Qwen2-VL, Qwen2.5-VL, Qwen3-VL, Qwen3.5, InternVL, Gemma 3 or
            PaliGemma of transformers, or our own `VLM`.
        method: the token reduction method.
        budget: tokens per image, or their (rows, columns); per tile in InternVL and LLaVA-NeXT,
            which cut an image into tiles. Where images have grids of their own (Qwen), an image
            with fewer tokens is kept whole.

    Yields:
        The VLM with compressed tokens, whose `fit` the inputs of a processor need.

    Raises:
        UsageError: another kind of model, or a method or budget that it does not support.
    """
    vision = family_of(model)(model, method, budget)
    hooks = vision.attach()
    try:
        yield vision
    finally:
        for hook in hooks:
            hook.remove()
