"""Distances between two sets of tokens that need no critic: sliced Wasserstein, Sinkhorn, MMD.

n and m tokens, c channels.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from encoderlab.metrics.matrix import median

PROJECTIONS = 128
SINKHORN_STEPS = 50


def sliced_wasserstein(
    x: Float[Tensor, "n c"],
    y: Float[Tensor, "m c"],
    projections: int = PROJECTIONS,
    generator: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    """Mean over random directions of the Wasserstein-1 distance of the projections (Rabin et al.
    2012); sets of other sizes are compared at as many quantiles as the larger has."""
    directions = torch.randn(x.shape[1], projections, generator=generator).to(x)
    directions = directions / directions.norm(dim=0, keepdim=True)
    a, b = ((one @ directions).sort(dim=0).values for one in (x, y))
    count = max(len(a), len(b))
    if len(a) != len(b):
        at = (torch.arange(count, device=x.device) + 0.5) / count
        a, b = (one[(at * len(one)).long().clamp_max(len(one) - 1)] for one in (a, b))
    return (a - b).abs().mean()


def sinkhorn_divergence(
    x: Float[Tensor, "n c"],
    y: Float[Tensor, "m c"],
    blur: float = 0.05,
    steps: int = SINKHORN_STEPS,
) -> Float[Tensor, ""]:
    """Entropic optimal transport of squared distances without its bias (Feydy et al. 2019): 0 for
    equal sets, near half the squared Wasserstein-2 distance for small `blur`.

    Args:
        blur: the entropy's scale, as a share of the root mean squared distance of the two sets.
    """
    with torch.no_grad():
        scale = float(_costs(x, y).mean().clamp_min(1e-12))
    epsilon = blur**2 * 2 * scale
    return (
        _transport(x, y, epsilon, steps)
        - _transport(x, x, epsilon, steps) / 2
        - _transport(y, y, epsilon, steps) / 2
    )


def mmd(
    x: Float[Tensor, "n c"], y: Float[Tensor, "m c"], width: float | None = None
) -> Float[Tensor, ""]:
    """Squared maximum mean discrepancy, unbiased, RBF kernel (Gretton et al. 2012): 0 on average
    for sets from one distribution; can be negative.

    Args:
        width: of the kernel; the median distance of both sets if not given.
    """
    both = torch.cat([x, y])
    squared = 2 * _costs(both, both)
    if width is None:
        n = len(both)
        apart = squared.detach()[~torch.eye(n, dtype=torch.bool, device=x.device)]
        width = max(float(median(apart.sqrt())), 1e-6)
    kernel = torch.exp(-squared / (2 * width**2))
    n, m = len(x), len(y)
    xx, yy, xy = kernel[:n, :n], kernel[n:, n:], kernel[:n, n:]
    return (
        (xx.sum() - xx.diagonal().sum()) / (n * (n - 1))
        + (yy.sum() - yy.diagonal().sum()) / (m * (m - 1))
        - 2 * xy.mean()
    )


def _costs(x: Float[Tensor, "n c"], y: Float[Tensor, "m c"]) -> Float[Tensor, "n m"]:
    """Half the squared distances; by products, since a distance has no gradient at 0."""
    squares = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1)[None, :]
    return (squares / 2 - x @ y.T).clamp_min(0)


def _transport(
    x: Float[Tensor, "n c"], y: Float[Tensor, "m c"], epsilon: float, steps: int
) -> Float[Tensor, ""]:
    """Entropic transport cost by Sinkhorn steps on the dual, averaged for symmetry."""
    cost = _costs(x, y)
    log_n, log_m = -math.log(len(x)), -math.log(len(y))
    f, g = cost.new_zeros(len(x)), cost.new_zeros(len(y))

    def soft_min(potential: Tensor, weight: float, table: Tensor) -> Tensor:
        return -epsilon * torch.logsumexp(weight + (potential[None, :] - table) / epsilon, dim=1)

    with torch.no_grad():
        for _ in range(steps):
            f, g = (
                (f + soft_min(g, log_m, cost)) / 2,
                (g + soft_min(f, log_n, cost.T)) / 2,
            )
        g = soft_min(f, log_n, cost.T)
    # The semi-dual at its optimum: its slope in g is 0, so the gradient through this one step is
    # that of the whole.
    return soft_min(g, log_m, cost).mean() + g.mean()
