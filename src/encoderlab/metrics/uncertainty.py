"""How sure a number is: jackknife, half-sampling, permutations, paired comparison, samples needed.

Pure functions of numbers. There is no bootstrap with replacement here: for a pairwise statistic its
doubled rows look like signal, and a nominal 95 % interval covers 57 to 74 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

POWER = 0.8
NEVER = 10_000_000  # more samples than this are as good as none


def fisher(r: Any) -> Any:
    """Fisher's z of a value in [-1, 1]; the ends are kept finite."""
    return np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12))


def jackknife_error(left_out: Float[np.ndarray, " g"], interaction: float = 0.0) -> float:
    """Standard error from g values, each computed without one of g equal parts (Efron 1982).

    The jackknife counts the variance that comes from pairs of samples twice (Efron & Stein 1981):
    that of unrelated features is all of this kind, and their intervals come out 1.4 times too
    wide. `interaction` is that variance; it is taken out once, and at least half of it stays.
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
) -> tuple[float, float] | None:
    """The interval of a value from its delete-one (or delete-a-part) values.

    Args:
        correlation: whether to work on Fisher's z, for a value in [-1, 1].
        interaction: the part of the variance that comes from pairs of samples; `jackknife_error`.

    None where a deletion leaves nothing to compute.
    """
    if len(left_out) < 3 or not np.isfinite(left_out).all():
        return None
    quantile = stats.t.ppf((1 + level) / 2, len(left_out) - 1)
    if not correlation:
        half = quantile * jackknife_error(left_out, interaction)
        return float(value - half), float(value + half)
    slope = 1 / max(1 - value**2, 1e-12)
    half = quantile * jackknife_error(fisher(left_out), interaction * slope**2)
    return float(np.tanh(fisher(value) - half)), float(np.tanh(fisher(value) + half))


def half_sampling_error(
    statistic: Callable[[Int[np.ndarray, " m"]], float], n: int, rounds: int = 200, seed: int = 0
) -> float:
    """Standard error of `statistic(rows)` from halves drawn without replacement.

    The deviation of a half from the whole has the variance of the whole (Politis & Romano 1994).
    """
    rng = np.random.default_rng(seed)
    return float(
        np.std([statistic(np.sort(rng.permutation(n)[: n // 2])) for _ in range(rounds)], ddof=1)
    )


def permutation_p(observed: float, null: Float[np.ndarray, " k"]) -> float:
    """One-sided p of k relabelings; never 0, since the pairing as it is, is one of them."""
    # Relative slack: the same sum in another order differs in its last digits.
    reached = null >= observed - 1e-12 * max(1.0, abs(observed))
    return float((1 + reached.sum()) / (1 + len(null)))


def max_corrected_p(
    observed: Float[np.ndarray, "*cells"], null: Float[np.ndarray, "k *cells"]
) -> Float[np.ndarray, "*cells"]:
    """p of every cell against the largest cell of each relabeling (Westfall & Young 1993): the
    chance that any cell at all looks this good."""
    largest = null.reshape(len(null), -1).max(axis=1)
    slack = 1e-12 * np.maximum(1.0, np.abs(observed))
    reached = (largest[:, None] >= (observed - slack).reshape(1, -1)).sum(axis=0)
    return ((1 + reached) / (1 + len(null))).reshape(observed.shape)


def samples_needed(n: int, difference: float, error: float, level: float = 0.95) -> int | None:
    """About how many samples would show a difference of this size with 80 % power.

    The error shrinks with the root of n. None where more than ten million would be needed.

    Examples:
        >>> samples_needed(100, 0.1, 0.05)
        197
    """
    if not (math.isfinite(difference) and math.isfinite(error)) or difference == 0:
        return None
    quantiles = stats.norm.ppf((1 + level) / 2) + stats.norm.ppf(POWER)
    needed = n * (quantiles * error / abs(difference)) ** 2
    return None if needed > NEVER else max(n, math.ceil(needed))


Verdict = Literal["ahead", "behind", "cannot distinguish"]


@dataclass(frozen=True)
class Comparison:
    """Two encoders on the same samples: `difference` is a's value minus b's.

    Args:
        ci_low, ci_high: its interval, at `level`; None where there are too few samples.
        p: two-sided.
        samples_needed: about how many would tell them apart, if the difference is what it seems;
            None where they are told apart, or no number of samples would do.
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
        """Whether a is ahead of b, behind it, or the data cannot tell."""
        if self.ci_low is not None and self.ci_low > 0:
            return "ahead"
        if self.ci_high is not None and self.ci_high < 0:
            return "behind"
        return "cannot distinguish"

    def turned(self) -> Comparison:
        """The same comparison as seen from b: b's value minus a's."""
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
        """As `to_text` puts it: where one is ahead, that one stands first."""
        return self.turned() if self.verdict == "behind" else self

    def to_text(self) -> str:
        """The verdict in words."""
        if self.verdict == "behind":
            return self.turned().to_text()
        if self.difference is None or self.ci_low is None or self.ci_high is None:
            return f"{self.a} and {self.b}: too few samples to compare"
        numbers = f"{self.difference:.3f} [{self.ci_low:.3f}, {self.ci_high:.3f}]"
        if self.verdict == "ahead":
            return f"{self.a} ahead of {self.b} by {numbers}"
        numbers = f"{self.difference:+.3f} [{self.ci_low:.3f}, {self.ci_high:.3f}]"
        about = (
            f"about {self.samples_needed:,} samples needed"
            if self.samples_needed
            else "no number of samples would show a difference as small as this"
        )
        return f"{self.a} against {self.b}: cannot distinguish ({numbers}); {about}"

    def to_json(self) -> dict[str, Any]:
        """Plain values, the verdict with them; `difference` is a minus b, `difference_said` is in
        the direction of `text`."""
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
) -> Comparison:
    """Compares two encoders on the same samples, by the jackknife of the difference.

    Args:
        left_out: each encoder's value without part i, the same parts for both.
        comparisons: how many are made side by side: the intervals hold for all of them together
            (Bonferroni).
        interaction: of the difference; `jackknife_error`.
    """
    level = 1 - 0.05 / max(1, comparisons)
    difference = values[0] - values[1]
    parts = left_out[0] - left_out[1]
    error = jackknife_error(parts, interaction)
    usable = len(parts) >= 3 and np.isfinite(parts).all() and math.isfinite(difference)
    if not usable:
        known = difference if math.isfinite(difference) else None
        return Comparison(a, b, known, None, None, None, n, level)
    freedom = len(parts) - 1
    half = float(stats.t.ppf((1 + level) / 2, freedom)) * error
    if error > 0:
        p = float(2 * stats.t.sf(abs(difference) / error, freedom))
    else:
        p = 1.0 if difference == 0 else 0.0
    low, high = difference - half, difference + half
    apart = low > 0 or high < 0
    needed = None if apart else samples_needed(n, difference, error, level)
    return Comparison(a, b, difference, low, high, p, n, level, needed)
