"""Prediction of benchmark scores within a class: against independent computations."""

import math

import numpy as np
import pytest
from scipy import stats

from encoderlab.metrics.correlation import means_over_shared
from encoderlab.metrics.prediction import (
    Answer,
    compare_with,
    group_variance,
    mean_of_standardised,
    predictions,
    rank_correlation,
)
from encoderlab.metrics.uncertainty import Verdict

NAMES = [f"e{i}" for i in range(12)]


def of(values) -> dict[str, float]:
    return dict(zip(NAMES, np.asarray(values, float).tolist(), strict=False))


def test_rank_correlation_is_that_of_scipy():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 12)).round(1)
    found = rank_correlation(of(x), of(y))
    assert found.rho == pytest.approx(stats.spearmanr(x, y)[0])
    null = stats.permutation_test(
        (x,), lambda z: abs(stats.spearmanr(z, y)[0]), permutation_type="pairings",
        n_resamples=2000, alternative="greater", rng=1,
    )  # fmt: skip
    assert found.p == pytest.approx(null.pvalue, abs=0.04)
    assert rank_correlation(of(x[:5]), of(y)).undefined


def test_p_is_corrected_over_metrics_and_targets():
    rng = np.random.default_rng(1)
    metrics = {f"m{i}": of(rng.standard_normal(12)) for i in range(3)}
    targets = {f"t{i}": of(rng.standard_normal(12)) for i in range(2)}
    metrics["constant"] = of(np.ones(12))
    found = predictions(metrics, targets, NAMES, {})
    tested = [p for p in found if p.within.p is not None]
    assert len(found) == 8 and [p.tests for p in tested] == [6] * 6
    smallest = min(tested, key=lambda p: p.within.p)
    assert smallest.p_corrected == pytest.approx(min(1, 6 * smallest.within.p))


def test_the_comparison_is_the_jackknife_of_the_difference_of_fisher_z():
    rng = np.random.default_rng(2)
    y = rng.standard_normal(12)
    x, b = y + 0.8 * rng.standard_normal(12), -y + 2 * rng.standard_normal(12)
    found = compare_with(of(x), of(b), of(y), ("x", "b"))

    def difference(keep):
        one, other = (stats.spearmanr(v[keep], y[keep])[0] for v in (x, b))
        return math.atanh(one) - math.atanh(-other)  # towards its sign over all

    without = np.array([difference(np.arange(12) != i) for i in range(12)])
    error = math.sqrt(11 / 12 * np.square(without - without.mean()).sum())
    half = stats.t.ppf(0.975, 11) * error
    whole = difference(np.arange(12) >= 0)
    assert found.difference == pytest.approx(whole)
    assert (found.ci_low, found.ci_high) == pytest.approx((whole - half, whole + half))


def test_a_perfect_order_is_ahead_of_a_constant_and_not_of_itself():
    y = np.arange(12)
    alone = compare_with(of(y), None, of(y), ("x", "constant"))
    assert alone.verdict is Verdict.AHEAD
    assert alone.difference == pytest.approx(math.atanh(1 - 6 / (12 * 143)))
    assert compare_with(of(y), of(-y), of(y), ("x", "b")).verdict is Verdict.CANNOT_DISTINGUISH
    # One encoder whose absence makes the order perfect decides nothing by itself.
    swapped = [1, 0, *range(2, 12)]
    other = compare_with(of(swapped), None, of(y), ("x", "constant"))
    assert other.verdict is Verdict.AHEAD and other.difference < alone.difference


@pytest.mark.slow
@pytest.mark.parametrize(("r", "low", "high"), [(0.9, 0.44, 0.64), (0.0, 0.0, 0.02)])
def test_of_14_encoders_a_metric_at_r_09_is_predictive_in_half_of_the_cases(r, low, high):
    rng = np.random.default_rng(5)
    names = [f"e{i}" for i in range(14)]

    def drawn() -> Answer:
        y = rng.standard_normal(14)
        x = r * y + math.sqrt(1 - r * r) * rng.standard_normal(14)
        size = rng.choice([224, 336, 378, 384, 512, 1024], 14).astype(float)
        x, y, size = (dict(zip(names, v.tolist(), strict=True)) for v in (x, y, size))
        return predictions({"x": x}, {"y": y}, names, size)[0].answer

    assert low <= np.mean([drawn() is Answer.PREDICTIVE for _ in range(150)]) <= high


def test_variance_of_a_group_is_the_squared_correlation_with_the_bit():
    rng = np.random.default_rng(3)
    y, inside = rng.standard_normal(12), set(NAMES[:5])
    bit = [name in inside for name in NAMES]
    expected = np.corrcoef(bit, y)[0, 1] ** 2
    assert group_variance(of(y), inside) == pytest.approx(expected)
    assert group_variance(of(y), NAMES) is group_variance(of(np.ones(12)), inside) is None


def test_means_of_standardised_scores_leave_out_who_lacks_one():
    found = mean_of_standardised([{"a": 1.0, "b": 3.0, "c": 9.0}, {"a": 10.0, "b": 30.0}])
    assert found == {"a": -1.0, "b": 1.0}
    assert mean_of_standardised([{"a": 1.0, "b": 1.0}]) == {"a": 0.0, "b": 0.0}


def test_means_are_over_conditions_that_all_share():
    values = {("a", "x"): 1.0, ("a", "y"): 5.0, ("b", "y"): 2.0}
    assert means_over_shared(values) == {"a": 5.0, "b": 2.0}
    assert means_over_shared({("a", "x"): 1.0, ("b", "y"): 2.0}) == {}


def test_without_known_resolutions_nothing_is_predictive_and_the_reason_says_so():
    encoders = [f"e{i}" for i in range(14)]
    scores = {name: float(i) for i, name in enumerate(encoders)}
    close = {name: value + 0.3 * (i % 2) for i, (name, value) in enumerate(scores.items())}
    few = dict(list(scores.items())[:4])
    unknown = predictions({"m": close}, {"few": few, "all": scores}, encoders, {})
    assert [p.tests for p in unknown] == [1, 1]
    assert unknown[1].answer is Answer.NO_EVIDENCE and "fewer than 6" in unknown[1].reason
    resolution = {name: float(i % 3) for i, name in enumerate(encoders)}
    (known,) = predictions({"m": close}, {"all": scores}, encoders, resolution)
    assert known.answer is Answer.PREDICTIVE
