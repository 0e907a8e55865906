"""What a second encoder adds: no claims on rotated copies, claims on planted complements."""

import numpy as np
import pytest

from encoderlab.metrics.complement import complement, judge, rotated_copies, standardised
from encoderlab.metrics.ridge import RidgeProbe, ridge_probe
from encoderlab.metrics.uncertainty import Verdict

N, D, Q, LATENT = 200, 32, 32, 24


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


def rotation(rng):
    return np.linalg.qr(rng.standard_normal((D, D)))[0]


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
    copies = [
        ridge_probe(np.hstack([standardised(a), copy]), y).r2.value
        for copy in rotated_copies(a, D, 5, 0)
    ]
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
    for copies in ([same, same, same], [same, shifted, same]):
        over = judge(*probes, copies).over_control
        widths.append(over.ci_high - over.ci_low)
    assert widths[1] > 1.5 * widths[0]


def test_a_rotated_copy_keeps_distances_where_channels_are_alike():
    x = np.random.default_rng(0).standard_normal((50_000, 4))
    narrow, wide = (rotated_copies(x, width, 1, 0)[0] for width in (4, 9))
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
