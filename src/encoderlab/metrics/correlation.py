"""Does a metric foretell a benchmark? Correlation over encoders that counts its points.

Three encoders with r = -0.99 have p = 0.09: below six points the answer is that there are too few.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats

FEWEST = 6
EXACT = 8  # up to this many points all orders are tried
RELABELINGS = 9999


@dataclass(frozen=True)
class Correlation:
    """One metric against one outcome, over n points.

    Args:
        pearson, spearman: r and rho; None where undefined.
        pearson_p, spearman_p: two-sided, over relabelings of whole families where there are any.
        critical_r: the |r| that n unrelated points pass in 5 % of cases.
        loo_error: root mean square error of predicting each family (or point) by a line through
            the others.
        loo_baseline: the same of predicting the others' mean.
        within_family: r of what is left after each family's mean is taken out.
        families: how many, such as encoders; points of one family are no independent points.
        undefined: why there is no answer.
    """

    n: int
    families: int
    pearson: float | None = None
    pearson_p: float | None = None
    spearman: float | None = None
    spearman_p: float | None = None
    critical_r: float | None = None
    loo_error: float | None = None
    loo_baseline: float | None = None
    within_family: float | None = None
    undefined: str | None = None

    @property
    def verdict(self) -> str:
        """The answer in words."""
        if self.undefined:
            return self.undefined
        assert self.pearson is not None and self.pearson_p is not None
        if math.factorial(self.families) < 20:
            return (
                f"too few encoders to say: {self.n} points, but of {self.families} encoders only "
                f"(r = {self.pearson:.2f})"
            )
        if self.pearson_p >= 0.05:
            return f"no evidence that it foretells the outcome (p = {self.pearson_p:.2g})"
        better = (self.loo_error or 0) < (self.loo_baseline or 0)
        helps = (
            "and it predicts encoders that were left out better than their mean"
            if better
            else "but it predicts encoders that were left out no better than their mean"
        )
        return f"goes with the outcome (r = {self.pearson:.2f}, p = {self.pearson_p:.2g}), {helps}"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**vars(self), "verdict": self.verdict}


def correlate(
    metric: Sequence[float | None],
    outcome: Sequence[float | None],
    families: Sequence[Any] | None = None,
    seed: int = 0,
) -> Correlation:
    """The correlation over points; a pair with an undefined side is left out.

    Args:
        families: a label per point, such as its encoder.
    """
    labels = list(range(len(metric))) if families is None else list(families)
    kept = [
        (x, y, f)
        for x, y, f in zip(metric, outcome, labels, strict=True)
        if x is not None and y is not None and math.isfinite(x) and math.isfinite(y)
    ]
    n = len(kept)
    member = (
        np.unique([str(f) for *_, f in kept], return_inverse=True)[1] if n else np.zeros(0, int)
    )
    count = int(member.max()) + 1 if n else 0
    if n < FEWEST:
        return Correlation(
            n, count, undefined=f"too few encoders to say: {n} points, {FEWEST} needed"
        )
    x, y = np.array([k[0] for k in kept]), np.array([k[1] for k in kept])
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return Correlation(n, count, undefined="all points have the same value")
    grouped = None if count == n else member
    within = None
    if grouped is not None and count < n:
        dx, dy = x - _family_means(x, member), y - _family_means(y, member)
        if np.abs(dx).max() > 1e-12 and np.abs(dy).max() > 1e-12:
            within = float(np.corrcoef(dx, dy)[0, 1])
    t = stats.t.ppf(0.975, n - 2)
    error, baseline = _left_out(x, y, member)
    ranked = stats.rankdata(x), stats.rankdata(y)
    return Correlation(
        n,
        count,
        float(np.corrcoef(x, y)[0, 1]),
        _p(x, y, grouped, seed),
        float(np.corrcoef(*ranked)[0, 1]),
        _p(*ranked, grouped, seed),
        float(t / math.sqrt(n - 2 + t * t)),
        error,
        baseline,
        within,
    )


def _p(
    x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], member: np.ndarray | None, seed: int
) -> float:
    """Two-sided p over all orders of few points, many random ones of more.

    Where points belong to families of equal size, whole families change places: the layers of one
    encoder go up and down together, and shuffling them singly would take that for evidence.
    """
    blocks = _blocks(member, len(x))
    orders: Any
    places = len(blocks)
    if places <= EXACT:
        orders = itertools.permutations(range(places))
    else:
        rng = np.random.default_rng(seed)
        orders = (rng.permutation(places) for _ in range(RELABELINGS))
    flat = np.concatenate(blocks)
    dx, dy = x[flat] - x.mean(), y - y.mean()
    observed = abs(float(dx @ dy[flat]))
    # The slack is for sums in another order.
    found = [
        abs(float(dx @ dy[np.concatenate([blocks[i] for i in order])])) >= observed * (1 - 1e-12)
        for order in orders
    ]
    if places <= EXACT:
        return float(np.mean(found))
    return float((1 + sum(found)) / (1 + len(found)))


def _blocks(member: np.ndarray | None, n: int) -> list[np.ndarray]:
    if member is not None:
        blocks = [np.flatnonzero(member == f) for f in range(int(member.max()) + 1)]
        if len({len(block) for block in blocks}) == 1:
            return blocks
    return [np.array([i]) for i in range(n)]


def _family_means(x: np.ndarray, member: np.ndarray) -> np.ndarray:
    return (np.bincount(member, x) / np.bincount(member))[member]


def _left_out(
    x: np.ndarray, y: np.ndarray, member: np.ndarray
) -> tuple[float | None, float | None]:
    line, mean = [], []
    for family in range(int(member.max()) + 1):
        test, rest = member == family, member != family
        if rest.sum() < 3 or np.ptp(x[rest]) == 0:
            return None, None
        fitted = stats.linregress(x[rest], y[rest])
        line.extend(y[test] - (fitted.intercept + fitted.slope * x[test]))
        mean.extend(y[test] - y[rest].mean())
    return float(np.sqrt(np.mean(np.square(line)))), float(np.sqrt(np.mean(np.square(mean))))
