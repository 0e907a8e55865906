"""Wasserstein critic with gradient penalty (Gulrajani et al. 2017), and checks of a critic.

    L_D = -E[D(real)] + E[D(fake)] + lambda E[(|grad D| - 1)^2],   L_G = -E[D(fake)]

A critic is any function from a batch of token grids to one score each. Everything is computed in
fp32, because a penalty in 16 bits is rounding. b samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from encoderlab.errors import WorkError

Critic = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class CriticLoss:
    """The parts of L_D.

    Args:
        loss: what the critic minimises.
        distance: E[D(real)] - E[D(fake)], the estimate of the critic; see `corrected_distance`.
        penalty: E[(slope - 1)^2], unweighted.
        slopes: (b,) the norm of the gradient at each interpolated sample.
    """

    loss: Tensor
    distance: Tensor
    penalty: Tensor
    slopes: Tensor


def critic_loss(
    critic: Critic,
    real: Float[Tensor, "b *shape"],
    fake: Float[Tensor, "b *shape"],
    lambda_gp: float = 10.0,
    generator: torch.Generator | None = None,
    epsilon: Float[Tensor, " b"] | None = None,
) -> CriticLoss:
    """L_D of a batch; no gradient flows to `real` and `fake`.

    Args:
        critic: gives one score for each sample.
        real: samples of the data.
        fake: as many samples of the generator.
        lambda_gp: weight of the penalty.
        generator: of `epsilon`.
        epsilon: position between fake (0) and real (1) at which the slope is taken; random if None.

    Returns:
        The loss to minimise, a scalar, and its parts without gradient.

    Raises:
        WorkError: the penalty has no gradient, so that it would have no effect on training.
    """
    real, fake = real.detach().float(), fake.detach().float()
    distance = critic(real).mean() - critic(fake).mean()
    slopes = slopes_between(critic, real, fake, generator, epsilon)
    penalty = (slopes - 1).square().mean()
    if torch.is_grad_enabled() and not penalty.requires_grad:
        raise WorkError(
            "the gradient penalty has no gradient",
            got="a critic whose gradient does not depend on its weights",
            want="create_graph, and a critic without detached parts",
        )
    loss = -distance + lambda_gp * penalty
    return CriticLoss(loss, distance.detach(), penalty.detach(), slopes.detach())


def slopes_between(
    critic: Critic,
    real: Float[Tensor, "b *shape"],
    fake: Float[Tensor, "b *shape"],
    generator: torch.Generator | None = None,
    epsilon: Float[Tensor, " b"] | None = None,
) -> Float[Tensor, " b"]:
    """The norm of the critic's gradient at a point between each real and fake sample.

    Args:
        critic: gives one score for each sample.
        real: samples of the data.
        fake: as many samples of the generator.
        generator: of `epsilon`.
        epsilon: position between fake (0) and real (1); random if None.

    Returns:
        The norm over all axes of each sample, at least 0.
    """
    if epsilon is None:
        epsilon = torch.rand(len(real), generator=generator)
    epsilon = epsilon.to(real.device).view(-1, *[1] * (real.ndim - 1))
    between = (epsilon * real + (1 - epsilon) * fake).requires_grad_(True)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    # Not sqrt(sum of squares): its own gradient is NaN where the slope is 0.
    return gradient.flatten(1).norm(dim=1)


def generator_loss(critic: Critic, fake: Float[Tensor, "b *shape"]) -> Float[Tensor, ""]:
    """L_G = -E[D(fake)] (Arjovsky et al. 2017); it has no penalty.

    Args:
        critic: gives one score for each sample.
        fake: samples of the generator, which gets the gradient.

    Returns:
        A scalar without a bound.
    """
    return -critic(fake.float()).mean()


def corrected_distance(estimate: float, lambda_gp: float) -> float:
    """The Wasserstein distance W from a critic's estimate, which is W (1 + W / (2 lambda)) at its
    optimum: the penalty allows slopes above 1.

    Args:
        estimate: the `distance` of a `CriticLoss`.
        lambda_gp: weight of the penalty.

    Returns:
        W, at least 0.

    >>> round(corrected_distance(3 * (1 + 3 / 20), 10), 6)
    3.0
    """
    return lambda_gp * (-1 + (1 + 2 * max(estimate, 0.0) / lambda_gp) ** 0.5)


def leak_between_samples(critic: Critic, batch: Float[Tensor, "b *shape"]) -> float:
    """The largest gradient of the first sample's score with respect to the other samples.

    Args:
        critic: gives one score for each sample.
        batch: samples of the data.

    Returns:
        0 for a valid critic; a critic that normalises over the batch has more.
    """
    batch = batch.detach().float().requires_grad_(True)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(critic(batch)[0].sum(), batch)
    return float(gradient[1:].abs().max()) if len(batch) > 1 else 0.0


def check_critic(critic: Critic, batch: Float[Tensor, "b *shape"]) -> None:
    """Raises if a sample's score depends on other samples of the batch.

    Args:
        critic: gives one score for each sample.
        batch: samples of the data.

    Raises:
        WorkError: with the gradient of `leak_between_samples`.
    """
    leak = leak_between_samples(critic, batch)
    if leak > 0:
        raise WorkError(
            "the critic's score of one sample depends on the others",
            got=f"a gradient of {leak:.2g}",
            want="a critic without batch normalisation",
        )
