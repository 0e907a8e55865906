"""AdamW with two parameter groups, the learning-rate schedule, and the average of the weights.

Knows parameters and step numbers; no data and no loss.
"""

from __future__ import annotations

import math

import torch
from torch import nn


def adamw(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW as CLIP trains with it (betas 0.9/0.98, eps 1e-6)."""
    trained = [p for p in model.parameters() if p.requires_grad]
    # Norms, biases and the temperature do not decay.
    return torch.optim.AdamW(
        [
            {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=lr,
        betas=(0.9, 0.98),
        eps=1e-6,
    )


def learning_rate(step: int, peak: float, warmup_steps: int, total_steps: int) -> float:
    """Linear warm-up to a peak, then a cosine to zero.

    Args:
        step: from 0.
        peak: the largest learning rate.
        warmup_steps: until the peak.
        total_steps: until zero.

    Returns:
        The learning rate of the step, from 0 to `peak`.

    >>> [round(learning_rate(step, 1.0, 2, 6), 2) for step in range(6)]
    [0.5, 1.0, 1.0, 0.85, 0.5, 0.15]
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
    return peak * 0.5 * (1 + math.cos(math.pi * done))


class RunningAverage:
    """Exponential moving average of a model's parameters, kept in fp32 beside it."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {
            name: value.detach().float().clone() for name, value in model.state_dict().items()
        }

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Updates the average; the decay is smaller in early steps, to forget the start."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            self.weights[name].lerp_(value.float(), 1 - decay)
