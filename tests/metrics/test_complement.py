"""What a second encoder adds: no claims on rotated copies, claims on planted complements."""

import numpy as np
import pytest
from scipy.linalg import fractional_matrix_power

from encoderlab.core.score import undefined
from encoderlab.metrics import complement as module
from encoderlab.metrics.complement import (
    EXPONENTS,
    Control,
    complement,
    control_of,
    judge,
    principal_axes,
    rescaled_copy,
    standardised,
)
from encoderlab.metrics.ridge import RidgeProbe, ridge_probe
from encoderlab.metrics.uncertainty import Verdict

N, D, Q, LATENT = 200, 32, 32, 24
UNDEFINED = RidgeProbe(undefined("not computed", 0, "none"), None)


def world(seed, own=0.0, decay=1.0):
    """Two encoders that see a latent each, with a spectrum of i^-decay in random directions; a
    target of the first latent and `own` times the second. Returns (rng, a, b, y)."""
    rng = np.random.default_rng(seed)
    latents = rng.standard_normal((2, N, LATENT))

    def features(z):
        x = z @ rng.standard_normal((LATENT, D)) + rng.standard_normal((N, D))
        return (x * np.arange(1, D + 1) ** -decay) @ rotation(rng)

    a, b = map(features, latents)
    maps = rng.standard_normal((2, LATENT, Q)) / np.sqrt(LATENT)
    y = latents[0] @ maps[0] + own * latents[1] @ maps[1] + rng.standard_normal((N, Q))
    return rng, a, b, y


def rotation(rng, d=D):
    return np.linalg.qr(rng.standard_normal((d, d)))[0]


def rescaled(seed, n=90, d=192):
    """An encoder with a spectrum of 1/i whose middle axes a target sees, and B: the same latents
    with the root of that spectrum, in other directions. Returns (a, b, y)."""
    rng = np.random.default_rng(seed)
    spectrum = 1 / np.arange(1, d + 1)
    z = rng.standard_normal((n, d))
    y = z[:, 20:60] @ rng.standard_normal((40, 64)) / np.sqrt(40)
    y += 0.5 * rng.standard_normal((n, 64))
    return (z * spectrum) @ rotation(rng, d), (z * np.sqrt(spectrum)) @ rotation(rng, d), y


def simulate(copies, complements, decay=1.0):
    """Judgements on rotated copies, and on planted complements."""
    false, true = [], []
    for seed in range(copies):
        rng, a, _, y = world(seed, decay=decay)
        false.append(complement(a, a @ rotation(rng), y, seed=seed))
    for seed in range(complements):
        _, a, b, y = world(10_000 + seed, own=0.7, decay=decay)
        true.append(complement(a, b, y, seed=seed))
    return false, true


def test_rotated_copies_add_nothing_and_complements_do():
    false, true = simulate(30, 10)
    assert sum(result.adds for result in false) <= 1
    assert sum(result.adds for result in true) >= 8
    # Without the control a rotated copy wins by regularisation alone.
    assert sum(result.gain.verdict is Verdict.AHEAD for result in false) > 10


def test_a_rescaled_copy_adds_nothing(monkeypatch):
    worlds = [rescaled(seed) for seed in range(14)]
    assert sum(complement(*w, seed=i).adds for i, w in enumerate(worlds)) <= 1
    # Rotated copies alone do not show what another spectrum gains.
    monkeypatch.setattr(module, "EXPONENTS", (1.0,))
    assert sum(complement(*w, seed=i).adds for i, w in enumerate(worlds)) >= 3


@pytest.mark.slow
def test_false_claims_of_rescaled_copies_over_many_simulations():
    assert np.mean([complement(*rescaled(seed), seed=seed).adds for seed in range(200)]) <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_false_claims_and_power_over_many_simulations(decay):
    false, true = simulate(200, 40, decay)
    assert np.mean([result.adds for result in false]) <= 0.05
    assert np.mean([result.adds for result in true]) >= 0.8


def test_noise_beside_an_encoder_adds_nothing():
    rng, a, _, y = world(0)
    result = complement(a, rng.standard_normal((N, D)), y)
    assert not result.adds and result.gain.difference < 0
    assert result.samples_needed is None


def test_the_gains_are_differences_of_the_probes():
    _, a, b, y = world(1, own=0.7)
    result = complement(a, b, y, comparisons=6)
    alone = ridge_probe(standardised(a), y).r2.value
    both = ridge_probe(np.hstack([standardised(a), standardised(b)]), y)
    assert result.gain.difference == pytest.approx(both.r2.value - alone)
    control = control_of(a, D, lambda copy: ridge_probe(np.hstack([standardised(a), copy]), y))
    copies = [copy.r2.value for copy in control.probes]
    assert len(copies) == 5
    assert result.control.value == pytest.approx(np.mean(copies))
    assert result.over_control.difference == pytest.approx(both.r2.value - np.mean(copies))
    assert result.gain.level == result.over_control.level == pytest.approx(1 - 0.05 / 6)
    recall = [
        np.mean([d.recall[1].value for d in (p.retrieval.image_to_text, p.retrieval.text_to_image)])
        for p in (result.both, result.base)
    ]
    assert result.recall_gain.difference == pytest.approx(recall[0] - recall[1])


