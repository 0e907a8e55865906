"""Projectors from an encoder's width to an LLM's. Knows tensors, not training.

Shapes: m projectors, b batch, n tokens, d_v width of the encoder, d_t width of the LLM.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from encoderlab.errors import UsageError, unknown

# kind -> the weights that are multiplied with the encoder's features; no others depend on d_v.
INPUT_WEIGHTS = {
    "linear": ("weight",),
    "mlp": ("0.weight",),
    "mlp_norm": ("0.weight",),
    "cross_attention": ("key.weight", "value.weight"),
}
KINDS = tuple(INPUT_WEIGHTS)
QUERIES = 4
HEAD_WIDTH = 64


class CrossAttention(nn.Module):
    """Learnable queries attend to the visual tokens; their mean is projected (the resampler of
    Flamingo and Q-Former, reduced to one block).

    Args:
        d_v, d_t: width of the input, and of everything else.
        queries: number of queries.
        mean: give the mean of the queries' outputs; otherwise one token per query.
    """

    def __init__(self, d_v: int, d_t: int, queries: int = QUERIES, mean: bool = True) -> None:
        super().__init__()
        self.mean = mean
        self.heads = heads_for(d_t)
        self.queries = nn.Parameter(torch.randn(queries, d_t) * d_t**-0.5)
        self.key, self.value = nn.Linear(d_v, d_t), nn.Linear(d_v, d_t)
        self.out = nn.Linear(d_t, d_t)

    def forward(self, x: Float[Tensor, "b *n d_v"]) -> Float[Tensor, "b *q d_t"]:
        """Projects n tokens (b, n, d_v), or one (b, d_v)."""
        tokens = x.unsqueeze(-2) if x.ndim == 2 else x
        heads, size = self.heads, self.queries.shape[1] // self.heads
        q = self.queries.unflatten(-1, (heads, size))
        k = self.key(tokens).unflatten(-1, (heads, size))
        v = self.value(tokens).unflatten(-1, (heads, size))
        weights = torch.einsum("qhc,bnhc->bhqn", q, k) * size**-0.5
        weights = weights.softmax(dim=-1)
        if not self.mean:
            mixed = torch.einsum("bhqn,bnhc->bqhc", weights, v)
            return self.out(mixed.flatten(-2))
        # The mean of the queries' outputs is the output of their mean attention.
        mixed = torch.einsum("bhn,bnhc->bhc", weights.mean(dim=2), v)
        return self.out(mixed.flatten(-2))


def create_projector(kind: str, d_v: int, d_t: int, queries: int | None = None) -> nn.Module:
    """A projector (b, d_v) -> (b, d_t), or of tokens (b, n, d_v) -> (b, n, d_t).

    Args:
        kind: "linear" (one layer, LLaVA); "mlp" (Linear, GELU, Linear, LLaVA-1.5); "mlp_norm"
            (Linear, GELU, LayerNorm, Linear, as ELAS is defined); "cross_attention".
        d_v: width of the encoder.
        d_t: width of the LLM.
        queries: tokens that "cross_attention" gives, (b, queries, d_t); None for their mean.

    Returns:
        The module; its weights are drawn from torch's global generator.

    Raises:
        UsageError: an unknown kind, or a width that is not positive.

    >>> create_projector("mlp", 8, 5)(torch.zeros(2, 8)).shape
    torch.Size([2, 5])
    """  # noqa: DOC501
    for name, width in (("d_v", d_v), ("d_t", d_t)):
        if width < 1:
            raise UsageError(f"{name} must be positive", got=width, want="a width")
    if kind == "linear":
        return nn.Linear(d_v, d_t)
    if kind == "mlp":
        return nn.Sequential(nn.Linear(d_v, d_t), nn.GELU(), nn.Linear(d_t, d_t))
    if kind == "mlp_norm":
        return nn.Sequential(nn.Linear(d_v, d_t), nn.GELU(), nn.LayerNorm(d_t), nn.Linear(d_t, d_t))
    if kind == "cross_attention":
        return CrossAttention(d_v, d_t, queries or QUERIES, mean=queries is None)
    raise unknown("projector", kind, list(KINDS), "encoderlab.models.projectors")


def stacked_forward(
    kind: str, weights: Mapping[str, Float[Tensor, "m ..."]], x: Float[Tensor, "m b d_v"]
) -> Float[Tensor, "m b d_t"]:
    """The outputs of m projectors of one `kind`, with stacked `weights`, as batched products."""

    def linear(name: str, value: Tensor) -> Tensor:
        prefix = f"{name}." if name else ""
        bias = weights[f"{prefix}bias"].unsqueeze(1)
        return torch.baddbmm(bias, value, weights[f"{prefix}weight"].mT)

    if kind == "linear":
        return linear("", x)
    if kind == "mlp":
        return linear("2", F.gelu(linear("0", x)))
    if kind == "mlp_norm":
        hidden = F.gelu(linear("0", x))
        normed = F.layer_norm(hidden, hidden.shape[-1:])
        scale, shift = weights["2.weight"].unsqueeze(1), weights["2.bias"].unsqueeze(1)
        return linear("3", normed * scale + shift)
    # A pooled vector is a single token, to which every query attends with weight one.
    return linear("out", linear("value", x))


def heads_for(width: int) -> int:
    """The largest number of heads of at least `HEAD_WIDTH` channels that divides `width`."""
    return max(h for h in range(1, max(1, width // HEAD_WIDTH) + 1) if width % h == 0)
