"""Several encoders, or several language models, held ready by name: load, extract, unload."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image

from encoderlab.data.decode import open_image
from encoderlab.encoders.text import MAX_LENGTH, TextEncoder, load_text
from encoderlab.encoders.vision import VisionEncoder, VisionFeatures, load_vision
from encoderlab.errors import UsageError

BATCH = 32
Picture = Image.Image | Path | str


class VisionEncoderManager:
    """Vision encoders by name, each loaded once, all on one device.

    Args:
        device: auto, cpu, cuda or cuda:N.
        dtype: auto, float32, bfloat16 or float16.
        options: for `load_vision` with every name: `resolution`, `trust_remote_code`.

    Examples:
        >>> manager = VisionEncoderManager(device="cpu", dtype="float32")
        >>> manager.load("tiny-clip").pooled_width
        128
    """

    def __init__(
        self, device: str | int | None = "auto", dtype: str = "auto", **options: Any
    ) -> None:
        """`options` go to `load_vision` with every name (`resolution`, `trust_remote_code`)."""
        self.device, self.dtype, self.options = device, dtype, options
        self.loaded: dict[str, VisionEncoder] = {}

    def load(self, name: str) -> VisionEncoder:
        """The encoder called `name`, loaded now or before.

        Raises:
            MissingError, UsageError: as `load_vision`.
        """
        if name not in self.loaded:
            self.loaded[name] = load_vision(name, self.device, self.dtype, **self.options)
        return self.loaded[name]

    def extract_embeddings(
        self, images: Sequence[Picture], name: str, batch_size: int = BATCH
    ) -> Float[np.ndarray, "n p"]:
        """The pooled vectors of images (decoded, or paths), fp32, not normalised.

        Raises:
            ImageError: an image that cannot be read.
        """
        encoder = self.load(name)
        parts = [
            encoder.encode([open_image(one) for one in images[i : i + batch_size]])
            .pooled.float()
            .cpu()
            .numpy()
            for i in range(0, len(images), batch_size)
        ]
        empty = np.zeros((0, encoder.pooled_width), dtype=np.float32)
        return np.concatenate([empty, *parts])

    def extract_with_attention(
        self, images: Sequence[Picture], name: str, layers: Sequence[int] = (-1,)
    ) -> VisionFeatures:
        """Features with the attention maps of `layers`, fp32 on the CPU; one batch."""
        pictures = [open_image(one) for one in images]
        return self.load(name).encode(pictures, attention=layers).to("cpu")

    def extract_multi_encoder(
        self, images: Sequence[Picture], names: Sequence[str], batch_size: int = BATCH
    ) -> Mapping[str, Float[np.ndarray, "n p"]]:
        """The pooled vectors of the same images by every encoder: row i is image i in all."""
        return {name: self.extract_embeddings(images, name, batch_size) for name in names}

    def unload(self, name: str | None = None) -> None:
        """Frees one encoder, or all.

        Raises:
            UsageError: none of that name is loaded.
        """
        _unload(self.loaded, "loaded encoder", name)


class LLMManager:
    """Language models and text encoders by name, each loaded once, all on one device.

    Args:
        device: auto, cpu, cuda or cuda:N.
        dtype: auto, float32, bfloat16 or float16.
        max_length: sentences are cut after that many tokens.
        options: for `load_text` with every name: `device_map`, `quantize`, `trust_remote_code`.

    Examples:
        >>> manager = LLMManager(device="cpu", dtype="float32")
        >>> manager.extract_text_embeddings(["a red circle", "a blue square"], "tiny-llama").shape
        (2, 192)
    """

    def __init__(
        self,
        device: str | int | None = "auto",
        dtype: str = "auto",
        max_length: int = MAX_LENGTH,
        **options: Any,
    ) -> None:
        """`options` go to `load_text` (`device_map`, `quantize`, `trust_remote_code`)."""
        self.device, self.dtype, self.max_length = device, dtype, max_length
        self.options = options
        self.loaded: dict[str, TextEncoder] = {}

    def load(self, name: str) -> TextEncoder:
        """The model called `name`, loaded now or before.

        Raises:
            MissingError, UsageError: as `load_text`.
        """
        if name not in self.loaded:
            self.loaded[name] = load_text(
                name, self.device, self.dtype, max_length=self.max_length, **self.options
            )
        return self.loaded[name]

    def extract_text_embeddings(
        self, texts: Sequence[str], name: str, layer: int | None = None, batch_size: int = BATCH
    ) -> Float[np.ndarray, "n d"]:
        """The pooled vectors of sentences, fp32, not normalised; warns of those that are cut.

        Args:
            layer: a hidden state to pool instead, as `TextEncoder.encode` counts them.
        """
        encoder = self.load(name)
        encoder.count_cut(texts).warn()
        parts = []
        for i in range(0, len(texts), batch_size):
            found = encoder.encode_batch(
                texts[i : i + batch_size], layers=() if layer is None else (layer,)
            )
            pooled = found.pooled if layer is None else next(iter(found.layers.values()))
            parts.append(pooled.float().cpu().numpy())
        empty = np.zeros((0, encoder.pooled_width), dtype=np.float32)
        return np.concatenate([empty, *parts])

    def unload(self, name: str | None = None) -> None:
        """Frees one model, or all.

        Raises:
            UsageError: none of that name is loaded.
        """
        _unload(self.loaded, "loaded language model", name)


def _unload(loaded: dict[str, Any], what: str, name: str | None) -> None:
    if name is not None and name not in loaded:
        raise UsageError(
            f"no {what} has that name", got=name, want=", ".join(loaded) or "none is loaded"
        )
    for one in [name] if name is not None else list(loaded):
        del loaded[one]
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
