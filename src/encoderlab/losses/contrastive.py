"""The symmetric cross-entropy of CLIP, with several positives per row where there are any.

Pure functions of normalised embeddings. Knows no model.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from encoderlab.models.token_grid import at_least_fp32


def contrastive_loss(
    image: Float[Tensor, "n d"],
    text: Float[Tensor, "n d"],
    scale: Float[Tensor, ""],
    positives: Bool[Tensor, "n n"] | None = None,
) -> Float[Tensor, ""]:
    """Mean of the image-to-text and text-to-image cross-entropies (Radford et al. 2021, fig. 3).

    Args:
        image: L2-normalised embeddings of images.
        text: L2-normalised embeddings of texts; row i belongs to row i of `image`.
        scale: the factor on the cosines, exp of the learned logit scale.
        positives: `positives[i, j]` says that text j is right for image i; the diagonal if None.
            A row's target is uniform over its positives (Khosla et al. 2020, eq. 2).

    Returns:
        A scalar, at least 0; ln n for embeddings that are all equal.
    """
    image, text = at_least_fp32(image), at_least_fp32(text)
    logits = scale * image @ text.T
    if positives is None:
        positives = logits.new_ones(len(logits)).diag().bool()
    target = positives.to(logits.dtype)
    return (_cross_entropy(logits, target) + _cross_entropy(logits.T, target.T)) / 2


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    share = target / target.sum(dim=1, keepdim=True)
    return -(share * F.log_softmax(logits, dim=1)).sum(dim=1).mean()
