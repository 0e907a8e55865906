"""WGAN-GP, distances between sets and reconstruction: closed forms and other libraries."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.stats import wasserstein_distance
from torch import nn

from encoderlab.errors import WorkError
from encoderlab.losses.contrastive import contrastive_loss
from encoderlab.losses.distribution import _transport, mmd, sinkhorn_divergence, sliced_wasserstein
from encoderlab.losses.reconstruction import reconstruction_loss
from encoderlab.losses.sigmoid import sigmoid_loss
from encoderlab.losses.wgan_gp import (
    check_critic,
    corrected_distance,
    critic_loss,
    generator_loss,
    leak_between_samples,
    slopes_between,
)


def contrastive(x, y):
    return contrastive_loss(x / 4096, y / 4096, torch.tensor(20.0))


def sigmoid(x, y):
    return sigmoid_loss(x / 4096, y / 4096, torch.tensor(10.0), torch.tensor(-5.0))


def linear(weight):
    return lambda x: x.flatten(1) @ weight


@given(st.integers(0, 10**6))
def test_penalty_of_a_linear_critic_is_its_norms_distance_from_one(seed):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(12, generator=generator, requires_grad=True)
    real, fake = (torch.randn(5, 4, 3, generator=generator) for _ in range(2))
    found = critic_loss(linear(weight), real, fake, 10.0)
    expected = (weight.detach().norm() - 1) ** 2
    assert float(found.penalty) == pytest.approx(float(expected), rel=1e-4)
    with torch.no_grad():
        distance = linear(weight)(real).mean() - linear(weight)(fake).mean()
    assert float(found.loss.detach()) == pytest.approx(float(-distance + 10 * expected), rel=1e-4)


def test_slope_is_over_all_axes_of_a_sample():
    weight = torch.ones(12)
    found = slopes_between(linear(weight), torch.zeros(3, 4, 3), torch.ones(3, 4, 3))
    assert torch.allclose(found, torch.full((3,), math.sqrt(12)))


def test_penalty_trains_the_critic_to_a_slope_of_one():
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Flatten(), nn.Linear(6, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
    optimiser = torch.optim.Adam(critic.parameters(), lr=1e-2, betas=(0.0, 0.9))
    for _ in range(300):
        fake = torch.randn(64, 2, 3)
        real = torch.randn(64, 2, 3)
        real[:, 0, 0] += 3
        optimiser.zero_grad()
        found = critic_loss(critic, real, fake)
        found.loss.backward()
        optimiser.step()
    assert float(found.slopes.mean()) == pytest.approx(1.15, abs=0.15)
    assert corrected_distance(float(found.distance), 10.0) == pytest.approx(3, abs=0.5)


def test_slope_of_a_flat_critic_is_zero_and_its_gradient_finite():
    weight = torch.zeros(6, requires_grad=True)
    found = critic_loss(linear(weight), torch.randn(4, 2, 3), torch.randn(4, 2, 3))
    found.loss.backward()
    assert float(found.penalty) == 1 and weight.grad.isfinite().all()


def test_a_penalty_without_a_gradient_is_refused():
    frozen = torch.randn(6)
    with pytest.raises(WorkError, match="the gradient penalty has no gradient"):
        critic_loss(linear(frozen), torch.randn(4, 2, 3), torch.randn(4, 2, 3))


def test_real_and_fake_are_cut_off_from_what_made_them():
    weight = torch.randn(6, requires_grad=True)
    fake = torch.randn(4, 2, 3, requires_grad=True)
    critic_loss(linear(weight), torch.randn(4, 2, 3), fake).loss.backward()
    assert fake.grad is None
    generator_loss(linear(weight), fake).backward()
    assert fake.grad is not None


def test_a_critic_that_normalises_over_the_batch_is_refused():
    good = nn.Sequential(nn.Flatten(), nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 1))
    bad = nn.Sequential(nn.Flatten(), nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
    batch = torch.randn(5, 2, 3)
    assert leak_between_samples(good, batch) == 0
    check_critic(good, batch)
    with pytest.raises(WorkError, match=r"depends on the others.*without batch normalisation"):
        check_critic(bad, batch)


def test_reconstruction_by_hand():
    tokens = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    assert float(reconstruction_loss(tokens, tokens)) == pytest.approx(0, abs=1e-6)
    turned = torch.tensor([[[0.0, 1.0], [0.0, 2.0]]])
    assert float(reconstruction_loss(turned, tokens)) == pytest.approx(2 / 4 + 1 - 0.5)


def test_sliced_wasserstein_of_a_shift_is_the_mean_of_its_projections():
    x = torch.randn(50, 6)
    shift = torch.zeros(6)
    shift[0] = 2.0
    generator = torch.Generator().manual_seed(1)
    found = float(sliced_wasserstein(x, x + shift, 4096, generator))
    # E|u_1| for a random unit vector in 6 dimensions.
    expected = 2 * math.gamma(3) / (math.sqrt(math.pi) * math.gamma(3.5))
    assert found == pytest.approx(expected, rel=0.05)


def test_sets_of_other_sizes_have_distances_too():
    x = torch.randn(400, 3)
    assert float(sliced_wasserstein(x, x[::4])) < 0.2
    assert float(sinkhorn_divergence(x[:60], x[:15] + 5)) > 10


@pytest.mark.parametrize(
    ("n", "m", "power"), [(40, 40, 1), (3, 4, 1), (7, 5, 1), (40, 13, 2), (1, 6, 1)]
)
def test_sliced_wasserstein_of_any_sizes_is_scipys(n, m, power):
    rng = np.random.default_rng(n)
    x, y = rng.standard_normal(n) ** power, rng.standard_normal(m) + 1
    found = sliced_wasserstein(torch.tensor(x)[:, None], torch.tensor(y)[:, None])
    assert float(found) == pytest.approx(wasserstein_distance(x, y), rel=1e-12)
    back = sliced_wasserstein(torch.tensor(y)[:, None], torch.tensor(x)[:, None])
    assert float(back) == pytest.approx(float(found), rel=1e-12)


def test_sliced_wasserstein_of_unequal_sizes_by_hand():
    # A sixth of the mass goes from 3 to 0.
    x, y = torch.tensor([[0.0], [3.0]]), torch.tensor([[0.0], [0.0], [3.0]])
    assert float(sliced_wasserstein(x, y)) == pytest.approx(0.5)
    repeated = sliced_wasserstein(x.repeat_interleave(3, 0), y.repeat_interleave(2, 0))
    assert float(repeated) == pytest.approx(0.5)


def test_the_gradient_of_sliced_wasserstein_of_unequal_sizes_is_its_slope():
    x = torch.tensor([[0.0], [1.0], [5.0]], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([[-1.0], [2.0]], dtype=torch.float64)
    (slope,) = torch.autograd.grad(sliced_wasserstein(x, y), x)
    # Half of the middle point's mass goes down to -1 and half up to 2.
    assert torch.allclose(slope[:, 0], torch.tensor([1 / 3, 0.0, 1 / 3], dtype=torch.float64))


@pytest.mark.parametrize(("n", "m"), [(12, 12), (12, 8)])
def test_sinkhorn_is_the_linear_programmes_optimum(n, m):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, 2, generator=generator).double()
    y = torch.randn(m, 2, generator=generator).double() + 1
    cost = (torch.cdist(x, y).square() / 2).numpy()
    rows, columns = np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))
    exact = linprog(
        cost.ravel(), A_eq=np.vstack([rows, columns]),
        b_eq=np.r_[np.full(n, 1 / n), np.full(m, 1 / m)],
    ).fun  # fmt: skip
    assert float(sinkhorn_divergence(x, y, blur=0.01)) == pytest.approx(exact, rel=5e-3)
    assert float(sinkhorn_divergence(x, x)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("outlier", [1, 20])
def test_sinkhorn_has_converged_at_its_defaults(outlier, recwarn):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 2, generator=generator), torch.randn(25, 2, generator=generator) + 0.5
    x[:2] *= outlier
    found = float(sinkhorn_divergence(x, y))
    assert not recwarn
    assert found == pytest.approx(_plain_sinkhorn(x, y), rel=1e-3)


def _plain_sinkhorn(x, y, blur=0.05):
    """Six thousand plain steps, in float64."""
    epsilon = blur**2 * float(torch.cdist(x, y).square().mean())

    def transport(a, b):
        cost = torch.cdist(a.double(), b.double()).square() / 2
        f = torch.zeros(len(a), dtype=torch.float64)
        for _ in range(6000):
            g = -epsilon * ((f[:, None] - cost) / epsilon - math.log(len(a))).logsumexp(dim=0)
            f = -epsilon * ((g[None, :] - cost) / epsilon - math.log(len(b))).logsumexp(dim=1)
        return float(f.mean() + g.mean())

    return transport(x, y) - transport(x, x) / 2 - transport(y, y) / 2


def test_a_sinkhorn_that_has_not_converged_says_so():
    x, y = torch.randn(40, 2), torch.randn(40, 2) + 0.5
    with pytest.warns(RuntimeWarning, match="after 20 steps"):
        sinkhorn_divergence(x, y, steps=20)


def test_distances_do_not_depend_on_where_the_origin_is():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(40, 4, generator=generator) for _ in range(2))
    for distance in (sinkhorn_divergence, mmd):
        there = distance(x.double() + 1000, y.double() + 1000)
        assert float(distance(x + 1000, y + 1000)) == pytest.approx(float(there), rel=1e-3)


def test_the_width_of_mmd_is_the_median_distance():
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0], [7.0]])
    # Distances 1, 2, 3, 4, 6, 7.
    assert float(mmd(x, y)) == pytest.approx(float(mmd(x, y, width=3.5)))


def test_mmd_is_the_sum_over_pairs_and_zero_on_average_for_one_distribution():
    x, y = torch.randn(6, 2).double(), torch.randn(5, 2).double()

    def kernel(a, b):
        return math.exp(-float((a - b).square().sum()) / 2)

    expected = (
        np.mean([kernel(x[i], x[j]) for i in range(6) for j in range(6) if i != j])
        + np.mean([kernel(y[i], y[j]) for i in range(5) for j in range(5) if i != j])
        - 2 * np.mean([kernel(a, b) for a in x for b in y])
    )
    assert float(mmd(x, y, width=1.0)) == pytest.approx(expected)
    values = [float(mmd(torch.randn(30, 4), torch.randn(30, 4))) for _ in range(200)]
    assert np.mean(values) == pytest.approx(0, abs=0.002)
    assert float(mmd(torch.randn(30, 4), torch.randn(30, 4) + 1)) > 0.05


def test_the_gradient_of_sinkhorn_is_its_slope():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(7, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    x.requires_grad_(True)

    def distance(of):
        # At one entropy: the divergence takes its own from the points.
        return _transport(of, y, 0.5, 300, 1e-9) - _transport(of, of, 0.5, 300, 1e-9) / 2

    (slope,) = torch.autograd.grad(distance(x), x)
    direction = torch.randn(7, 2, generator=generator, dtype=torch.float64)
    step = 1e-4
    with torch.no_grad():
        apart = distance(x + step * direction) - distance(x - step * direction)
    assert float((slope * direction).sum()) == pytest.approx(float(apart) / (2 * step), rel=1e-3)


@pytest.mark.parametrize("distance", [sliced_wasserstein, sinkhorn_divergence, mmd])
def test_following_a_distance_brings_the_sets_together(distance):
    torch.manual_seed(0)
    target = torch.randn(32, 3) + 2
    x = torch.randn(32, 3, requires_grad=True)
    optimiser = torch.optim.Adam([x], lr=0.2)
    before = float(distance(x.detach(), target))
    for _ in range(30):
        optimiser.zero_grad()
        distance(x, target).backward()
        assert x.grad.isfinite().all()
        optimiser.step()
    assert float(distance(x.detach(), target)) < 0.2 * before


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "loss",
    [sliced_wasserstein, sinkhorn_divergence, mmd, reconstruction_loss, contrastive, sigmoid],
)
def test_losses_of_sixteen_bits_are_those_of_the_same_numbers_in_fp64(loss, dtype):
    generator = torch.Generator().manual_seed(0)
    x, y = (1000 + 50 * torch.randn(24, 8, generator=generator) for _ in range(2))
    x, y = x.to(dtype), y.to(dtype)
    draws = [
        {"generator": torch.Generator().manual_seed(0)} if loss is sliced_wasserstein else {}
        for _ in range(2)
    ]
    exact = float(loss(x.double(), y.double(), **draws[0]))
    assert float(loss(x, y, **draws[1])) == pytest.approx(exact, rel=1e-3)
