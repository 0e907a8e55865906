"""EAS (Enhanced Alignment Score) and ELAS (Encoder-LLM Alignment Score): alignment as one number,
as published and calibrated.

EAS = 0.3 CKA + 0.3 CORAL similarity + 0.4 discriminability.
ELAS = 0.3 CKA + 0.3 (1 - MSE) + 0.2 (1 - generalisation gap) + 0.2 cosine.

As published, nine images against unrelated text reach an EAS of 0.99, and a projector that ignores
the image has 0.69 of the 0.70 points of ELAS that are not CKA. In the calibrated forms unrelated
features score 0; ranking uses those. Every calibrated part but the debiased CKA, which is never
clamped, lies in [0, 1]: a projector that is worse than the mean training text has no alignment,
and counts as one that ignores the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from encoderlab.core.score import Score
from encoderlab.metrics.discriminability import above_chance, discriminability
from encoderlab.metrics.matrix import Matrix

EAS_NAME, ELAS_NAME = "EAS (Enhanced Alignment Score)", "ELAS (Encoder-LLM Alignment Score)"
EAS_WEIGHTS = {"cka": 0.3, "coral": 0.3, "discriminability": 0.4}
ELAS_WEIGHTS = {"cka": 0.3, "mse": 0.3, "gap": 0.2, "cosine": 0.2}


@dataclass(frozen=True)
class WeightedScore:
    """A weighted sum of one pair of encoder and LLM.

    Args:
        published, calibrated: None where a part is undefined.
        parts: name -> (published, calibrated).
    """

    encoder: str
    llm: str
    published: float | None
    calibrated: float | None
    parts: dict[str, tuple[float | None, float | None]]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "encoder": self.encoder,
            "llm": self.llm,
            "published": self.published,
            "calibrated": self.calibrated,
            "parts": {
                name: {"published": a, "calibrated": b} for name, (a, b) in self.parts.items()
            },
        }


@dataclass(frozen=True)
class EASResult(WeightedScore):
    """Enhanced Alignment Score: published of biased CKA, CORAL similarity and the Fisher share;
    calibrated of debiased CKA, spectral similarity, and the Fisher share above chance."""

    discriminability: Score

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**super().to_json(), "discriminability": self.discriminability.to_json()}


@dataclass(frozen=True)
class ProjectorOutcome:
    """What ELAS takes from a projector trained on some pairs: errors of unit vectors, per number.

    Args:
        train_mse, held_out_mse: mean squared error.
        train_variance, held_out_variance: the same of a projector that always says the training
            mean.
        cosine, mean_cosine: held-out cosine, its own and that of such a projector.
    """

    train_mse: float
    held_out_mse: float
    train_variance: float
    held_out_variance: float
    cosine: float
    mean_cosine: float

    @property
    def train_r2(self) -> float:
        """Share of the variance that it explains where it was fitted."""
        return 1 - self.train_mse / max(self.train_variance, 1e-300)

    @property
    def held_out_r2(self) -> float:
        """The same on pairs that it has not seen."""
        return 1 - self.held_out_mse / max(self.held_out_variance, 1e-300)


@dataclass(frozen=True)
class ELASResult(WeightedScore):
    """Encoder-LLM Alignment Score."""


class AlignmentMetrics:
    """EAS and ELAS of their parts."""

    @staticmethod
    def eas(
        encoder: str,
        llm: str,
        biased: Score,
        debiased: Score,
        coral_similarity: float | None,
        spectral_similarity: float | None,
        vision: Matrix,
        labels: Sequence[Any] | None = None,
    ) -> EASResult:
        """EAS; `vision` (n, d) and the samples' `labels` give the discriminability."""
        fisher = discriminability(vision, labels)
        # An estimate without labels knows no chance: it is taken as it is.
        calibrated = fisher.value if fisher.chance is None else _share(above_chance(fisher))
        parts = {
            "cka": (biased.value, debiased.value),
            "coral": (coral_similarity, spectral_similarity),
            "discriminability": (fisher.value, calibrated),
        }
        return EASResult(encoder, llm, *_weighted(parts, EAS_WEIGHTS), parts, fisher)

    @staticmethod
    def elas(
        encoder: str, llm: str, biased: Score, debiased: Score, projector: ProjectorOutcome
    ) -> ELASResult:
        """ELAS of a pair whose projector turned out so.

        Calibrated: R2 on held-out pairs; the share of the training R2 that is left there; the
        cosine above that of the mean. All three are in [0, 1], and 0 for a projector that ignores
        the image or does worse; so ELAS is in [-0.3, 1].
        """
        gap = min(1.0, abs(projector.held_out_mse - projector.train_mse))
        fitted, left = projector.train_r2, projector.held_out_r2
        kept = left / fitted if fitted > 1e-6 else 0.0
        above = projector.cosine - projector.mean_cosine
        room = 1 - projector.mean_cosine
        parts: dict[str, tuple[float | None, float | None]] = {
            "cka": (biased.value, debiased.value),
            "mse": (1 - min(1.0, projector.held_out_mse), _share(left)),
            "gap": (1 - gap, _share(kept)),
            "cosine": (projector.cosine, _share(above / room if room > 1e-12 else 0.0)),
        }
        return ELASResult(encoder, llm, *_weighted(parts, ELAS_WEIGHTS), parts)


def _share(value: float) -> float:
    """A part of a calibrated score: 0 at or below chance, 1 at most."""
    return min(1.0, max(0.0, value))


def _weighted(
    parts: dict[str, tuple[float | None, float | None]], weights: dict[str, float]
) -> tuple[float | None, float | None]:
    """The weighted sums, None where a part is undefined."""
    sums: list[float | None] = []
    for side in (0, 1):
        values = {name: both[side] for name, both in parts.items()}
        known = {name: value for name, value in values.items() if value is not None}
        complete = len(known) == len(weights)
        sums.append(sum(weights[n] * v for n, v in known.items()) if complete else None)
    return sums[0], sums[1]
