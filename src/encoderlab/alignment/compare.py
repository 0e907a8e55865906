"""Compare encoders by how they align with LLMs. Computes no metric itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from encoderlab.alignment.data import SHUFFLED, AlignmentData, extract_features
from encoderlab.alignment.settings import Compare
from encoderlab.alignment.tables import AlignmentResult, notes, table
from encoderlab.core.results import Block
from encoderlab.core.spec import takes
from encoderlab.metrics.catalogue import METRICS
from encoderlab.metrics.gromov_wasserstein import MOST, require_pot

if TYPE_CHECKING:
    from encoderlab.alignment.pair_scores import PairScores, PairVerdict


@dataclass(frozen=True)
class CompareResult(AlignmentResult):
    """Every encoder with every LLM, by all metrics; paired verdicts; the answer in words."""

    draw: ClassVar = "encoderlab.alignment.plots.compare:compare"
    records: ClassVar = "rows"

    answer: str
    also: tuple[str, ...]
    rows: tuple[PairScores, ...]
    verdicts: tuple[PairVerdict, ...]

    def blocks(self) -> list[Block]:
        """The scores of every pair, and the verdicts on encoders."""
        added = [name for name, metric in METRICS.items() if metric.computed_by]
        columns = ["cka_linear", "cka_linear_biased", "cka_within", "ridge_r2", "gw_pairing",
                   "gw_distance", "mlp_r2", *added]  # fmt: skip
        asked = {row.encoder for row in self.rows if row.control_of is None}
        verdicts = [
            f"with {verdict.llm}: {verdict.comparison.to_text()}"
            for verdict in self.verdicts
            if verdict.metric == "cka_linear"
            and {verdict.comparison.a, verdict.comparison.b} <= asked
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


@takes(Compare)
def run(settings: Compare, out: Path | None = None) -> CompareResult:
    """Compares encoders on the same samples; writes figures to `out` if it is given.

    Returns:
        All scores of each pair of encoder and LLM, with intervals, and the paired verdicts.

    Raises:
        MissingError: data or a model is not there, or POT is needed and not installed.
        UsageError: too few samples, a model twice, or features that are not finite.
    """
    if settings.gw:
        require_pot()
    aligned = extract_features(settings)
    epochs = settings.epochs if settings.projectors else None
    return analyse(aligned, out, epochs=epochs, gw=settings.gw, svg=settings.svg)


def analyse(
    aligned: AlignmentData,
    out: Path | None = None,
    *,
    epochs: int | None = None,
    gw: bool = False,
    svg: bool = False,
) -> CompareResult:
    """The comparison of features that are extracted already; no `epochs`: without projectors."""
    from encoderlab.alignment import pair_scores
    from encoderlab.metrics.catalogue import PROJECTORS

    remarks: tuple[str, ...] = ()
    rows = aligned.cached("rows", lambda: pair_scores.rows_of(aligned))
    verdicts = aligned.cached("verdicts", lambda: pair_scores.verdicts(aligned))
    if epochs and pair_scores.enough_for_projectors(aligned) is None:
        # Shuffled pairs are at chance by the metrics above: no projector is trained on them.
        pairs = [(row.encoder, row.llm) for row in rows if not row.encoder.startswith(SHUFFLED)]
        trained = pair_scores.projectors(aligned, pairs, tuple(PROJECTORS), epochs)
        remarks = pair_scores.not_converged(trained, epochs)
        rows = list(rows)
        for i, row in enumerate(rows):
            for kind in PROJECTORS if (row.encoder, row.llm) in pairs else ():
                of_pair = [trained[row.encoder, row.llm, kind, s] for s in pair_scores.SEEDS]
                scores, by_type = pair_scores.projector_scores(
                    aligned, row.encoder, row.llm, of_pair, kind
                )
                row = replace(
                    row,
                    scores=row.scores | scores,
                    by_type={name: known | by_type[name] for name, known in row.by_type.items()},
                )
            rows[i] = row
    if gw:
        rows = [
            replace(row, scores=row.scores | pair_scores.gromov_wasserstein_scores(
                aligned, row.encoder, row.llm
            ))
            for row in rows
        ]  # fmt: skip
        if aligned.n > MOST:
            remarks += (
                f"Gromov-Wasserstein distances are of {MOST} of {aligned.n:,} images drawn at "
                "random: the time of its solver grows with the cube of their number",
            )
    answer = pair_scores.answer(rows, verdicts, aligned.n)
    return CompareResult(
        answer.text,
        (*answer.also, *remarks),
        tuple(rows),
        tuple(verdicts),
        facts=aligned.facts(),
        warnings=(*aligned.warnings(), *remarks),
    ).with_figures(out, svg)
