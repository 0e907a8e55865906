"""Uncertainty of values: jackknife, half-sampling, permutations, comparisons, samples needed.

Pure functions of numbers. There is no bootstrap with replacement: repeated rows look like signal to
a pairwise statistic, and a nominal 95 % interval covers 57 to 74 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

POWER = 0.8
MOST_SAMPLES = 1_000_000  # a larger number of samples is not reported


def fisher(r: Any) -> Any:
    """Fisher's z of a correlation.

    Args:
        r: a number or an array in [-1, 1]; -1 and 1 are moved by 1e-12.

    Returns:
        arctanh(r), finite.
    """
    return np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12))


def jackknife_error(left_out: Float[np.ndarray, " g"], interaction: float = 0.0) -> float:
    """Standard error by the delete-one jackknife (Efron 1982).

    The jackknife counts the variance that comes from pairs of samples twice (Efron & Stein 1981).
    Unrelated features have no other variance, so their intervals would be 1.4 times too wide.

    Args:
        left_out: g values, each computed without one of g equal parts.
        interaction: the variance that comes from pairs of samples; subtracted once.

    Returns:
        The standard error, at least sqrt(interaction / 2); NaN for fewer than two parts.
    """
    g = len(left_out)
    if g < 2:
        return math.nan
    variance = (g - 1) / g * float(np.square(left_out - left_out.mean()).sum())
    return math.sqrt(max(variance - interaction, interaction / 2))


def jackknife_interval(
    value: float,
    left_out: Float[np.ndarray, " g"],
    *,
    correlation: bool = False,
    interaction: float = 0.0,
    level: float = 0.95,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> tuple[float | None, float | None]:
    """The t interval of a value from its delete-one (or delete-a-part) values.

    Args:
        value: computed from all parts.
        left_out: g values, each computed without one part.
        correlation: compute the interval on Fisher's z, for a value in [-1, 1].
        interaction: the variance that comes from pairs of samples; see `jackknife_error`.
        level: the coverage.
        bounds: range of the value, to which the ends are clipped (not with `correlation`).

    Returns:
        Both ends; (None, None) for fewer than three parts or a value that is not finite.
    """
    if len(left_out) < 3 or not np.isfinite(left_out).all():
        return None, None
    quantile = stats.t.ppf((1 + level) / 2, len(left_out) - 1)
    if not correlation:
        half = quantile * jackknife_error(left_out, interaction)
        return max(bounds[0], float(value - half)), min(bounds[1], float(value + half))
    slope = 1 / max(1 - value**2, 1e-12)
    half = quantile * jackknife_error(fisher(left_out), interaction * slope**2)
    return float(np.tanh(fisher(value) - half)), float(np.tanh(fisher(value) + half))


def half_sampling_error(
    statistic: Callable[[Int[np.ndarray, " m"]], float], n: int, rounds: int = 200, seed: int = 0
) -> float:
    """Standard error from halves drawn without replacement.

    The deviation of a half from the whole has the variance of the whole (Politis & Romano 1994).

    Args:
        statistic: from row numbers to a value.
        n: number of rows.
        rounds: number of halves.
        seed: of the draws.

    Returns:
        Standard deviation over the halves.
    """
    rng = np.random.default_rng(seed)
    return float(
        np.std([statistic(np.sort(rng.permutation(n)[: n // 2])) for _ in range(rounds)], ddof=1)
    )


def permutation_p(observed: float, null: Float[np.ndarray, " k"]) -> float:
    """One-sided p of a permutation test.

    Args:
        observed: the value of the true pairing.
        null: its values under k random pairings.

    Returns:
        (1 + how many reach `observed`) / (1 + k), in [1 / (1 + k), 1].
    """
    # Relative slack: the same sum in another order differs in its last digits.
    reached = null >= observed - 1e-12 * max(1.0, abs(observed))
    return float((1 + reached.sum()) / (1 + len(null)))


def max_corrected_p(
    observed: Float[np.ndarray, "*cells"], null: Float[np.ndarray, "k *cells"]
) -> Float[np.ndarray, "*cells"]:
    """p of every cell, corrected for the number of cells (max-T, Westfall & Young 1993).

    Args:
        observed: the values of the true pairing.
        null: the same under k random pairings.

    Returns:
        Probability that the largest cell of a random pairing reaches the cell, in [1 / (1 + k), 1].
    """
    largest = null.reshape(len(null), -1).max(axis=1)
    slack = 1e-12 * np.maximum(1.0, np.abs(observed))
    reached = (largest[:, None] >= (observed - slack).reshape(1, -1)).sum(axis=0)
    return ((1 + reached) / (1 + len(null))).reshape(observed.shape)


def samples_needed(
    n: int, difference: float, error: float, level: float = 0.95, other: float = 0.0
) -> int | None:
    """About how many samples show a difference of this size with 80 % power.

    Args:
        n: number of samples that `error` was measured with.
        difference: the difference to be shown.
        error: its standard error, which is assumed to fall with the root of n.
        level: of the interval that has to exclude 0.
        other: variance of the difference that more samples do not lower.

    Returns:
        At least `n`; None for more than a million, and where `other` by itself hides the
        difference.

    Examples:
        >>> samples_needed(100, 0.1, 0.05)
        197
        >>> samples_needed(100, 0.1, 0.05, other=0.03**2)
        669
    """
    if not (math.isfinite(difference) and math.isfinite(error)) or difference == 0:
        return None
    quantiles = stats.norm.ppf((1 + level) / 2) + stats.norm.ppf(POWER)
    # The variance with which a difference of this size is shown, less the part that stays.
    allowed = (difference / quantiles) ** 2 - other
    needed = n * error**2 / allowed if allowed > 0 else math.inf
    return None if needed > MOST_SAMPLES else max(n, math.ceil(needed))


class Verdict(StrEnum):
    """What the interval of a paired difference says."""

    AHEAD = "ahead"
    BEHIND = "behind"
    CANNOT_DISTINGUISH = "cannot distinguish"


@dataclass(frozen=True)
class Comparison:
    """Two encoders on the same samples.

    Args:
        a, b: names of the encoders.
        difference: a's value minus b's; None where a side is undefined.
        ci_low, ci_high: interval of the difference at `level`; None for too few samples.
        p: two-sided.
        n: number of samples.
        level: coverage of the interval.
        samples_needed: about how many samples would distinguish them, if the difference is as
            estimated; None where they are distinguished, more than a million are needed, or the
            variance that does not come from the samples hides the difference by itself.
    """

    a: str
    b: str
    difference: float | None
    ci_low: float | None
    ci_high: float | None
    p: float | None
    n: int
    level: float
    samples_needed: int | None = None

    @property
    def verdict(self) -> Verdict:
        """Whether the interval of the difference lies above 0, below 0, or contains 0."""
        if self.ci_low is not None and self.ci_low > 0:
            return Verdict.AHEAD
        if self.ci_high is not None and self.ci_high < 0:
            return Verdict.BEHIND
        return Verdict.CANNOT_DISTINGUISH

    def turned(self) -> Comparison:
        """The same comparison with a and b exchanged."""
        low, high = self.ci_low, self.ci_high
        return replace(
            self,
            a=self.b,
            b=self.a,
            difference=None if self.difference is None else -self.difference,
            ci_low=None if high is None else -high,
            ci_high=None if low is None else -low,
        )

    @property
    def as_said(self) -> Comparison:
        """The comparison in the direction of `to_text`: an encoder that is ahead is `a`."""
        return self.turned() if self.verdict is Verdict.BEHIND else self

    def signed(self, *, points: bool = False) -> str:
        """The difference a - b with its sign and interval.

        Args:
            points: in percentage points, for shares in [0, 1].

        Returns:
            Such as "+0.032 [+0.010, +0.054]" or "+3.2 points [+1.0, +5.4]"; "undefined".
        """
        if self.difference is None:
            return "undefined"
        scale, form, unit = (100, "+.1f", " points") if points else (1, "+.3f", "")
        text = f"{scale * self.difference:{form}}{unit}"
        if self.ci_low is not None and self.ci_high is not None:
            text += f" [{scale * self.ci_low:{form}}, {scale * self.ci_high:{form}}]"
        return text

    def to_text(self) -> str:
        """The verdict as one sentence."""
        if self.verdict is Verdict.BEHIND:
            return self.turned().to_text()
        if self.difference is None or self.ci_low is None or self.ci_high is None:
            return f"{self.a} and {self.b}: too few samples to compare"
        numbers = f"{self.difference:.3f} [{self.ci_low:.3f}, {self.ci_high:.3f}]"
        if self.verdict is Verdict.AHEAD:
            return f"{self.a} ahead of {self.b} by {numbers}"
        numbers = f"{self.difference:+.3f} [{self.ci_low:.3f}, {self.ci_high:.3f}]"
        about = (
            f"about {self.samples_needed:,} samples needed"
            if self.samples_needed
            else "no reasonable number of samples would show a difference as small as this"
        )
        return f"{self.a} against {self.b}: {self.verdict} ({numbers}); {about}"

    def to_json(self) -> dict[str, Any]:
        """Fields and verdict as plain values.

        Returns:
            `difference` is a minus b; `difference_said` has the direction of `text`.
        """
        return {
            **vars(self),
            "verdict": self.verdict,
            "text": self.to_text(),
            "difference_said": self.as_said.difference,
        }


def compare_paired(
    a: str,
    b: str,
    values: tuple[float, float],
    left_out: tuple[Float[np.ndarray, " g"], Float[np.ndarray, " g"]],
    n: int,
    *,
    comparisons: int = 1,
    interaction: float = 0.0,
    least: float = 0.0,
    other: tuple[float, float] = (0.0, 1.0),
) -> Comparison:
    """Compares two encoders on the same samples, by the jackknife of the difference.

    Args:
        a: name of an encoder.
        b: name of another encoder.
        values: the value of each.
        left_out: the value of each without part i, the same parts for both.
        n: number of samples.
        comparisons: number of comparisons that are made together; the intervals hold for all of
            them (Bonferroni).
        interaction: of the difference; see `jackknife_error`.
        least: the least distance of the interval's ends from the difference.
        other: variance of the difference that does not come from the samples, such as of random
            controls, and its degrees of freedom; those of the sum are Satterthwaite's (1946).

    Returns:
        The comparison; without an interval for fewer than three parts or values that are undefined.
    """
    level = 1 - 0.05 / max(1, comparisons)
    difference = values[0] - values[1]
    parts = left_out[0] - left_out[1]
    of_samples = error = jackknife_error(parts, interaction)
    if len(parts) < 3 or not np.isfinite(parts).all() or not math.isfinite(difference):
        defined = difference if math.isfinite(difference) else None
        return Comparison(a, b, defined, None, None, None, n, level)
    freedom = float(len(parts) - 1)
    if other[0] > 0:
        variances = error**2, other[0]
        error = math.sqrt(sum(variances))
        freedom = error**4 / (variances[0] ** 2 / freedom + variances[1] ** 2 / other[1])
    half = max(least, float(stats.t.ppf((1 + level) / 2, freedom)) * error)
    if error > 0:
        p = float(2 * stats.t.sf(abs(difference) / error, freedom))
    else:
        p = 1.0 if difference == 0 else 0.0
    low, high = difference - half, difference + half
    distinct = low > 0 or high < 0
    needed = None if distinct else samples_needed(n, difference, of_samples, level, other[0])
    return Comparison(a, b, difference, low, high, p, n, level, needed)
