"""Every encoder with every LLM. Computes no metric itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from encoderlab.alignment.data import AlignmentData, extract_features
from encoderlab.alignment.settings import MultiLlm
from encoderlab.alignment.tables import AlignmentResult, notes
from encoderlab.core.results import Block, Table, score_text
from encoderlab.core.spec import takes

if TYPE_CHECKING:
    from encoderlab.alignment.pair_scores import PairScores, PairVerdict


@dataclass(frozen=True)
class MultiLlmResult(AlignmentResult):
    """The encoder x LLM table, and for each LLM which encoder is ahead."""

    draw: ClassVar = "encoderlab.alignment.plots.compare:multi_llm"
    records: ClassVar = "rows"

    answers: dict[str, str]
    rows: tuple[PairScores, ...]
    verdicts: tuple[PairVerdict, ...]

    def blocks(self) -> list[Block]:
        """Debiased CKA, a row per encoder and a column per LLM, and the answers."""
        cells: dict[str, dict[str, str]] = {}
        for row in self.rows:
            text = score_text(row.scores["cka_linear"].to_json())
            cells.setdefault(row.encoder, {})[row.llm] = text
        llms = tuple(self.answers)
        lines = tuple((name, *(line[llm] for llm in llms)) for name, line in cells.items())
        return [
            "\n".join(f"{llm}: {answer}" for llm, answer in self.answers.items()),
            notes(self.facts),
            Table(("encoder", *llms), lines, title="debiased CKA, 95 % intervals"),
        ]


@takes(MultiLlm)
def run(settings: MultiLlm, out: Path | None = None) -> MultiLlmResult:
    """Every encoder with every LLM on the same samples; writes figures to `out` if given.

    Returns:
        The scores of each pair of encoder and LLM, with intervals, and an answer for each LLM.

    Raises:
        MissingError: data or a model is not there.
        UsageError: too few samples, a model twice, or features that are not finite.
    """
    aligned = extract_features(settings)
    return analyse(aligned, out, svg=settings.svg)


def analyse(
    aligned: AlignmentData, out: Path | None = None, *, svg: bool = False
) -> MultiLlmResult:
    """The table of features that are extracted already."""
    from encoderlab.alignment import pair_scores

    rows = aligned.cached("rows", lambda: pair_scores.rows_of(aligned))
    verdicts = aligned.cached("verdicts", lambda: pair_scores.verdicts(aligned))
    answers = {}
    for llm in aligned.text:
        own = [row for row in rows if row.llm == llm], [v for v in verdicts if v.llm == llm]
        # An untrained encoder that is ahead changes the answer.
        sentences = pair_scores.answer(*own, aligned.n).text, pair_scores.control_problem(*own)
        answers[llm] = " ".join(filter(None, sentences))
    return MultiLlmResult(
        answers, tuple(rows), tuple(verdicts), facts=aligned.facts(), warnings=aligned.warnings()
    ).with_figures(out, svg)
