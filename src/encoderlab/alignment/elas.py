"""ELAS of every pair of encoder and LLM. Computes no metric itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from encoderlab.alignment.data import SHUFFLED, AlignmentData, extract_features
from encoderlab.alignment.settings import Elas
from encoderlab.alignment.tables import AlignmentResult, notes
from encoderlab.core.results import Block, Table, score_text
from encoderlab.core.spec import takes

if TYPE_CHECKING:
    from encoderlab.alignment.projectors import TrainedProjector
    from encoderlab.core.score import Score

TEST_OVER_TRAIN = 0.25  # the splits are 80/20


@dataclass(frozen=True)
class ElasScores:
    """One pair: the score as published and calibrated, and the mean of each part.

    Args:
        held_out_r2: mean over splits, as it is: the calibrated part counts a negative one as 0.
    """

    encoder: str
    llm: str
    published: Score
    calibrated: Score
    parts: dict[str, dict[str, float | None]]
    control_of: str | None = None
    held_out_r2: float | None = None


@dataclass(frozen=True)
class ElasResult(AlignmentResult):
    """The encoder x LLM matrix, best first by the calibrated score.

    Args:
        remarks: projectors that overfitted or had not converged.
    """

    draw: ClassVar = "encoderlab.alignment.plots.compare:elas"
    records: ClassVar = "rows"

    rows: tuple[ElasScores, ...]
    remarks: tuple[str, ...] = ()

    def blocks(self) -> list[Block]:
        """One row per pair of encoder and LLM, the best first."""
        columns = ("encoder", "LLM", "ELAS", "ELAS as published", "R²", "cosine above chance")
        rows = []
        for row in sorted(self.rows, key=lambda row: -np.nan_to_num(float(row.calibrated), nan=-9)):
            scores = (score_text(s.to_json()) for s in (row.calibrated, row.published))
            values = (row.held_out_r2, row.parts["cosine"]["calibrated"])
            numbers = ("undefined" if v is None else f"{v:.3f}" for v in values)
            rows.append((row.encoder, row.llm, *scores, *numbers))
        note = (
            "95 % intervals over splits, and of CKA over samples. Rank by the first; as published, "
            "a projector that ignores the image has up to 0.70."
        )
        reasons = {row.calibrated.undefined for row in self.rows if row.calibrated.undefined}
        undefined = [f"undefined: {reason}" for reason in sorted(reasons)]
        return [
            notes(self.facts),
            Table(columns, tuple(rows), said=(note, *undefined, *self.remarks)),
        ]


@takes(Elas)
def run(settings: Elas, out: Path | None = None) -> ElasResult:
    """ELAS of every pair; writes the matrix to `out` if given.

    Returns:
        The ELAS of each pair, published and calibrated, with intervals over splits.

    Raises:
        MissingError: data or a model is not there.
        UsageError: too few samples, a model twice, or features that are not finite.
    """
    aligned = extract_features(settings)
    return analyse(aligned, out, epochs=settings.epochs, svg=settings.svg)


def analyse(
    aligned: AlignmentData, out: Path | None = None, *, epochs: int, svg: bool = False
) -> ElasResult:
    """The matrix of features that are extracted already."""
    from encoderlab.alignment import pair_scores

    names = [name for name in aligned.vision if not name.startswith(SHUFFLED)]
    pairs = [(encoder, llm) for encoder in names for llm in aligned.text]
    too_few = pair_scores.enough_for_projectors(aligned)
    trained = {} if too_few else pair_scores.projectors(aligned, pairs, ("mlp_norm",), epochs)
    rows = [
        _row(
            aligned,
            *pair,
            too_few,
            [projector for key, projector in trained.items() if key[:2] == pair],
        )
        for pair in pairs
    ]
    overfitted = [
        f"the projector of {row.encoder} into {row.llm} does worse on held-out pairs than the mean "
        f"training text (R² {row.held_out_r2:.2f}): it counts as one that ignores the image"
        for row in rows
        if row.held_out_r2 is not None and row.held_out_r2 < 0 and row.control_of is None
    ]
    remarks = (*overfitted, *pair_scores.not_converged(trained, epochs))
    return ElasResult(
        tuple(rows), remarks, facts=aligned.facts(), warnings=(*aligned.warnings(), *remarks)
    ).with_figures(out, svg)


def _row(
    aligned: AlignmentData,
    encoder: str,
    llm: str,
    too_few: str | None,
    trained: Sequence[TrainedProjector],
) -> ElasScores:
    from encoderlab.alignment.pair_scores import gram, outcome_of
    from encoderlab.core.score import undefined
    from encoderlab.metrics import cka
    from encoderlab.metrics.alignment_scores import ELAS_WEIGHTS, AlignmentMetrics

    sides = ("published", "calibrated")
    control_of = aligned.vision[encoder].of
    grams = gram(aligned, encoder), gram(aligned, llm)
    biased, debiased = (cka.score(*grams, estimator) for estimator in ("biased", "debiased"))
    reason = too_few or debiased.undefined
    if reason:
        none = undefined(reason, aligned.n, "ELAS")
        no_parts = {name: dict.fromkeys(sides) for name in ELAS_WEIGHTS}
        return ElasScores(encoder, llm, none, none, no_parts, control_of)
    scores = [
        AlignmentMetrics.elas(
            encoder, llm, biased, debiased, outcome_of(aligned, encoder, llm, projector)
        )
        for projector in trained
    ]
    parts: dict[str, dict[str, float | None]] = {
        name: {
            side: float(np.mean([score.parts[name][i] for score in scores]))
            for i, side in enumerate(sides)
        }
        for name in ELAS_WEIGHTS
    }
    how = (
        f"ELAS, mean of {len(scores)} splits 80/20; interval over splits (Nadeau & Bengio 2003) "
        "and of CKA over samples"
    )
    published = over_splits(
        [float(score.published or 0) for score in scores], None, aligned.n, how + ", as published"
    )
    calibrated = over_splits(
        [float(score.calibrated or 0) for score in scores], 0.0, aligned.n, how
    )
    weight = ELAS_WEIGHTS["cka"]
    published = _with_cka(published, biased, weight)
    calibrated = _with_cka(calibrated, debiased, weight)
    assert calibrated.ci_low is not None and calibrated.ci_high is not None
    calibrated = replace(
        calibrated,
        ci_low=max(-weight, calibrated.ci_low),
        ci_high=min(1.0, calibrated.ci_high),
    )
    r2 = float(np.mean([projector.held_out_r2 for projector in trained]))
    return ElasScores(encoder, llm, published, calibrated, parts, control_of, r2)


def _with_cka(score: Score, cka: Score, weight: float) -> Score:
    """`score`, whose interval takes its CKA as known, with the interval of that added to it."""
    # The sum of the half-widths covers any dependence between the two.
    assert score.ci_low is not None and score.ci_high is not None
    if cka.ci_low is None or cka.ci_high is None:
        return score
    return replace(
        score,
        ci_low=score.ci_low - weight * (float(cka) - cka.ci_low),
        ci_high=score.ci_high + weight * (cka.ci_high - float(cka)),
    )


def over_splits(values: list[float], chance: float | None, n: int, how: str) -> Score:
    """The mean over random splits with its 95 % interval; `how` names the estimator."""
    # The training sets of the splits overlap: the variance is corrected for it (Nadeau & Bengio
    # 2003).
    from scipy import stats

    from encoderlab.core.score import Score

    k = len(values)
    spread = float(np.var(values, ddof=1)) if k > 1 else np.nan
    half = float(stats.t.ppf(0.975, k - 1) * np.sqrt((1 / k + TEST_OVER_TRAIN) * spread))
    mean = float(np.mean(values))
    return Score(mean, mean - half, mean + half, chance, n, how)
