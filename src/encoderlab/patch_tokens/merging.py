"""Training-free methods that merge similar tokens: k-means, VisionZip, ApET and ToMe.

b images, n tokens, c channels, k kept.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from encoderlab.models.token_grid import at_least_fp32
from encoderlab.patch_tokens.pooling import TOGETHER, farthest_points
from encoderlab.patch_tokens.reducer import (
    CompressedTokens,
    Grid,
    SideInputs,
    TokenReducer,
    merged,
    positions_of,
    selected,
)

LLOYD_STEPS = 10
DOMINANT_SHARE = 54 / 64  # VisionZip's 54 dominant and 10 contextual tokens for LLaVA-1.5
BASIS = 10  # tokens of ApET


class KMeans(TokenReducer):
    """Mean tokens of clusters: Lloyd's algorithm in cosine, started at farthest points."""

    name = "kmeans"

    def _compress(self, tokens, grid, budget, side) -> CompressedTokens:
        assignment = [self._clusters(part, budget[1], grid) for part in tokens.split(TOGETHER)]
        return merged(tokens, torch.cat(assignment), budget[1], grid)

    def _clusters(
        self, tokens: Float[Tensor, "b n c"], count: int, grid: Grid
    ) -> Int[Tensor, "b n"]:
        unit = F.normalize(tokens, dim=-1)
        start = farthest_points(tokens, count)
        centres = unit.gather(1, start.unsqueeze(-1).expand(-1, -1, unit.shape[-1]))
        assignment = self._assign(unit, centres)
        for _ in range(LLOYD_STEPS):
            centres = F.normalize(merged(unit, assignment, count, grid).tokens, dim=-1)
            previous, assignment = assignment, self._assign(unit, centres)
            if torch.equal(previous, assignment):
                break
        return assignment

    @staticmethod
    def _assign(
        unit: Float[Tensor, "b n c"], centres: Float[Tensor, "b k c"]
    ) -> Int[Tensor, "b n"]:
        """The nearest centre of each token; no cluster is empty."""
        # An empty cluster gets the token least similar to its own centre, from a cluster with more
        # than one, so that the budget is exact.
        similarity = unit @ centres.mT
        assignment = similarity.argmax(dim=-1)
        sizes = torch.zeros_like(similarity[:, 0], dtype=torch.long)
        sizes.scatter_add_(1, assignment, torch.ones_like(assignment))
        for image in (sizes == 0).any(dim=1).nonzero().flatten().tolist():
            counts = sizes[image]
            own = similarity[image].gather(1, assignment[image][:, None])[:, 0]
            for empty in (counts == 0).nonzero().flatten().tolist():
                single = counts[assignment[image]] < 2
                moved = int(own.masked_fill(single, torch.inf).argmin())
                counts[assignment[image, moved]] -= 1
                assignment[image, moved] = empty
                counts[empty] += 1
                own[moved] = torch.inf
        return assignment


class VisionZip(TokenReducer):
    """Dominant tokens by attention, and contextual ones that merge the rest (Yang et al. 2024,
    arXiv:2412.04467, and its public code).

    54 of 64 tokens, rounded, and at least one of each kind from two tokens on, are dominant: those
    with most attention. Of the m others every (m // contextual)-th from the first is a target; each
    of the rest joins the target with the most similar key, by cosine, and each group is replaced by
    its mean. CLS, which the public code counts among the dominant tokens, is no patch and not kept.
    A single token is the dominant one.
    """

    name = "visionzip"
    needs: ClassVar[tuple[str, ...]] = ("attention", "keys")

    def _compress(self, tokens, grid, budget, side: SideInputs) -> CompressedTokens:
        assert side.attention is not None and side.keys is not None
        (b, n, _), count = tokens.shape, budget[1]
        dominant = min(max(round(count * DOMINANT_SHARE), 1), max(count - 1, 1))
        chosen = side.attention.topk(dominant, dim=1).indices.sort(dim=1).values
        if dominant == count:
            return selected(tokens, chosen, grid)
        others = torch.ones(b, n, dtype=torch.bool, device=tokens.device).scatter_(1, chosen, False)
        rest = others.nonzero()[:, 1].reshape(b, n - dominant)
        contextual = count - dominant
        targets = rest[:, :: rest.shape[1] // contextual][:, :contextual]
        kept = torch.cat([chosen, targets], dim=1)
        return _merged_into(tokens, kept, at_least_fp32(side.keys), grid, first=dominant)


class ApET(TokenReducer):
    """Tokens that few others can express are kept, the others merged (Ma et al. 2026,
    arXiv:2602.19870: approximation error instead of attention).

    10 basis tokens, or as many as are kept if these are fewer, are chosen by farthest-point
    sampling and kept. Of the others those are kept whose least-squares approximation by the basis
    has the largest error ||v - v'||; each remaining one is averaged into the most similar kept
    token. The abstract gives the approximation error; the number of basis tokens, their sampling
    and the merging are those of a published summary of the paper. Distance and similarity are taken
    as cosine here; neither source says which they are.
    """

    name = "apet"

    def _compress(self, tokens, grid, budget, side) -> CompressedTokens:
        basis = farthest_points(tokens, min(BASIS, budget[1]))
        spanning = tokens.gather(1, basis.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
        approximated = tokens @ torch.linalg.pinv(spanning) @ spanning
        error = (tokens - approximated).norm(dim=-1).scatter_(1, basis, torch.inf)
        kept = error.topk(budget[1], dim=1).indices.sort(dim=1).values
        return _merged_into(tokens, kept, tokens, grid)


def _merged_into(
    tokens: Float[Tensor, "b n c"],
    kept: Int[Tensor, "b k"],
    features: Float[Tensor, "b n d"],
    grid: Grid,
    first: int = 0,
) -> CompressedTokens:
    """Averages every token into the most similar kept one.

    Args:
        tokens: all tokens.
        kept: indices of those that the others are averaged into.
        features: compared by cosine.
        grid: (rows, columns) of the tokens.
        first: number of the first kept token that others are averaged into.

    Returns:
        One token for each of `kept`, in that order.
    """
    unit = F.normalize(features, dim=-1)
    into = kept[:, first:].unsqueeze(-1).expand(-1, -1, unit.shape[-1])
    assignment = first + (unit @ unit.gather(1, into).mT).argmax(dim=-1)
    own = torch.arange(kept.shape[1], device=kept.device).expand_as(kept)
    return merged(tokens, assignment.scatter_(1, kept, own), kept.shape[1], grid)


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
