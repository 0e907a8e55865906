"""A model with an image side and a text side, behind one face: pictures or sentences to vectors.

Everything that searches, classifies or evaluates talks to this. Which checkpoint it is, where it
runs and in which format is settled at loading. A CLIP is our own network; a SigLIP of others is
transformers' own, which takes every tokenizer that SigLIP has had.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from encoderlab.data.decode import open_images
from encoderlab.encoders.checkpoint import TRAINING, Checkpoint, resolve
from encoderlab.encoders.compile import (
    TORCH,
    BackendTrial,
    CompiledImageSide,
    ImageSide,
    ran_in,
    select,
)
from encoderlab.encoders.fine_tuning import FineTunable, evaluating
from encoderlab.encoders.hardware import choose_device, choose_dtype, to_device
from encoderlab.encoders.loading import read_part, require_finite, require_finite_output
from encoderlab.encoders.model_cache import shareable
from encoderlab.encoders.text import CutTexts, TextEncoder, as_texts, check_ids, load_text
from encoderlab.encoders.vision import BATCH, VisionEncoder, load_vision, stack
from encoderlab.errors import UsageError
from encoderlab.models import checkpoint as training_checkpoint
from encoderlab.models.clip import CLIP, Preprocess
from encoderlab.models.folder import read_record

SIGLIP = ("siglip", "siglip2")
FAMILIES = ("clip", *SIGLIP, TRAINING)
TEXT_BATCH = 256


class DualTowers(Protocol):
    """What a dual encoder needs of its network, an nn.Module; both sides give vectors that are not
    normalised."""

    @property
    def image_network(self) -> nn.Module:
        """What holds the weights of the image side."""
        ...

    @property
    def text_network(self) -> nn.Module:
        """What holds the weights of the text side."""
        ...

    def to(self, device: torch.device, dtype: torch.dtype) -> object:
        """Moves both sides."""
        ...

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Of standardised pixels (b, 3, h, w)."""
        ...

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Of token ids (b, t)."""
        ...


class TextTokenizer(Protocol):
    """What turns sentences into what the text side takes."""

    @property
    def context_length(self) -> int:
        """How many tokens of a sentence are read."""
        ...

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Padded token ids (b, t)."""
        ...

    def cut_rows(self, texts: Sequence[str]) -> Sequence[tuple[Sequence[int], bool]]:
        """Token ids without padding, and whether a part of the sentence is lacking."""
        ...


