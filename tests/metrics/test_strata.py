"""CKA within data types against plain CKA, enumeration and the long way."""

import itertools

import numpy as np
import pytest
import torch

from encoderlab.metrics import cka, strata
from encoderlab.metrics.cka import Gram
from encoderlab.metrics.strata import Strata, within_strata


def features(seed=0, n=20, apart=0.0, shared=0.0):
    """Two types, `apart` from each other in both models; what else they share is `shared`."""
    rng = np.random.default_rng(seed)
    types = np.repeat([0.0, 1.0], n)[:, None] * apart
    x = rng.standard_normal((2 * n, 5))
    y = shared * x[:, :4] + rng.standard_normal((2 * n, 4))
    return x + types, y + types, ["chart"] * n + ["table"] * n


def blocks(x, y, labels):
    return Strata.of(Gram.of(x), labels), Strata.of(Gram.of(y), labels)


def test_one_type_is_plain_cka():
    x, y, _ = features(shared=1.0)
    found, plain = within_strata(*blocks(x, y, ["a"] * 40)), cka.cka(x, y)
    assert found.value == pytest.approx(plain.value)
    assert (found.ci_low, found.ci_high) == pytest.approx((plain.ci_low, plain.ci_high))
    assert found.z == pytest.approx(plain.z)


def test_it_is_the_ratio_of_the_sums_over_types():
    x, y, labels = features(shared=1.0)
    rows = [np.arange(20), np.arange(20, 40)]

    def hsic(a, b):
        return sum(float((Gram.of(a[r]).u_centred * Gram.of(b[r]).u_centred).sum()) for r in rows)

    expected = hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))
    assert within_strata(*blocks(x, y, labels)).value == pytest.approx(expected)


def test_models_that_only_tell_types_apart_have_nothing_within():
    x, y, labels = features(apart=6.0)
    assert float(cka.cka(x, y)) > 0.7
    found = within_strata(*blocks(x, y, labels))
    assert found.ci_low < 0 < found.ci_high


def test_over_all_shuffles_within_types_the_mean_is_0_and_the_spread_as_said():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((10, 3)), rng.standard_normal((10, 3))
    labels = ["a"] * 5 + ["b"] * 5
    left, right = blocks(x, y, labels)
    orders = list(itertools.permutations(range(5)))
    first = [(left.blocks[0].u_centred * right.blocks[0].take(torch.tensor(o)).u_centred).sum()
             for o in orders]  # fmt: skip
    second = [(left.blocks[1].u_centred * right.blocks[1].take(torch.tensor(o)).u_centred).sum()
              for o in orders]  # fmt: skip
    scale = np.sqrt(left.square * right.square)
    values = np.add.outer(np.array(first), np.array(second)).ravel() / scale
    assert values.mean() == pytest.approx(0, abs=1e-12)
    assert values.std() == pytest.approx(strata.chance_error(left, right))


def test_leaving_each_out_is_computing_it_anew():
    x, y, labels = features(n=7, shared=1.0)
    anew = [
        strata.value(*blocks(np.delete(x, i, 0), np.delete(y, i, 0), np.delete(labels, i)))
        for i in range(14)
    ]
    assert np.allclose(strata.without_each(*blocks(x, y, labels)), anew)


@pytest.mark.parametrize(("apart", "shared"), [(5.0, 0.0), (0.0, 0.0)])
def test_interval_of_nothing_within_covers_zero(apart, shared):
    covered = 0
    for seed in range(100):
        found = within_strata(*blocks(*features(seed, 20, apart, shared)))
        covered += found.ci_low <= 0 <= found.ci_high
    assert covered >= 90


def test_types_with_few_samples_are_left_out_and_none_at_all_is_undefined():
    x, y, labels = features(n=20)
    labels[-3:] = ["rare"] * 3
    assert within_strata(*blocks(x, y, labels)).n == 37
    assert (
        "no data type has 5 samples"
        in within_strata(*blocks(x[:4], y[:4], ["a", "a", "b", "b"])).undefined
    )
