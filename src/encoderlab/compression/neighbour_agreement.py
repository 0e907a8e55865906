"""Whether images stay neighbours when their tokens are compressed: no labels, no encoder.

n images, k and m tokens, c channels.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from encoderlab.metrics.neighbours import NEIGHBOURS, Neighbours, overlap


def max_sim(
    left: Float[Tensor, "n k c"], right: Float[Tensor, "n m c"], centre: Float[Tensor, " c"]
) -> Float[Tensor, "n n"]:
    """Late interaction (ColBERT): the mean over tokens of i of the best cosine among those of j,
    tokens centred at the data set's mean."""
    a, b = (F.normalize(one.float() - centre.float(), dim=-1) for one in (left, right))
    n, m, c = b.shape
    flat = b.reshape(n * m, c)
    rows = [(one @ flat.T).reshape(-1, n, m).amax(dim=-1).mean(dim=0) for one in a]
    return torch.stack(rows)


def neighbour_agreement(
    full: Float[Tensor, "n n"], kept: Float[Tensor, "n n"], k: int = NEIGHBOURS
) -> Float[np.ndarray, " n"]:
    """Of every image the share of its k nearest that stay among them, itself left out; images that
    are equally near share the places that are left, as in `metrics.neighbours.mutual_knn`."""
    return overlap(*(Neighbours.by_similarity(one, k) for one in (full, kept)))[0] / k
