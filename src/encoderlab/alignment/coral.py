"""CORAL, spectra and EAS between encoders and LLMs. Computes no metric itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from encoderlab.alignment.data import AlignmentData, extract_features
from encoderlab.alignment.settings import Coral
from encoderlab.alignment.tables import AlignmentResult, notes
from encoderlab.core.results import Block, Table, score_text
from encoderlab.core.spec import takes

if TYPE_CHECKING:
    from encoderlab.metrics.coral import FullAnalysis
    from encoderlab.plots.style import FigureRecord

STRONGEST = 48


@dataclass(frozen=True)
class CoralResult(AlignmentResult):
    """Cross-modal and intra-modal comparison, EAS; over all samples and by data type."""

    whole: FullAnalysis
    by_type: dict[str, FullAnalysis]
    arrays: dict[str, np.ndarray] = field(
        default_factory=dict, repr=False, compare=False, metadata={"json": False}
    )
    with_dashboard: bool = field(default=True, metadata={"json": False})

    def figure_records(self) -> list[FigureRecord]:
        """The figures, with spectra and covariances, which the JSON leaves out."""
        from encoderlab.alignment.plots.coral import coral

        return coral(self.to_json(), self.arrays, self.with_dashboard)

    def to_json(self) -> dict[str, Any]:
        """The fields, with those of the comparisons at the top level."""
        values = super().to_json()
        return values | values.pop("whole")

    def blocks(self) -> list[Block]:
        """One row per pair of encoder and LLM."""
        eas = {(score.encoder, score.llm): score for score in self.whole.eas}
        columns = (
            "encoder", "LLM", "EAS", "EAS*", "debiased CKA", "spectral similarity",
            "spectral divergence", "similarity*", "distance",
        )  # fmt: skip
        forms = (".3f", ".3f", "", ".3f", ".3g", ".6f", ".3g")
        rows = []
        reasons = set()
        for pair in self.whole.cross_modal:
            score, coral = eas[pair.encoder, pair.llm], pair.coral
            values = (
                score.calibrated, score.published, score_text(pair.cka.to_json()),
                coral.spectral_similarity, coral.spectral_divergence, coral.similarity,
                coral.distance,
            )  # fmt: skip
            cells = (
                "undefined" if value is None else format(value, form)
                for value, form in zip(values, forms, strict=True)
            )
            rows.append((pair.encoder, pair.llm, *cells))
            reasons |= {coral.undefined, pair.cka.undefined} - {None}
        note = (
            "Ranked by EAS (Enhanced Alignment Score), calibrated. * as published: similarity = "
            "1 / (1 + distance) is 1 for any features of length one."
        )
        undefined = (f"undefined: {reason}" for reason in sorted(map(str, reasons)))
        return [notes(self.facts), Table(columns, tuple(rows), said=(note, *undefined))]


@takes(Coral)
def run(settings: Coral, out: Path | None = None) -> CoralResult:
    """CORAL and EAS of every pair; writes the six figures and the dashboard to `out` if given.

    Returns:
        The comparison and the EAS of each pair of encoder and LLM.

    Raises:
        MissingError: data or a model is not there.
        UsageError: too few samples, a model twice, or features that are not finite.
    """
    aligned = extract_features(settings)
    return analyse(aligned, out, svg=settings.svg)


def analyse(
    aligned: AlignmentData,
    out: Path | None = None,
    *,
    svg: bool = False,
    with_dashboard: bool = True,
) -> CoralResult:
    """The comparison of features that are extracted already. They are L2-normalised first."""
    from encoderlab.alignment.pair_scores import unit
    from encoderlab.core.progress import progress
    from encoderlab.metrics.coral import MARGINALS_ONLY, CORALAnalyzer, spectrum

    vision = {name: unit(features.pooled) for name, features in aligned.vision.items()}
    text = {name: unit(features.pooled) for name, features in aligned.text.items()}
    analyzer = CORALAnalyzer()
    kinds = aligned.types if len(aligned.types) > 1 else ()
    by_type = {}
    with progress("comparing clouds", total=1 + len(kinds), unit="set") as bar:
        whole = analyzer.full_analysis(vision, text, aligned.labels if kinds else None)
        bar.advance()
        for kind in kinds:
            rows = aligned.rows(kind)
            sides = ({name: x[rows] for name, x in side.items()} for side in (vision, text))
            by_type[kind] = analyzer.full_analysis(next(sides), next(sides))
            bar.advance()
    warnings = [*aligned.warnings(), MARGINALS_ONLY]
    pinned = sum(pair.coral.pinned for pair in whole.cross_modal)
    if pinned:
        warnings.append(
            f"the CORAL similarity of {pinned} of {len(whole.cross_modal)} pairs is above 0.999, "
            "as it is for any features of unit length"
        )
    arrays = {f"spectrum|{name}": spectrum(x) for name, x in (vision | text).items()}
    for pair in whole.cross_modal:
        if pair.encoder in aligned.encoders and pair.coral.clouds is not None:
            left, right = pair.coral.compared
            order = (left.diagonal() + right.diagonal()).argsort(descending=True, stable=True)
            strongest = order[:STRONGEST]
            arrays[f"covariance|{pair.encoder}|{pair.llm}"] = np.stack(
                [side[strongest][:, strongest].cpu().numpy() for side in (left, right)]
            )
    return CoralResult(
        whole, by_type, arrays, with_dashboard, facts=aligned.facts(), warnings=tuple(warnings)
    ).with_figures(out, svg)
