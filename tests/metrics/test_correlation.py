"""Correlation over encoders against scipy, by exact permutations, with families."""

import numpy as np
import pytest
from scipy import stats

from encoderlab.errors import UsageError
from encoderlab.metrics.correlation import correlate
from encoderlab.metrics.matrix import require_same_ids


def test_three_encoders_are_too_few_whatever_r():
    found = correlate([1, 2, 3], [3.1, 2.0, 1.1])
    assert found.pearson is None
    assert found.verdict == "too few encoders to say: 3 points, 6 needed"


def test_r_rho_and_exact_p_are_scipys():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(7), rng.standard_normal(7)
    found = correlate(x, y)
    assert found.pearson == pytest.approx(stats.pearsonr(x, y).statistic)
    assert found.spearman == pytest.approx(stats.spearmanr(x, y).statistic)
    exact = stats.permutation_test(
        (x,), lambda x: abs(np.corrcoef(x, y)[0, 1]), permutation_type="pairings",
        n_resamples=np.inf, alternative="greater",
    ).pvalue  # fmt: skip
    assert found.pearson_p == pytest.approx(exact)


@pytest.mark.parametrize(("n", "critical"), [(10, 0.632), (19, 0.456)])
def test_critical_r_is_the_tables(n, critical):
    x = np.arange(n)
    assert correlate(x, (x * 7) % n).critical_r == pytest.approx(critical, abs=0.001)


def test_layers_of_one_encoder_are_no_independent_points():
    rng = np.random.default_rng(1)
    families = np.repeat(list("abcdef"), 6)
    base = np.repeat(rng.standard_normal(6), 6)
    other = np.repeat(rng.standard_normal(6), 6)
    x, y = base + 0.01 * rng.standard_normal(36), other + 0.01 * rng.standard_normal(36)
    alone, together = correlate(x, y), correlate(x, y, families)
    assert together.families == 6
    exact = stats.permutation_test(
        (base[::6],), lambda b: abs(np.corrcoef(b, other[::6])[0, 1]), permutation_type="pairings",
        n_resamples=np.inf, alternative="greater",
    ).pvalue  # fmt: skip
    assert together.pearson_p == pytest.approx(exact, abs=0.02)
    assert alone.pearson_p < together.pearson_p


def test_within_family_is_what_is_left_without_the_means():
    x = np.array([1.0, 2, 3, 11, 12, 13])
    y = np.array([3.0, 2, 1, 13, 12, 11])
    found = correlate(x, y, list("aaabbb"))
    assert found.pearson > 0.9
    assert found.within_family == pytest.approx(-1)


def test_a_line_predicts_what_was_left_out_when_there_is_a_line():
    x = np.arange(8.0)
    found = correlate(x, 2 * x + 1)
    assert found.loo_error == pytest.approx(0, abs=1e-9)
    assert found.loo_baseline > 1
    assert "better than their mean" in found.verdict


def test_undefined_values_are_left_out():
    found = correlate([None, 1, 2, 3, 4, 5, 6, float("nan")], [1, 2, 1, 4, 3, 6, 5, 9])
    assert found.n == 6
    assert correlate([1.0] * 7, list(range(7))).verdict == "all points have the same value"


def test_ids_in_another_order_are_refused():
    require_same_ids({"clip": ["a", "b"], "llama": ["a", "b"]})
    with pytest.raises(UsageError, match="stand in another order: got 'a and b in row 0'"):
        require_same_ids({"clip": ["a", "b"], "llama": ["b", "a"]})
    with pytest.raises(UsageError, match="are of other samples: got 'b and c in row 1'"):
        require_same_ids({"clip": ["a", "b"], "llama": ["a", "c"]})
    with pytest.raises(UsageError, match="2 ids of clip, 1 of llama"):
        require_same_ids({"clip": ["a", "b"], "llama": ["a"]})
