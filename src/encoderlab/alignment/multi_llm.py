"""Every encoder with every LLM. Orchestration only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoderlab.alignment.data import AlignmentData, extract_features
from encoderlab.alignment.settings import MultiLlm
from encoderlab.alignment.tables import notes
from encoderlab.core.results import (
    Block,
    Table,
    as_text,
    score_text,
)
from encoderlab.core.spec import takes

if TYPE_CHECKING:
    from encoderlab.alignment.pair_scores import PairScores, PairVerdict


@dataclass(frozen=True)
class MultiLlmResult:
    """The encoder x LLM table, and for each LLM which encoder is ahead."""

    answers: dict[str, str]
    rows: tuple[PairScores, ...]
    verdicts: tuple[PairVerdict, ...]
    facts: dict[str, Any]
    figures: tuple[dict[str, str], ...] = ()
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values for run.json."""
        return {
            "answers": self.answers,
            "rows": [row.to_json() for row in self.rows],
            "verdicts": [one.to_json() for one in self.verdicts],
            "figures": list(self.figures),
            **self.facts,
        }

    def blocks(self) -> list[Block]:
        """The answer as paragraphs and tables, in reading order."""
        llms = list(self.answers)
        encoders = dict.fromkeys(row.encoder for row in self.rows)
        found = {(row.encoder, row.llm): row for row in self.rows}
        rows = []
        for encoder in encoders:
            cells = [score_text(found[encoder, llm].scores["cka_linear"].to_json()) for llm in llms]
            rows.append((encoder, *cells))
        answers = "\n".join(f"{llm}: {said}" for llm, said in self.answers.items())
        return [
            answers,
            notes(self.facts),
            Table(("encoder", *llms), tuple(rows), title="debiased CKA, 95 % intervals"),
        ]

    def to_text(self) -> str:
        """What the terminal shows."""
        return as_text(self.blocks())


@takes(MultiLlm)
def run(settings: MultiLlm, out: Path | None = None) -> MultiLlmResult:
    """Every encoder with every LLM on the same samples; writes figures to `out` if given.

    Raises:
        MissingError: data or a model is not there.
        UsageError: too few samples, a model twice, or features that are not finite.
    """
    aligned = extract_features(settings)
    return analyse(aligned, out, svg=settings.svg)


def analyse(
    aligned: AlignmentData, out: Path | None = None, *, svg: bool = False
) -> MultiLlmResult:
    """The table of features that are at hand."""
    from encoderlab.alignment import pair_scores
    from encoderlab.alignment.plots import compare as plots
    from encoderlab.plots.style import save

    rows = aligned.cached("rows", lambda: pair_scores.rows_of(aligned))
    judged = aligned.cached("verdicts", lambda: pair_scores.verdicts(aligned))
    answers = {}
    for llm in aligned.text:
        own = [row for row in rows if row.llm == llm], [one for one in judged if one.llm == llm]
        # The control's sentence too: an untrained encoder that is ahead changes the answer.
        sentences = pair_scores.answer(*own, aligned.n).text, pair_scores.control_problem(*own)
        answers[llm] = " ".join(filter(None, sentences))
    result = MultiLlmResult(
        answers, tuple(rows), tuple(judged), aligned.facts(), warnings=aligned.warnings()
    )
    if out is not None:
        figures = save(plots.multi_llm(result.to_json()), out, svg=svg)
        result = replace(result, figures=figures)
    return result
