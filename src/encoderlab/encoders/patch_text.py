"""Patches in the space of the text tower, to locate what a text names.

Patches are not trained to align with text: the unchanged last block can give the opposite of the
object (CLIP Surgery, Li et al. 2023). The other ways change its attention only.
Shapes: n patches, t tokens with the special ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from encoderlab.encoders.vision import VisionEncoder, stack
from encoderlab.errors import UsageError, unknown

WAYS = {
    "raw": "through the last block as it is",
    "value": "the last block's values alone (MaskCLIP, Zhou et al. 2022)",
    "self_self": "queries look at queries and keys at keys (SCLIP, Wang et al. 2024)",
    "clear": "queries look at queries, without residual and feed-forward (ClearCLIP, Lan et al. "
    "2024)",
    "neighbour": "keys look at keys, near ones first, without residual and feed-forward (NACLIP, "
    "Hajimiri et al. 2025)",
}
NEIGHBOUR_WIDTH = 5.0  # patches, NACLIP's Gaussian


@torch.inference_mode()
def patches_for_text(
    encoder: VisionEncoder, images: Sequence[Image.Image], way: str = "clear"
) -> Float[Tensor, "b n p"]:
    """Every patch as a vector to compare with a text embedding.

    Args:
        encoder: a CLIP or SigLIP.
        images: one batch.
        way: one of `WAYS`.

    Returns:
        (b, n, p) in fp32, not normalised.

    Raises:
        UsageError: an unknown way, or an encoder without a text tower.
    """  # noqa: DOC501
    if way not in WAYS:
        raise unknown("way to read patches", way, WAYS, "encoderlab.encoders.patch_text.WAYS")
    block = encoder.last_block()
    if block is None:
        raise UsageError(
            "the encoder has no text tower to compare patches with",
            got=f"{encoder.name} ({encoder.family})",
            want="a CLIP or SigLIP",
        )
    pixels = encoder.preprocess.standardise(
        stack([encoder.preprocess.to_bytes(image) for image in images]).to(encoder.device)
    )
    output = encoder.run_tower(pixels.to(encoder.dtype), output_hidden_states=True)
    tokens = output.hidden[encoder.n_layers - 1]
    patches = _last_block(encoder, block, tokens, way)[:, encoder.special_tokens :]
    # SigLIP's patches are normed, CLIP's are not.
    normed = None if encoder.has_cls else encoder.final_norm(patches)
    embedded = encoder.embed_patches(patches if normed is None else normed)
    assert embedded is not None
    return embedded.float()


def _last_block(
    encoder: VisionEncoder, block: Any, tokens: Float[Tensor, "b t d"], way: str
) -> Float[Tensor, "b t d"]:
    attention = block.self_attn
    normed = block.layer_norm1(tokens)
    heads = attention.num_heads

    def split(linear: Any) -> Float[Tensor, "b h t c"]:
        return linear(normed).unflatten(-1, (heads, -1)).transpose(1, 2)

    v = split(attention.v_proj)
    if way == "value":
        return attention.out_proj(v.transpose(1, 2).flatten(2))
    q, k = split(attention.q_proj), split(attention.k_proj)
    scale = attention.scale

    def weights(a: Tensor, b: Tensor, prior: Tensor | float = 0.0) -> Tensor:
        return ((a @ b.mT).float() * scale + prior).softmax(dim=-1).to(v.dtype)

    if way == "self_self":
        mixing = weights(q, q) + weights(k, k)
    elif way == "clear":
        mixing = weights(q, q)
    elif way == "neighbour":
        mixing = weights(k, k, _near(encoder, tokens.shape[1]).to(v.device))
    else:
        mixing = weights(q, k)
    out = attention.out_proj((mixing @ v).transpose(1, 2).flatten(2))
    if way in ("clear", "neighbour"):
        return out
    tokens = tokens + out
    return tokens + block.mlp(block.layer_norm2(tokens))


def _near(encoder: VisionEncoder, tokens: int) -> Float[Tensor, "t t"]:
    """A Gaussian of height one around every patch, added to its logits; 0 for special tokens."""
    h, w = encoder.grid
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    position = torch.stack([y.flatten(), x.flatten()], dim=1).float()
    squared = torch.cdist(position, position).square()
    prior = torch.zeros(tokens, tokens)
    special = tokens - h * w
    prior[special:, special:] = torch.exp(-squared / (2 * NEIGHBOUR_WIDTH**2))
    return prior