def test_the_spread_of_the_copies_widens_the_interval():
    _, a, b, y = world(2, own=0.7)
    probes = [ridge_probe(x, y) for x in (a, b, np.hstack([a, b]))]
    same, shifted = ridge_probe(a, y), ridge_probe(a + b, y)
    widths = []
    for copies in ((same, same, same), (same, shifted, same)):
        over = judge(*probes, Control(1.0, copies)).over_control
        widths.append(over.ci_high - over.ci_low)
    assert widths[1] > 1.5 * widths[0]


def test_the_control_has_the_exponent_whose_copy_predicts_best():
    a, _, y = rescaled(0, n=60, d=60)
    seen = []

    def probe(copy):
        seen.append(ridge_probe(np.hstack([standardised(a), copy]), y))
        return seen[-1]

    control = control_of(a, 20, probe, copies=3)
    first = dict(zip(EXPONENTS, [one.r2.value for one in seen], strict=False))
    assert control.exponent == max(first, key=first.get)
    assert [one.r2.value for one in control.probes] == [
        first[control.exponent], *(one.r2.value for one in seen[len(EXPONENTS) :])
    ]  # fmt: skip
    assert len(control.probes) == 3


def test_the_spread_of_the_copies_can_hide_a_gain_for_good():
    _, a, b, y = world(2, own=0.7)
    base, added, both = (ridge_probe(x, y) for x in (a, b, np.hstack([a, b])))
    apart = judge(base, added, both, Control(1.0, (base, added, both)))
    assert apart.over_control.difference > 0 and not apart.adds
    assert apart.hidden_by_copies and apart.samples_needed is None
    alike = judge(base, added, both, Control(1.0, (base, base, base)))
    assert alike.adds and not alike.hidden_by_copies


def test_equal_recall_has_an_interval():
    _, a, b, y = world(0)
    few = slice(0, 12)
    base, added = (ridge_probe(x[few], y[few]) for x in (a, b))
    recall = judge(base, added, base, Control(1.0, (base, base)), comparisons=2).recall_gain
    # The exact bound of a share of which none of 12 was seen.
    bound = 1 - 0.025 ** (1 / 12)
    assert (recall.difference, recall.ci_low, recall.ci_high) == pytest.approx((0, -bound, bound))


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_a_copy_is_the_features_times_a_power_of_their_covariance(exponent):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 4)) * [4, 3, 2, 1] @ rotation(rng, 4)
    axes, turn = principal_axes(x), rotation(rng, 4)
    centred = x - x.mean(axis=0)
    power = fractional_matrix_power(centred.T @ centred, (exponent - 1) / 2)
    np.testing.assert_allclose(
        rescaled_copy(axes, exponent, axes[2] @ turn), standardised(centred @ power @ turn)
    )


def test_a_rotated_copy_keeps_distances_where_channels_are_alike():
    x = np.random.default_rng(0).standard_normal((50_000, 4))
    copies = {4: [], 9: []}
    for width, of_width in copies.items():
        control_of(x, width, lambda copy, to=of_width: to.append(copy) or UNDEFINED, copies=2)
        assert of_width[0].shape == (50_000, width)
    narrow, wide = copies[4][0], copies[9][0]
    for copy in (narrow, wide):
        np.testing.assert_allclose(copy.std(axis=0), 1)
    assert np.linalg.matrix_rank(wide) == 4
    ratio = np.square(narrow).sum(axis=1) / np.square(x - x.mean(axis=0)).sum(axis=1)
    np.testing.assert_allclose(ratio, 1, atol=0.05)


def test_copies_of_a_sample_count_once():
    _, a, b, y = world(3, own=0.7)
    twice = np.repeat(np.arange(60), 2)
    result = complement(a[twice], b[twice], y[twice], groups=twice.tolist())
    assert result.gain.n == result.control.n == 60
    assert result.recall_gain.n == 60


def test_the_needed_samples_are_those_of_the_weaker_gain():
    _, a, b, y = world(4, own=0.35)
    small = slice(0, 60)
    result = complement(a[small], b[small], y[small])
    needed = [c.samples_needed for c in (result.gain, result.over_control) if c.difference > 0]
    assert not result.adds
    assert result.samples_needed == (max(needed) if len(needed) == 2 else None)


def test_too_few_samples_are_undefined():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8, 3))
    result = complement(x, x, x)
    assert isinstance(result.base, RidgeProbe)
    assert "at least 10" in result.control.undefined
    assert result.gain.difference is None and not result.adds and result.samples_needed is None


def test_a_constant_channel_is_zero():
    x = np.column_stack([np.full(9, 1e6), np.arange(9.0)])
    np.testing.assert_array_equal(standardised(x)[:, 0], 0)
    assert standardised(x)[:, 1].std() == pytest.approx(1)
