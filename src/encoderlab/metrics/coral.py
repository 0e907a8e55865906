"""CORAL and its relatives: do two clouds of features have the same shape?

They compare the clouds, not the pairs: shuffling the captions changes nothing. As published, the
similarity of L2-normalised features is above 1 - 1e-6 at 768 dimensions whatever the data; the
calibrated one compares spectra of equal total instead. n samples, d width, k = min(d_v, d_t, n-1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from encoderlab.core.score import Score
from encoderlab.errors import UsageError
from encoderlab.metrics.alignment_scores import AlignmentMetrics, EASResult
from encoderlab.metrics.cka import cka
from encoderlab.metrics.matrix import Matrix, is_constant, matrix, require_same_count
from encoderlab.metrics.moments import Moments

SMALLEST_SHARE = 1e-12  # a direction without variance has this share of it, so that KL is finite
MARGINALS_ONLY = (
    "CORAL compares two clouds of features, not pairs: shuffling the captions changes nothing"
)
PINNED = 1e-3


@dataclass(frozen=True)
class CORALMetrics:
    """How alike the covariances of two sets of features are.

    Args:
        distance: |C_s - C_t|_F^2 / (4 k^2) (Sun & Saenko 2016), of the features as they are.
        similarity: 1 / (1 + distance), as published.
        spectral_divergence: mean of both KL divergences of the spectra that sum to one; nats.
        mean_distance: L2 between the means; None where the widths differ: no common axes.
        spectral_similarity: calibrated: 1 - Hellinger distance of the same spectra, in [0, 1].
        width: how many directions were compared.
        undefined: why there are no values.
        clouds: both sides, from which covariances and eigenvalues are read; not part of a record.
    """

    distance: float | None
    similarity: float | None
    spectral_divergence: float | None
    mean_distance: float | None
    spectral_similarity: float | None
    width: int
    undefined: str | None = None
    clouds: tuple[_Cloud, _Cloud] | None = field(default=None, repr=False, compare=False)

    @property
    def source_covariance(self) -> Float[Tensor, "d_v d_v"]:
        """C_s of the first features, divided by n - 1, computed when asked for."""
        return self._clouds()[0].covariance()

    @property
    def target_covariance(self) -> Float[Tensor, "d_t d_t"]:
        """C_t of the second features, divided by n - 1, computed when asked for."""
        return self._clouds()[1].covariance()

    @property
    def source_eigenvalues(self) -> Float[Tensor, " k"]:
        """Eigenvalues of C_s, largest first: those that n samples can have."""
        return self._clouds()[0].spectrum

    @property
    def target_eigenvalues(self) -> Float[Tensor, " k"]:
        """Eigenvalues of C_t, largest first: those that n samples can have."""
        return self._clouds()[1].spectrum

    @property
    def compared(self) -> tuple[Float[Tensor, "k k"], Float[Tensor, "k k"]]:
        """The two matrices whose difference D gives the distance |D|_F^2 / (4 k^2): C_s and C_t,
        or where their widths differ the diagonal ones in each side's own principal axes."""
        left, right = self._clouds()
        if len(left.mean) == len(right.mean):
            return left.covariance(), right.covariance()
        return left.spectrum[: self.width].diag(), right.spectrum[: self.width].diag()

    def _clouds(self) -> tuple[_Cloud, _Cloud]:
        if self.clouds is None:
            raise UsageError("there are no covariances", got=self.undefined)
        return self.clouds

    @property
    def pinned(self) -> bool:
        """Whether the published similarity is 1 for want of scale."""
        return self.similarity is not None and self.similarity > 1 - PINNED

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {name: value for name, value in vars(self).items() if name != "clouds"}


@dataclass(frozen=True)
class CrossModalResult:
    """An encoder's features against an LLM's."""

    encoder: str
    llm: str
    coral: CORALMetrics
    cka: Score
    cka_biased: Score

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "encoder": self.encoder,
            "llm": self.llm,
            "coral": self.coral.to_json(),
            "cka": self.cka.to_json(),
            "cka_biased": self.cka_biased.to_json(),
        }


