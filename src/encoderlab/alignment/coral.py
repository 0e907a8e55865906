"""CORAL, spectra and EAS between encoders and LLMs. Orchestration only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoderlab.alignment.data import AlignmentData, extract_features
from encoderlab.alignment.settings import Coral
from encoderlab.alignment.tables import notes
from encoderlab.core.results import (
    Block,
    Table,
    as_text,
    score_text,
)
from encoderlab.core.spec import takes

if TYPE_CHECKING:
    from encoderlab.metrics.coral import FullAnalysis

STRONGEST = 48


@dataclass(frozen=True)
class CoralResult:
    """Cross-modal and intra-modal comparison, EAS; over all samples and by data type."""

    whole: FullAnalysis
    by_type: dict[str, FullAnalysis]
    facts: dict[str, Any]
    figures: tuple[dict[str, str], ...] = ()
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values for run.json."""
        return {
            **self.whole.to_json(),
            "by_type": {name: one.to_json() for name, one in self.by_type.items()},
            "figures": list(self.figures),
            **self.facts,
        }

    def blocks(self) -> list[Block]:
        """The answer as paragraphs and tables, in reading order."""
        eas = {(one.encoder, one.llm): one for one in self.whole.eas}
        columns = (
            "encoder", "LLM", "EAS", "EAS*", "debiased CKA", "spectral similarity",
            "spectral divergence", "similarity*", "distance",
        )  # fmt: skip
        rows = []
        for one in self.whole.cross_modal:
            score = eas[one.encoder, one.llm]
            rows.append(
                (
                    one.encoder, one.llm, _text(score.calibrated), _text(score.published),
                    score_text(one.cka.to_json()), _text(one.coral.spectral_similarity),
                    _text(one.coral.spectral_divergence, "{:.3g}"),
                    _text(one.coral.similarity, "{:.6f}"), _text(one.coral.distance, "{:.3g}"),
                )
            )  # fmt: skip
        said = (
            "Ranked by EAS (Enhanced Alignment Score), calibrated. * as published: similarity = "
            "1 / (1 + distance) is 1 for any features of length one."
        )
        reasons = sorted(
            {
                f"undefined: {reason}"
                for one in self.whole.cross_modal
                for reason in (one.coral.undefined, one.cka.undefined)
                if reason
            }
        )
        return [notes(self.facts), Table(columns, tuple(rows), said=(said, *reasons))]

    def to_text(self) -> str:
        """What the terminal shows."""
        return as_text(self.blocks())


@takes(Coral)
def run(settings: Coral, out: Path | None = None) -> CoralResult:
    """CORAL and EAS of every pair; writes the six figures and the dashboard to `out` if given.

    Raises:
        MissingError: data or a model is not there.
        UsageError: too few samples, a model twice, or features that are not finite.
    """
    aligned = extract_features(settings)
    return analyse(aligned, out, svg=settings.svg)


def analyse(aligned: AlignmentData, out: Path | None = None, *, svg: bool = False) -> CoralResult:
    """The comparison of features that are at hand, L2-normalised as is usual for CORAL."""
    import numpy as np

    from encoderlab.alignment.pair_scores import unit
    from encoderlab.alignment.plots import coral as plots
    from encoderlab.core.progress import progress
    from encoderlab.metrics.coral import MARGINALS_ONLY, CORALAnalyzer, spectrum
    from encoderlab.plots.style import save

    vision = {name: unit(one.pooled) for name, one in aligned.vision.items()}
    text = {name: unit(one.pooled) for name, one in aligned.text.items()}
    analyzer = CORALAnalyzer()
    labels = aligned.labels if len(aligned.types) > 1 else None
    kinds = aligned.types if len(aligned.types) > 1 else ()
    by_type = {}
    with progress("comparing clouds", total=1 + len(kinds), unit="set") as bar:
        whole = analyzer.full_analysis(vision, text, labels)
        bar.advance()
        for kind in kinds:
            rows = aligned.rows(kind)
            by_type[kind] = analyzer.full_analysis(
                {name: x[rows] for name, x in vision.items()},
                {name: x[rows] for name, x in text.items()},
            )
            bar.advance()
    warnings = [*aligned.warnings(), MARGINALS_ONLY]
    pinned = sum(one.coral.pinned for one in whole.cross_modal)
    if pinned:
        warnings.append(
            f"the CORAL similarity of {pinned} of {len(whole.cross_modal)} pairs is above 0.999 "
            "for want of scale, as it is for any features of length one"
        )
    result = CoralResult(whole, by_type, aligned.facts(), warnings=tuple(warnings))
    if out is not None:
        arrays = {}
        for name, x in {**vision, **text}.items():
            arrays[f"spectrum|{name}"] = spectrum(x)
        for one in whole.cross_modal:
            if one.encoder in aligned.encoders and one.coral.clouds is not None:
                left, right = one.coral.compared
                order = (left.diagonal() + right.diagonal()).argsort(descending=True, stable=True)
                strongest = order[:STRONGEST]
                arrays[f"covariance|{one.encoder}|{one.llm}"] = np.stack(
                    [side[strongest][:, strongest].cpu().numpy() for side in (left, right)]
                )
        drawn = plots.coral(result.to_json(), arrays)
        result = replace(result, figures=save(drawn, out, svg=svg))
    return result


def _text(value: float | None, form: str = "{:.3f}") -> str:
    return "undefined" if value is None else form.format(value)
