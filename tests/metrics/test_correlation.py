"""Correlation over encoders against scipy, by exact permutations, with families."""

import math

import numpy as np
import pytest
from scipy import stats

from encoderlab.errors import UsageError
from encoderlab.metrics.correlation import correlate, holm, holm_p
from encoderlab.metrics.matrix import require_same_ids


def test_three_encoders_are_too_few_whatever_r():
    found = correlate([1, 2, 3], [3.1, 2.0, 1.1])
    assert found.pearson is None and found.pearson_p is None and not found.predicts
    assert found.verdict == "too few encoders to say: 3, and 6 are needed"


def test_five_encoders_of_many_points_are_five_encoders():
    families = np.repeat(list("abcde"), [12, 12, 12, 12, 24])
    found = correlate(np.arange(72.0), np.arange(72.0), families)
    assert (found.families, found.n) == (5, 72)
    assert found.undefined == "too few encoders to say: 5, and 6 are needed"


def test_r_rho_and_exact_p_are_scipys():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(7), rng.standard_normal(7)
    found = correlate(x, y)
    assert found.pearson == pytest.approx(stats.pearsonr(x, y).statistic)
    assert found.spearman == pytest.approx(stats.spearmanr(x, y).statistic)
    assert found.pearson_p == pytest.approx(exact_p(x, y))


@pytest.mark.parametrize(("n", "critical"), [(10, 0.632), (19, 0.456)])
def test_critical_r_is_the_tables(n, critical):
    x = np.arange(n)
    assert correlate(x, (x * 7) % n).critical_r == pytest.approx(critical, abs=0.001)


def _unrelated(rng, sizes):
    """Encoders whose points lie close together, in the metric and in the outcome alike."""
    families = np.repeat(np.arange(len(sizes)), sizes)
    x, y = (rng.standard_normal(len(sizes))[families] for _ in range(2))
    noise = 0.01 * rng.standard_normal((2, len(families)))
    return x + noise[0], y + noise[1], families


@pytest.mark.parametrize("sizes", [[6] * 6, [6] * 5 + [5], [12] * 6 + [24], [1, 2, 3, 4, 5, 6]])
def test_points_of_one_encoder_are_not_independent_at_any_sizes(sizes):
    rng = np.random.default_rng(sum(sizes))
    p = [correlate(*_unrelated(rng, sizes)).pearson_p for _ in range(300)]
    low, high = stats.binomtest(round(0.05 * 300), 300).proportion_ci(0.999)
    assert low < np.mean(np.array(p) < 0.05) < high
    assert min(p) >= 1 / math.factorial(len(sizes))


def exact_p(x, y):
    return stats.permutation_test(
        (x,), lambda x: abs(np.corrcoef(x, y)[0, 1]), permutation_type="pairings",
        n_resamples=np.inf, alternative="greater",
    ).pvalue  # fmt: skip


def test_p_is_that_of_the_encoders_means():
    rng = np.random.default_rng(1)
    x, y, families = _unrelated(rng, [5, 6, 7, 6, 6, 6])
    a, b = (np.array([v[families == f].mean() for f in range(6)]) for v in (x, y))
    found = correlate(x, y, families)
    assert found.pearson_p == pytest.approx(exact_p(a, b))
    assert found.pearson == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert found.spearman == pytest.approx(stats.spearmanr(a, b).statistic)
    assert found.critical_r == pytest.approx(0.811, abs=0.001)  # of 6, not of 36


def test_an_encoder_that_lacks_the_easy_condition_is_not_called_worse():
    rng = np.random.default_rng(2)
    quality = rng.standard_normal(7)
    easy = {"easy": 5.0, "hard": 0.0}
    rows = [(f, c) for f in range(7) for c in easy if not (f == 3 and c == "easy")]
    x = [quality[f] for f, _ in rows]
    y = [quality[f] + easy[c] for f, c in rows]
    found = correlate(x, y, [f for f, _ in rows], conditions=[c for _, c in rows])
    assert found.pearson == pytest.approx(1) and (found.n, found.left_out) == (7, 6)
    assert correlate(x, y, [f for f, _ in rows]).pearson < 0.97
    apart = correlate(x, y, [f for f, _ in rows], conditions=range(len(rows)))
    assert "share no condition" in apart.undefined


@pytest.mark.parametrize("m", [2, pytest.param(9, marks=pytest.mark.slow)])
def test_correction_keeps_false_claims_below_five_percent(m):
    rng = np.random.default_rng(m)
    claims = 0
    for _ in range(300):
        outcome = rng.standard_normal(6)
        tried = holm([correlate(rng.standard_normal(6), outcome) for _ in range(m)])
        claims += any(one.p_corrected < 0.05 for one in tried)
        assert {one.tests for one in tried} == {m}
    assert claims / 300 < stats.binomtest(15, 300).proportion_ci(0.999).high


def test_holm_is_the_step_down_of_the_sorted_p():
    values = np.array([0.03, 0.001, 0.5, 0.012, 0.04])
    order = np.argsort(values)
    expected = np.minimum(1, np.maximum.accumulate(values[order] * np.arange(5, 0, -1)))
    np.testing.assert_allclose(np.array(holm_p(values))[order], expected)
    assert holm_p([]) == []


def test_one_test_is_not_corrected_and_undefined_ones_do_not_count():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(8)
    one, none = holm([correlate(x, x), correlate([None] * 8, x)])
    assert one.p_corrected is None and one.tests == 1 and one.predicts
    assert none.undefined and none.p_corrected is None


def test_within_family_is_what_is_left_without_the_means():
    base = np.repeat(10.0 * np.arange(6), 3)
    x, y = base + np.tile([1.0, 2, 3], 6), base + np.tile([3.0, 2, 1], 6)
    found = correlate(x, y, np.repeat(list("abcdef"), 3))
    assert found.pearson == pytest.approx(1)
    assert found.within_family == pytest.approx(-1)
    assert correlate(x[::3], y[::3]).within_family is None


def test_a_line_predicts_what_was_left_out_when_there_is_a_line():
    x = np.arange(8.0)
    found = correlate(x, 2 * x + 1)
    assert found.loo_error == pytest.approx(0, abs=1e-9)
    assert found.loo_baseline > 1
    assert found.predicts


def test_a_correlation_that_one_encoder_makes_is_not_called_predictive():
    x = np.array([0.0, 0.1, -0.1, 0.2, -0.2, 0.05, 9.0])
    y = np.array([1.0, -1.0, 0.5, -0.5, 0.8, -0.8, 6.0])
    found = correlate(x, y)
    assert found.pearson > 0.9 and found.pearson_p < 0.2
    assert found.loo_error > found.loo_baseline and not found.predicts


def test_undefined_values_are_left_out():
    found = correlate([None, 1, 2, 3, 4, 5, 6, float("nan")], [1, 2, 1, 4, 3, 6, 5, 9])
    assert found.n == 6
    assert correlate([1.0] * 7, list(range(7))).verdict == "all encoders have the same value"


def test_ids_in_another_order_are_refused():
    require_same_ids({"clip": ["a", "b"], "llama": ["a", "b"]})
    for others, words in (
        (["b", "a"], "stand in another order: got 'a and b in row 0'"),
        (["a", "c"], "are of other samples: got 'b and c in row 1'"),
        (["a"], "2 ids of clip, 1 of llama"),
    ):
        with pytest.raises(UsageError, match=words):
            require_same_ids({"clip": ["a", "b"], "llama": others})