@dataclass(frozen=True)
class IntraModalResult:
    """Encoders among themselves, or LLMs: cell [i, j] compares names[i] with names[j]."""

    names: tuple[str, ...]
    coral_similarity: Float[np.ndarray, "m m"]
    spectral_similarity: Float[np.ndarray, "m m"]
    cka: Float[np.ndarray, "m m"]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "names": list(self.names),
            "coral_similarity": self.coral_similarity.tolist(),
            "spectral_similarity": self.spectral_similarity.tolist(),
            "cka_debiased": self.cka.tolist(),
        }


def coral(x: Matrix, y: Matrix) -> CORALMetrics:
    """Compares the clouds x (n, d_v) and y (m, d_t).

    If the widths differ, each side is first reduced by PCA to k directions: then both covariances
    are diagonal, and two sorted spectra are compared.

    Raises:
        UsageError: values that are not finite.
    """
    return _compared(*(_Cloud.of(one, name) for one, name in ((x, "X"), (y, "Y"))))


def coral_of_moments(x: Moments, a: str, y: Moments, b: str) -> CORALMetrics:
    """The same of clouds of any number of samples, from what they have left behind.

    Args:
        x, y: states that hold the models `a` and `b`.
    """
    return _compared(_Cloud.of_moments(x, a), _Cloud.of_moments(y, b))


@dataclass(frozen=True)
class _Cloud:
    """What CORAL needs of n samples: their mean, and their covariance or its spectrum."""

    n: int
    mean: Float[Tensor, " d"]
    spectrum: Float[Tensor, " k"]
    covariance: Callable[[], Float[Tensor, "d d"]]
    constant: bool

    @classmethod
    def of(cls, x: Matrix, name: str) -> _Cloud:
        features = matrix(x, name)
        mean = features.mean(dim=0) if len(features) else features.sum(dim=0)
        offset = features - mean
        constant = len(features) < 2 or is_constant(offset, float(features.abs().max()))
        return cls(
            len(features),
            mean,
            offset.new_zeros(0) if constant else _spectrum(offset),
            lambda: offset.T @ offset / (len(offset) - 1),
            constant,
        )

    @classmethod
    def of_moments(cls, state: Moments, name: str) -> _Cloud:
        constant = state.why_undefined(name, name, "biased") is not None
        covariance = state.comoments[name, name] / max(state.n - 1, 1)
        found = torch.linalg.eigvalsh(covariance).flip(0).clamp_min(0)
        return cls(
            state.n,
            state.means[name],
            found[: max(1, min(state.n - 1, len(found)))],
            lambda: covariance,
            constant,
        )


def _compared(left: _Cloud, right: _Cloud) -> CORALMetrics:
    fewest = min(left.n, right.n)
    width = min(len(left.mean), len(right.mean), max(fewest - 1, 0))
    if fewest < 2:
        return CORALMetrics(None, None, None, None, None, width, "needs at least 2 samples")
    if left.constant or right.constant:
        reason = "the features are the same for every sample"
        return CORALMetrics(None, None, None, None, None, width, reason)
    spectra = [one.spectrum[:width] for one in (left, right)]
    mean_distance = None
    if len(left.mean) == len(right.mean):
        width_used = len(left.mean)
        difference = left.covariance() - right.covariance()
        distance = float(difference.square().sum()) / (4 * width_used**2)
        mean_distance = float(torch.linalg.norm(left.mean - right.mean))
    else:
        width_used = width
        distance = float((spectra[0] - spectra[1]).square().sum()) / (4 * width**2)
    shares = [(one / one.sum()).clamp_min(SMALLEST_SHARE) for one in spectra]
    p, q = (one / one.sum() for one in shares)
    divergence = float(((p - q) * (p / q).log()).sum()) / 2
    overlap = float((p * q).sqrt().sum())
    return CORALMetrics(
        distance,
        1 / (1 + distance),
        divergence,
        mean_distance,
        1 - math.sqrt(max(0.0, 1 - overlap)),
        width_used,
        clouds=(left, right),
    )


def spectrum(x: Matrix) -> Float[np.ndarray, " k"]:
    """Eigenvalues of the covariance, largest first, those that n samples can have."""
    found = matrix(x)
    return _spectrum(found - found.mean(dim=0)).cpu().numpy()


