"""Numbers about the tokens of an image: how they hang together, how many there really are, and how
few would do.

Pure functions of tokens (h, w, d). Centred: minus the mean token of the image.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from encoderlab.errors import UsageError
from encoderlab.metrics.matrix import median
from encoderlab.models.token_grid import window_of

OUTLIER_DEVIATIONS = 5.0
OUTLIER_TIMES = 1.5


def norms(tokens: Float[Tensor, "*b h w d"]) -> Float[Tensor, "*b h w"]:
    """The length of every token."""
    return torch.linalg.vector_norm(tokens.float(), dim=-1)


def outliers(length: Float[Tensor, "*b h w"]) -> Bool[Tensor, "*b h w"]:
    """Tokens that serve as registers: their length is five robust deviations above the image's
    median, and half as much again (Darcet et al. 2024 find them many times as long)."""
    flat = length.flatten(-2)
    middle = median(flat)[..., None]
    deviation = 1.4826 * median((flat - middle).abs())[..., None]
    beyond = (flat > middle + OUTLIER_DEVIATIONS * deviation) & (flat > OUTLIER_TIMES * middle)
    return beyond.unflatten(-1, length.shape[-2:])


def morans_i(tokens: Float[Tensor, "h w d"], keep: Bool[Tensor, "h w"] | None = None) -> float:
    """Moran's I over rook neighbours, of vectors: 1 where neighbours are the same, about
    -1 / (n - 1) where place does not matter, -1 on a checkerboard (Moran 1950); NaN for a constant
    field.

    Args:
        keep: tokens that count; pairs with another one are left out.
    """
    tokens = tokens.double()
    keep = torch.ones(tokens.shape[:2], dtype=torch.bool) if keep is None else keep
    keep = keep.to(tokens.device)
    n = int(keep.sum())
    if n < 2:
        return float("nan")
    x = tokens - tokens[keep].mean(dim=0)
    x = torch.where(keep[..., None], x, torch.zeros_like(x))
    right = (x[:, :-1] * x[:, 1:]).sum()
    down = (x[:-1] * x[1:]).sum()
    pairs = (keep[:, :-1] & keep[:, 1:]).sum() + (keep[:-1] & keep[1:]).sum()
    variance = x.square().sum()
    scale = float(tokens.square().sum())
    if float(variance) <= 1e-12 * scale or not int(pairs):
        return float("nan")
    return float((right + down) / pairs * n / variance)


def effective_rank(
    tokens: Float[Tensor, "h w d"], keep: Bool[Tensor, "h w"] | None = None
) -> float:
    """exp of the entropy of the centred tokens' spectrum (Roy & Vetterli 2007): in how many
    directions an image's tokens vary; 0 for a constant field."""
    flat = _kept(tokens, keep)
    flat = flat - flat.mean(dim=0)
    gram = flat @ flat.T if len(flat) < flat.shape[1] else flat.T @ flat
    values = torch.linalg.eigvalsh(gram).clamp_min(0)
    total = float(values.sum())
    if total <= 1e-12 * max(float(tokens.double().square().sum()), 1e-300):
        return 0.0
    shares = values / total
    shares = shares[shares > 1e-12]
    return float(torch.exp(-(shares * shares.log()).sum()))


def by_distance(
    ready: Float[Tensor, "h w d"], keep: Bool[Tensor, "h w"] | None = None
) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
    """(distance in patches, mean similarity of all pairs about so far apart), for each whole
    distance from 1; `ready` is from `comparable`."""
    h, w, _ = ready.shape
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    place = torch.stack([y.flatten(), x.flatten()], dim=1).float()
    if keep is not None:
        place = place[keep.flatten().cpu()]
    flat = _kept(ready, keep)
    similarity = (flat @ flat.T).cpu()
    apart = torch.cdist(place, place).round().long()
    upper = torch.triu(torch.ones_like(apart, dtype=torch.bool), diagonal=1)
    total = torch.bincount(apart[upper], weights=similarity[upper])
    count = torch.bincount(apart[upper], minlength=len(total))
    there = count.nonzero().flatten()
    return there.double(), total[there] / count[there]


def pooling_loss(
    tokens: Float[Tensor, "h w d"], budget: tuple[int, int]
) -> tuple[float, Float[Tensor, "h w"]]:
    """What average pooling to `budget` (rows, columns) loses, without decoding anything.

    The normalised squared error of giving every place its window's mean is the variance within
    windows over the variance in all: exactly. The map says where it falls: its mean is the loss.

    Raises:
        UsageError: a budget that is larger than the grid, or not positive.
    """
    h, w, d = tokens.shape
    if not (1 <= budget[0] <= h and 1 <= budget[1] <= w):
        raise UsageError(
            "the budget does not fit the grid", got=f"{budget[0]} x {budget[1]}",
            want=f"1 x 1 to {h} x {w}",
        )  # fmt: skip
    x = tokens.double()
    place = window_of((h, w), budget).to(x.device)
    flat = x.reshape(h * w, d)
    sums = torch.zeros(budget[0] * budget[1], d, dtype=x.dtype, device=x.device)
    sums.index_add_(0, place, flat)
    counts = torch.bincount(place, minlength=len(sums))[:, None]
    error = (flat - (sums / counts)[place]).square().sum(dim=1).reshape(h, w)
    total = float((flat - flat.mean(dim=0)).square().sum())
    if total <= 1e-12 * max(float(flat.square().sum()), 1e-300):
        return 0.0, torch.zeros(h, w, dtype=x.dtype)
    return float(error.sum()) / total, error * (h * w / total)


def compressibility(tokens: Float[Tensor, "h w d"]) -> dict[tuple[int, int], float]:
    """The loss of average pooling at every smaller grid of the same shape, from one token up."""
    h, w, _ = tokens.shape
    steps = max(h, w)
    grids = dict.fromkeys(
        (max(1, round(h * k / steps)), max(1, round(w * k / steps))) for k in range(1, steps + 1)
    )
    return {grid: pooling_loss(tokens, grid)[0] for grid in grids}


def null_of_pairs(
    ready: Float[Tensor, "n d"], image: Float[Tensor, " n"], pairs: int = 4096, seed: int = 0
) -> tuple[float, float]:
    """Mean and standard deviation of the similarity of random patches from different images: what a
    similarity is when there is nothing in common but the encoder.

    Args:
        image: which image each patch is from.

    Raises:
        UsageError: patches of one image only.
    """
    if len(image.unique()) < 2:
        raise UsageError("a null needs patches of at least two images", got="one image")
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.randint(len(ready), (4 * pairs,), generator=generator) for _ in range(2))
    other = image.cpu()[a] != image.cpu()[b]
    a, b = a[other][:pairs].to(ready.device), b[other][:pairs].to(ready.device)
    values = torch.linalg.vecdot(ready[a], ready[b])
    return float(values.mean()), float(values.std())


def _kept(tokens: Tensor, keep: Bool[Tensor, "h w"] | None) -> Float[Tensor, "n d"]:
    flat = tokens.double().flatten(0, 1)
    return flat if keep is None else flat[keep.flatten().to(flat.device)]
