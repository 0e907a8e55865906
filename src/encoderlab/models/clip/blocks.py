"""The pre-norm transformer of both towers. Knows sequences of vectors only.

Shapes: b batch, t tokens, d width, h heads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x): the approximation in OpenAI's released checkpoints."""

    def forward(self, x: Tensor) -> Tensor:
        """x * sigmoid(1.702 x), elementwise."""
        return x * torch.sigmoid(1.702 * x)


def activation(name: str) -> nn.Module:
    """The module of an activation; the configuration has checked the name."""
    if name == "quick_gelu":
        return QuickGELU()
    return nn.GELU(approximate="tanh" if name == "gelu_pytorch_tanh" else "none")


def attend(
    q: Float[Tensor, "b h t c"],
    k: Float[Tensor, "b h t c"],
    v: Float[Tensor, "b h t c"],
    causal: bool,
) -> Float[Tensor, "b h t c"]:
    """Scaled dot-product attention, by the faster of two ways."""
    # For training in bf16 on a CPU at the lengths of small towers, two matrix products are about
    # twice as fast as the fused kernel, whose backward pass does not use the bf16 matrix units.
    if not (q.requires_grad and q.dtype == torch.bfloat16 and q.device.type == "cpu"):
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if causal:
        t = scores.shape[-1]
        later = torch.ones(t, t, dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(later, float("-inf"))
    return scores.softmax(dim=-1) @ v


class Attention(nn.Module):
    """Multi-head self-attention with one fused input projection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "b t d"], causal: bool = False) -> Float[Tensor, "b t d"]:
        """Each token as a mix of all tokens, or of itself and earlier ones if `causal`."""
        q, k, v = rearrange(self.qkv(x), "b t (three h c) -> three b h t c", three=3, h=self.heads)
        mixed = attend(q, k, v, causal)
        return self.out(rearrange(mixed, "b h t c -> b t (h c)"))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int, heads: int, mlp_width: int, act: str, norm_eps: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=norm_eps)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = nn.Sequential(
            nn.Linear(width, mlp_width), activation(act), nn.Linear(mlp_width, width)
        )

    def forward(self, x: Float[Tensor, "b t d"], causal: bool = False) -> Float[Tensor, "b t d"]:
        """x after pre-norm attention and MLP, each added to its input."""
        x = x + self.attention(self.norm1(x), causal)
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """A stack of blocks. `recompute` saves memory by checkpointing each block."""

    def __init__(
        self, width: int, layers: int, heads: int, mlp_width: int, act: str, norm_eps: float
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(width, heads, mlp_width, act, norm_eps) for _ in range(layers)
        )
        self.recompute = False
        self._initialise(width, layers)

    def _initialise(self, width: int, layers: int) -> None:
        # Radford et al. 2021, appendix: residual branches start small, by depth.
        residual = width**-0.5 * (2 * layers) ** -0.5
        for block in self.blocks:
            assert isinstance(block, Block)
            nn.init.normal_(block.attention.qkv.weight, std=width**-0.5)
            nn.init.normal_(block.attention.out.weight, std=residual)
            widen, narrow = block.mlp[0], block.mlp[2]
            assert isinstance(widen, nn.Linear) and isinstance(narrow, nn.Linear)
            nn.init.normal_(widen.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(narrow.weight, std=residual)
            for linear in (block.attention.qkv, block.attention.out, widen, narrow):
                nn.init.zeros_(linear.bias)

    def forward(self, x: Float[Tensor, "b t d"], causal: bool = False) -> Float[Tensor, "b t d"]:
        """x after all blocks."""
        for block in self.blocks:
            if self.recompute and self.training:
                x = checkpoint(block, x, causal, use_reentrant=False)
            else:
                x = block(x, causal)
        return x