class DualEncoder(FineTunable):
    """An image tower and a text tower that share a space.

    Embeddings come out in fp32, L2-normalised, whatever format the towers run in.

    Args:
        model: both towers, where and in the format they run in.
        tokenize: sentences to padded token ids (b, t), cut to a context.
        dim: width of the embeddings.
        logit_scale: the factor on cosines that the model was trained with.
        trained_steps: optimiser steps behind it; 0 means untrained, None unknown.
    """

    def __init__(
        self,
        model: DualTowers,
        preprocess: Preprocess,
        tokenize: TextTokenizer,
        checkpoint: Checkpoint,
        device: torch.device,
        dtype: torch.dtype,
        dim: int,
        logit_scale: float,
        trained_steps: int | None = None,
    ) -> None:
        self.model, self.preprocess, self.tokenizer = model, preprocess, tokenize
        self.name, self.fingerprint = checkpoint.name, checkpoint.fingerprint
        self.device, self.dtype = device, dtype
        self.dim, self.logit_scale, self.trained_steps = dim, logit_scale, trained_steps
        self.family = checkpoint.family
        # The compiled image side, where it is used, and the trial that chose it.
        self.backend: CompiledImageSide | None = None
        self.trial: BackendTrial | None = None

    @property
    def where(self) -> tuple[str, str]:
        """Device and number format, as a run's record names them."""
        return str(self.device), str(self.dtype).removeprefix("torch.")

    @property
    def image_size(self) -> int:
        """Side of the square of pixels that the image tower takes."""
        return self.preprocess.size

    @property
    def ran_in(self) -> str:
        """What embeddings of images are known by: the number format, and the backend where it is
        not torch, whose last digits differ."""
        return ran_in(self.dtype, self.backend)

    def image_side(self) -> ImageSide:
        """The image side as one module: pixels to vectors that are not normalised."""
        return ImageSide(
            self.model.image_network,
            lambda pixels: (self.model.encode_image(pixels),),
            ("image_embedding",),
            self.preprocess.shape,
            self.name,
            self.family,
        )

    def to(self, *, device: torch.device | None = None, dtype: torch.dtype | None = None) -> None:
        """Moves both sides; a backend, which was built for where they were, is let go."""
        self.backend = None
        self.device, self.dtype = device or self.device, dtype or self.dtype
        self.model.to(self.device, self.dtype)

    @torch.inference_mode()
    def encode_pixels(self, pixels: UInt8[Tensor, "b 3 s s"]) -> Float[Tensor, "b d"]:
        """Vectors of images that `preprocess.to_bytes` has made, on the device."""
        ready = self.preprocess.standardise(to_device(pixels, self.device))
        if self.backend is not None:
            (vectors,) = self.backend(ready)
        else:
            with evaluating(self._network):
                vectors = self.model.encode_image(ready.to(self.dtype))
        return F.normalize(vectors.float(), dim=-1)

    def pixel_values(self, images: Any) -> Float[Tensor, "b 3 s s"]:
        """The standardised pixels of images, on the encoder's device: what `forward` takes.

        Args:
            images: one image (path, PIL image, array or tensor) or a list of them.

        Returns:
            (b, 3, s, s) in fp32.

        Raises:
            UsageError: something that is no image.
            ImageError: a file that cannot be read.
        """
        return self.preprocess.standardise(to_device(self._bytes_of(images), self.device))

    def forward(
        self, pixel_values: Float[Tensor, "b 3 s s"], tokens: Int[Tensor, "c t"]
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "c d"]]:
        """Vectors of images and of texts, through which gradients flow into the parameters of
        `module`.

        Args:
            pixel_values: standardised pixels, as `pixel_values` gives them.
            tokens: padded token ids, as `tokenizer(texts)` gives them.

        Returns:
            Vectors in fp32, L2-normalised; in the mode, training or eval, of `module`.
        """
        weight = next(self.module.parameters())
        image = self.model.encode_image(pixel_values.to(weight.device, weight.dtype))
        text = self.model.encode_text(tokens.to(weight.device))
        return F.normalize(image.float(), dim=-1), F.normalize(text.float(), dim=-1)

    @property
    def _network(self) -> nn.Module:
        return cast(nn.Module, self.model)

    def _bytes_of(self, images: Any) -> UInt8[Tensor, "b 3 s s"]:
        return stack([self.preprocess.to_bytes(picture) for picture in open_images(images)])

    def embed_pixels(self, pixels: UInt8[Tensor, "b 3 s s"]) -> Float[np.ndarray, "b d"]:
        """The same, here.

        Raises:
            WorkError: a vector is not finite.
        """
        vectors = self.encode_pixels(pixels).cpu()
        require_finite_output(vectors, "images", self.name)
        return vectors.numpy()

    def embed_images(self, images: Any) -> Float[np.ndarray, "n d"]:
        """Vectors of a few images, one batch.

        Args:
            images: one image (path, PIL image, array or tensor) or a list of them.

        Returns:
            One fp32 row of length one per image, also for a single image.

        Raises:
            UsageError: something that is no image.
            ImageError: a file that cannot be read.
            WorkError: a vector is not finite.
        """
        pictures = open_images(images)
        if not pictures:
            return np.zeros((0, self.dim), dtype=np.float32)
        return self.embed_pixels(self._bytes_of(pictures))

    @torch.inference_mode()
    def embed_texts(self, texts: str | Sequence[str]) -> Float[np.ndarray, "n d"]:
        """Vectors of sentences; what is longer than the context is cut, with a warning.

        Args:
            texts: one sentence or a list of them.

        Returns:
            One fp32 row of length one per sentence, also for a single sentence.

        Raises:
            UsageError: something that is no text.
            WorkError: a vector is not finite.
        """
        texts = as_texts(texts) if len(texts) else []
        cut = CutTexts(self.name, self.tokenizer.context_length)
        cut.add(texts, self.tokenizer.cut_rows)
        cut.warn()
        parts = [np.zeros((0, self.dim), dtype=np.float32)]
        for start in range(0, len(texts), TEXT_BATCH):
            tokens = self.tokenizer(texts[start : start + TEXT_BATCH]).to(self.device)
            with evaluating(self._network):
                vectors = self.model.encode_text(tokens)
            vectors = F.normalize(vectors.float(), dim=-1).cpu()
            require_finite_output(vectors, "texts", self.name)
            parts.append(vectors.numpy())
        return np.concatenate(parts)


@shareable
def load_dual(
    name: str,
    device: str | int | None = "auto",
    dtype: str = "auto",
    *,
    allow_untrained: bool = False,
    trust_remote_code: bool = False,
    backend: str = TORCH,
    batch_size: int = BATCH,
) -> DualEncoder:
    """The dual encoder called `name`: embedded, alias, training run, folder or hub id.

    Args:
        allow_untrained: whether a model that was never trained will do.
        trust_remote_code: whether Python that comes with the checkpoint may run.
        backend: what runs the image side: torch, compile, or auto: compile where it
            gives the same and is faster here. Text goes through torch.
        batch_size: images at once, for which the image side is compiled.

    Raises:
        MissingError: nothing has that name, or the GPU or the compiler is not there.
        UsageError: another family, a damaged checkpoint, or one that was never trained.
        WorkError: the compiled image side does not give what torch gives.
    """
    if backend == TORCH:
        return _load(name, device, dtype, allow_untrained, trust_remote_code)
    where = choose_device(device)
    return select(
        lambda: _load(name, str(where), "float32", allow_untrained, trust_remote_code),
        backend,
        dtype,
        batch_size,
    )


