"""CORAL: the distance between the covariances of two sets of features, published and calibrated.

It compares distributions, not pairs: shuffling the captions changes nothing. The published
similarity of L2-normalised features is above 1 - 1e-6 at 768 dimensions for any data; the
calibrated one compares spectra of equal total. n samples, d width, k = min(d_v, d_t, n - 1).
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

from encoderlab.core.results import Result
from encoderlab.core.score import Score
from encoderlab.errors import UsageError
from encoderlab.metrics.alignment_scores import AlignmentMetrics, EASResult
from encoderlab.metrics.cka import cka
from encoderlab.metrics.matrix import Matrix, centre, is_constant, matrix, require_same_count
from encoderlab.metrics.moments import Moments

SMALLEST_SHARE = 1e-12  # of the variance, for a direction that has none: KL stays finite
MARGINALS_ONLY = (
    "CORAL compares two clouds of features, not pairs: shuffling the captions changes nothing"
)
PINNED = 1e-3


@dataclass(frozen=True)
class CORALMetrics(Result):
    """The comparison of the covariances of two sets of features.

    Args:
        distance: |C_s - C_t|_F^2 / (4 k^2) (Sun & Saenko 2016), at least 0.
        similarity: 1 / (1 + distance), as published, in [0, 1].
        spectral_divergence: mean of both KL divergences of the spectra that sum to one; nats.
        mean_distance: L2 between the means; None where the widths differ and axes are not common.
        spectral_similarity: calibrated: 1 - Hellinger distance of the same spectra, in [0, 1].
        width: number of directions that were compared.
        undefined: why there are no values.
        clouds: both sides, from which covariances and eigenvalues are read; not in the JSON.
    """

    distance: float | None
    similarity: float | None
    spectral_divergence: float | None
    mean_distance: float | None
    spectral_similarity: float | None
    width: int
    undefined: str | None = None
    clouds: tuple[_Cloud, _Cloud] | None = field(
        default=None, repr=False, compare=False, metadata={"json": False}
    )

    @property
    def source_covariance(self) -> Float[Tensor, "d_v d_v"]:
        """C_s of the first features, divided by n - 1; computed at each access."""
        return self._clouds()[0].covariance()

    @property
    def target_covariance(self) -> Float[Tensor, "d_t d_t"]:
        """C_t of the second features, divided by n - 1; computed at each access."""
        return self._clouds()[1].covariance()

    @property
    def source_eigenvalues(self) -> Float[Tensor, " k"]:
        """The eigenvalues of C_s that n samples can have, largest first."""
        return self._clouds()[0].spectrum

    @property
    def target_eigenvalues(self) -> Float[Tensor, " k"]:
        """The eigenvalues of C_t that n samples can have, largest first."""
        return self._clouds()[1].spectrum

    @property
    def compared(self) -> tuple[Float[Tensor, "k k"], Float[Tensor, "k k"]]:
        """The two matrices whose difference D gives the distance |D|_F^2 / (4 k^2): C_s and C_t, or
        where their widths differ the diagonal covariances in each side's principal axes."""
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
        """Whether the published similarity is within 0.001 of 1, as for unit vectors."""
        return self.similarity is not None and self.similarity > 1 - PINNED


@dataclass(frozen=True)
class CrossModalResult(Result):
    """The features of an encoder compared with those of an LLM."""

    encoder: str
    llm: str
    coral: CORALMetrics
    cka: Score
    cka_biased: Score


@dataclass(frozen=True)
class IntraModalResult:
    """Encoders or LLMs among themselves: cell [i, j] compares names[i] with names[j]."""

    names: tuple[str, ...]
    coral_similarity: Float[np.ndarray, "m m"]
    spectral_similarity: Float[np.ndarray, "m m"]
    cka: Float[np.ndarray, "m m"]

    def to_json(self) -> dict[str, Any]:
        """The tables as nested lists."""
        return {
            "names": list(self.names),
            "coral_similarity": self.coral_similarity.tolist(),
            "spectral_similarity": self.spectral_similarity.tolist(),
            "cka_debiased": self.cka.tolist(),
        }


