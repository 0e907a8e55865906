"""Dual encoders: images or sentences in, vectors in one space out.

A CLIP is our own network; a SigLIP is transformers', which takes every tokenizer of that family.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from encoderlab.data.decode import open_images
from encoderlab.encoders.checkpoint import TRAINING, Checkpoint, resolve
from encoderlab.encoders.compile import TORCH, select
from encoderlab.encoders.encoder import ImageEncoder, ImageSide, evaluating
from encoderlab.encoders.hardware import choose_device, choose_dtype, to_device
from encoderlab.encoders.loading import read_part, require_finite, require_finite_output
from encoderlab.encoders.model_cache import shareable
from encoderlab.encoders.text import CutTexts, TextEncoder, as_texts, check_ids, load_text
from encoderlab.encoders.vision import BATCH, VisionEncoder, load_vision
from encoderlab.errors import UsageError
from encoderlab.models import checkpoint as training_checkpoint
from encoderlab.models.clip import CLIP, Preprocess, Tokenizer
from encoderlab.models.folder import read_record

SIGLIP = ("siglip", "siglip2")
FAMILIES = ("clip", *SIGLIP, TRAINING)
TEXT_BATCH = 256


class DualEncoder(ImageEncoder):
    """An image tower and a text tower that share a space.

    Embeddings are in fp32 and L2-normalised, whatever number format the towers run in.

    Args:
        model: both towers, on `device` and in `dtype`.
        preprocess: turns images into the pixels that the image tower expects.
        tokenize: turns sentences into padded token ids (b, t), cut to a context.
        checkpoint: where it came from.
        device: where it runs.
        dtype: the number format it runs in.
        dim: width of the embeddings.
        logit_scale: the factor on cosines that the model was trained with.
        trained_steps: optimiser steps so far; 0 means untrained, None unknown.
    """

    model: CLIP | _SigLIPSides | _ImageSideAlone
    # Whether there is a text tower.
    has_texts = True

    def __init__(
        self,
        model: CLIP | _SigLIPSides | _ImageSideAlone,
        preprocess: Preprocess,
        tokenize: Tokenizer | _SigLIPTokenizer,
        checkpoint: Checkpoint,
        device: torch.device,
        dtype: torch.dtype,
        dim: int,
        logit_scale: float,
        trained_steps: int | None = None,
    ) -> None:
        super().__init__(model, checkpoint, device, dtype, preprocess)
        self.tokenizer = tokenize
        self.dim, self.logit_scale, self.trained_steps = dim, logit_scale, trained_steps

    def image_side(self) -> ImageSide:
        """The image side as one module: pixels to vectors that are not normalised."""
        return ImageSide(self.model.image_network, lambda x: (self.model.encode_image(x),))

    @torch.inference_mode()
    def encode_pixels(self, pixels: UInt8[Tensor, "b 3 s s"]) -> Float[Tensor, "b d"]:
        """Vectors of images on the device.

        Args:
            pixels: bytes of images, as `preprocess.to_bytes` gives them.

        Returns:
            Vectors in fp32, L2-normalised, as inference-mode tensors.
        """
        ready = self.preprocess.standardise(to_device(pixels, self.device))
        if self.backend is not None:
            (vectors,) = self.backend(ready)
        else:
            with evaluating(self.model):
                vectors = self.model.encode_image(ready.to(self.dtype))
        return F.normalize(vectors.float(), dim=-1)

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

    def embed_pixels(self, pixels: UInt8[Tensor, "b 3 s s"]) -> Float[np.ndarray, "b d"]:
        """`encode_pixels` as an array.

        Args:
            pixels: bytes of images, as `preprocess.to_bytes` gives them.

        Returns:
            Unit vectors in fp32.

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
        """Vectors of sentences; those longer than the context are cut, with a warning.

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
            with evaluating(self.model):
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
    images_alone: bool = False,
    trust_remote_code: bool = False,
    backend: str = TORCH,
    batch_size: int = BATCH,
) -> DualEncoder:
    """The dual encoder called `name`.

    Args:
        name: bundled model, alias, training run, folder or hub id.
        device: auto, cpu, cuda or cuda:N.
        dtype: auto, float32, bfloat16 or float16.
        allow_untrained: whether a model that was never trained is accepted.
        images_alone: whether a vision encoder without a text side is accepted: images by their
            pooled vectors, and texts are refused.
        trust_remote_code: whether Python that comes with the checkpoint may run.
        backend: what runs the image side: torch, compile, or auto: compile where it gives the same
            and is faster here. Text always goes through torch.
        batch_size: images at once, for which the image side is compiled.

    Returns:
        The encoder, in eval mode.

    Raises:
        MissingError: nothing has that name, or the GPU or the compiler is missing.
        UsageError: another family, a damaged checkpoint, or one that was never trained.
        WorkError: the compiled image encoder differs from torch.
    """
    return select(
        lambda device, dtype: _load(
            name, device, dtype, allow_untrained, images_alone, trust_remote_code
        ),
        backend,
        device,
        dtype,
        batch_size,
    )


def _load(
    name: str,
    device: str | int | None,
    dtype: str,
    allow_untrained: bool,
    images_alone: bool,
    trust_remote_code: bool,
) -> DualEncoder:
    where = choose_device(device)
    checkpoint = resolve(name, code=trust_remote_code)
    if checkpoint.family not in FAMILIES and images_alone:
        return ImagesAlone(load_vision(name, device, dtype, trust_remote_code=trust_remote_code))
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
    """A CLIP, or a training checkpoint of our own."""
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
        output = self.vision.run_tower(pixels)
        return self.vision.pool(output, output.tokens)

    def encode_text(self, tokens: Tensor) -> Tensor:
        return self.text_network(input_ids=tokens).pooler_output


class _ImageSideAlone(nn.Module):
    """A vision encoder in the place of two towers."""

    def __init__(self, vision: VisionEncoder) -> None:
        super().__init__()
        self.vision, self.image_network = vision, vision.tower

    def encode_image(self, pixels: Tensor) -> Tensor:
        return self.vision.image_side()(pixels)[-1]

    def encode_text(self, tokens: Tensor) -> Tensor:
        raise _no_text_side(self.vision)


class ImagesAlone(DualEncoder):
    """A vision encoder as a dual encoder: images by their pooled vectors, and no texts.

    Args:
        vision: gives the pooled vectors.
    """

    has_texts = False

    def __init__(self, vision: VisionEncoder) -> None:
        super().__init__(
            _ImageSideAlone(vision),
            vision.preprocess,
            None,  # type: ignore[arg-type]
            vision.checkpoint,
            vision.device,
            vision.dtype,
            vision.pooled_width,
            logit_scale=1.0,
        )

    def embed_texts(self, texts: str | Sequence[str]) -> Float[np.ndarray, "n d"]:
        """Refuses texts."""
        raise _no_text_side(self)


def _no_text_side(encoder: ImageEncoder) -> UsageError:
    return UsageError(
        "the encoder has no text side, so it finds images by images alone",
        got=f"{encoder.name} ({encoder.family})",
        want="an image, encoderlab search --image FILE, or a model with a text side",
    )


class _SigLIPTokenizer:
    """The tokenizer of a SigLIP's text side."""

    def __init__(self, text: TextEncoder) -> None:
        self.text, self.context_length, self.cut_rows = text, text.max_length, text.cut_rows

    def __call__(self, texts: Sequence[str]) -> Tensor:
        # Always padded to the full length: SigLIP pools at the last position.
        rows = self.text.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=self.context_length
        ).input_ids
        check_ids(rows, self.text.model, self.text.name)
        return torch.tensor(rows)


def _siglip(
    checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype, trusted: bool
) -> DualEncoder:
    """transformers' SigLIP or SigLIP 2, fixed or flexible resolution."""
    where = str(device), str(dtype).removeprefix("torch.")
    vision = load_vision(checkpoint.path, *where, trust_remote_code=trusted)
    text = load_text(checkpoint.path, *where, trust_remote_code=trusted)
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
