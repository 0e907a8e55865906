"""Agreement of image neighbours before and after compression. Needs no labels and no encoder.

n images, k tokens, c channels.
"""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from encoderlab.metrics.neighbours import NEIGHBOURS, Neighbours, overlap


def max_sim(tokens: Float[Tensor, "n k c"], centre: Float[Tensor, " c"]) -> Float[Tensor, "n n"]:
    """Late interaction (MaxSim of ColBERT, Khattab and Zaharia 2020) of each two images.

    Args:
        tokens: of the images.
        centre: subtracted from every token.

    Returns:
        Cell [i, j] is the mean over tokens of image i of the highest cosine with a token of image
        j, from -1 to 1.
    """
    unit = F.normalize(tokens.float() - centre.float(), dim=-1)
    n, k, c = unit.shape
    similar = unit.new_empty(n, n)
    for i in range(n):
        # The products of two images serve both directions.
        cosines = (unit[i] @ unit[i:].reshape(-1, c).T).view(k, n - i, k)
        similar[i, i:] = cosines.amax(dim=2).mean(dim=0)
        similar[i:, i] = cosines.amax(dim=0).mean(dim=1)
    return similar


def neighbour_agreement(
    full: Float[Tensor, "n n"], kept: Float[Tensor, "n n"], k: int = NEIGHBOURS
) -> Float[np.ndarray, " n"]:
    """The share of each image's k nearest images that stay among its k nearest.

    The image itself is left out, and ties share the remaining places, as in
    `metrics.neighbours.mutual_knn`.

    Args:
        full: similarities of the images before compression.
        kept: their similarities after it.
        k: number of neighbours.

    Returns:
        The share of each image, from 0 to 1.
    """
    return overlap(*(Neighbours.by_similarity(x, k) for x in (full, kept)))[0] / k
