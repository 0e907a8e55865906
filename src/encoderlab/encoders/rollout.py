"""Attention roll-out: how much of each patch reaches the pooled vector through all blocks.

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
    """The product over blocks of the mean attention of all heads, half of it the residual path
    (Abnar & Zuidema 2020, section 3), from CLS to the patches; from the mean of all patches where
    there is no CLS.

    Raises:
        UsageError: a CLS among no special tokens.
    """
    if has_cls and not special_tokens:
        raise UsageError(
            "patch 0 is no CLS", got="has_cls=True, special_tokens=0", want="has_cls=False"
        )
    size = maps[0].shape[-1]
    flow = torch.eye(size, dtype=torch.float64)
    for one in maps:
        mixed = 0.5 * one.double().cpu().mean(dim=0) + 0.5 * torch.eye(size, dtype=torch.float64)
        flow = mixed / mixed.sum(dim=-1, keepdim=True) @ flow
    row = flow[0] if has_cls else flow[special_tokens:].mean(dim=0)
    return row[special_tokens:].numpy()
