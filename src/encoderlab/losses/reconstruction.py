"""How far decoded tokens are from the tokens: squared error and direction.

b images, n tokens, c channels.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def reconstruction_loss(
    decoded: Float[Tensor, "b n c"], tokens: Float[Tensor, "b n c"]
) -> Float[Tensor, ""]:
    """Mean squared error + (1 - mean cosine); 0 for equal tokens."""
    error = F.mse_loss(decoded, tokens)
    return error + 1 - F.cosine_similarity(decoded, tokens, dim=-1).mean()
