"""Several encoders, or several language models, held ready by name: load, extract, unload."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image

from encoderlab.data.decode import open_images
from encoderlab.encoders.text import MAX_LENGTH, TextEncoder, load_text
from encoderlab.encoders.vision import VisionEncoder, VisionFeatures, load_vision
from encoderlab.errors import UsageError

BATCH = 32
# One image or several: PIL image, path, array, tensor, or a sequence of those.
Images = Any


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

    def load(self, name: str, with_attention: bool = False) -> VisionEncoder:
        """The encoder called `name`, loaded now or before.

        Args:
            name: bundled, alias, training run, folder or hub id.
            with_attention: refuse an encoder that gives no attention maps now, not later.

        Returns:
            The encoder, in eval mode.

        Raises:
            MissingError, UsageError: as `load_vision`; no attention maps.
        """
        _check_name(name)
        if name not in self.loaded:
            self.loaded[name] = load_vision(name, self.device, self.dtype, **self.options)
        if with_attention:
            self.loaded[name].encode([Image.new("RGB", (8, 8))], attention=(-1,))
        return self.loaded[name]

    def extract_embeddings(
        self, name: str, images: Images, *, normalize: bool = True, batch_size: int = BATCH
    ) -> Float[np.ndarray, "n p"]:
        """The pooled vectors of images.

        Args:
            name: the encoder.
            images: one image (path, PIL image, array or tensor) or a list of them.
            normalize: whether every vector is divided by its length (L2).
            batch_size: images at once.

        Returns:
            One fp32 row per image, also for a single image.

        Raises:
            ImageError: an image that cannot be read.
        """
        encoder = self.load(name)
        parts = [np.zeros((0, encoder.pooled_width), dtype=np.float32)]
        for batch in batches(images, batch_size):
            parts.append(encoder.encode(batch).pooled.cpu().numpy())
        return _unit_rows(np.concatenate(parts), normalize)

    def extract_with_attention(
        self, name: str, images: Images, layers: Sequence[int] = (-1,)
    ) -> VisionFeatures:
        """Features of images with attention maps, one batch.

        Args:
            name: the encoder.
            images: one image (path, PIL image, array or tensor) or a list of them.
            layers: the blocks whose maps are wanted, from 1; negative from the end.

        Returns:
            Features in fp32 on the CPU; `attention[k]` is (b, heads, tokens, tokens).

        Raises:
            ImageError: an image that cannot be read.
            UsageError: an encoder without attention maps, or a block that it does not have.
        """
        return self.load(name).encode(images, attention=layers).to("cpu")

    def extract_multi_encoder(
        self,
        names: Sequence[str],
        images: Images,
        *,
        normalize: bool = True,
        batch_size: int = BATCH,
    ) -> Mapping[str, Float[np.ndarray, "n p"]]:
        """The pooled vectors of the same images by several encoders.

        Args:
            names: the encoders.
            images: one image (path, PIL image, array or tensor) or a list of them.
            normalize: whether every vector is divided by its length (L2).
            batch_size: images at once.

        Returns:
            Name -> an array as of `extract_embeddings`; row i is image i in all of them.
        """
        return {
            name: self.extract_embeddings(name, images, normalize=normalize, batch_size=batch_size)
            for name in names
        }

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
        >>> manager.extract_text_embeddings("tiny-llama", ["a red circle", "a blue square"]).shape
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

        Args:
            name: bundled, alias, folder or hub id.

        Returns:
            The model, in eval mode.

        Raises:
            MissingError, UsageError: as `load_text`.
        """
        _check_name(name)
        if name not in self.loaded:
            self.loaded[name] = load_text(
                name, self.device, self.dtype, max_length=self.max_length, **self.options
            )
        return self.loaded[name]

    def extract_text_embeddings(
        self,
        name: str,
        texts: str | Sequence[str],
        *,
        layer: int | None = None,
        normalize: bool = True,
        batch_size: int = BATCH,
    ) -> Float[np.ndarray, "n d"]:
        """The pooled vectors of sentences; warns of those that are cut.

        Args:
            name: the model.
            texts: one sentence or a list of them.
            layer: a hidden state to pool instead, as `TextEncoder.encode` counts them.
            normalize: whether every vector is divided by its length (L2).
            batch_size: sentences at once.

        Returns:
            One fp32 row per sentence, also for a single sentence.

        Raises:
            UsageError: something that is no text, or a layer that the model does not have.
        """
        encoder = self.load(name)
        texts = [texts] if isinstance(texts, str) else list(texts)
        encoder.count_cut(texts).warn()
        parts = [np.zeros((0, encoder.pooled_width), dtype=np.float32)]
        for i in range(0, len(texts), batch_size):
            features = encoder.encode_batch(
                texts[i : i + batch_size], layers=() if layer is None else (layer,)
            )
            pooled = features.pooled if layer is None else next(iter(features.layers.values()))
            parts.append(pooled.cpu().numpy())
        return _unit_rows(np.concatenate(parts), normalize)

    def unload(self, name: str | None = None) -> None:
        """Frees one model, or all.

        Raises:
            UsageError: none of that name is loaded.
        """
        _unload(self.loaded, "loaded language model", name)


def batches(images: Images, size: int) -> Iterator[list[Image.Image]]:
    """Opened images, `size` at a time: paths are read when their turn comes."""
    if isinstance(images, list | tuple):
        for start in range(0, len(images), size):
            yield open_images(images[start : start + size])
    else:
        pictures = open_images(images)
        for start in range(0, len(pictures), size):
            yield pictures[start : start + size]


def _check_name(name: object) -> None:
    if not isinstance(name, str | Path):
        raise UsageError(
            "the name of a model comes first", got=type(name).__name__, want="a name, then the data"
        )


def _unit_rows(vectors: np.ndarray, normalize: bool) -> np.ndarray:
    if not normalize:
        return vectors
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(lengths, np.finfo(np.float32).tiny)


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
