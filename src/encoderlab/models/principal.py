"""Principal components of rows, by whichever way the width allows.

n rows, d columns, k components.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

# Beyond this an eigendecomposition takes minutes; a randomised one of the first components seconds.
EXACT_WIDTH = 4096
ITERATIONS = 4


def principal_components(
    rows: Float[Tensor, "n d"], count: int
) -> tuple[Float[Tensor, " d"], Float[Tensor, "d k"], Float[Tensor, " m"]]:
    """Mean, the first components, and the variances along them in falling order.

    Exact, in float64 and with all variances, up to a width of 4,096; a randomised decomposition in
    fp32 beyond (Halko et al. 2011), with the same result each time.
    """
    if rows.shape[1] <= EXACT_WIDTH:
        rows = rows.double()
        mean = rows.mean(dim=0)
        values, vectors = torch.linalg.eigh((rows - mean).T @ (rows - mean) / len(rows))
        return mean, vectors.flip(1)[:, :count], values.flip(0)
    rows = rows.float()
    mean = rows.mean(dim=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _, singular, vectors = torch.svd_lowrank(
            rows - mean, q=min(count, *rows.shape), niter=ITERATIONS
        )
    return mean.double(), vectors.double(), singular.double().square() / len(rows)
