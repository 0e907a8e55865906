"""A measured value with its interval, its chance level and its estimator."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Z95 = 1.959963984540054
FEWEST_IMAGES = 10  # with fewer, one image moves a share by more than ten percentage points
HIGHEST_CHANCE = 0.5  # above this chance level a share does not tell a good model from none


@dataclass(frozen=True)
class Score:
    """One measured value.

    Args:
        value: the estimate; None where it is undefined.
        ci_low, ci_high: ends of the 95 % interval; None where there is none.
        chance: the expected value for uninformative input.
        n: number of items.
        estimator: how value and interval were computed.
        optimistic: the value with ties counted as right, where that differs.
        undefined: why there is no value.
        z: standard deviations above chance, where known.
        p: p-value against chance, where tested.
    """

    value: float | None
    ci_low: float | None
    ci_high: float | None
    chance: float | None
    n: int
    estimator: str
    optimistic: float | None = None
    undefined: str | None = None
    z: float | None = None
    p: float | None = None

    def __float__(self) -> float:
        return math.nan if self.value is None else self.value

    @property
    def above_chance(self) -> bool:
        """Whether the whole interval lies above chance."""
        if self.ci_low is None or self.chance is None:
            return False
        return self.ci_low > self.chance

    @property
    def detected(self) -> bool:
        """Whether it is above chance by its interval and, if it has a p, by p < 0.05."""
        return self.above_chance and (self.p is None or self.p < 0.05)

    def to_json(self) -> dict[str, Any]:
        """The fields as a mapping.

        Returns:
            Field name -> value, without fields that are None, except `value` and `chance`.
        """
        return {
            name: value
            for name, value in vars(self).items()
            if value is not None or name in ("value", "chance")
        }

    def as_percent(self) -> str:
        """The score in percent.

        Returns:
            Such as "61.0 % [57.9, 64.0]", or the reason why the score is undefined.
        """
        if self.value is None:
            return f"undefined ({self.undefined})"
        text = f"{100 * self.value:.1f} %"
        if self.ci_low is not None and self.ci_high is not None:
            text += f" [{100 * self.ci_low:.1f}, {100 * self.ci_high:.1f}]"
        return text

    def as_number(self, digits: int = 3) -> str:
        """The score as a number.

        Args:
            digits: after the decimal point.

        Returns:
            Such as "0.412 [0.377, 0.446]", or "undefined".
        """
        if self.value is None:
            return "undefined"
        text = f"{self.value:.{digits}f}"
        if self.ci_low is not None and self.ci_high is not None:
            text += f" [{self.ci_low:.{digits}f}, {self.ci_high:.{digits}f}]"
        return text


def undefined(reason: str, n: int, estimator: str) -> Score:
    """A score that has no value, and why."""
    return Score(None, None, None, None, n, estimator, undefined=reason)


def uninformative(chance: float) -> bool:
    """Whether a share of right answers with this chance is above HIGHEST_CHANCE."""
    return chance > HIGHEST_CHANCE + 1e-9  # a chance of one half that was computed is not exact


def caveats(images: int, shares: Mapping[str, Score], what: str = "measured") -> tuple[str, ...]:
    """Warnings about shares of right answers that say little about the model.

    Args:
        images: how many images they were measured on.
        shares: the scores by name.
        what: how the sentence about the number of images begins.

    Returns:
        A sentence for fewer than FEWEST_IMAGES images, and one for all shares whose chance is
        above HIGHEST_CHANCE.

    >>> caveats(4, {"Recall@1": Score(1.0, 0.5, 1.0, 0.75, 4, "share")})[1]
    'chance is above 50 % for Recall@1 (75.0 %), so it tells nothing about the model'
    """
    warnings = []
    if images < FEWEST_IMAGES:
        warnings.append(
            f"{what} on {images} image{'s' * (images != 1)}, fewer than {FEWEST_IMAGES}: "
            f"one image more or less moves a share by {100 / max(images, 1):.0f} points"
        )
    easy = [
        f"{name} ({100 * score.chance:.1f} %)"
        for name, score in shares.items()
        if score.chance is not None and uninformative(score.chance)
    ]
    if easy:
        it = "it tells" if len(easy) == 1 else "they tell"
        warnings.append(
            f"chance is above {100 * HIGHEST_CHANCE:.0f} % for {', '.join(easy)}, so {it} nothing "
            "about the model"
        )
    return tuple(warnings)


def wilson(successes: float, n: float) -> tuple[float, float]:
    """The 95 % interval of a proportion (Wilson 1927); it is not empty at 0 and 1.

    Returns:
        (low, high) in [0, 1]; (0, 1) for n = 0.

    >>> low, high = wilson(0, 20)
    >>> round(low, 3), round(high, 3)
    (0.0, 0.161)
    """
    if n <= 0:
        return 0.0, 1.0
    p, z2 = successes / n, Z95 * Z95
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)