def effective_rank(x: Matrix) -> float:
    """exp of the entropy of the spectrum that sums to one (Roy & Vetterli 2007)."""
    shares = spectrum(x)
    shares = shares / max(shares.sum(), 1e-300)
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum())) if len(shares) else 0.0


class CORALAnalyzer:
    """CORAL, CKA and EAS over several encoders and LLMs, on features that are at hand.

    Features are (n, d) by name, row i of each of sample i.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> vision, text = {"v": rng.standard_normal((20, 8))}, {"t": rng.standard_normal((20, 8))}
        >>> [found] = CORALAnalyzer().cross_modal_comparison(vision, text)
        >>> round(found.coral.similarity, 2), found.coral.width
        (0.98, 8)
    """

    def cross_modal_comparison(
        self, vision: Mapping[str, Matrix], text: Mapping[str, Matrix]
    ) -> list[CrossModalResult]:
        """Every encoder against every LLM.

        Raises:
            UsageError: values that are not finite, or other counts.
        """
        require_same_count({**vision, **text})
        return [
            CrossModalResult(encoder, llm, coral(x, y), cka(x, y), cka(x, y, estimator="biased"))
            for encoder, x in vision.items()
            for llm, y in text.items()
        ]

    def intra_modal_comparison(self, embeddings: Mapping[str, Matrix]) -> IntraModalResult:
        """Encoders among themselves, or LLMs among themselves."""
        require_same_count(embeddings)
        names = tuple(embeddings)
        shape = (len(names), len(names))
        similarity, spectral, aligned = np.eye(*shape), np.eye(*shape), np.eye(*shape)
        for i, a in enumerate(names):
            for j in range(i + 1, len(names)):
                b = names[j]
                found = coral(embeddings[a], embeddings[b])
                for table, one in (
                    (similarity, found.similarity),
                    (spectral, found.spectral_similarity),
                    (aligned, cka(embeddings[a], embeddings[b]).value),
                ):
                    table[i, j] = table[j, i] = math.nan if one is None else one
        return IntraModalResult(names, similarity, spectral, aligned)

    def compute_eas(
        self,
        encoder: str,
        vision: Matrix,
        llm: str,
        text: Matrix,
        labels: Sequence[Any] | None = None,
    ) -> EASResult:
        """The Enhanced Alignment Score of one pair, as published and calibrated."""
        found = coral(vision, text)
        return AlignmentMetrics.eas(
            encoder,
            llm,
            cka(vision, text, estimator="biased"),
            cka(vision, text),
            found.similarity,
            found.spectral_similarity,
            vision,
            labels,
        )

    def full_analysis(
        self,
        vision: Mapping[str, Matrix],
        text: Mapping[str, Matrix],
        labels: Sequence[Any] | None = None,
    ) -> FullAnalysis:
        """All of it; pairs by calibrated EAS, the highest first, undefined ones last."""
        scores = [
            self.compute_eas(encoder, x, llm, y, labels)
            for encoder, x in vision.items()
            for llm, y in text.items()
        ]
        ranked = sorted(
            zip(scores, self.cross_modal_comparison(vision, text), strict=True),
            key=lambda pair: -math.inf if pair[0].calibrated is None else pair[0].calibrated,
            reverse=True,
        )
        return FullAnalysis(
            tuple(pair for _, pair in ranked),
            self.intra_modal_comparison(vision),
            self.intra_modal_comparison(text),
            tuple(score for score, _ in ranked),
        )


@dataclass(frozen=True)
class FullAnalysis:
    """What `CORALAnalyzer.full_analysis` found."""

    cross_modal: tuple[CrossModalResult, ...]
    vision: IntraModalResult
    text: IntraModalResult
    eas: tuple[EASResult, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "cross_modal": [one.to_json() for one in self.cross_modal],
            "vision": self.vision.to_json(),
            "text": self.text.to_json(),
            "eas": [one.to_json() for one in self.eas],
        }


def _spectrum(offset: Float[Tensor, "n d"]) -> Float[Tensor, " k"]:
    singular = torch.linalg.svdvals(offset)
    return (singular.square() / (len(offset) - 1))[: max(1, min(len(offset) - 1, offset.shape[1]))]
