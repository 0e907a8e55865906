"""EAS (Enhanced Alignment Score) and ELAS (Encoder-LLM Alignment Score), published and calibrated.

EAS = 0.3 CKA + 0.3 CORAL similarity + 0.4 discriminability.
ELAS = 0.3 CKA + 0.3 (1 - MSE) + 0.2 (1 - generalisation gap) + 0.2 cosine.

As published, nine images against unrelated text reach an EAS of 0.99, and a projector that ignores
the image has 0.69 of the 0.70 points of ELAS that are not CKA. In the calibrated forms unrelated
features score 0; rankings use those. Every calibrated part lies in [0, 1] except the debiased CKA,
which is never clamped: a projector that is worse than the mean training text counts as one that
ignores the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from encoderlab.core.results import Result
from encoderlab.core.score import Score
from encoderlab.metrics.discriminability import above_chance, discriminability
from encoderlab.metrics.matrix import Matrix

EAS_NAME, ELAS_NAME = "EAS (Enhanced Alignment Score)", "ELAS (Encoder-LLM Alignment Score)"
EAS_WEIGHTS = {"cka": 0.3, "coral": 0.3, "discriminability": 0.4}
ELAS_WEIGHTS = {"cka": 0.3, "mse": 0.3, "gap": 0.2, "cosine": 0.2}


@dataclass(frozen=True)
class WeightedScore(Result):
    """A weighted sum of one pair of encoder and LLM.

    Args:
        encoder, llm: names of the models.
        published, calibrated: the sums; None where a part is undefined.
        parts: name -> (published, calibrated).
    """

    encoder: str
    llm: str
    published: float | None
    calibrated: float | None
    parts: dict[str, tuple[float | None, float | None]]

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        parts = {name: {"published": a, "calibrated": b} for name, (a, b) in self.parts.items()}
        return {**super().to_json(), "parts": parts}


@dataclass(frozen=True)
class EASResult(WeightedScore):
    """Enhanced Alignment Score.

    Published: biased CKA, CORAL similarity and the Fisher share. Calibrated: debiased CKA, spectral
    similarity and the Fisher share above chance.
    """

    discriminability: Score


@dataclass(frozen=True)
class ProjectorOutcome:
    """The errors of a trained projector that ELAS needs: of unit vectors, per component.

    Args:
        train_mse, held_out_mse: mean squared error.
        train_variance, held_out_variance: the same of a projector that always predicts the training
            mean.
        cosine, mean_cosine: held-out cosine of the projector, and of such a mean projector.
    """

    train_mse: float
    held_out_mse: float
    train_variance: float
    held_out_variance: float
    cosine: float
    mean_cosine: float

    @property
    def train_r2(self) -> float:
        """Explained share of the variance of the training pairs; at most 1."""
        return 1 - self.train_mse / max(self.train_variance, 1e-300)

    @property
    def held_out_r2(self) -> float:
        """Explained share of the variance of the held-out pairs; at most 1, negative if worse than
        the training mean."""
        return 1 - self.held_out_mse / max(self.held_out_variance, 1e-300)


@dataclass(frozen=True)
class ELASResult(WeightedScore):
    """Encoder-LLM Alignment Score."""


class AlignmentMetrics:
    """EAS and ELAS from their parts."""

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
        """EAS of a pair of encoder and LLM.

        Args:
            encoder: name of the encoder.
            llm: name of the LLM.
            biased: their biased CKA, as published.
            debiased: their debiased CKA.
            coral_similarity: of `metrics.coral.coral`, in [0, 1].
            spectral_similarity: of `metrics.coral.coral`, in [0, 1].
            vision: the encoder's features (n, d), for the discriminability.
            labels: the class of each sample; None for an estimate without labels.

        Returns:
            The score, published in [0, 1] and calibrated in [-0.3, 1].
        """
        fisher = discriminability(vision, labels)
        # An estimate without labels has no chance, so it is used unchanged.
        calibrated = fisher.value if fisher.chance is None else _clamp(above_chance(fisher))
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
        """ELAS of a pair of encoder and LLM.

        The calibrated parts are R2 on held-out pairs; held-out R2 / training R2; and the cosine
        relative to that of the training mean. All three are in [0, 1], and 0 for a projector that
        ignores the image or is worse.

        Args:
            encoder: name of the encoder.
            llm: name of the LLM.
            biased: their biased CKA, as published.
            debiased: their debiased CKA.
            projector: the errors of a projector between them.

        Returns:
            The score, calibrated in [-0.3, 1].
        """
        gap = min(1.0, abs(projector.held_out_mse - projector.train_mse))
        train_r2, held_out_r2 = projector.train_r2, projector.held_out_r2
        above = projector.cosine - projector.mean_cosine
        highest = 1 - projector.mean_cosine
        parts: dict[str, tuple[float | None, float | None]] = {
            "cka": (biased.value, debiased.value),
            "mse": (1 - min(1.0, projector.held_out_mse), _clamp(held_out_r2)),
            "gap": (1 - gap, _clamp(held_out_r2 / train_r2 if train_r2 > 1e-6 else 0.0)),
            "cosine": (projector.cosine, _clamp(above / highest if highest > 1e-12 else 0.0)),
        }
        return ELASResult(encoder, llm, *_weighted(parts, ELAS_WEIGHTS), parts)


def _clamp(value: float) -> float:
    return min(1.0, max(0.0, value))


def _weighted(
    parts: dict[str, tuple[float | None, float | None]], weights: dict[str, float]
) -> tuple[float | None, float | None]:
    """The weighted sums, published and calibrated; None where a part is undefined."""
    sums: list[float | None] = []
    for side in (0, 1):
        values = {name: both[side] for name, both in parts.items()}
        defined = {name: value for name, value in values.items() if value is not None}
        complete = len(defined) == len(weights)
        sums.append(sum(weights[n] * v for n, v in defined.items()) if complete else None)
    return sums[0], sums[1]
