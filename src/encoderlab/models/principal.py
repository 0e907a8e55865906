"""Principal components of rows: exact for small widths, randomised for large ones.

n rows, d columns, k components.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

# Above this width an eigendecomposition takes minutes, a randomised decomposition seconds.
EXACT_WIDTH = 4096
ITERATIONS = 4


def principal_components(
    rows: Float[Tensor, "n d"], count: int
) -> tuple[Float[Tensor, " d"], Float[Tensor, "d k"], Float[Tensor, " m"]]:
    """The first principal components of rows.

    Up to a width of 4,096 exact, in float64; above, a randomised decomposition in fp32 (Halko et
    al. 2011) with a fixed seed.

    Args:
        rows: one per observation.
        count: k, the number of components.

    Returns:
        Mean, components, and variances in descending order: all d if exact, else at most k.
    """
    if rows.shape[1] <= EXACT_WIDTH:
        rows = rows.double()
        mean = rows.mean(dim=0)
        centred = rows - mean
        values, vectors = torch.linalg.eigh(centred.T @ centred / len(rows))
        return mean, vectors.flip(1)[:, :count], values.flip(0)
    rows = rows.float()
    mean = rows.mean(dim=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _, singular, vectors = torch.svd_lowrank(
            rows - mean, q=min(count, *rows.shape), niter=ITERATIONS
        )
    return mean.double(), vectors.double(), singular.double().square() / len(rows)
