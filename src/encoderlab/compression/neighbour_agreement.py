"""Agreement of image neighbours before and after compression. Needs no labels and no encoder.

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
    """Late interaction (MaxSim of ColBERT, Khattab and Zaharia 2020).

    Args:
        left: tokens of images.
        right: tokens of as many images.
        centre: subtracted from every token.

    Returns:
        Cell [i, j] is the mean over tokens of image i of left of the highest cosine with a token of
        image j of right, from -1 to 1.
    """
    a, b = (F.normalize(tokens.float() - centre.float(), dim=-1) for tokens in (left, right))
    n, m, c = b.shape
    flat = b.reshape(n * m, c)
    rows = [(tokens @ flat.T).reshape(-1, n, m).amax(dim=-1).mean(dim=0) for tokens in a]
    return torch.stack(rows)


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
