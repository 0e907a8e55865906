"""The gradient of a large contrastive batch, computed a chunk at a time.

Gao et al. 2021 ("Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup"): embed
all chunks without a graph, compute the loss over all embeddings, then embed each chunk again with a
graph and backpropagate the stored gradients of its embeddings. Exact: the random state of each
chunk is restored, so patch dropout is the same both times.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def backward_in_chunks(
    embed: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    pixels: Tensor,
    tokens: Tensor,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    chunk_size: int,
    backward: Callable[[Tensor], None] = Tensor.backward,
) -> Tensor:
    """Accumulates into `.grad` what `loss_of(*embed(pixels, tokens)).backward()` would.

    Args:
        embed: the model: pixels (b, 3, h, w) and tokens (b, t) to two embeddings (b, d).
        pixels: of all n pairs.
        tokens: of all n pairs.
        loss_of: the loss of all n embeddings; its own parameters get their gradients too.
        chunk_size: pairs that have a graph at a time.
        backward: differentiates the loss; with a gradient scaler for fp16.

    Returns:
        The loss, detached.
    """
    chunks = list(zip(pixels.split(chunk_size), tokens.split(chunk_size), strict=True))
    states, image_parts, text_parts = [], [], []
    with torch.no_grad():
        for chunk in chunks:
            states.append(_random_state(pixels.device))
            image, text = embed(*chunk)
            image_parts.append(image)
            text_parts.append(text)
    after = _random_state(pixels.device)
    leaves = [torch.cat(parts).requires_grad_() for parts in (image_parts, text_parts)]
    loss = loss_of(*leaves)
    backward(loss)
    gradients = [leaf.grad.split(chunk_size) for leaf in leaves if leaf.grad is not None]
    for chunk, state, *parts in zip(chunks, states, *gradients, strict=True):
        _restore_random_state(pixels.device, state)
        # The stored gradients already carry the scaler's factor: no second scaling here.
        torch.autograd.backward(list(embed(*chunk)), [part.contiguous() for part in parts])
    _restore_random_state(pixels.device, after)
    return loss.detach()


def _random_state(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return states


def _restore_random_state(device: torch.device, states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
