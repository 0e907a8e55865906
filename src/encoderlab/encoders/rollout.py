"""Attention roll-out: the share of each patch in the pooled vector, through all blocks.

t tokens, special ones first; h heads.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from encoderlab.errors import UsageError


def attention_rollout(
    maps: Sequence[Float[Tensor, "h t t"]], special_tokens: int, has_cls: bool
) -> Float[np.ndarray, " n"]:
    """Attention roll-out (Abnar & Zuidema 2020, section 3): the product over blocks of the mean
    attention of all heads, averaged with the identity for the residual path.

    Args:
        maps: the attention maps of all blocks of one image, in order.
        special_tokens: how many tokens stand before the patches.
        has_cls: whether the first token is CLS.

    Returns:
        The share of each patch in CLS; without CLS in the mean of all patches.

    Raises:
        UsageError: a CLS without special tokens.
    """
    if has_cls and not special_tokens:
        raise UsageError(
            "patch 0 is no CLS", got="has_cls=True, special_tokens=0", want="has_cls=False"
        )
    size = maps[0].shape[-1]
    flow = identity = torch.eye(size, dtype=torch.float64)
    for weights in maps:
        mixed = 0.5 * weights.double().cpu().mean(dim=0) + 0.5 * identity
        flow = mixed / mixed.sum(dim=-1, keepdim=True) @ flow
    row = flow[0] if has_cls else flow[special_tokens:].mean(dim=0)
    return row[special_tokens:].numpy()
