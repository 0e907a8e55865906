"""Gromov-Wasserstein: against POT, every permutation, known cases, and chance in any width."""

import importlib.util
import itertools

import numpy as np
import pytest
from ot.gromov import gromov_wasserstein2

from encoderlab.alignment import compare
from encoderlab.alignment.pair_scores import gromov_wasserstein_scores
from encoderlab.errors import MissingError
from encoderlab.metrics.gromov_wasserstein import gromov_wasserstein


def _distances(x):
    d = np.sqrt(np.square(x[:, None] - x[None]).sum(axis=2))
    return d / d[~np.eye(len(x), dtype=bool)].mean()


def _rotated(rng, x):
    q = np.linalg.qr(rng.standard_normal((x.shape[1], x.shape[1])))[0]
    return 3 * x @ q + 5


def test_the_distance_is_the_root_of_pots_value():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 8)), rng.standard_normal((40, 30))
    score = gromov_wasserstein(x, y, permutations=9).distance
    assert score.value**2 == pytest.approx(gromov_wasserstein2(_distances(x), _distances(y)))
    assert score.ci_low is None and "local optimum" in score.estimator


def test_the_pairing_is_judged_against_permutations():
    # Of five samples all 120 pairings can be listed: the sampled null has their mean and spread.
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((5, 3)), rng.standard_normal((5, 4))
    a, b = _distances(x), _distances(y)
    costs = [
        sum((a[i, k] - b[p[i], p[k]]) ** 2 for i in range(5) for k in range(5)) / 25
        for p in itertools.permutations(range(5))
    ]
    measured = gromov_wasserstein(x, y, permutations=20_000)
    z = (np.mean(costs) - costs[0]) / np.std(costs)
    assert measured.pairing.value == pytest.approx(z, abs=0.03)
    exact = np.mean(np.array(costs) <= costs[0] + 1e-12)
    assert measured.pairing.p == pytest.approx(exact, abs=0.02)


@pytest.mark.parametrize("widths", [(4, 4), (8, 512), (768, 2048)])
def test_z_of_unrelated_features_is_about_0_in_any_width(widths):
    z = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x, y = (rng.standard_normal((40, d)) for d in widths)
        z.append(gromov_wasserstein(x, y, permutations=99, seed=seed).pairing.value)
    assert abs(np.mean(z)) < 3 / np.sqrt(len(z))
    assert 0.7 < np.std(z) < 1.3


def test_a_rotated_copy_is_at_distance_0_and_far_from_chance():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 16))
    measured = gromov_wasserstein(x, _rotated(rng, x), permutations=199)
    assert measured.distance.value == pytest.approx(0, abs=1e-6)
    assert measured.pairing.value > 10
    assert measured.pairing.p == pytest.approx(1 / 200)


def test_shuffled_pairs_change_z_and_not_the_distance():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 16))
    y = x + rng.standard_normal((50, 16))
    paired = gromov_wasserstein(x, y, permutations=99)
    shuffled = gromov_wasserstein(x, np.roll(y, 1, axis=0), permutations=99)
    assert paired.pairing.value > 5 > 3 > abs(shuffled.pairing.value)
    assert shuffled.distance.value == pytest.approx(paired.distance.value, rel=0.02)


def test_many_samples_are_drawn_from_and_said():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((80, 4))
    measured = gromov_wasserstein(x, _rotated(rng, x), permutations=9, most=50)
    assert measured.distance.n == measured.pairing.n == 50
    assert "50 of 80 samples" in measured.distance.estimator
    assert measured.distance.value == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("x", [np.ones((9, 3)), np.eye(9)[:3]])
def test_what_has_no_distances_is_undefined(x):
    measured = gromov_wasserstein(x, np.random.default_rng(0).standard_normal((len(x), 2)))
    assert measured.distance.undefined and measured.pairing.undefined


def test_equal_distances_have_no_pairing():
    # The corners of a simplex: every permutation costs the same.
    measured = gromov_wasserstein(np.eye(9), np.eye(9))
    assert measured.distance.value == pytest.approx(0, abs=1e-6)
    assert measured.pairing.undefined


def test_pot_that_is_not_installed_is_said_before_any_work(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "encoderlab.metrics.gromov_wasserstein.find_spec",
        lambda name: None if name == "ot" else find(name),
    )
    with pytest.raises(MissingError) as caught:
        compare.run(encoders=["no such model"], gw=True)
    assert 'pip install "encoderlab[gw]"' in str(caught.value)


def test_it_comes_with_compare_on_request(aligned):
    plain = compare.analyse(aligned).rows[0].scores
    row = compare.analyse(aligned, gw=True).rows[0]
    expected = gromov_wasserstein_scores(aligned, row.encoder, row.llm)
    assert not set(expected) & set(plain)
    assert {name: row.scores[name] for name in expected} == expected


@pytest.fixture
def aligned():
    from tests.plots.test_figures import features

    return features(12, ["clip"], ["llama"], ["all"])
