"""The pairwise sigmoid loss of SigLIP: a binary classification of every image-text pair.

Pure function of normalised embeddings. Knows no model.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from encoderlab.models.token_grid import at_least_fp32


def sigmoid_loss(
    image: Float[Tensor, "n d"],
    text: Float[Tensor, "n d"],
    scale: Float[Tensor, ""],
    bias: Float[Tensor, ""],
    positives: Bool[Tensor, "n n"] | None = None,
) -> Float[Tensor, ""]:
    """Sum of the binary cross-entropies of all n^2 pairs, divided by n (Zhai et al. 2023, alg. 1).

    Args:
        image: L2-normalised embeddings of images.
        text: L2-normalised embeddings of texts; row i belongs to row i of `image`.
        scale: the logit of a pair is scale * cosine + bias.
        bias: see `scale`.
        positives: `positives[i, j]` says that text j is right for image i; the diagonal if None.

    Returns:
        A scalar, at least 0.
    """
    image, text = at_least_fp32(image), at_least_fp32(text)
    logits = scale * image @ text.T + bias
    if positives is None:
        positives = logits.new_ones(len(logits)).diag().bool()
    sign = positives.to(logits.dtype) * 2 - 1
    return -F.logsigmoid(sign * logits).sum() / len(logits)
