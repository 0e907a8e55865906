"""Several encoders, or several language models, by name: load, extract, unload."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image

from encoderlab.data.decode import open_images
from encoderlab.encoders.encoder import Encoder
from encoderlab.encoders.text import MAX_LENGTH, TextEncoder, load_text
from encoderlab.encoders.vision import VisionEncoder, VisionFeatures, load_vision
from encoderlab.errors import UsageError

BATCH = 32
# One image or several: PIL image, path, array, tensor, or a sequence of those.
Images = Any
AnyEncoder = TypeVar("AnyEncoder", bound=Encoder)


class _Manager(Generic[AnyEncoder]):
    """Encoders by name, each loaded once."""

    called: ClassVar[str]

    def __init__(self, device: str | int | None, dtype: str, options: dict[str, Any]) -> None:
        self.device, self.dtype, self.options = device, dtype, options
        self.loaded: dict[str, AnyEncoder] = {}

    def _load(self, name: str) -> AnyEncoder:
        raise NotImplementedError

    def load(self, name: str) -> AnyEncoder:
        """The encoder called `name`, loaded now or before.

        Args:
            name: bundled, alias, folder or hub id.

        Returns:
            The encoder, in eval mode.

        Raises:
            MissingError, UsageError: as `load_vision` and `load_text`.
            UsageError: `name` is no name.
        """
        if not isinstance(name, str | Path):
            raise UsageError(
                "the name of a model comes first",
                got=type(name).__name__,
                want="a name, then the data",
            )
        if name not in self.loaded:
            self.loaded[name] = self._load(name)
        return self.loaded[name]

    def unload(self, name: str | None = None) -> None:
        """Frees one encoder, or all.

        Args:
            name: None frees all.

        Raises:
            UsageError: none of that name is loaded.
        """
        if name is not None and name not in self.loaded:
            raise UsageError(
                f"no {self.called} has that name",
                got=name,
                want=", ".join(self.loaded) or "none is loaded",
            )
        for key in list(self.loaded) if name is None else [name]:
            del self.loaded[key]
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class VisionEncoderManager(_Manager[VisionEncoder]):
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

    called = "loaded encoder"

    def __init__(
        self, device: str | int | None = "auto", dtype: str = "auto", **options: Any
    ) -> None:
        super().__init__(device, dtype, options)

    def _load(self, name: str) -> VisionEncoder:
        return load_vision(name, self.device, self.dtype, **self.options)

    def load(self, name: str, with_attention: bool = False) -> VisionEncoder:
        """The encoder called `name`, loaded now or before.

        Args:
            name: bundled, alias, training run, folder or hub id.
            with_attention: whether an encoder without attention maps is refused.

        Returns:
            The encoder, in eval mode.

        Raises:
            MissingError, UsageError: as `load_vision`; no attention maps.
        """
        encoder = super().load(name)
        if with_attention:
            encoder.encode([Image.new("RGB", (8, 8))], attention=(-1,))
        return encoder

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
        # Paths of a list are read batch by batch.
        images = images if isinstance(images, list | tuple) else open_images(images)
        parts = [np.zeros((0, encoder.pooled_width), dtype=np.float32)]
        for i in range(0, len(images), batch_size):
            parts.append(encoder.encode(images[i : i + batch_size]).pooled.cpu().numpy())
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


class LLMManager(_Manager[TextEncoder]):
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

    called = "loaded language model"

    def __init__(
        self,
        device: str | int | None = "auto",
        dtype: str = "auto",
        max_length: int = MAX_LENGTH,
        **options: Any,
    ) -> None:
        super().__init__(device, dtype, options)
        self.max_length = max_length

    def _load(self, name: str) -> TextEncoder:
        return load_text(name, self.device, self.dtype, max_length=self.max_length, **self.options)

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


def _unit_rows(vectors: np.ndarray, normalize: bool) -> np.ndarray:
    if not normalize:
        return vectors
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
