"""Statistics of an image's tokens: autocorrelation, effective rank, and loss of average pooling.

Pure functions of tokens (h, w, d). Centred: minus the mean token of the image.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from encoderlab.errors import UsageError
from encoderlab.metrics.matrix import median
from encoderlab.models.token_grid import window_of

OUTLIER_DEVIATIONS = 5.0
OUTLIER_TIMES = 1.5


def norms(tokens: Float[Tensor, "*b h w d"]) -> Float[Tensor, "*b h w"]:
    """The L2 norm of every token.

    Args:
        tokens: a grid of tokens for each image.

    Returns:
        Norms in fp32, at least 0.
    """
    return torch.linalg.vector_norm(tokens.float(), dim=-1)


def outliers(length: Float[Tensor, "*b h w"]) -> Bool[Tensor, "*b h w"]:
    """Tokens that serve as registers (Darcet et al. 2024), by their norm.

    Args:
        length: from `norms`.

    Returns:
        True where the norm is above the image's median by more than five robust standard
        deviations, and above 1.5 times the median.
    """
    flat = length.flatten(-2)
    middle = median(flat)[..., None]
    deviation = 1.4826 * median((flat - middle).abs())[..., None]
    beyond = (flat > middle + OUTLIER_DEVIATIONS * deviation) & (flat > OUTLIER_TIMES * middle)
    return beyond.unflatten(-1, length.shape[-2:])


def morans_i(tokens: Float[Tensor, "h w d"], keep: Bool[Tensor, "h w"] | None = None) -> float:
    """Moran's I of vectors over rook neighbours (Moran 1950).

    Args:
        tokens: of one image.
        keep: tokens that count; pairs with others are left out.

    Returns:
        1 where neighbours are equal, about -1 / (n - 1) without spatial correlation, -1 on a
        checkerboard; NaN for a constant field.
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
    """exp of the entropy of the centred tokens' spectrum (Roy & Vetterli 2007).

    Args:
        tokens: of one image.
        keep: tokens that count.

    Returns:
        The number of directions in which the tokens vary; 0 for a constant field.
    """
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
    """Mean similarity of pairs of patches by distance, rounded to whole patches.

    Args:
        ready: from `comparable`.
        keep: tokens that count.

    Returns:
        (distances in patches from 1, mean similarity at each).
    """
    h, w, _ = ready.shape
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    positions = torch.stack([y.flatten(), x.flatten()], dim=1).float()
    if keep is not None:
        positions = positions[keep.flatten().cpu()]
    flat = _kept(ready, keep)
    similarity = (flat @ flat.T).cpu()
    distance = torch.cdist(positions, positions).round().long()
    upper = torch.triu(torch.ones_like(distance, dtype=torch.bool), diagonal=1)
    total = torch.bincount(distance[upper], weights=similarity[upper])
    count = torch.bincount(distance[upper], minlength=len(total))
    present = count.nonzero().flatten()
    return present.double(), total[present] / count[present]


def pooling_loss(
    tokens: Float[Tensor, "h w d"], budget: tuple[int, int]
) -> tuple[float, Float[Tensor, "h w"]]:
    """The normalised squared error of average pooling: variance within windows over all variance.

    Args:
        tokens: of one image.
        budget: (rows, columns) after pooling.

    Returns:
        (loss from 0 to 1, its share of each token: a map whose mean is the loss).

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
    window = window_of((h, w), budget).to(x.device)
    flat = x.reshape(h * w, d)
    sums = torch.zeros(budget[0] * budget[1], d, dtype=x.dtype, device=x.device)
    sums.index_add_(0, window, flat)
    counts = torch.bincount(window, minlength=len(sums))[:, None]
    error = (flat - (sums / counts)[window]).square().sum(dim=1).reshape(h, w)
    total = float((flat - flat.mean(dim=0)).square().sum())
    if total <= 1e-12 * max(float(flat.square().sum()), 1e-300):
        return 0.0, torch.zeros(h, w, dtype=x.dtype)
    return float(error.sum()) / total, error * (h * w / total)


def compressibility(tokens: Float[Tensor, "h w d"]) -> dict[tuple[int, int], float]:
    """The loss of average pooling at every smaller grid of the same shape.

    Args:
        tokens: of one image.

    Returns:
        (rows, columns) -> loss from 0 to 1, from one token up.
    """
    h, w, _ = tokens.shape
    steps = max(h, w)
    grids = dict.fromkeys(
        (max(1, round(h * k / steps)), max(1, round(w * k / steps))) for k in range(1, steps + 1)
    )
    return {grid: pooling_loss(tokens, grid)[0] for grid in grids}


def smallest_grid(losses: Mapping[tuple[int, int], float], loss: float) -> tuple[int, int]:
    """The smallest grid that keeps the loss of average pooling small.

    Args:
        losses: from `compressibility`.
        loss: the largest loss that is allowed, from 0 to 1.

    Returns:
        (rows, columns); of all tokens where no grid loses so little.
    """
    return next((grid for grid, e in losses.items() if e <= loss + 1e-12), [*losses][-1])


def null_of_pairs(
    ready: Float[Tensor, "n d"], image: Float[Tensor, " n"], pairs: int = 4096, seed: int = 0
) -> tuple[float, float]:
    """Mean and standard deviation of the similarity of random patches from different images.

    Args:
        ready: from `comparable`.
        image: which image each patch is from.
        pairs: how many are drawn.
        seed: of the draw.

    Returns:
        (mean, standard deviation), in the metric of `comparable`.

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
