"""An encoder of ours as a model of `mteb`: images, texts or both in, its pooled vectors out.

Follows `mteb.models.models_protocols.EncoderProtocol`. Imports mteb when a model is made.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from encoderlab.core.aliases import UNTRAINED
from encoderlab.encoders.checkpoint import TRAINING, Checkpoint, resolve
from encoderlab.encoders.families import FAMILIES
from encoderlab.encoders.hardware import choose_device, choose_dtype
from encoderlab.encoders.loading import read_config
from encoderlab.encoders.text import PROJECTED, CutTexts, TextEncoder, load_text
from encoderlab.encoders.vision import VisionEncoder, load_vision
from encoderlab.errors import MissingError, UsageError

ORGANISATION = "encoderlab"  # mteb names a model ORGANISATION/NAME


class MtebModel:
    """An encoder that mteb can judge: the pooled vectors of `load_vision` and `load_text`, not
    normalised, as mteb's own wrapper of CLIP gives them. It compares them by the cosine.

    Where an entry has an image and a text, its vector is the sum of both, as in that wrapper.

    Args:
        image: encodes images; None for texts alone.
        text: encodes texts into the same space; None for images alone.

    Raises:
        MissingError: mteb is not installed.
        UsageError: neither an image nor a text encoder.
    """

    def __init__(self, image: VisionEncoder | None, text: TextEncoder | None) -> None:
        require_mteb()
        from mteb.models.model_meta import ModelMeta, ScoringFunction

        self.image, self.text = image, text
        encoder = image or text
        if encoder is None:
            raise UsageError(
                "neither an image nor a text encoder is given", want="an image or a text encoder"
            )
        self.name, self.fingerprint, self.where = encoder.name, encoder.fingerprint, encoder.where
        sides = {"image": image, "text": text}
        self.modalities = tuple(name for name, side in sides.items() if side is not None)
        # mteb keeps the results of a model by its revision: other numbers need another one.
        revision = f"{encoder.fingerprint}-{encoder.ran_in}"
        self.mteb_model_meta = ModelMeta.create_empty(
            {
                "name": f"{ORGANISATION}/{self.name.strip('/').replace('/', '_')}",
                "revision": revision,
                "modalities": list(self.modalities),
                "embed_dim": encoder.pooled_width,
                "n_parameters": sum(
                    weight.numel()
                    for side in sides.values()
                    if side is not None
                    for weight in side.model.parameters()
                ),
                "max_tokens": None if text is None else text.max_length,
                "framework": ["PyTorch"],
                "similarity_fn_name": ScoringFunction.COSINE,
            }
        )

    @classmethod
    def load(
        cls,
        name: str,
        device: str | int | None = "auto",
        dtype: str = "auto",
        *,
        trust_remote_code: bool = False,
    ) -> MtebModel:
        """The encoder called `name`.

        Args:
            name: bundled model, alias, training run, folder or hub id; `untrained:NAME` is its
                image side with random weights.
            device: auto, cpu, cuda or cuda:N.
            dtype: auto, float32, bfloat16 or float16.
            trust_remote_code: whether Python that comes with the checkpoint may run.

        Returns:
            Both sides of a CLIP, SigLIP or training run of ours; the texts of a language model or
            text encoder; else the images.

        Raises:
            MissingError: nothing has that name, or mteb or the GPU is missing.
            UsageError: a checkpoint that cannot be used.
        """
        require_mteb()
        where = choose_device(device)  # once, and said once, for both sides
        given: dict[str, Any] = {
            "device": str(where),
            "dtype": str(choose_dtype(dtype, where)).removeprefix("torch."),
            "trust_remote_code": trust_remote_code,
        }
        if name.startswith(UNTRAINED):
            return cls(load_vision(name, **given), None)
        checkpoint = resolve(name, code=trust_remote_code)
        if checkpoint.family == TRAINING:
            return cls(load_vision(name, **given), _text_of_training_run(checkpoint, given))
        if checkpoint.family in PROJECTED:
            return cls(load_vision(name, **given), load_text(name, **given))
        if _has_images(checkpoint, trust_remote_code):
            return cls(load_vision(name, **given), None)
        return cls(None, load_text(name, **given))

    def encode(self, inputs: Iterable[Mapping[str, Any]], **task: Any) -> Float[np.ndarray, "n d"]:
        """The vectors of the entries of a task.

        Args:
            inputs: batches with a list of images under "image", of texts under "text", or both.
            **task: what mteb says of the task, and its options; not used: there are no prompts.

        Returns:
            One row per entry, fp32.

        Raises:
            UsageError: a batch without anything that the encoder takes.
        """
        cut = None if self.text is None else CutTexts(self.name, self.text.max_length)
        rows = []
        for batch in inputs:
            parts = []
            if self.image is not None and "image" in batch:
                parts.append(self.image.encode(list(batch["image"])).pooled)
            if self.text is not None and cut is not None and "text" in batch:
                texts = list(batch["text"])
                cut.add(texts, self.text.cut_rows)
                parts.append(self.text.encode_batch(texts).pooled)
            if not parts:
                raise UsageError(
                    "the entries of the task have nothing that the encoder takes",
                    got=", ".join(batch),
                    want=" or ".join(self.modalities),
                )
            rows.append(torch.stack(parts).sum(dim=0).cpu())
        if cut is not None:
            cut.warn()
        return torch.cat(rows).numpy()

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """The cosine of each row of one with each row of the other, (n, m)."""
        from mteb.similarity_functions import cos_sim

        return cos_sim(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """The cosine of each row of one with the same row of the other, (n,)."""
        from mteb.similarity_functions import pairwise_cos_sim

        return pairwise_cos_sim(embeddings1, embeddings2)


def require_mteb() -> None:
    """Raises with the command that installs mteb if it is missing.

    Raises:
        MissingError: it is not installed.
    """
    if find_spec("mteb") is None:
        raise MissingError(
            "mteb is not installed", hint='install it: pip install "encoderlab[judges]"'
        )


def _has_images(checkpoint: Checkpoint, trusted: bool) -> bool:
    """Whether the checkpoint has a vision tower; else it is a language model or text encoder."""
    if checkpoint.family in FAMILIES:
        return True
    config = read_config(checkpoint, trusted)
    return any(hasattr(config, name) for name in ("vision_config", "patch_size"))


def _text_of_training_run(checkpoint: Checkpoint, given: dict[str, Any]) -> TextEncoder:
    """The text side of a training run, through a temporary Hugging Face folder."""
    from encoderlab.models import checkpoint as training
    from encoderlab.models.clip import CLIP

    with tempfile.TemporaryDirectory() as folder:
        training.load(checkpoint.path, CLIP).save_pretrained(folder)
        return load_text(folder, **given)
