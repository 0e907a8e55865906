"""Training-free methods that merge similar tokens: ToMe and k-means.

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
    """Mean tokens of clusters: Lloyd's algorithm in cosine, started at farthest points."""

    name = "kmeans"

    def _compress(self, tokens, grid, budget, side) -> CompressedTokens:
        count = budget[1]
        unit = F.normalize(tokens, dim=-1)
        start = farthest_points(tokens, count)
        centres = unit.gather(1, start.unsqueeze(-1).expand(-1, -1, unit.shape[-1]))
        assignment = self._assign(unit, centres)
        for _ in range(LLOYD_STEPS):
            centres = F.normalize(merged(unit, assignment, count, grid).tokens, dim=-1)
            previous, assignment = assignment, self._assign(unit, centres)
            if torch.equal(previous, assignment):
                break
        return merged(tokens, assignment, count, grid)

    @staticmethod
    def _assign(
        unit: Float[Tensor, "b n c"], centres: Float[Tensor, "b k c"]
    ) -> Int[Tensor, "b n"]:
        """The nearest centre of each token; no cluster is empty."""
        # An empty cluster gets the token least similar to its own centre, from a cluster with more
        # than one, so that the budget is exact.
        similarity = unit @ centres.mT
        assignment = similarity.argmax(dim=-1)
        for image in range(len(unit)):
            counts = torch.bincount(assignment[image], minlength=centres.shape[1])
            own = similarity[image].gather(1, assignment[image][:, None])[:, 0]
            for empty in (counts == 0).nonzero().flatten().tolist():
                single = counts[assignment[image]] < 2
                moved = int(own.masked_fill(single, torch.inf).argmin())
                counts[assignment[image, moved]] -= 1
                assignment[image, moved] = empty
                counts[empty] += 1
                own[moved] = torch.inf
        return assignment


class ToMe(TokenReducer):
    """Bipartite soft matching (Bolya et al. 2023), repeated until the budget is reached.

    Each step splits the tokens in two sets and merges the r most similar pairs across them into
    means weighted by size. Similarity is the cosine of the keys where they are given, else of the
    tokens.

    Args:
        split: "parity" takes every other token, as published: on a grid of even width a token is
            never compared with its vertical neighbour in the first step; "checkerboard" splits by
            row + column.
    """

    name = "tome"

    def __init__(self, split: Literal["parity", "checkerboard"] = "parity") -> None:
        self.split = split

    def _compress(self, tokens, grid, budget, side) -> CompressedTokens:
        b, n, _ = tokens.shape
        device = tokens.device
        keys = None if side.keys is None else at_least_fp32(side.keys)
        sizes = torch.ones(b, n, 1, device=device)
        positions = positions_of(grid).to(device).expand(b, n, 2)
        owner = torch.arange(n, device=device).expand(b, n)
        colour = self.colour(grid).to(device).expand(b, n)
        while (count := tokens.shape[1]) > budget[1]:
            features = tokens if keys is None else keys
            target, kept = bipartite_step(features, colour, count - budget[1])
            total = _added(sizes, target, kept)
            tokens = _added(tokens * sizes, target, kept) / total
            positions = _added(positions * sizes, target, kept) / total
            if keys is not None:
                keys = _added(keys * sizes, target, kept) / total
            sizes, colour = total, colour.gather(1, kept)
            owner = _renumbered(target, kept).gather(1, owner)
            if self.split == "parity":
                colour = torch.arange(tokens.shape[1], device=device).expand(b, -1) % 2
        return CompressedTokens(tokens, positions, sizes.squeeze(-1), owner)

    def colour(self, grid: Grid) -> Int[Tensor, " n"]:
        """Which of the two sets, 0 or 1, each place belongs to in the first step."""
        if self.split == "parity":
            return torch.arange(grid[0] * grid[1]) % 2
        return positions_of(grid).sum(dim=1).long() % 2


def bipartite_step(
    features: Float[Tensor, "b n c"], colour: Int[Tensor, "b n"], most: int
) -> tuple[Int[Tensor, "b n"], Int[Tensor, "b m"]]:
    """One step: each token of colour 0 is paired with its most similar one of colour 1, and the
    most similar pairs are merged.

    Args:
        features: compared by cosine.
        colour: 0 or 1 for each token.
        most: how many pairs are merged at most; at least one is.

    Returns:
        (index of the token that each one is merged into, indices of the remaining tokens, sorted).
    """
    b, n, _ = features.shape
    per_image = (colour == 0).sum(dim=1)
    # The same number for every image, so that the images stay one tensor.
    merges = min(most, int(per_image.min()))
    indices = torch.arange(n, device=features.device).expand(b, n)
    if merges < 1 or int(per_image[0]) == n:  # one colour is used up
        return bipartite_step(features, indices % 2, most)
    best, partner = _most_similar(F.normalize(features, dim=-1), colour)
    order = best.argsort(dim=1, descending=True, stable=True)[:, :merges]
    target = indices.scatter(1, order, partner.gather(1, order))
    remains = torch.ones_like(indices, dtype=torch.bool).scatter_(1, order, False)
    return target, remains.nonzero()[:, 1].reshape(b, n - merges)


def _most_similar(
    unit: Float[Tensor, "b n c"], colour: Int[Tensor, "b n"]
) -> tuple[Float[Tensor, "b n"], Int[Tensor, "b n"]]:
    """(cosine, index) of the most similar token of colour 1, for colour 0; -inf for colour 1."""
    b, n = unit.shape[:2]
    if not bool((colour == colour[:1]).all()):
        across = (colour[:, :, None] == 0) & (colour[:, None, :] == 1)
        return (unit @ unit.mT).masked_fill(~across, -torch.inf).max(dim=-1)
    # The same colours in every image, as always in the first step: a quarter of the products.
    zeros, ones = ((colour[0] == which).nonzero()[:, 0] for which in (0, 1))
    nearest = (unit[:, zeros] @ unit[:, ones].mT).max(dim=-1)
    best = unit.new_full((b, n), -torch.inf)
    partner = torch.zeros(b, n, dtype=torch.long, device=unit.device)
    best[:, zeros], partner[:, zeros] = nearest.values, ones[nearest.indices]
    return best, partner


def _added(
    values: Float[Tensor, "b n d"], target: Int[Tensor, "b n"], kept: Int[Tensor, "b m"]
) -> Float[Tensor, "b m d"]:
    """Sums over the tokens that are merged into each remaining one."""
    index = target.unsqueeze(-1).expand_as(values)
    total = torch.zeros_like(values).scatter_add_(1, index, values)
    return total.gather(1, kept.unsqueeze(-1).expand(-1, -1, values.shape[-1]))


def _renumbered(target: Int[Tensor, "b n"], kept: Int[Tensor, "b m"]) -> Int[Tensor, "b n"]:
    """The new index of the token that each old one was merged into."""
    b, n = target.shape
    number = torch.zeros(b, n, dtype=torch.long, device=target.device)
    number.scatter_(1, kept, torch.arange(kept.shape[1], device=target.device).expand(b, -1))
    return number.gather(1, target)