def _load(
    name: str, device: str | int | None, dtype: str, allow_untrained: bool, trust_remote_code: bool
) -> DualEncoder:
    """`load_dual` on torch."""
    where = choose_device(device)
    checkpoint = resolve(name, code=trust_remote_code)
    if checkpoint.family not in FAMILIES:
        raise UsageError(
            "the checkpoint belongs to a family without a text side that we can use",
            got=f"{checkpoint.family} ({name})",
            want="clip, siglip or siglip2",
            hint="list the known ones: encoderlab ls encoders",
        )
    kind = choose_dtype(dtype, where)
    if checkpoint.family in SIGLIP:
        encoder = _siglip(checkpoint, where, kind, trust_remote_code)
    else:
        encoder = _ours(checkpoint, where, kind)
    if encoder.trained_steps == 0 and not allow_untrained:
        raise UsageError(
            "the model has never been trained, so its numbers would mean nothing",
            got=name,
            want="a trained checkpoint",
            hint="train it: encoderlab train --help",
        )
    return encoder


def _ours(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> DualEncoder:
    """A CLIP, or a training checkpoint of ours."""
    if checkpoint.family == TRAINING:
        model = training_checkpoint.load(checkpoint.path, CLIP)
    else:
        model = CLIP.from_pretrained(checkpoint.path)
    if model.tokenizer is None:
        raise UsageError(
            "the checkpoint has no tokenizer",
            got=str(checkpoint.path),
            want="tokenizer.json, or vocab.json and merges.txt, beside the weights",
        )
    require_finite(model.eval().to(device, dtype), checkpoint)
    return DualEncoder(
        model,
        model.preprocess,
        model.tokenizer,
        checkpoint,
        device,
        dtype,
        model.config.embed_dim,
        float(model.logit_scale.detach().float().exp()),
        model.trained_steps,
    )


class _SigLIPSides(nn.Module):
    """The two adapters of a SigLIP checkpoint as one network."""

    def __init__(self, vision: VisionEncoder, text: TextEncoder) -> None:
        super().__init__()
        self.vision = vision
        self.image_network, self.text_network = vision.tower, text.model

    def encode_image(self, pixels: Tensor) -> Tensor:
        seen = self.vision.run_tower(pixels)
        return self.vision.pool(seen, seen.tokens)

    def encode_text(self, tokens: Tensor) -> Tensor:
        return self.text_network(input_ids=tokens).pooler_output


class _SigLIPTokenizer:
    """The tokenizer of a SigLIP's text side."""

    def __init__(self, text: TextEncoder) -> None:
        self.text, self.context_length, self.cut_rows = text, text.max_length, text.cut_rows

    def __call__(self, texts: Sequence[str]) -> Tensor:
        # Always to the full length: SigLIP pools at the last place, padding or not.
        rows = self.text.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=self.context_length
        ).input_ids
        check_ids(rows, self.text.model, self.text.name)
        return torch.tensor(rows)


def _siglip(
    checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype, trusted: bool
) -> DualEncoder:
    """transformers' SigLIP or SigLIP 2, fixed or flexible resolution."""
    kind = str(dtype).removeprefix("torch.")
    where = device.type if device.index is None else f"{device.type}:{device.index}"
    vision = load_vision(checkpoint.path, where, kind, trust_remote_code=trusted)
    text = load_text(checkpoint.path, where, kind, trust_remote_code=trusted)

    record = read_record(checkpoint.path / "config.json")
    scale = read_part(checkpoint.path, ("logit_scale",)).get("")
    if scale is None or scale.numel() != 1 or not scale.isfinite():
        raise UsageError("the checkpoint's logit_scale is no number", got=str(checkpoint.path))
    if vision.pooled_width != text.pooled_width:
        raise UsageError(
            "the two sides of the checkpoint do not share a space",
            got=f"images of {vision.pooled_width} and texts of {text.pooled_width} numbers",
            want="embeddings of one width",
        )
    notes = record.get("encoderlab")
    return DualEncoder(
        _SigLIPSides(vision, text),
        vision.preprocess,
        _SigLIPTokenizer(text),
        checkpoint,
        device,
        dtype,
        vision.pooled_width,
        float(scale.exp()),
        notes.get("trained_steps") if isinstance(notes, dict) else None,
    )