def coral(x: Matrix, y: Matrix) -> CORALMetrics:
    """Compares the covariances of two sets of features.

    If the widths differ, each side is reduced by PCA to k directions: both covariances are then
    diagonal, and two sorted spectra are compared.

    Args:
        x: features (n, d_v).
        y: features (m, d_t); m may differ from n.

    Returns:
        The comparison; undefined, with the reason, for one sample and for constant features.

    Raises:
        UsageError: values that are not finite.
    """
    return _compared(_Cloud.of(x, "X"), _Cloud.of(y, "Y"))


def coral_of_moments(x: Moments, a: str, y: Moments, b: str) -> CORALMetrics:
    """`coral` of any number of samples, from their moments.

    Args:
        x: state that holds the model `a`.
        a: name of a model in `x`.
        y: state that holds the model `b`.
        b: name of a model in `y`.

    Returns:
        The comparison, as `coral`.
    """
    return _compared(_Cloud.of_moments(x, a), _Cloud.of_moments(y, b))


@dataclass(frozen=True)
class _Cloud:
    """What CORAL needs of n samples: their mean, their covariance and its spectrum."""

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
        eigenvalues = torch.linalg.eigvalsh(covariance).flip(0).clamp_min(0)
        return cls(
            state.n,
            state.means[name],
            eigenvalues[: max(1, min(state.n - 1, len(eigenvalues)))],
            lambda: covariance,
            constant,
        )


def _compared(left: _Cloud, right: _Cloud) -> CORALMetrics:
    fewest = min(left.n, right.n)
    width = min(len(left.mean), len(right.mean), max(fewest - 1, 0))
    if fewest < 2 or left.constant or right.constant:
        reason = "the features are the same for every sample"
        reason = "needs at least 2 samples" if fewest < 2 else reason
        return CORALMetrics(None, None, None, None, None, width, reason)
    spectra = [cloud.spectrum[:width] for cloud in (left, right)]
    mean_distance = None
    if len(left.mean) == len(right.mean):
        width_used = len(left.mean)
        difference = left.covariance() - right.covariance()
        distance = float(difference.square().sum()) / (4 * width_used**2)
        mean_distance = float(torch.linalg.norm(left.mean - right.mean))
    else:
        width_used = width
        distance = float((spectra[0] - spectra[1]).square().sum()) / (4 * width**2)
    shares = [(spectrum / spectrum.sum()).clamp_min(SMALLEST_SHARE) for spectrum in spectra]
    p, q = (share / share.sum() for share in shares)
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
    """The eigenvalues of the covariance that n samples can have.

    Args:
        x: features (n, d).

    Returns:
        The k largest eigenvalues, k = min(n - 1, d), the largest first.

    Raises:
        UsageError: values that are not finite.
    """
    return _spectrum(centre(x)[0]).cpu().numpy()


def effective_rank(x: Matrix) -> float:
    """exp of the entropy of the spectrum that sums to one (Roy & Vetterli 2007).

    Returns:
        1 to min(n - 1, d); 0 for constant features (n, d).
    """
    shares = spectrum(x)
    shares = shares / max(shares.sum(), 1e-300)
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum())) if len(shares) else 0.0


