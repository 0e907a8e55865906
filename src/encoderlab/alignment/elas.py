"""ELAS of every pair of encoder and LLM. Orchestration only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoderlab.alignment.data import SHUFFLED, AlignmentData, extract_features
from encoderlab.alignment.settings import Elas
from encoderlab.alignment.tables import notes
from encoderlab.core.results import (
    Block,
    Table,
    as_text,
    score_text,
)
from encoderlab.core.spec import takes

if TYPE_CHECKING:
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

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "encoder": self.encoder,
            "llm": self.llm,
            "published": self.published.to_json(),
            "calibrated": self.calibrated.to_json(),
            "parts": self.parts,
            "control_of": self.control_of,
            "held_out_r2": self.held_out_r2,
        }


@dataclass(frozen=True)
class ElasResult:
    """The encoder x LLM matrix, best first by the calibrated score.

    Args:
        remarks: projectors that overfitted or had not converged.
    """

    rows: tuple[ElasScores, ...]
    facts: dict[str, Any]
    remarks: tuple[str, ...] = ()
    figures: tuple[dict[str, str], ...] = ()
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values for run.json."""
        return {
            "rows": [row.to_json() for row in self.rows],
            "remarks": list(self.remarks),
            "figures": list(self.figures),
            **self.facts,
        }

    def blocks(self) -> list[Block]:
        """The answer as paragraphs and tables, in reading order."""
        columns = ("encoder", "LLM", "ELAS", "ELAS as published", "R²", "cosine above chance")
        rows = []
        ranked = sorted(
            self.rows, key=lambda r: -(r.calibrated.value if r.calibrated.value is not None else -9)
        )
        for row in ranked:
            parts = row.parts
            rows.append(
                (
                    row.encoder, row.llm, score_text(row.calibrated.to_json()),
                    score_text(row.published.to_json()),
                    _text(row.held_out_r2), _text(parts["cosine"]["calibrated"]),
                )
            )  # fmt: skip
        said = (
            "95 % intervals over splits. Rank by the first; as published, a projector that ignores "
            "the image has up to 0.70."
        )
        reasons = sorted({f"undefined: {r.calibrated.undefined}" for r in self.rows
                          if r.calibrated.undefined})  # fmt: skip
        return [
            notes(self.facts),
            Table(columns, tuple(rows), said=(said, *reasons, *self.remarks)),
        ]

    def to_text(self) -> str:
        """What the terminal shows."""
        return as_text(self.blocks())


@takes(Elas)
def run(settings: Elas, out: Path | None = None) -> ElasResult:
    """ELAS of every pair; writes the matrix to `out` if given.

    Raises:
        MissingError: data or a model is not there.
        UsageError: too few samples, a model twice, or features that are not finite.
    """
    aligned = extract_features(settings)
    return analyse(aligned, out, epochs=settings.epochs, svg=settings.svg)


def analyse(
    aligned: AlignmentData, out: Path | None = None, *, epochs: int = 300, svg: bool = False
) -> ElasResult:
    """The matrix of features that are at hand."""
    from encoderlab.alignment import pair_scores
    from encoderlab.alignment.plots import compare as plots
    from encoderlab.core.score import undefined
    from encoderlab.metrics import cka
    from encoderlab.plots.style import save

    names = [name for name in aligned.vision if not name.startswith(SHUFFLED)]
    wanted = [(encoder, llm) for encoder in names for llm in aligned.text]
    too_few = pair_scores.enough_for_projectors(aligned)
    trained = {} if too_few else pair_scores.projectors(aligned, wanted, ("mlp_norm",), epochs)
    rows = []
    for encoder, llm in wanted:
        grams = pair_scores.gram(aligned, encoder), pair_scores.gram(aligned, llm)
        # No interval is needed of the two: the score has its own.
        biased, debiased = (
            cka.score(*grams, "biased"),
            cka.score(*grams, "debiased"),
        )
        reason = too_few or debiased.undefined
        of = aligned.vision[encoder].of
        if reason:
            none = undefined(reason, aligned.n, "ELAS")
            rows.append(ElasScores(encoder, llm, none, none, _no_parts(), of))
            continue
        rows.append(
            _row(aligned, encoder, llm, biased, debiased,
                 [trained[encoder, llm, "mlp_norm", s] for s in pair_scores.SEEDS], of)
        )  # fmt: skip
    remarks = (*_overfitted(rows), *pair_scores.not_converged(trained, epochs))
    result = ElasResult(
        tuple(rows), aligned.facts(), remarks, warnings=(*aligned.warnings(), *remarks)
    )
    if out is not None:
        figures = save(plots.elas(result.to_json()), out, svg=svg)
        result = replace(result, figures=figures)
    return result


def _row(aligned, encoder, llm, biased, debiased, trained, of) -> ElasScores:
    import numpy as np

    from encoderlab.alignment.pair_scores import outcome_of
    from encoderlab.metrics.alignment_scores import ELAS_WEIGHTS, AlignmentMetrics

    found = [
        AlignmentMetrics.elas(
            encoder, llm, biased, debiased, outcome_of(aligned, encoder, llm, one)
        )
        for one in trained
    ]
    how = f"ELAS, mean of {len(found)} splits 80/20; interval over splits (Nadeau & Bengio 2003)"
    parts = {
        name: {
            side: float(np.mean([one.parts[name][i] for one in found]))
            for i, side in enumerate(("published", "calibrated"))
        }
        for name in ELAS_WEIGHTS
    }
    published = [float(one.published or 0) for one in found]
    calibrated = [float(one.calibrated or 0) for one in found]
    score = over_splits(calibrated, 0.0, aligned.n, how)
    assert score.ci_low is not None and score.ci_high is not None
    lowest, highest = -ELAS_WEIGHTS["cka"], 1.0
    return ElasScores(
        encoder,
        llm,
        over_splits(published, None, aligned.n, how + ", as published"),
        replace(score, ci_low=max(lowest, score.ci_low), ci_high=min(highest, score.ci_high)),
        parts,  # type: ignore[arg-type]
        of,
        float(np.mean([one.held_out_r2 for one in trained])),
    )


def _overfitted(rows: Sequence[ElasScores]) -> list[str]:
    """A sentence for each pair whose projector does worse than the mean training text."""
    return [
        f"the projector of {row.encoder} into {row.llm} does worse on held-out pairs than the mean "
        f"training text (R² {row.held_out_r2:.2f}): it counts as one that ignores the image"
        for row in rows
        if row.held_out_r2 is not None and row.held_out_r2 < 0 and row.control_of is None
    ]


def over_splits(values: list[float], chance: float | None, n: int, how: str) -> Score:
    """The mean over random splits, with the interval that knows that they overlap."""
    import math

    import numpy as np
    from scipy import stats

    from encoderlab.core.score import Score

    k = len(values)
    spread = float(np.var(values, ddof=1)) if k > 1 else math.nan
    half = float(stats.t.ppf(0.975, k - 1)) * math.sqrt((1 / k + TEST_OVER_TRAIN) * spread)
    mean = float(np.mean(values))
    return Score(mean, mean - half, mean + half, chance, n, how)


def _no_parts() -> dict[str, dict[str, float | None]]:
    from encoderlab.metrics.alignment_scores import ELAS_WEIGHTS

    return {name: {"published": None, "calibrated": None} for name in ELAS_WEIGHTS}


def _text(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
