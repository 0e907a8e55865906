"""CLIP: an image tower, a text tower, and the temperature of the shared space.

Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision".
Holds its tokenizer and its preprocessing. `conversion` reads and writes checkpoints. Knows no
training.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from encoderlab.models.clip.config import CLIPConfig, ResNetConfig
from encoderlab.models.clip.preprocess import Preprocess
from encoderlab.models.clip.resnet import ResNet
from encoderlab.models.clip.text import TextTransformer
from encoderlab.models.clip.tokenizer import Tokenizer
from encoderlab.models.clip.vision import VisionTransformer

INITIAL_LOGIT_SCALE = math.log(1 / 0.07)
MAX_LOGIT_SCALE = math.log(100)


class CLIPOutput(NamedTuple):
    """Unnormalised embeddings of a batch of images and of a batch of texts, both (b, d)."""

    image: Tensor
    text: Tensor


class TwoTowers(nn.Module):
    """The interface of a model for the training loop: image side, text side, temperature.

    `logit_scale` is the logarithm of the factor on the cosines; `logit_bias` is None unless the
    sigmoid loss trains one.
    """

    # The name of the class in a training checkpoint, and whether the text side reads padding.
    kind: ClassVar[str]
    reads_padding: ClassVar[bool]
    config: Any
    tokenizer: Tokenizer | None
    preprocess: Preprocess
    trained_steps: int | None
    logit_scale: nn.Parameter
    logit_bias: nn.Parameter | None

    def encode_image(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Image embeddings, not normalised."""
        raise NotImplementedError

    def encode_text(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b d"]:
        """Text embeddings, not normalised."""
        raise NotImplementedError

    def save_pretrained(self, folder: str | Path, *, half: bool = False) -> Path:
        """Writes a folder that transformers loads; weights in fp32, or in fp16 if `half`."""
        raise NotImplementedError

    def forward(self, pixels: Float[Tensor, "b 3 h w"], tokens: Int[Tensor, "b t"]) -> CLIPOutput:
        """The embeddings of matching images and texts."""
        return CLIPOutput(self.encode_image(pixels), self.encode_text(tokens))

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Limits the temperature to at least 1/100; to be called after each optimiser step."""
        self.logit_scale.clamp_(0, MAX_LOGIT_SCALE)


class CLIP(TwoTowers):
    """Two towers, two projections, one temperature.

    Args:
        config: sizes of both towers.
        tokenizer: with a vocabulary that fits the text tower.
        preprocess: with the size of the image tower; made from the configuration if left out.
        patch_dropout: share of patches dropped in training (vision transformer only).
        trained_steps: number of optimiser steps of the weights; 0 if untrained, None if unknown.
    """

    kind = "clip"
    config_class = CLIPConfig
    # Padding follows end-of-text, after the last position that a causal tower reads.
    reads_padding = False

    def __init__(
        self,
        config: CLIPConfig,
        tokenizer: Tokenizer | None = None,
        preprocess: Preprocess | None = None,
        *,
        patch_dropout: float = 0.0,
        trained_steps: int | None = 0,
    ) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.preprocess = preprocess or Preprocess(config.vision.image_size)
        self.trained_steps = trained_steps
        self.vision: ResNet | VisionTransformer
        if isinstance(config.vision, ResNetConfig):
            self.vision = ResNet(config.vision)
        else:
            self.vision = VisionTransformer(config.vision, patch_dropout)
        self.text = TextTransformer(config.text)
        width_v, width_t = self.vision.output_width, config.text.width
        self.visual_projection = nn.Linear(width_v, config.embed_dim, bias=False)
        self.text_projection = nn.Linear(width_t, config.embed_dim, bias=False)
        nn.init.normal_(self.visual_projection.weight, std=width_v**-0.5)
        nn.init.normal_(self.text_projection.weight, std=width_t**-0.5)
        self.logit_scale = nn.Parameter(torch.tensor(INITIAL_LOGIT_SCALE))
        self.register_parameter("logit_bias", None)

    @property
    def image_network(self) -> nn.Module:
        """The networks that `encode_image` runs."""
        return nn.ModuleList([self.vision, self.visual_projection])

    @property
    def text_network(self) -> nn.Module:
        """The networks that `encode_text` runs."""
        return nn.ModuleList([self.text, self.text_projection])

    def encode_image(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Image embeddings.

        Args:
            pixels: standardised, as `preprocess` gives them.

        Returns:
            Vectors of the shared space, not normalised.
        """
        return self.visual_projection(self.vision(pixels).pooled)

    def encode_text(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b d"]:
        """Text embeddings.

        Args:
            tokens: ids, as `tokenizer` gives them.

        Returns:
            Vectors of the shared space, not normalised.
        """
        return self.text_projection(self.text(tokens))

    def add_logit_bias(self, value: float = -10.0) -> None:
        """Gives the model the additive bias that the sigmoid loss learns (Zhai et al. 2023)."""
        self.logit_bias = nn.Parameter(torch.tensor(value))

    def set_gradient_checkpointing(self, on: bool = True) -> None:
        """Recompute each block in the backward pass: memory of one block, a third more time."""
        towers: list[nn.Module] = [self.text.transformer]
        towers.append(self.vision if isinstance(self.vision, ResNet) else self.vision.transformer)
        for tower in towers:
            tower.recompute = on  # type: ignore[assignment]

    @classmethod
    def from_pretrained(cls, name: str | Path) -> CLIP:
        """Our CLIP with the weights of a Hugging Face CLIPModel.

        Args:
            name: a local folder or a hub id.

        Returns:
            The model in eval mode, fp32.

        Raises:
            MissingError: no such folder, or the hub cannot be reached.
            UsageError: the folder holds another family, or no checkpoint.
        """
        from encoderlab.models.clip import conversion

        return conversion.load(name, cls)

    def save_pretrained(self, folder: str | Path, *, half: bool = False) -> Path:
        """Writes a folder that transformers' CLIPModel, CLIPProcessor and AutoTokenizer load.

        Args:
            folder: written to; created if missing.
            half: store weights as fp16 (half the size) instead of fp32.

        Returns:
            The folder.

        Raises:
            UsageError: the image tower is a ResNet, for which Hugging Face has no CLIPModel.
        """
        from encoderlab.models.clip import conversion

        return conversion.save(self, Path(folder), half=half)

    @classmethod
    def from_checkpoint(cls, path: str | Path) -> CLIP:
        """The model inside a training checkpoint.

        Args:
            path: the file, such as `checkpoints/best.ckpt`.

        Returns:
            The model in eval mode, with the averaged weights if the run has them.

        Raises:
            MissingError: no such file.
            UsageError: the file is not a training checkpoint of encoderlab.
        """
        from encoderlab.models import checkpoint

        return checkpoint.load(Path(path), cls)