class CORALAnalyzer:
    """CORAL, CKA and EAS of several encoders and LLMs, from features in memory.

    Features are given as name -> (n, d), row i of each of sample i.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> vision, text = {"v": rng.standard_normal((20, 8))}, {"t": rng.standard_normal((20, 8))}
        >>> [pair] = CORALAnalyzer().cross_modal_comparison(vision, text)
        >>> round(pair.coral.similarity, 2), pair.coral.width
        (0.98, 8)
    """

    def cross_modal_comparison(
        self, vision: Mapping[str, Matrix], text: Mapping[str, Matrix]
    ) -> list[CrossModalResult]:
        """Every encoder against every LLM.

        Args:
            vision: encoder -> features (n, d), row i of each of sample i.
            text: LLM -> features (n, d), row i of each of sample i.

        Returns:
            One comparison for each pair of encoder and LLM.

        Raises:
            UsageError: values that are not finite, or numbers of rows that differ.
        """
        require_same_count({**vision, **text})
        return [
            CrossModalResult(encoder, llm, coral(x, y), cka(x, y), cka(x, y, estimator="biased"))
            for encoder, x in vision.items()
            for llm, y in text.items()
        ]

    def intra_modal_comparison(self, embeddings: Mapping[str, Matrix]) -> IntraModalResult:
        """Encoders among themselves, or LLMs among themselves.

        Args:
            embeddings: model -> features (n, d), row i of each of sample i.

        Returns:
            Tables whose cell [i, j] compares model i with model j.

        Raises:
            UsageError: as `cross_modal_comparison`.
        """
        require_same_count(embeddings)
        names = tuple(embeddings)
        shape = (len(names), len(names))
        similarity, spectral, aligned = np.eye(*shape), np.eye(*shape), np.eye(*shape)
        for i, a in enumerate(names):
            for j in range(i + 1, len(names)):
                b = names[j]
                compared = coral(embeddings[a], embeddings[b])
                for table, value in (
                    (similarity, compared.similarity),
                    (spectral, compared.spectral_similarity),
                    (aligned, cka(embeddings[a], embeddings[b]).value),
                ):
                    table[i, j] = table[j, i] = math.nan if value is None else value
        return IntraModalResult(names, similarity, spectral, aligned)

    def compute_eas(
        self,
        encoder: str,
        vision: Matrix,
        llm: str,
        text: Matrix,
        labels: Sequence[Any] | None = None,
    ) -> EASResult:
        """The Enhanced Alignment Score of one pair, as published and calibrated.

        Args:
            encoder: name of the encoder.
            vision: features of the encoder (n, d_v).
            llm: name of the LLM.
            text: features of the LLM (n, d_t), row i of the same sample.
            labels: the class of each sample; None for an estimate without labels.

        Returns:
            The score, published in [0, 1] and calibrated in [-0.3, 1].

        Raises:
            UsageError: as `cross_modal_comparison`.
        """
        [pair] = self.cross_modal_comparison({encoder: vision}, {llm: text})
        return _eas(pair, vision, labels)

    def full_analysis(
        self,
        vision: Mapping[str, Matrix],
        text: Mapping[str, Matrix],
        labels: Sequence[Any] | None = None,
    ) -> FullAnalysis:
        """Every comparison of this class.

        Args:
            vision: encoder -> features (n, d), row i of each of sample i.
            text: LLM -> features (n, d), row i of each of sample i.
            labels: the class of each sample; None for an estimate without labels.

        Returns:
            Pairs in the order of their calibrated EAS, the highest first, undefined ones last.

        Raises:
            UsageError: as `cross_modal_comparison`.
        """
        pairs = self.cross_modal_comparison(vision, text)
        ranked = sorted(
            ((_eas(pair, vision[pair.encoder], labels), pair) for pair in pairs),
            key=lambda row: -math.inf if row[0].calibrated is None else row[0].calibrated,
            reverse=True,
        )
        return FullAnalysis(
            tuple(pair for _, pair in ranked),
            self.intra_modal_comparison(vision),
            self.intra_modal_comparison(text),
            tuple(score for score, _ in ranked),
        )


@dataclass(frozen=True)
class FullAnalysis(Result):
    """The result of `CORALAnalyzer.full_analysis`."""

    cross_modal: tuple[CrossModalResult, ...]
    vision: IntraModalResult
    text: IntraModalResult
    eas: tuple[EASResult, ...]


def _eas(pair: CrossModalResult, vision: Matrix, labels: Sequence[Any] | None) -> EASResult:
    similarities = pair.coral.similarity, pair.coral.spectral_similarity
    return AlignmentMetrics.eas(
        pair.encoder, pair.llm, pair.cka_biased, pair.cka, *similarities, vision, labels
    )


def _spectrum(offset: Float[Tensor, "n d"]) -> Float[Tensor, " k"]:
    singular = torch.linalg.svdvals(offset)
    return (singular.square() / (len(offset) - 1))[: max(1, min(len(offset) - 1, offset.shape[1]))]
