"""Correlation of a metric with a benchmark over encoders.

The unit of analysis is the encoder. Its points (LLMs, layers) are correlated, so they are averaged
to one point per encoder, from which r, p, the critical r and the leave-one-out error are computed.
Fewer than six encoders give no answer: three with r = -0.99 have p = 0.09. k encoders, m orders.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

FEWEST = 6
EXACT = 8  # up to this many encoders all orders are tried
RELABELINGS = 9999
LEVEL = 0.05


@dataclass(frozen=True)
class Correlation:
    """One metric against one outcome, over k encoders.

    Args:
        n: number of points that are averaged.
        families: k, the number of encoders.
        left_out: number of points that are not used: a side is undefined, or another encoder has no
            point under the same condition.
        pearson, spearman: r and rho of the encoders' means, in [-1, 1].
        pearson_p, spearman_p: two-sided, by permuting the encoders; at least 1 / k!.
        p_corrected: `pearson_p` corrected for `tests` (Holm); None for a single test.
        tests: number of metrics and outcomes that are tested together.
        critical_r: the |r| that k unrelated encoders exceed in 5 % of cases.
        loo_error: root mean square error of predicting each encoder by a line through the others.
        loo_baseline: the same of predicting the mean of the others.
        within_family: r of the points after subtracting each encoder's mean.
        undefined: why there is no answer.
    """

    n: int
    families: int
    left_out: int = 0
    pearson: float | None = None
    pearson_p: float | None = None
    spearman: float | None = None
    spearman_p: float | None = None
    p_corrected: float | None = None
    tests: int = 1
    critical_r: float | None = None
    loo_error: float | None = None
    loo_baseline: float | None = None
    within_family: float | None = None
    undefined: str | None = None

    @property
    def predicts(self) -> bool:
        """Whether p, corrected, is below 0.05 and the line predicts encoders that were left out
        better than the mean of the others."""
        p = self._p
        if p is None or self.loo_error is None or self.loo_baseline is None:
            return False
        return p < LEVEL and self.loo_error < self.loo_baseline

    @property
    def _p(self) -> float | None:
        return self.pearson_p if self.p_corrected is None else self.p_corrected

    @property
    def verdict(self) -> str:
        """The answer as a sentence."""
        if self.undefined:
            return self.undefined
        p = self._p
        assert self.pearson is not None and p is not None
        number = f"r = {self.pearson:.2f}, p = {p:.2g}"
        if self.p_corrected is not None:
            number += f" corrected for {self.tests} tests"
        if self.predicts:
            return f"predicts the outcome of encoders that were left out ({number})"
        if p < LEVEL:
            return (
                f"correlates with the outcome ({number}), but predicts encoders that were left out "
                "no better than their mean"
            )
        return f"no evidence that it predicts the outcome ({number})"

    def to_json(self) -> dict[str, Any]:
        """Fields, `predicts` and `verdict` as plain values."""
        return {**vars(self), "predicts": self.predicts, "verdict": self.verdict}


def correlate(
    metric: Sequence[float | None],
    outcome: Sequence[float | None],
    families: Sequence[Hashable] | None = None,
    seed: int = 0,
    *,
    conditions: Sequence[Hashable] | None = None,
) -> Correlation:
    """The correlation of a metric with an outcome over encoders.

    Args:
        metric: one value per point; a point with an undefined side is left out.
        outcome: one value per point.
        families: the encoder of each point; None where each point is a different encoder.
        seed: of the random permutations, which are used for more than eight encoders.
        conditions: the condition of each point, such as its LLM. Only conditions that all encoders
            share are used, since an encoder that was measured with the harder LLM only would seem
            worse than it is.

    Returns:
        The correlation; undefined, with the reason, for fewer than six encoders.
    """
    labels = list(range(len(metric))) if families is None else list(families)
    under = [None] * len(labels) if conditions is None else list(conditions)
    points = [
        (x, y, f, c)
        for x, y, f, c in zip(metric, outcome, labels, under, strict=True)
        if x is not None and y is not None and math.isfinite(x) and math.isfinite(y)
    ]
    encoders = list(dict.fromkeys(f for _, _, f, _ in points))
    shared = [
        condition
        for condition in dict.fromkeys(c for *_, c in points)
        if {f for _, _, f, c in points if c == condition} == set(encoders)
    ]
    used = [point for point in points if point[3] in shared]
    n, k = len(used), len(encoders)
    left_out = len(labels) - n
    if k < FEWEST:
        reason = f"too few encoders to say: {k}, and {FEWEST} are needed"
        return Correlation(n, k, left_out, undefined=reason)
    if not used:
        reason = "the encoders share no condition, such as an LLM, under which all were measured"
        return Correlation(n, k, left_out, undefined=reason)
    x, y = (np.array([point[side] for point in used], dtype=np.float64) for side in (0, 1))
    member = np.array([encoders.index(f) for _, _, f, _ in used])
    means = _means(x, member), _means(y, member)
    if any(_is_constant(values) for values in means):
        return Correlation(n, k, left_out, undefined="all encoders have the same value")
    ranks = stats.rankdata(means[0]), stats.rankdata(means[1])
    t = stats.t.ppf(0.975, k - 2)
    error, baseline = _left_out_errors(*means)
    return Correlation(
        n,
        k,
        left_out,
        pearson=float(np.corrcoef(*means)[0, 1]),
        pearson_p=_permutation_p(*means, seed),
        spearman=None if _is_constant(ranks[0]) or _is_constant(ranks[1])
        else float(np.corrcoef(*ranks)[0, 1]),
        spearman_p=_permutation_p(*ranks, seed),
        critical_r=float(t / math.sqrt(k - 2 + t * t)),
        loo_error=error,
        loo_baseline=baseline,
        within_family=_within(x, y, member) if n > k else None,
    )  # fmt: skip


def means_over_shared(values: Mapping[tuple[str, str], float]) -> dict[str, float]:
    """The mean of each encoder over the conditions that all encoders share.

    Args:
        values: (encoder, condition) -> value; a condition is such as an LLM.

    Returns:
        Encoder -> mean; empty where no condition is shared by all.

    >>> means_over_shared({("a", "llama"): 1.0, ("a", "qwen"): 3.0, ("b", "qwen"): 2.0})
    {'a': 3.0, 'b': 2.0}
    """
    encoders = list(dict.fromkeys(encoder for encoder, _ in values))
    shared = [
        condition
        for condition in dict.fromkeys(condition for _, condition in values)
        if all((encoder, condition) in values for encoder in encoders)
    ]
    return {
        encoder: math.fsum(values[encoder, condition] for condition in shared) / len(shared)
        for encoder in (encoders if shared else ())
    }


def holm(correlations: Sequence[Correlation]) -> list[Correlation]:
    """Corrects p for the number of correlations (Holm 1979): the probability of calling any of them
    predictive although none is stays below 5 %.

    Args:
        correlations: of all metrics and outcomes that are tested together; undefined ones do not
            count.

    Returns:
        The correlations in the same order, with `p_corrected` and `tests`.
    """
    values = [c.pearson_p for c in correlations if c.pearson_p is not None]
    corrected = iter(holm_p(values) if len(values) > 1 else [None])
    return [
        replace(c, p_corrected=next(corrected), tests=len(values)) if c.pearson_p is not None else c
        for c in correlations
    ]


def holm_p(values: Sequence[float]) -> list[float]:
    """Corrects p values for multiple tests (Holm 1979).

    Args:
        values: p of each test.

    Returns:
        In the same order, each p times the number of tests that are not yet rejected, made
        monotone, at most 1.

    Examples:
        >>> holm_p([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    corrected, largest = [0.0] * len(values), 0.0
    for done, i in enumerate(np.argsort(values, kind="stable")):
        largest = max(largest, min(1.0, values[i] * (len(values) - done)))
        corrected[i] = largest
    return corrected


def _permutation_p(x: Float[np.ndarray, " k"], y: Float[np.ndarray, " k"], seed: int) -> float:
    """Two-sided p over all orders of up to `EXACT` encoders, and over random orders of more."""
    orders = _orders(len(x), seed)
    dx, dy = x - x.mean(), y - y.mean()
    observed = abs(float(dx @ dy))
    # The tolerance is for rounding: the sums are in another order.
    reached = int((np.abs(dx[orders] @ dy) >= observed * (1 - 1e-12)).sum())
    if len(x) <= EXACT:
        return reached / len(orders)
    return (1 + reached) / (1 + len(orders))


@functools.lru_cache(maxsize=4)
def _orders(k: int, seed: int) -> Int[np.ndarray, "m k"]:
    if k <= EXACT:
        return np.array(list(itertools.permutations(range(k))))
    rng = np.random.default_rng(seed)
    return np.array([rng.permutation(k) for _ in range(RELABELINGS)])


def _means(values: np.ndarray, member: np.ndarray) -> Float[np.ndarray, " k"]:
    return np.bincount(member, values) / np.bincount(member)


def _is_constant(values: np.ndarray) -> bool:
    """Whether all values are equal up to rounding."""
    return bool(np.ptp(values) <= 1e-12 * np.abs(values).max())


def _within(x: np.ndarray, y: np.ndarray, member: np.ndarray) -> float | None:
    dx, dy = x - _means(x, member)[member], y - _means(y, member)[member]
    if min(np.abs(dx).max(), np.abs(dy).max()) <= 1e-12:
        return None
    return float(np.corrcoef(dx, dy)[0, 1])


def _left_out_errors(
    x: Float[np.ndarray, " k"], y: Float[np.ndarray, " k"]
) -> tuple[float | None, float | None]:
    line, mean = [], []
    for i in range(len(x)):
        rest = np.arange(len(x)) != i
        if _is_constant(x[rest]):
            return None, None
        fitted = stats.linregress(x[rest], y[rest])
        line.append(y[i] - (fitted.intercept + fitted.slope * x[i]))
        mean.append(y[i] - y[rest].mean())
    return float(np.sqrt(np.mean(np.square(line)))), float(np.sqrt(np.mean(np.square(mean))))
