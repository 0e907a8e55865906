"""The reconstruction loss of decoded tokens: squared error and cosine.

b images, n tokens, c channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from encoderlab.models.token_grid import at_least_fp32

SHORTEST = 1e-8


def reconstruction_loss(
    decoded: Float[Tensor, "b n c"], tokens: Float[Tensor, "b n c"]
) -> Float[Tensor, ""]:
    """Mean squared error + (1 - mean cosine), computed in fp32 at least.

    Args:
        decoded: the reconstruction.
        tokens: the original tokens.

    Returns:
        A scalar, at least 0; 0 for equal tokens.
    """
    decoded, tokens = at_least_fp32(decoded), at_least_fp32(tokens)
    error = F.mse_loss(decoded, tokens)
    # Without normalised copies: half the memory traffic of F.cosine_similarity.
    lengths = decoded.norm(dim=-1) * torch.linalg.vector_norm(tokens, dim=-1)
    cosine = (decoded * tokens).sum(dim=-1) / lengths.clamp_min(SHORTEST)
    return error + 1 - cosine.mean()
