"""Trains a small classification head on tokens; the same head for every method.

Attention pooling by learnt queries, then one linear layer; five seeds in one batched product.
AdamW, fixed steps and batches. n images, k tokens, c channels, s seeds, q queries.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

SEEDS, QUERIES, STEPS, BATCH, LR, DECAY = 5, 2, 200, 96, 3e-2, 1e-1


def _initial(channels: int, classes: int) -> list[nn.Parameter]:
    """Queries (s, q, c), weights (s, classes, q*c) and biases (s, 1, classes) of all seeds."""
    generators = [torch.Generator().manual_seed(seed) for seed in range(SEEDS)]
    scale = channels**-0.5

    def drawn(rows: int, columns: int, scale: float) -> Float[Tensor, "s rows columns"]:
        return torch.stack([torch.randn(rows, columns, generator=g) * scale for g in generators])

    queries, weight = drawn(QUERIES, channels, scale), drawn(QUERIES * channels, classes, scale / 2)
    bias = torch.zeros(SEEDS, 1, classes)
    # The weight is transposed, because matrix products with few columns are slow.
    return [nn.Parameter(value) for value in (queries, weight.mT.contiguous(), bias)]


def _forward(
    heads: Sequence[Tensor], tokens: Float[Tensor, "b k c"]
) -> tuple[Float[Tensor, "b sq k"], Float[Tensor, "s b qc"], Float[Tensor, "s b classes"]]:
    """Attention, pooled tokens and logits of all seeds; they share no weights."""
    queries, weight, bias = heads
    b, k, c = tokens.shape
    scores = (queries.flatten(0, 1) @ tokens.flatten(0, 1).T).view(-1, b, k) / math.sqrt(c)
    attention = scores.softmax(dim=-1).transpose(0, 1)
    pooled = (attention @ tokens).view(b, SEEDS, -1).transpose(0, 1)
    return attention, pooled, torch.baddbmm(bias, pooled, weight.mT)


def _backward(
    heads: Sequence[Tensor], tokens: Float[Tensor, "b k c"], labels: Float[Tensor, "b classes"]
) -> None:
    """Sets the gradients of the cross entropy of every seed by itself.

    Written out, since autograd takes twice the time for products as small as these.
    """
    queries, weight, bias = heads
    b, _, c = tokens.shape
    attention, pooled, logits = _forward(heads, tokens)
    above = (logits.softmax(dim=-1) - labels) / b
    bias.grad, weight.grad = above.sum(dim=1, keepdim=True), above.mT @ pooled
    below = (above @ weight).transpose(0, 1).reshape(b, -1, c) @ tokens.mT
    below = attention * (below - (below * attention).sum(dim=-1, keepdim=True)) / math.sqrt(c)
    queries.grad = (below.transpose(0, 1).flatten(1) @ tokens.flatten(0, 1)).view_as(queries)


@torch.no_grad()
def read_out(
    train: Float[Tensor, "n k c"],
    labels: Int[Tensor, " n"],
    test: Float[Tensor, "m k c"],
    test_labels: Int[Tensor, " m"],
    classes: int,
) -> Float[np.ndarray, "s m"]:
    """Trains the heads on one set and tests them on another.

    Args:
        train: tokens to train on.
        labels: their classes, from 0.
        test: tokens to test on.
        test_labels: their classes.
        classes: number of classes.

    Returns:
        1 where a seed is right about a test image, else 0.
    """
    train, test = train.float(), test.float()
    mean, spread = train.mean(dim=(0, 1)), train.std(dim=(0, 1)).clamp_min(1e-6)
    train, test = (train - mean) / spread, (test - mean) / spread
    heads = _initial(train.shape[-1], classes)
    one_hot = F.one_hot(labels, classes).float()
    optimiser = torch.optim.AdamW(heads, lr=LR, weight_decay=DECAY, fused=True)
    generator = torch.Generator().manual_seed(0)
    batch = train.new_empty(BATCH, *train.shape[1:])  # reused: a new one takes longer than the copy
    for step in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = LR * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        rows = torch.randint(len(train), (BATCH,), generator=generator)
        torch.index_select(train, 0, rows, out=batch)
        _backward(heads, batch, one_hot[rows])
        optimiser.step()
    logits = [_forward(heads, part)[-1] for part in test.split(256)]
    predicted = torch.cat([part.argmax(dim=-1) for part in logits], dim=1)
    return (predicted == test_labels[None]).double().numpy()
