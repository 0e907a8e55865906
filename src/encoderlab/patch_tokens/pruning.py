"""Training-free methods that select tokens by importance, by diversity, or by both: VisPruner, and
determinantal point processes without a question and with one (CDPruner).

b images, n tokens, c channels, k kept.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from encoderlab.patch_tokens.reducer import (
    CompressedTokens,
    SideInputs,
    TokenReducer,
    picked,
    selected,
)

IMPORTANT_SHARE = 0.5
MOST_REMOVED = 8  # tokens of a round of VisPruner
# A token whose squared distance from the span of the kept ones is below this, of a vector of length
# one, has no direction of its own.
NO_DIRECTION = 1e-12


class VisPruner(TokenReducer):
    """Important tokens by attention, and diverse ones of the rest (Zhang et al. 2024,
    arXiv:2412.01818, and its public code).

    Half of the budget, rounded down, goes to the tokens with most attention. The others, in order
    of falling attention, are thinned out in rounds. A round splits them alternately in A (the
    first, third, ...) and B, and removes the up to 8 tokens of A with the largest cosine similarity
    to a token of B; those that stay of A, in order of falling similarity, and then B go into the
    next round, until the rest of the budget is left.
    """

    name = "vispruner"
    needs: ClassVar[tuple[str, ...]] = ("attention",)

    def _compress(self, tokens, grid, budget, side: SideInputs) -> CompressedTokens:
        assert side.attention is not None
        important = int(budget[1] * IMPORTANT_SHARE)
        order = side.attention.argsort(dim=1, descending=True, stable=True)
        diverse = _thinned(tokens, order[:, important:], budget[1] - important)
        chosen = torch.cat([order[:, :important], diverse], dim=1).sort(dim=1).values
        return selected(tokens, chosen, grid)


def _thinned(
    tokens: Float[Tensor, "b n c"], rest: Int[Tensor, "b r"], count: int
) -> Int[Tensor, "b k"]:
    """The rounds of VisPruner: `count` of the tokens with index `rest`."""
    unit = F.normalize(tokens, dim=-1)
    while (surplus := rest.shape[1] - count) > 0:
        first, second = rest[:, ::2], rest[:, 1::2]
        nearest = (picked(unit, first) @ picked(unit, second).mT).amax(dim=-1)
        stay = nearest.argsort(dim=1, descending=True, stable=True)[:, min(surplus, MOST_REMOVED) :]
        rest = torch.cat([first.gather(1, stay), second], dim=1)
    return rest


class DPP(TokenReducer):
    """Greedy maximum of a determinantal point process on the tokens' cosine similarities: each next
    token makes the volume that the kept directions span the largest. Of equal volumes, as those of
    one token are, the first counts."""

    name = "dpp"

    def _compress(self, tokens, grid, budget, side: SideInputs) -> CompressedTokens:
        chosen = greedy_map(tokens, self._relevance(tokens, side), budget[1]).sort(dim=1).values
        return selected(tokens, chosen, grid)

    def _relevance(self, tokens: Float[Tensor, "b n c"], side: SideInputs) -> Float[Tensor, "b n"]:
        return torch.ones_like(tokens[..., 0])


class CDPruner(DPP):
    """A determinantal point process conditioned on the question (Zhang et al. 2025,
    arXiv:2506.10967): the kernel is diag(r) S diag(r), with the cosine similarities S of the tokens
    and their relevance r to the question, scaled to 0 to 1 in each image."""

    name = "cdpruner"
    needs: ClassVar[tuple[str, ...]] = ("text",)

    def _relevance(self, tokens: Float[Tensor, "b n c"], side: SideInputs) -> Float[Tensor, "b n"]:
        assert side.text is not None
        low, high = side.text.aminmax(dim=1, keepdim=True)
        # Equally relevant tokens leave the similarities alone.
        return torch.where(high > low, (side.text - low) / (high - low), 1.0)


def greedy_map(
    tokens: Float[Tensor, "b n c"], relevance: Float[Tensor, "b n"], count: int
) -> Int[Tensor, "b k"]:
    """Greedy maximum of det(L) over subsets, L = diag(r) S diag(r) (Chen, Zhang and Zhou 2018).

    Args:
        tokens: S are their cosine similarities.
        relevance: r, at least 0.
        count: size of the subsets.

    Returns:
        Indices in the order in which they were chosen, each once. Beyond the rank of S, where all
        determinants are 0, the most relevant tokens that are left.
    """
    # det(L) is the product of r^2 times det(S), so the Cholesky factor is that of S alone: a small
    # relevance costs no digits.
    unit = F.normalize(tokens.double(), dim=-1)
    rows = torch.arange(len(unit), device=unit.device)
    factor = unit.new_zeros(count, *unit.shape[:2])
    # Squared distance of each token from the span of the chosen ones.
    left = torch.ones_like(unit[..., 0])
    weight = relevance.double().square()
    free = torch.ones_like(left, dtype=torch.bool)
    chosen = []
    for step in range(count):
        gain = weight * left.clamp_min(NO_DIRECTION)
        last = gain.masked_fill(~free, -torch.inf).argmax(dim=1)
        chosen.append(last)
        free[rows, last] = False
        similarity = torch.einsum("bnc,bc->bn", unit, unit[rows, last])
        known = torch.einsum("kbn,kb->bn", factor[:step], factor[:step, rows, last])
        length = left[rows, last, None]
        column = (similarity - known) / length.clamp_min(NO_DIRECTION).sqrt()
        factor[step] = torch.where(length > NO_DIRECTION, column, 0.0)
        left = left - factor[step].square()
    return torch.stack(chosen, dim=1)
