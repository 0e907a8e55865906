"""A model with an image side and a text side, behind one face: pictures or sentences to vectors.

Everything that searches, classifies or evaluates talks to this. Which checkpoint it is, where it
runs and in which format is settled at loading.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from encoderlab.encoders.checkpoint import TRAINING, Checkpoint, resolve
from encoderlab.encoders.hardware import choose_device, choose_dtype
from encoderlab.errors import UsageError
from encoderlab.models.clip import CLIP

FAMILIES = ("clip", TRAINING)
TEXT_BATCH = 256


class DualEncoder:
    """An image tower and a text tower that share a space.

    Embeddings come out in fp32, L2-normalised, whatever format the towers run in.
    """

    def __init__(
        self, model: CLIP, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype
    ) -> None:
        if model.tokenizer is None:
            raise UsageError(
                "the checkpoint has no tokenizer",
                got=str(checkpoint.path),
                want="tokenizer.json, or vocab.json and merges.txt, beside the weights",
            )
        self.name, self.fingerprint = checkpoint.name, checkpoint.fingerprint
        self.device, self.dtype = device, dtype
        self.logit_scale = float(model.logit_scale.detach().float().exp())
        self.preprocess, self.tokenizer = model.preprocess, model.tokenizer
        self.model = model.eval().to(device, dtype)
        self._image_tower = self.model.encode_image

    @property
    def where(self) -> tuple[str, str]:
        """Device and number format, as a run's record names them."""
        return str(self.device), str(self.dtype).removeprefix("torch.")

    @property
    def dim(self) -> int:
        """Width of the embeddings."""
        return self.model.config.embed_dim

    @property
    def image_size(self) -> int:
        """Side of the square of pixels that the image tower takes."""
        return self.preprocess.size

    def compile(self) -> None:
        """Compiles the image tower: worth its half minute from some thousands of images on."""
        self._image_tower = torch.compile(self.model.encode_image, dynamic=False)

    @torch.inference_mode()
    def embed_pixels(self, pixels: UInt8[Tensor, "b 3 s s"]) -> Float[np.ndarray, "b d"]:
        """Vectors of images that `preprocess.to_bytes` has made."""
        ready = self.preprocess.standardise(pixels.to(self.device, non_blocking=True))
        return _unit(self._image_tower(ready.to(self.dtype)))

    def embed_images(self, images: Sequence[Image.Image]) -> Float[np.ndarray, "n d"]:
        """Vectors of a few images that are decoded already."""
        if not images:
            return np.zeros((0, self.dim), dtype=np.float32)
        return self.embed_pixels(stack([self.preprocess.to_bytes(image) for image in images]))

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
        """Vectors of sentences; what is longer than the context is cut."""
        parts = [np.zeros((0, self.dim), dtype=np.float32)]
        for start in range(0, len(texts), TEXT_BATCH):
            tokens = self.tokenizer(texts[start : start + TEXT_BATCH]).to(self.device)
            parts.append(_unit(self.model.encode_text(tokens)))
        return np.concatenate(parts)


def load_dual(
    name: str,
    device: str | int | None = "auto",
    dtype: str = "auto",
    *,
    allow_untrained: bool = False,
) -> DualEncoder:
    """The dual encoder called `name`: embedded, alias, training run, folder or hub id.

    Raises:
        MissingError: nothing has that name, or the GPU is not there.
        UsageError: another family, a damaged checkpoint, or one that was never trained.
    """
    where = choose_device(device)
    checkpoint = resolve(name)
    if checkpoint.family not in FAMILIES:
        raise UsageError(
            "the checkpoint belongs to a family without a text side that we can use",
            got=f"{checkpoint.family} ({name})",
            want="clip",
            hint="list the known ones: encoderlab ls encoders",
        )
    if checkpoint.family == TRAINING:
        model = CLIP.from_checkpoint(checkpoint.path)
    else:
        model = CLIP.from_pretrained(checkpoint.path)
    if model.trained_steps == 0 and not allow_untrained:
        raise UsageError(
            "the model has never been trained, so its numbers would mean nothing",
            got=name,
            want="a trained checkpoint",
            hint="train it: encoderlab train --help",
        )
    return DualEncoder(model, checkpoint, where, choose_dtype(dtype, where))


def stack(images: Sequence[UInt8[np.ndarray, "s s 3"]]) -> UInt8[Tensor, "b 3 s s"]:
    """Bytes of single images as one batch, channels first."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def _unit(vectors: Tensor) -> Float[np.ndarray, "b d"]:
    return F.normalize(vectors.float(), dim=-1).cpu().numpy()
