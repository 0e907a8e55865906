"""Does a metric predict benchmark scores of encoders, within a class and better than baselines?

Over a pool of language-supervised and other encoders one bit explains most of the variance, so that
a high correlation there proves nothing. The answer is therefore within a class, against the input
resolution as a baseline and the repeatability of the scores as a ceiling. The unit is the encoder.

Pure functions of encoder -> number. n encoders.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats

from encoderlab.metrics.correlation import (
    EXACT,
    FEWEST,
    LEVEL,
    RELABELINGS,
    correlate,
    holm_p,
)
from encoderlab.metrics.uncertainty import Comparison, Verdict, compare_paired, fisher

Values = Mapping[str, float]
RESOLUTION, ONE_BIT = "input resolution", "one bit: language-supervised or not"
BASELINES = (RESOLUTION, ONE_BIT)


class Answer(StrEnum):
    """Whether a metric predicts a target within the class."""

    PREDICTIVE = "predictive"
    NO_EVIDENCE = "no evidence"
    TOO_FEW = "too few to say"
    UNDEFINED = "undefined"


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's correlation over encoders.

    Args:
        n: number of encoders.
        rho: in [-1, 1]; None where it is undefined.
        p: two-sided, by permuting the encoders.
        loo_error: root mean square error of predicting each encoder by a line through the others.
        loo_baseline: the same of predicting the mean of the others.
        undefined: why there is no rho.
    """

    n: int
    rho: float | None = None
    p: float | None = None
    loo_error: float | None = None
    loo_baseline: float | None = None
    undefined: str | None = None


@dataclass(frozen=True)
class Prediction:
    """A metric and a target.

    Args:
        within: over the encoders of the class.
        overall: over all encoders.
        against: paired comparison of the metric's Fisher z of |rho| within the class with that of
            each baseline; only where `within` is defined.
        p_corrected: p within the class, corrected for `tests` (Holm).
        tests: number of metrics and targets that are tested together.
    """

    metric: str
    target: str
    within: RankCorrelation
    overall: RankCorrelation
    against: Mapping[str, Comparison]
    p_corrected: float | None = None
    tests: int = 1

    @property
    def answer(self) -> Answer:
        """Predictive: corrected p below 0.05, and ahead of both baselines."""
        if self.within.n < FEWEST:
            return Answer.TOO_FEW
        if self.within.rho is None or self.p_corrected is None:
            return Answer.UNDEFINED
        ahead = len(self.against) == len(BASELINES) and all(
            c.verdict is Verdict.AHEAD for c in self.against.values()
        )
        return Answer.PREDICTIVE if self.p_corrected < LEVEL and ahead else Answer.NO_EVIDENCE

    @property
    def reason(self) -> str:
        """What the answer rests on, in words."""
        if self.within.undefined or self.p_corrected is None:
            return self.within.undefined or "there is no p"
        if self.p_corrected >= LEVEL:
            return f"corrected p = {self.p_corrected:.2g}"
        for name in BASELINES:
            if name not in self.against:
                return f"the {name} of fewer than {FEWEST} of them is known"
            if self.against[name].verdict is not Verdict.AHEAD:
                return f"not ahead of {name}"
        return f"corrected p = {self.p_corrected:.2g}, ahead of the baselines"

    def to_json(self) -> dict[str, Any]:
        """The fields, the answer and its reason."""
        against = {name: comparison.to_json() for name, comparison in self.against.items()}
        return {**vars(self), "against": against, "answer": self.answer, "reason": self.reason}


def rank_correlation(metric: Values, target: Values, seed: int = 0) -> RankCorrelation:
    """Spearman's correlation over the encoders that have both.

    Args:
        metric: encoder -> value.
        target: encoder -> score.
        seed: of the random permutations, for more than eight encoders.

    Returns:
        The correlation; undefined, with the reason, for fewer than six encoders.
    """
    encoders = [name for name in target if name in metric]
    found = correlate([metric[e] for e in encoders], [target[e] for e in encoders], seed=seed)
    return RankCorrelation(
        found.families,
        found.spearman,
        found.spearman_p if found.spearman is not None else None,
        found.loo_error,
        found.loo_baseline,
        found.undefined,
    )


