"""Trains a small classification head on tokens; the same head for every method.

Attention pooling by learnt queries, then one linear layer; five seeds in one batched product.
AdamW, fixed steps and batches. n images, k tokens, c channels, s seeds, q queries.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

SEEDS, QUERIES, STEPS, BATCH, LR, DECAY = 5, 2, 200, 96, 3e-2, 1e-1


class _Heads(nn.Module):
    """All seeds as one network; they share no weights."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        generators = [torch.Generator().manual_seed(seed) for seed in range(SEEDS)]
        scale = channels**-0.5

        def initial(rows: int, columns: int, scale: float) -> nn.Parameter:
            draws = [torch.randn(rows, columns, generator=g) * scale for g in generators]
            return nn.Parameter(torch.stack(draws))

        self.queries = initial(QUERIES, channels, scale)
        self.weight = initial(QUERIES * channels, classes, scale / 2)
        self.bias = nn.Parameter(torch.zeros(SEEDS, 1, classes))

    def forward(self, tokens: Float[Tensor, "b k c"]) -> Float[Tensor, "s b classes"]:
        b, _, c = tokens.shape
        logits = (tokens @ self.queries.flatten(0, 1).T).mT / math.sqrt(c)
        pooled = logits.softmax(dim=-1) @ tokens
        pooled = pooled.reshape(b, SEEDS, QUERIES * c).transpose(0, 1)
        return pooled @ self.weight + self.bias


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
    heads = _Heads(train.shape[-1], classes)
    optimiser = torch.optim.AdamW(heads.parameters(), lr=LR, weight_decay=DECAY, foreach=True)
    generator = torch.Generator().manual_seed(0)
    for step in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = LR * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        rows = torch.randint(len(train), (BATCH,), generator=generator)
        logits = heads(train[rows])
        loss = F.cross_entropy(logits.flatten(0, 1), labels[rows].repeat(SEEDS))
        optimiser.zero_grad()
        # A sum over seeds: each has the gradient of a network of its own.
        (loss * SEEDS).backward()
        optimiser.step()
    with torch.no_grad():
        predicted = torch.cat([heads(part).argmax(dim=-1) for part in test.split(256)], dim=1)
    return (predicted == test_labels[None]).double().numpy()
