"""Distances between two sets of tokens without a critic: sliced Wasserstein, Sinkhorn, MMD.

All of them compute in fp32 at least. n and m tokens, c channels.
"""

from __future__ import annotations

import math
import warnings

import torch
from jaxtyping import Float
from torch import Tensor

from encoderlab.metrics.matrix import median
from encoderlab.models.token_grid import at_least_fp32

PROJECTIONS = 128
SINKHORN_STEPS, SINKHORN_TOLERANCE, PLAIN_STEPS, TINY = 3000, 1e-2, 20, 1e-30


def sliced_wasserstein(
    x: Float[Tensor, "n c"],
    y: Float[Tensor, "m c"],
    projections: int = PROJECTIONS,
    generator: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    """Mean over random directions of the Wasserstein-1 distance of the projections (Rabin et al.
    2012), exact for sets of any two sizes.

    Args:
        x: a set of n vectors.
        y: a set of m vectors.
        projections: number of directions.
        generator: of the directions.

    Returns:
        A scalar, at least 0; 0 for equal sets.
    """
    x, y = at_least_fp32(x), at_least_fp32(y)
    along = directions(x.shape[1], projections, generator).to(x)
    a, b = ((tokens @ along).sort(dim=0).values for tokens in (x, y))
    if len(a) == len(b):
        return (a - b).abs().mean()
    # W1 is the area between the quantile functions, which are steps of width 1/n and 1/m: between
    # consecutive ends of steps, in units of 1/(n m), both are constant.
    n, m = len(a), len(b)
    ends = torch.cat([torch.arange(n + 1) * m, torch.arange(m + 1) * n]).unique().to(x.device)
    start, width = ends[:-1], ends.diff().to(x.dtype) / (n * m)
    return (width @ (a[start // m] - b[start // n]).abs()).mean()


def directions(
    channels: int, count: int, generator: torch.Generator | None = None
) -> Float[Tensor, "channels count"]:
    """Random directions, uniform on the sphere: unit vectors in columns."""
    drawn = torch.randn(channels, count, generator=generator)
    return drawn / drawn.norm(dim=0, keepdim=True)


def sinkhorn_divergence(
    x: Float[Tensor, "n c"],
    y: Float[Tensor, "m c"],
    blur: float = 0.05,
    steps: int = SINKHORN_STEPS,
    tolerance: float = SINKHORN_TOLERANCE,
) -> Float[Tensor, ""]:
    """Entropic optimal transport of squared distances without its bias (Feydy et al. 2019): 0 for
    equal sets, near half the squared Wasserstein-2 distance for small `blur`.

    Args:
        x: a set of n vectors.
        y: a set of m vectors.
        blur: scale of the entropy, as a share of the root mean squared distance of the two sets.
        steps: the largest number of steps of each of the three transport problems.
        tolerance: share of the mass, and of the cost, that may be misplaced at the end; the error
            of the value is smaller. A RuntimeWarning reports that it was not reached.

    Returns:
        A scalar, at least 0; its gradient is that of the optimum, not of the steps to it.
    """
    x, y = at_least_fp32(x), at_least_fp32(y)
    with torch.no_grad():
        scale = float(_costs(x, y).mean().clamp_min(1e-12))
    epsilon = blur**2 * 2 * scale
    return (
        _transport(x, y, epsilon, steps, tolerance)
        - _transport(x, x, epsilon, steps, tolerance) / 2
        - _transport(y, y, epsilon, steps, tolerance) / 2
    )


def mmd(
    x: Float[Tensor, "n c"], y: Float[Tensor, "m c"], width: float | None = None
) -> Float[Tensor, ""]:
    """Squared maximum mean discrepancy, unbiased, RBF kernel (Gretton et al. 2012): 0 on average
    for sets from one distribution.

    Args:
        x: a set of n vectors, at least two.
        y: a set of m vectors, at least two.
        width: standard deviation of the kernel; None for the median distance of both sets.

    Returns:
        A scalar, at most 2; can be negative.
    """
    both = torch.cat([at_least_fp32(x), at_least_fp32(y)])
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
    """Half the squared distances, by products, since a norm has no gradient at 0."""
    # Centred, because far from the origin products lose the digits of differences.
    centre = y.detach().mean(dim=0)
    x, y = x - centre, y - centre
    squares = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1)[None, :]
    return (squares / 2 - x @ y.T).clamp_min(0)


def _transport(
    x: Float[Tensor, "n c"],
    y: Float[Tensor, "m c"],
    epsilon: float,
    steps: int,
    tolerance: float,
) -> Float[Tensor, ""]:
    """Entropic transport cost of x to y, by Sinkhorn steps on the dual."""
    # The entropy is halved each step, from the largest cost to `epsilon` (Kosowsky & Yuille 1994),
    # which takes a hundred steps instead of thousands.
    cost = _costs(x, y)
    log_n, log_m = -math.log(len(x)), -math.log(len(y))

    def soft_min(potential: Tensor, weight: float, table: Tensor, scale: float) -> Tensor:
        return -scale * torch.logsumexp(weight + (potential[None, :] - table) / scale, dim=1)

    with torch.no_grad():
        transposed = cost.T.contiguous()
        f = cost.new_zeros(len(x))
        scale = max(float(cost.max()), epsilon)
        taken = 0
        while taken < steps:
            taken += 1
            if x is y:  # one potential for both sides: averaged steps converge fastest
                g = soft_min(f, log_n, cost, scale)
                change = g - f
                f += change / 2
            else:
                g = soft_min(f, log_n, transposed, scale)
                change = soft_min(g, log_m, cost, scale) - f
                f += change
            if scale > epsilon:
                scale = max(scale / 2, epsilon)
                continue
            # The plan of the potentials gives row i exp(-change / epsilon) times its mass. Missing
            # mass of a distant row costs more.
            off = torch.expm1(-change / epsilon).abs()
            cost_off = (off * (f - f.mean()).abs()).mean() / (f.mean() + g.mean()).clamp_min(TINY)
            if max(float(off.mean()), float(cost_off)) <= tolerance:
                break
            if x is not y:
                # Further steps as products with the plan: a tenth of the cost (Schmitzer 2019).
                plan = ((f[:, None] + g[None, :] - cost) / epsilon).exp()
                u = torch.ones_like(f)
                for _ in range(PLAIN_STEPS):
                    v = len(x) / (u @ plan).clamp_min(TINY)
                    u = len(y) / (plan @ v).clamp_min(TINY)
                f += epsilon * u.log()
                taken += PLAIN_STEPS
        else:
            warnings.warn(
                f"the Sinkhorn divergence has not converged: after {steps} steps more than "
                f"{tolerance:g} of the mass or the cost is misplaced",
                RuntimeWarning,
                stacklevel=3,
            )
        g = soft_min(f, log_n, transposed, epsilon)
    # The semi-dual at its optimum: its slope in g is 0, so the gradient through this one step is
    # that of the whole.
    return soft_min(g, log_m, cost, epsilon).mean() + g.mean()
