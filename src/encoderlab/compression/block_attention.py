"""Attention and keys of one block of a vision tower, computed beside it: fused attention returns no
weights.

b images, h heads, n tokens, d channels per head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

# Rows of an attention map computed at once: a map of 16,000 patches takes 1 GB.
QUERIES = 256


@dataclass(frozen=True)
class Heads:
    """What the tokens of a block attend with.

    Args:
        query: (..., h, n, d), after the rotary embedding where there is one.
        key: as `query`.
        content: (..., n, d), the keys before the rotary embedding, mean over heads (VisionZip).
        scale: factor of the logits.
    """

    query: Tensor
    key: Tensor
    content: Tensor
    scale: float

    @classmethod
    @torch.no_grad()
    def of(cls, module: Any, hidden: Tensor, rotary: tuple[Tensor, Tensor] | None = None) -> Heads:
        """Computes them.

        Args:
            module: an attention layer with `head_dim`, and `q_proj` and `k_proj` or `qkv`.
            hidden: (..., n, c), its input.
            rotary: (cosine, sine), each (n, d), of the rotary embedding.

        Returns:
            In fp32.
        """
        if hasattr(module, "qkv"):
            query, key, _ = module.qkv(hidden).chunk(3, dim=-1)
        else:
            query, key = module.q_proj(hidden), module.k_proj(hidden)
            if hasattr(module, "q_norm"):
                query, key = module.q_norm(query), module.k_norm(key)

        def split(x: Tensor) -> Float[Tensor, "*b h n d"]:
            x = x.unflatten(-1, (-1, module.head_dim)).transpose(-3, -2).float()
            if rotary is None:
                return x
            cosine, sine = (part.float() for part in rotary)
            first, second = x.chunk(2, dim=-1)
            return x * cosine + torch.cat([-second, first], dim=-1) * sine

        content = key.float().unflatten(-1, (-1, module.head_dim)).mean(dim=-2)
        return cls(split(query), split(key), content, module.head_dim**-0.5)

    @torch.no_grad()
    def from_first(self) -> Float[Tensor, "*b n"]:
        """Attention of the first token to every token, mean over heads."""
        weights = (self.query[..., :1, :] @ self.key.mT * self.scale).softmax(dim=-1)
        return weights.mean(dim=-3)[..., 0, :]

    @torch.no_grad()
    def received(self) -> Float[Tensor, "*b n"]:
        """Attention that each token receives, mean over heads and tokens (VisionZip)."""
        total = torch.zeros_like(self.key[..., 0])
        for queries in self.query.split(QUERIES, dim=-2):
            total += (queries @ self.key.mT * self.scale).softmax(dim=-1).sum(dim=-2)
        return total.mean(dim=-2) / self.query.shape[-2]