def predictions(
    metrics: Mapping[str, Values],
    targets: Mapping[str, Values],
    members: Collection[str],
    resolution: Values,
    seed: int = 0,
) -> list[Prediction]:
    """Every metric against every target.

    Args:
        metrics: metric -> encoder -> value.
        targets: target -> encoder -> score.
        members: the encoders of the class.
        resolution: encoder -> input resolution, where it is known.
        seed: of the random permutations.

    Returns:
        The predictions, p corrected over all of them (Holm 1979).
    """
    tried = []
    for metric, values in metrics.items():
        for target, scores in targets.items():
            own = {name: score for name, score in scores.items() if name in members}
            within = rank_correlation(values, own, seed)
            against = {}
            if within.rho is not None:
                # Within the class it is the same for all encoders, so its rho is 0.
                against = {ONE_BIT: compare_with(values, None, own, (metric, ONE_BIT))}
                if len(own.keys() & values.keys() & resolution.keys()) >= FEWEST:
                    against = {
                        RESOLUTION: compare_with(values, resolution, own, (metric, RESOLUTION)),
                        **against,
                    }
            overall = rank_correlation(values, scores, seed)
            tried.append(Prediction(metric, target, within, overall, against))
    tested = [i for i, prediction in enumerate(tried) if prediction.within.p is not None]
    tried = [replace(prediction, tests=len(tested)) for prediction in tried]
    corrected = holm_p([tried[i].within.p or 0.0 for i in tested])
    for i, p in zip(tested, corrected, strict=True):
        tried[i] = replace(tried[i], p_corrected=p)
    return tried


def compare_with(
    metric: Values, baseline: Values | None, target: Values, names: tuple[str, str]
) -> Comparison:
    """Whether a metric ranks encoders nearer to the target than a baseline does.

    The difference of Fisher z of both |rho|, with the jackknife over encoders. A baseline that is
    the same for all encoders has rho 0.

    Args:
        metric: encoder -> value.
        baseline: encoder -> value; encoders without one are left out. None: the same for all.
        target: encoder -> score.
        names: of the metric and of the baseline.

    Returns:
        The comparison, `a` being the metric.
    """
    encoders = [e for e in target if e in metric and (baseline is None or e in baseline)]
    y = np.array([target[e] for e in encoders])
    sides = [np.array([metric[e] for e in encoders])]
    sides.append(np.array([0.0 if baseline is None else baseline[e] for e in encoders]))
    z, left_out = [], []
    for x in sides:
        rho = _spearman(x, y)
        # Towards the sign that it has over all: the opposite sign is a worse prediction.
        sign = -1.0 if rho < 0 else 1.0
        rest = ~np.eye(len(y), dtype=bool)
        z.append(_z(sign * rho, len(y)))
        left_out.append(
            np.array([_z(sign * _spearman(x[keep], y[keep]), len(y) - 1) for keep in rest])
        )
    return compare_paired(*names, (z[0], z[1]), (left_out[0], left_out[1]), len(y))


def group_variance(target: Values, members: Collection[str]) -> float | None:
    """The share of a target's variance that membership in the class explains (R2).

    Args:
        target: encoder -> score.
        members: the encoders of the class.

    Returns:
        In [0, 1]; None where all or no encoders are members, or all scores are equal.

    >>> group_variance({"a": 1.0, "b": 1.0, "c": 3.0}, {"c"})
    1.0
    """
    inside = np.array([name in members for name in target])
    scores = np.array(list(target.values()))
    if inside.all() or not inside.any() or np.ptp(scores) == 0:
        return None
    means = np.where(inside, scores[inside].mean(), scores[~inside].mean())
    rest = float(np.square(scores - means).sum())
    return 1 - rest / float(np.square(scores - scores.mean()).sum())


def mean_of_standardised(scores: Sequence[Values]) -> dict[str, float]:
    """The mean over benchmarks of scores that are standardised over encoders.

    Args:
        scores: of each benchmark, encoder -> score.

    Returns:
        Encoder -> mean of z, for encoders that have all benchmarks. A benchmark on which all are
        equal counts as 0.
    """
    encoders = [e for e in scores[0] if all(e in own for own in scores)] if scores else []
    if not encoders:
        return {}
    x = np.array([[own[e] for e in encoders] for own in scores])
    sd = x.std(axis=1, keepdims=True)
    z = (x - x.mean(axis=1, keepdims=True)) / np.where(sd > 0, sd, 1.0)
    return dict(zip(encoders, z.mean(axis=0).tolist(), strict=True))


def smallest_p(n: int) -> float:
    """The smallest p that a permutation test over n encoders can give.

    Args:
        n: number of encoders.

    Returns:
        2 / n! up to eight encoders (the two orders of |rho| = 1), else 1 / 10,000.

    >>> smallest_p(9)
    0.0001
    """
    return 2 / math.factorial(n) if n <= EXACT else 1 / (1 + RELABELINGS)


def _spearman(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> float:
    """0 where a side is constant: it orders nothing."""
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(np.corrcoef(stats.rankdata(x), stats.rankdata(y))[0, 1])


def _z(rho: float, n: int) -> float:
    """Fisher's z; a perfect order counts as half a step below 1."""
    # The next order below a perfect one has rho = 1 - 12 / (n (n^2 - 1)). z of 1 itself is
    # infinite, and a single encoder that completes the order would decide every comparison.
    most = 1 - 6 / (n * (n * n - 1)) if n > 1 else 0.0
    return float(fisher(min(max(rho, -most), most)))
