"""Compare encoders by how they align with LLMs. Orchestration only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoderlab.alignment.data import SHUFFLED, AlignmentData, extract_features
from encoderlab.alignment.settings import Compare
from encoderlab.alignment.tables import notes, table
from encoderlab.core.results import Block, as_text
from encoderlab.core.spec import takes
from encoderlab.metrics.catalogue import METRICS

if TYPE_CHECKING:
    from encoderlab.alignment.pair_scores import PairScores, PairVerdict


@dataclass(frozen=True)
class CompareResult:
    """Every encoder with every LLM, by all metrics; paired verdicts; the answer in words."""

    answer: str
    also: tuple[str, ...]
    rows: tuple[PairScores, ...]
    verdicts: tuple[PairVerdict, ...]
    facts: dict[str, Any]
    figures: tuple[dict[str, str], ...] = ()
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values for run.json."""
        return {
            "answer": self.answer,
            "also": list(self.also),
            "rows": [row.to_json() for row in self.rows],
            "verdicts": [one.to_json() for one in self.verdicts],
            "figures": list(self.figures),
            **self.facts,
        }

    def blocks(self) -> list[Block]:
        """The answer as paragraphs and tables, in reading order."""
        added = [name for name, metric in METRICS.items() if metric.computed_by]
        columns = (
            "cka_linear", "cka_linear_biased", "cka_within", "ridge_r2", "mlp_r2", *added
        )  # fmt: skip
        asked = {row.encoder for row in self.rows if row.control_of is None}
        verdicts = [
            f"with {one.llm}: {one.comparison.to_text()}"
            for one in self.verdicts
            if one.metric == "cka_linear" and {one.comparison.a, one.comparison.b} <= asked
        ]
        blocks: list[Block] = [
            "\n".join((self.answer, *self.also)),
            notes(self.facts),
            table([r.to_json() for r in self.rows], columns),
        ]
        if verdicts:
            heading = "debiased CKA, every two on the same samples:"
            blocks.append("\n".join([heading, *verdicts]))
        return blocks

    def to_text(self) -> str:
        """What the terminal shows."""
        return as_text(self.blocks())


@takes(Compare)
def run(settings: Compare, out: Path | None = None) -> CompareResult:
    """Compares encoders on the same samples; writes figures to `out` if it is given.

    Raises:
        MissingError: data or a model is not there.
        UsageError: too few samples, a model twice, or features that are not finite.
    """
    aligned = extract_features(settings)
    return analyse(aligned, out, epochs=settings.epochs, svg=settings.svg)


def analyse(
    aligned: AlignmentData, out: Path | None = None, *, epochs: int = 300, svg: bool = False
) -> CompareResult:
    """The comparison of features that are at hand."""
    from dataclasses import replace

    from encoderlab.alignment import pair_scores
    from encoderlab.alignment.plots import compare as plots
    from encoderlab.metrics.catalogue import PROJECTORS
    from encoderlab.plots.style import save

    unfinished: tuple[str, ...] = ()
    rows = aligned.cached("rows", lambda: pair_scores.rows_of(aligned))
    judged = aligned.cached("verdicts", lambda: pair_scores.verdicts(aligned))
    if pair_scores.enough_for_projectors(aligned) is None:
        # A shuffled pairing has said what it can by then: no projector is trained on it.
        wanted = [(row.encoder, row.llm) for row in rows if not row.encoder.startswith(SHUFFLED)]
        trained = pair_scores.projectors(aligned, wanted, tuple(PROJECTORS), epochs)
        unfinished = pair_scores.not_converged(trained, epochs)
        full = []
        for row in rows:
            for kind in PROJECTORS if (row.encoder, row.llm) in wanted else ():
                of = {s: trained[row.encoder, row.llm, kind, s] for s in pair_scores.SEEDS}
                scores, typed = pair_scores.projector_scores(
                    aligned, row.encoder, row.llm, of, kind
                )
                row = replace(
                    row,
                    scores={**row.scores, **scores},
                    by_type={name: {**found, **typed[name]} for name, found in row.by_type.items()},
                )
            full.append(row)
        rows = full
    said = pair_scores.answer(rows, judged, aligned.n)
    result = CompareResult(
        said.text,
        (*said.also, *unfinished),
        tuple(rows),
        tuple(judged),
        aligned.facts(),
        warnings=(*aligned.warnings(), *unfinished),
    )
    if out is not None:
        result = replace(result, figures=save(plots.compare(result.to_json()), out, svg=svg))
    return result
