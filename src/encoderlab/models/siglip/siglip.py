"""SigLIP: two towers under a sigmoid, each image-text pair judged by itself.

Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training". Beside a CLIP: the image side has
no CLS and pools its patches by attention, the text side sees the whole sentence at every token and
pools at the last one, padding or not, and the image side is not projected. Holds its tokenizer and
its preprocessing. Parameters are named for what they are; `export` knows Hugging Face's names.

Shapes: b batch, t tokens, n patches, d width.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from encoderlab.models.clip.blocks import Transformer, activation, attend
from encoderlab.models.clip.clip import MAX_LOGIT_SCALE, CLIPOutput
from encoderlab.models.clip.config import TextConfig, ViTConfig
from encoderlab.models.clip.preprocess import Preprocess
from encoderlab.models.clip.tokenizer import Tokenizer
from encoderlab.models.clip.vision import VisionTokens, drop_patches

HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class SigLIPConfig:
    """Both towers; the shared space is as wide as the image tower."""

    vision: ViTConfig = field(default_factory=ViTConfig)
    text: TextConfig = field(default_factory=TextConfig)

    @property
    def embed_dim(self) -> int:
        """Width of the shared space."""
        return self.vision.width

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready mapping that `from_dict` reads back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> SigLIPConfig:
        """The configuration that `to_dict` wrote."""
        return cls(ViTConfig(**record["vision"]), TextConfig(**record["text"]))


def _transformer(config: ViTConfig | TextConfig) -> Transformer:
    return Transformer(
        config.width,
        config.layers,
        config.heads,
        config.mlp_width,
        config.activation,
        config.norm_eps,
    )


class AttentionPooling(nn.Module):
    """One learned query looks at all patches, then an MLP beside a residual (Zhai et al. 2022,
    "Scaling Vision Transformers", section 3.1, the MAP head)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.probe = nn.Parameter(torch.randn(width) * width**-0.5)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.mlp = nn.Sequential(
            nn.Linear(width, config.mlp_width),
            activation(config.activation),
            nn.Linear(config.mlp_width, width),
        )
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b d"]:
        width = x.shape[-1]
        query = nn.functional.linear(
            self.probe.to(x.dtype).expand(x.shape[0], 1, width),
            self.qkv.weight[:width],
            self.qkv.bias[:width],
        )
        rest = nn.functional.linear(x, self.qkv.weight[width:], self.qkv.bias[width:])
        k, v = rearrange(rest, "b n (two h c) -> two b h n c", two=2, h=self.heads)
        q = rearrange(query, "b one (h c) -> b h one c", h=self.heads)
        mixed = self.out(rearrange(attend(q, k, v, causal=False), "b h one c -> b (one h c)"))
        return mixed + self.mlp(self.norm(mixed))


class SigLIPVision(nn.Module):
    """A vision transformer of patches alone; pooled = attention over the normed last layer.

    Args:
        patch_dropout: share of patches left out of each training image, as in a CLIP.
    """

    def __init__(self, config: ViTConfig, patch_dropout: float = 0.0) -> None:
        super().__init__()
        self.config, self.patch_dropout = config, patch_dropout
        height, width = config.grid
        self.patch_embedding = nn.Conv2d(
            3, config.width, config.patch_size, stride=config.patch_size
        )
        self.position_embedding = nn.Parameter(
            config.width**-0.5 * torch.randn(height * width, config.width)
        )
        self.transformer = _transformer(config)
        self.post_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.pooling = AttentionPooling(config)

    def forward(self, pixels: Float[Tensor, "b 3 height width"]) -> VisionTokens:
        patches = rearrange(self.patch_embedding(pixels), "b d h w -> b (h w) d")
        patches = patches + self.position_embedding
        dropping = self.training and self.patch_dropout > 0
        if dropping:
            patches = drop_patches(patches, self.patch_dropout)
        patches = self.post_norm(self.transformer(patches))
        return VisionTokens(self.pooling(patches), patches, None if dropping else self.config.grid)


class SigLIPText(nn.Module):
    """A transformer in which every token sees every other; the last one stands for the sentence,
    so rows must always be padded to the full context."""

    def __init__(self, config: TextConfig, embed_dim: int) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.position_embedding = nn.Parameter(
            0.01 * torch.randn(config.context_length, config.width)
        )
        self.transformer = _transformer(config)
        self.final_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.head = nn.Linear(config.width, embed_dim)
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def forward(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b d"]:
        x = self.transformer(self.token_embedding(tokens) + self.position_embedding)
        return self.head(self.final_norm(x)[:, -1])


class SigLIP(nn.Module):
    """Two towers, a temperature and a bias; the face of `CLIP`, so one trainer serves both.

    Args:
        config: shapes of both towers.
        tokenizer: pads to the text tower's full context.
        preprocess: squashes to the image tower's square if left out, as SigLIP does.
        patch_dropout: share of patches dropped in training.
        trained_steps: optimiser steps behind these weights; 0 means untrained, None unknown.
    """

    # Every text column counts, padding too: see `SigLIPText`.
    reads_padding = True

    def __init__(
        self,
        config: SigLIPConfig,
        tokenizer: Tokenizer | None = None,
        preprocess: Preprocess | None = None,
        *,
        patch_dropout: float = 0.0,
        trained_steps: int | None = 0,
    ) -> None:
        super().__init__()
        self.config, self.tokenizer = config, tokenizer
        self.preprocess = preprocess or Preprocess(config.vision.image_size, "squash", HALF, HALF)
        self.trained_steps = trained_steps
        self.vision = SigLIPVision(config.vision, patch_dropout)
        self.text = SigLIPText(config.text, config.embed_dim)
        # Zhai et al. 2023, section 3.2: ten for the temperature, minus ten for the bias.
        self.logit_scale = nn.Parameter(torch.tensor(math.log(10)))
        self.logit_bias = nn.Parameter(torch.tensor(-10.0))

    @property
    def image_network(self) -> nn.Module:
        """The network that `encode_image` runs."""
        return self.vision

    @property
    def text_network(self) -> nn.Module:
        """The network that `encode_text` runs."""
        return self.text

    def encode_image(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Image embeddings, not normalised."""
        return self.vision(pixels).pooled

    def encode_text(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b d"]:
        """Text embeddings, not normalised."""
        return self.text(tokens)

    def forward(self, pixels: Float[Tensor, "b 3 h w"], tokens: Int[Tensor, "b t"]) -> CLIPOutput:
        return CLIPOutput(self.encode_image(pixels), self.encode_text(tokens))

    def set_gradient_checkpointing(self, on: bool = True) -> None:
        """Recompute each block in the backward pass: memory for one block, a third more time."""
        self.vision.transformer.recompute = on
        self.text.transformer.recompute = on

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Holds the temperature at 1/100 or above; to be called after each optimiser step."""
        self.logit_scale.clamp_(0, MAX_LOGIT_SCALE)

    def save_pretrained(self, folder: str | Path, *, half: bool = False) -> Path:
        """Writes a folder that transformers' SiglipModel, image processor and tokenizer load."""
        from encoderlab.models.siglip import export

        return export.save(self, Path(folder), half=half)
