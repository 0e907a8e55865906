"""Intervals, p-values and verdicts against closed forms."""

import math

import numpy as np
import pytest
from scipy import stats

from encoderlab.metrics import uncertainty
from encoderlab.metrics.uncertainty import compare_paired, samples_needed


@pytest.fixture
def sample():
    return np.random.default_rng(0).normal(3, 2, size=40)


def left_out_means(values):
    return (values.sum() - values) / (len(values) - 1)


def test_jackknife_of_a_mean_is_the_t_interval(sample):
    low, high = uncertainty.jackknife_interval(sample.mean(), left_out_means(sample))
    expected = stats.t.interval(0.95, 39, sample.mean(), stats.sem(sample))
    assert (low, high) == pytest.approx(expected)


def test_interaction_is_taken_out_once_and_half_of_it_stays(sample):
    error = uncertainty.jackknife_error(left_out_means(sample))
    for share, left in ((0.25, 0.75), (0.5, 0.5), (1.0, 0.5)):
        found = uncertainty.jackknife_error(left_out_means(sample), share * error**2)
        assert found == pytest.approx(math.sqrt(left) * error)


def test_half_sampling_of_a_mean_is_its_standard_error(sample):
    found = uncertainty.half_sampling_error(lambda rows: sample[rows].mean(), 40, rounds=2000)
    assert found == pytest.approx(stats.sem(sample), rel=0.08)


def test_fisher_interval_stays_within_one():
    low, high = uncertainty.jackknife_interval(
        0.97, np.array([0.96, 0.99, 0.95, 0.98]), correlation=True
    )
    assert -1 <= low < 0.97 < high <= 1


def test_max_corrected_p_is_that_of_the_largest_cell():
    null = np.array([[[0.1, 0.5]], [[0.9, 0.0]], [[0.2, 0.2]], [[0.3, 0.1]]])
    found = uncertainty.max_corrected_p(np.array([[0.4, 0.95]]), null)
    assert found.tolist() == [[3 / 5, 1 / 5]]


def test_paired_comparison_is_the_paired_t_test(sample):
    other = sample + np.random.default_rng(1).normal(0.3, 0.5, size=40)
    found = compare_paired(
        "a", "b", (sample.mean(), other.mean()), (left_out_means(sample), left_out_means(other)), 40
    )
    expected = stats.ttest_rel(sample, other)
    assert found.p == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval()
    assert (found.ci_low, found.ci_high) == pytest.approx((interval.low, interval.high))
    assert found.verdict == "behind"
    assert found.to_text().startswith("b ahead of a by 0.")


def test_several_comparisons_have_wider_intervals(sample):
    other = sample + 0.1
    arguments = ("a", "b", (1.0, 0.9), (left_out_means(sample), left_out_means(other[::-1])), 40)
    one, ten = compare_paired(*arguments), compare_paired(*arguments, comparisons=10)
    assert ten.ci_low < one.ci_low
    assert ten.level == pytest.approx(0.995)


def test_samples_needed_is_the_power_of_the_t_test():
    # 0.5 standard deviations need about 32 pairs for 80 % power (any table of power).
    assert samples_needed(10, 0.5, 1 / math.sqrt(10)) == 32
    assert samples_needed(10, 0.0, 1.0) is None
    assert samples_needed(10, 1e-9, 1.0) is None


def test_only_the_variance_over_samples_falls_with_more_of_them():
    needed = samples_needed(1000, 0.2, 0.1, other=0.05**2)
    # 80 % power at 95 %: the difference is 1.96 + 0.84 standard errors.
    error = math.sqrt(0.1**2 * 1000 / needed + 0.05**2)
    assert 0.2 / error == pytest.approx(1.960 + 0.8416, abs=1e-3)
    assert samples_needed(1000, 0.2, 0.1, other=0.0715**2) is None
    assert samples_needed(1000, 0.2, 0.0, other=0.05**2) == 1000


def test_what_cannot_be_told_apart_says_how_many_samples_would(sample):
    other = np.random.default_rng(9).normal(3, 2, size=40)
    found = compare_paired(
        "a", "b", (sample.mean(), other.mean()), (left_out_means(sample), left_out_means(other)), 40
    )
    assert found.verdict == "cannot distinguish"
    assert found.samples_needed > 40
    assert "cannot distinguish" in found.to_text() and "samples needed" in found.to_text()


def test_too_few_samples_have_no_verdict():
    nothing = np.full(4, math.nan)
    found = compare_paired("a", "b", (0.5, 0.1), (nothing, nothing), 4)
    assert found.verdict == "cannot distinguish"
    assert found.to_text() == "a and b: too few samples to compare"
    undefined = compare_paired("a", "b", (math.nan, 0.1), (nothing, nothing), 4)
    assert undefined.difference is None


@pytest.mark.parametrize("values", [(0.9, 0.1), (0.1, 0.9), (0.5, 0.5)])
def test_what_is_said_of_two_has_the_sign_of_the_number_beside_it(values):
    rng = np.random.default_rng(0)
    left_out = tuple(value + 0.01 * rng.standard_normal(20) for value in values)
    found = compare_paired("a", "b", values, left_out, 20)
    record = found.to_json()
    assert record["difference"] == pytest.approx(values[0] - values[1])
    if values[0] == values[1]:
        assert found.verdict == "cannot distinguish" and found.as_said is found
        return
    first, other = ("a", "b") if values[0] > values[1] else ("b", "a")
    assert record["text"].startswith(f"{first} ahead of {other} by 0.800")
    assert record["difference_said"] == pytest.approx(0.8)
    turned = found.turned()
    assert (turned.a, turned.b) == ("b", "a") and turned.to_text() == found.to_text()
    assert (turned.ci_low, turned.ci_high) == (-found.ci_high, -found.ci_low)
