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
    picked,
    positions_of,
    selected,
    summed,
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
        centres = picked(unit, start)
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
        spanning = picked(tokens, basis)
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
    assignment = first + (unit @ picked(unit, kept[:, first:]).mT).argmax(dim=-1)
    own = torch.arange(kept.shape[1], device=kept.device).expand_as(kept)
    return merged(tokens, assignment.scatter_(1, kept, own), kept.shape[1], grid)


class ToMe(TokenReducer):
    """Bipartite soft matching (Bolya et al. 2023), repeated until the budget is reached.

    Each step splits the tokens in two sets and merges the most similar pairs across them into means
    weighted by size: all tokens of the first set, or as many as the budget asks for.

    Args:
        split: "parity" takes every other token, as published: on a grid of even width a token is
            never compared with its vertical neighbour in the first step; "checkerboard" splits by
            row + column in the first step.
        similarity: "tokens", or "keys" as published, which are then needed; by cosine.
    """

    name = "tome"

    def __init__(
        self,
        split: Literal["parity", "checkerboard"] = "parity",
        similarity: Literal["tokens", "keys"] = "tokens",
    ) -> None:
        self.split, self.similarity = split, similarity
        self.needs: tuple[str, ...] = ("keys",) if similarity == "keys" else ()  # type: ignore[misc]

    def _compress(self, tokens, grid, budget, side) -> CompressedTokens:
        b, count, _ = tokens.shape
        features = at_least_fp32(side.keys) if "keys" in self.needs else tokens
        colour = self.colour(grid).to(tokens.device)
        assignment = torch.arange(count, device=tokens.device).expand(b, count)
        while count > budget[1]:
            number = bipartite_step(features, colour, count - budget[1])
            assignment = number.gather(1, assignment)
            count = max(budget[1], count - int((colour == 0).sum()))
            if count > budget[1]:
                # A cosine does not see that a sum is longer than the mean.
                features = summed(features, number, count)
                colour = torch.arange(count, device=tokens.device) % 2
        return merged(tokens, assignment, count, grid)

    def colour(self, grid: Grid) -> Int[Tensor, " n"]:
        """Which of the two sets, 0 or 1, each place belongs to in the first step."""
        n = grid[0] * grid[1]
        if self.split == "parity" or n == 1:
            return torch.arange(n) % 2
        return positions_of(grid).sum(dim=1).long() % 2


def bipartite_step(
    features: Float[Tensor, "b n c"], colour: Int[Tensor, " n"], most: int
) -> Int[Tensor, "b n"]:
    """One step: each token of colour 0 is paired with its most similar one of colour 1, and the
    most similar pairs are merged.

    Args:
        features: compared by cosine.
        colour: 0 or 1 for each token; both occur.
        most: how many pairs are merged at most.

    Returns:
        For each token the number of the one that it is, or is merged into; those that remain keep
        their order.
    """
    b, n, _ = features.shape
    zeros, ones = ((colour == which).nonzero()[:, 0] for which in (0, 1))
    length = features.norm(dim=-1).clamp_min(1e-12)
    similarity = features[:, zeros] @ features[:, ones].mT / length[:, None, ones]
    best, partner = similarity.max(dim=-1)
    target = torch.arange(n, device=features.device).repeat(b, 1)
    remains = torch.ones_like(target)
    partner = ones[partner]
    if most < len(zeros):
        order = (best / length[:, zeros]).argsort(dim=1, descending=True, stable=True)[:, :most]
        gone, partner = zeros[order], partner.gather(1, order)
        target.scatter_(1, gone, partner)
        remains.scatter_(1, gone, 0)
    else:
        target[:, zeros] = partner
        remains[:, zeros] = 0
    return (remains.cumsum(dim=1) - 1).gather(1, target)
