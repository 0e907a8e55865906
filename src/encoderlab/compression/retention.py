"""The share of a score kept, from its floor to the score of all tokens; paired over images.

Scores are per image; intervals and comparisons are jackknives over images. n images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

from encoderlab.core.score import Score, undefined
from encoderlab.metrics.uncertainty import Comparison, compare_paired, jackknife_interval

NO_SPAN = 0.02
ESTIMATOR = "(score - floor) / (full - floor); jackknife over images"

PerImage = Float[np.ndarray, " n"]


@dataclass(frozen=True)
class RetentionScale:
    """The scores of all tokens (`full`) and of the data set's mean token everywhere (`floor`)."""

    full: PerImage
    floor: PerImage

    @property
    def span(self) -> float:
        """Mean difference of full and floor."""
        return float(self.full.mean() - self.floor.mean())

    def value(self, score: PerImage) -> float:
        """(score - floor) / (full - floor)."""
        return float((score.mean() - self.floor.mean()) / self.span)

    def without_each(self, score: PerImage) -> PerImage:
        """`value` without image i, for every i."""
        above, span = score - self.floor, self.full - self.floor
        return (above.sum() - above) / (span.sum() - span)

    def kept(self, score: PerImage, least: float = 0.0) -> Score:
        """The share kept with its interval.

        Args:
            score: per image.
            least: the least distance of the ends of the score's interval from the score.

        Returns:
            0 at the floor, 1 for all tokens; undefined where the floor is as good as all tokens.
        """
        if self.span < NO_SPAN:
            return undefined(
                "the score barely depends on the patches: the floor is as high as the score of "
                "all tokens",
                len(score),
                ESTIMATOR,
            )
        value = self.value(score)
        low, high = jackknife_interval(value, self.without_each(score))
        if low is not None and high is not None:
            low, high = min(low, value - least / self.span), max(high, value + least / self.span)
        return Score(value, low, high, 0.0, len(score), ESTIMATOR)

    def compare(
        self, a: str, b: str, scores: tuple[PerImage, PerImage], comparisons: int = 1
    ) -> Comparison | None:
        """Whether a keeps more than b on the same images.

        Args:
            a: name of the one method.
            b: name of the other.
            scores: of both, per image.
            comparisons: number of comparisons, for the correction.

        Returns:
            The comparison; None where the floor is as good as all tokens.
        """
        if self.span < NO_SPAN:
            return None
        left, right = scores
        return compare_paired(
            a, b, (self.value(left), self.value(right)),
            (self.without_each(left), self.without_each(right)), len(left),
            comparisons=comparisons,
        )  # fmt: skip


def share(part: PerImage, whole: PerImage, estimator: str) -> Score:
    """sum(part) / sum(whole) with a jackknife interval over images."""
    total = float(whole.sum())
    if total <= 0:
        return undefined("there is no variance", len(part), estimator)
    value = float(part.sum()) / total
    low, high = jackknife_interval(value, (part.sum() - part) / (total - whole)) or (None, None)
    return Score(value, low, high, None, len(part), estimator)


def mcnemar(a: PerImage, b: PerImage) -> float:
    """Exact two-sided McNemar test (McNemar 1947) of two sets of hits on the same images.

    Args:
        a: hits per image; a mean over several draws counts as a hit above 0.5.
        b: as `a`.

    Returns:
        The p-value, from 0 to 1.

    >>> mcnemar(np.array([1, 1, 1, 1, 1, 0]), np.array([0, 0, 0, 0, 0, 0]))
    0.0625
    """
    only_a, only_b = int(((a > 0.5) & (b <= 0.5)).sum()), int(((b > 0.5) & (a <= 0.5)).sum())
    if only_a + only_b == 0:
        return 1.0
    return float(stats.binomtest(only_a, only_a + only_b).pvalue)
