"""Methods without training that put like tokens together: ToMe and k-means.

b images, n tokens, c channels, k kept.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from encoderlab.models.token_grid import at_least_fp32
from encoderlab.patch_tokens.pooling import farthest_points
from encoderlab.patch_tokens.reducer import (
    CompressedTokens,
    Grid,
    TokenReducer,
    merged,
    positions_of,
)

LLOYD_STEPS = 10


class KMeans(TokenReducer):
    """Lloyd's algorithm on cosine from diverse tokens on, and the mean of each cluster."""

    name = "kmeans"

    def _compress(self, tokens, grid, budget, side) -> CompressedTokens:
        count = budget[1]
        unit = F.normalize(tokens, dim=-1)
        start = farthest_points(tokens, count)
        centres = unit.gather(1, start.unsqueeze(-1).expand(-1, -1, unit.shape[-1]))
        assignment = self._assign(unit, centres)
        for _ in range(LLOYD_STEPS):
            centres = F.normalize(merged(unit, assignment, count, grid).tokens, dim=-1)
            again = self._assign(unit, centres)
            if torch.equal(again, assignment):
                break
            assignment = again
        return merged(tokens, assignment, count, grid)

    @staticmethod
    def _assign(
        unit: Float[Tensor, "b n c"], centres: Float[Tensor, "b k c"]
    ) -> Int[Tensor, "b n"]:
        """The nearest centre of each token; a centre that nobody is nearest to is given the token
        that is least like its own, of clusters with more than one: the budget is exact."""
        similarity = unit @ centres.mT
        assignment = similarity.argmax(dim=-1)
        for image in range(len(unit)):
            counts = torch.bincount(assignment[image], minlength=centres.shape[1])
            own = similarity[image].gather(1, assignment[image][:, None])[:, 0]
            for empty in (counts == 0).nonzero().flatten().tolist():
                lonely = counts[assignment[image]] < 2
                moved = int(own.masked_fill(lonely, torch.inf).argmin())
                counts[assignment[image, moved]] -= 1
                assignment[image, moved] = empty
                counts[empty] += 1
                own[moved] = torch.inf
        return assignment


class ToMe(TokenReducer):
    """Bipartite soft matching (Bolya et al. 2023), step by step to the budget.

    In every step the tokens are split in two sets; the r most like pairs across are merged, as
    means weighted by size. Likeness is the cosine of the keys where they are given, else of the
    tokens.

    Args:
        split: "parity" takes every other token, as published: on a grid of even width a token never
            meets its vertical neighbour in the first step; "checkerboard" splits by row + column.
    """

    name = "tome"

    def __init__(self, split: Literal["parity", "checkerboard"] = "parity") -> None:
        self.split = split

    def _compress(self, tokens, grid, budget, side) -> CompressedTokens:
        b, n, _ = tokens.shape
        x = tokens
        likeness = x if side.keys is None else at_least_fp32(side.keys)
        sizes = torch.ones(b, n, device=tokens.device)
        where = positions_of(grid).to(tokens.device).expand(b, n, 2)
        owner = torch.arange(n, device=tokens.device).expand(b, n)
        colour = self.colour(grid).to(tokens.device).expand(b, n)
        while x.shape[1] > budget[1]:
            target, kept = bipartite_step(likeness, colour, x.shape[1] - budget[1])
            weights = sizes.unsqueeze(-1)
            total = _added(sizes, target, kept)
            merged_x = _added(x * weights, target, kept) / total.unsqueeze(-1)
            if likeness is x:
                likeness = merged_x
            else:
                likeness = _added(likeness * weights, target, kept) / total.unsqueeze(-1)
            x = merged_x
            where = _added(where * weights, target, kept) / total.unsqueeze(-1)
            colour = colour.gather(1, kept)
            owner = _renumbered(target, kept).gather(1, owner)
            sizes = total
            if self.split == "parity":
                colour = torch.arange(x.shape[1], device=x.device).expand(b, -1) % 2
        return CompressedTokens(x, where, sizes, owner, None)

    def colour(self, grid: Grid) -> Int[Tensor, " n"]:
        """Which of the two sets each place belongs to in the first step."""
        if self.split == "parity":
            return torch.arange(grid[0] * grid[1]) % 2
        return positions_of(grid).sum(dim=1).long() % 2


def bipartite_step(
    likeness: Float[Tensor, "b n c"], colour: Int[Tensor, "b n"], most: int
) -> tuple[Int[Tensor, "b n"], Int[Tensor, "b m"]]:
    """(the token that each goes to, the tokens that are left, in order) of one step: the `most`
    pairs of a token of colour 0 with its most like one of colour 1 that are most alike."""
    b, n, _ = likeness.shape
    per_image = (colour == 0).sum(dim=1)
    # Every image gives up as many, so that they stay one tensor.
    merges = min(most, int(per_image.min()))
    if merges < 1 or int(per_image[0]) == n:
        # One colour is used up: every other token is taken instead.
        parity = torch.arange(n, device=likeness.device).expand(b, n) % 2
        return bipartite_step(likeness, parity, most)
    best, partner = _most_alike(F.normalize(likeness, dim=-1), colour)
    target = torch.arange(n, device=likeness.device).expand(b, n).clone()
    order = best.argsort(dim=1, descending=True, stable=True)[:, :merges]
    target.scatter_(1, order, partner.gather(1, order))
    left = torch.ones(b, n, dtype=torch.bool, device=likeness.device).scatter_(1, order, False)
    kept = left.nonzero()[:, 1].reshape(b, n - merges)
    return target, kept


def _most_alike(
    unit: Float[Tensor, "b n c"], colour: Int[Tensor, "b n"]
) -> tuple[Float[Tensor, "b n"], Int[Tensor, "b n"]]:
    """(cosine, number) of the token of colour 1 that each of colour 0 is most like; -inf for those
    of colour 1."""
    b, n = unit.shape[:2]
    if not bool((colour == colour[:1]).all()):
        across = (colour[:, :, None] == 0) & (colour[:, None, :] == 1)
        return (unit @ unit.mT).masked_fill(~across, -torch.inf).max(dim=-1)
    # The same colours in every image, as in the first step always: a quarter of the products.
    zero, one = ((colour[0] == which).nonzero()[:, 0] for which in (0, 1))
    found = (unit[:, zero] @ unit[:, one].mT).max(dim=-1)
    best = unit.new_full((b, n), -torch.inf)
    partner = torch.zeros(b, n, dtype=torch.long, device=unit.device)
    best[:, zero], partner[:, zero] = found.values, one[found.indices]
    return best, partner


def _added(
    values: Float[Tensor, "b n *d"], target: Int[Tensor, "b n"], kept: Int[Tensor, "b m"]
) -> Float[Tensor, "b m *d"]:
    """The sums of what goes together, of the tokens that are left."""
    flat = values if values.ndim == 3 else values.unsqueeze(-1)
    index = target.unsqueeze(-1).expand_as(flat)
    total = torch.zeros_like(flat).scatter_add_(1, index, flat)
    out = total.gather(1, kept.unsqueeze(-1).expand(-1, -1, flat.shape[-1]))
    return out if values.ndim == 3 else out.squeeze(-1)


def _renumbered(target: Int[Tensor, "b n"], kept: Int[Tensor, "b m"]) -> Int[Tensor, "b n"]:
    """The new number of the token that each old one went to."""
    b, n = target.shape
    number = torch.zeros(b, n, dtype=torch.long, device=target.device)
    number.scatter_(1, kept, torch.arange(kept.shape[1], device=target.device).expand(b, -1))
    return number.gather(1, target)
