"""The text transformer of a CLIP: from token ids to the vector of the end-of-text token.

Shapes: b batch, t tokens, d width.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from encoderlab.models.clip.blocks import Transformer
from encoderlab.models.clip.config import TextConfig


class TextTransformer(nn.Module):
    """A causal transformer; the vector at the first end-of-text token represents the text.

    Padding needs no mask: it follows end-of-text, and no token attends to later ones.
    """

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.position_embedding = nn.Parameter(
            0.01 * torch.randn(config.context_length, config.width)
        )
        self.transformer = Transformer(
            config.width,
            config.layers,
            config.heads,
            config.mlp_width,
            config.activation,
            config.norm_eps,
        )
        self.final_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def forward(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b d"]:
        """The normalised vector at the end-of-text token of each text."""
        x = self.token_embedding(tokens) + self.position_embedding[: tokens.shape[1]]
        x = self.transformer(x, causal=True)
        rows = torch.arange(tokens.shape[0], device=tokens.device)
        return self.final_norm(x[rows, self.end_positions(tokens)])

    def end_positions(self, tokens: Int[Tensor, "b t"]) -> Int[Tensor, " b"]:
        """The position of the first end-of-text token of each row."""
        if self.config.end_token_id is None:
            return tokens.argmax(dim=1)
        return (tokens == self.config.end_token_id).int().argmax(dim=1)
