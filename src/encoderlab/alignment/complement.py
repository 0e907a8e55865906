"""Does a second encoder add to a first one, for an LLM? Computes no metric itself."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from encoderlab.alignment.data import AlignmentData, extract_features
from encoderlab.alignment.settings import Complement as ComplementSettings
from encoderlab.alignment.tables import AlignmentResult, notes
from encoderlab.core.progress import progress
from encoderlab.core.results import Block, Result, Table, score_text
from encoderlab.core.spec import takes
from encoderlab.errors import UsageError

if TYPE_CHECKING:
    from encoderlab.alignment.complement_answers import AddedAnswers, ComplementAnswers
    from encoderlab.core.score import Score
    from encoderlab.metrics.complement import Complement
    from encoderlab.metrics.ridge import RidgeProbe
    from encoderlab.metrics.uncertainty import Comparison


@dataclass(frozen=True)
class Addition(Result):
    """Whether one encoder adds to another for an LLM.

    Args:
        base: the first encoder, A.
        added: the second, B.
        adds: whether a gain is shown, over A alone and over A with a copy of itself.
        samples_needed: about how many images would show the gain as measured; None where it is
            shown, is not positive, is hidden by the copies, or needs more than a million.
        hidden_by_copies: whether the spread between the copies is too large for any number of
            images to show a gain over them as measured.
        base_r2, added_r2, both_r2: of A, of B, of both.
        copy_r2: of A with rescaled and rotated copies of itself.
        base_recall, both_recall: Recall@1, mean of both directions.
        gain: R2 of both less that of A.
        over_copy: R2 of both less `copy_r2`.
        recall_gain: Recall@1 of both less that of A.
        answers: of small VLMs, with `--answers`.
    """

    base: str
    added: str
    llm: str
    adds: bool
    samples_needed: int | None
    hidden_by_copies: bool
    base_r2: Score
    added_r2: Score
    both_r2: Score
    copy_r2: Score
    base_recall: Score
    both_recall: Score
    gain: Comparison
    over_copy: Comparison
    recall_gain: Comparison
    answers: AddedAnswers | None = None

    def to_text(self) -> str:
        """The answers by ridge and, where there are VLMs, by right answers."""
        text = self._by_ridge()
        if self.answers is None:
            return text
        return f"{text}\n  {self._by_answers(self.answers)}"

    def _by_answers(self, answers: AddedAnswers) -> str:
        claim = (
            f"{self.added} adds to {self.base}"
            if answers.adds
            else f"no gain can be shown of {self.added} to {self.base}"
        )
        gain, over_copy = (c.signed(points=True) for c in (answers.gain, answers.over_copy))
        return f"by answers: {claim}: {gain}, over a rotated copy {over_copy}"

    def _by_ridge(self) -> str:
        pair = f"{self.added} to {self.base} for {self.llm}"
        if self.gain.difference is None:
            return f"{pair}: undefined ({self.copy_r2.undefined})"
        numbers = f"R² {self.gain.signed()}, over a copy of A {self.over_copy.signed()}"
        if self.adds:
            return f"{self.added} adds to {self.base} for {self.llm}: {numbers}"
        if self.samples_needed:
            needed = f"about {self.samples_needed:,} images would show a gain of this size"
        elif self.hidden_by_copies:
            needed = (
                "the spread between the copies hides a gain of this size at any number of images"
            )
        else:
            needed = "no number of images would show it, if it is as measured"
        return f"no gain can be shown of {pair}: {numbers}; {needed}"


@dataclass(frozen=True)
class ComplementResult(AlignmentResult):
    """Every ordered pair of encoders with every LLM.

    Args:
        answer: which encoder adds to which by ridge.
        rows: of every pair.
        answers: the questions of the VLMs, with `--answers`.
    """

    draw: ClassVar = "encoderlab.alignment.plots.complement:complement"
    records: ClassVar = "rows"

    answer: str
    rows: tuple[Addition, ...]
    answers: ComplementAnswers | None = None

    def blocks(self) -> list[Block]:
        """The answer, a sentence for each pair, and the numbers."""
        lines = []
        for row in self.rows:
            scores = (row.base_r2, row.added_r2, row.both_r2, row.copy_r2)
            recall = " → ".join(
                score_text({**score.to_json(), "ci_low": None})
                for score in (row.base_recall, row.both_recall)
            )
            lines.append((
                row.base, row.added, row.llm, *(score_text(score.to_json()) for score in scores),
                recall, row.recall_gain.signed(), _said(row),
            ))  # fmt: skip
        heads = ("A", "B", "LLM", "R² of A", "R² of B", "R² of A with B",
                 "R² of A with a copy of A", "Recall@1 of A → with B", "difference",
                 "answer")  # fmt: skip
        level = 1 - 0.05 / len(self.rows)
        said = (
            f"on held-out images; intervals of scores 95 %, of differences {100 * level:.3g} %, so "
            f"that those of all {len(self.rows)} pairs hold together"
        )
        limit = (
            "B can add by averaging the noise of what both see, without seeing anything of its own"
        )
        sentences = "\n".join(row.to_text() for row in self.rows)
        table = Table(heads, tuple(lines), said=(said, limit))
        return [self.answer, notes(self.facts), sentences, table, *self._of_answers()]

    def _of_answers(self) -> list[Block]:
        asked = self.answers
        if asked is None:
            return []
        pairs = [(row, row.answers) for row in self.rows if row.answers is not None]
        lines = tuple(
            (
                row.base, row.added, row.llm,
                *(s.as_percent() for s in (own.base, own.added, own.both, own.copy)),
                f"{100 * (own.base.chance or 0):.1f} %", own.gain.signed(points=True),
                own.over_copy.signed(points=True),
                _said(own),
            )
            for row, own in pairs
        )  # fmt: skip
        heads = ("A", "B", "LLM", "A", "B", "A with B", "A with a copy of A", "blind", "gain",
                 "over a copy", "answer")  # fmt: skip
        title = (
            f"right answers of VLMs: {asked.test_questions:,} held-out questions of {asked.data}, "
            f"trained on {asked.questions:,}, seeds {', '.join(map(str, asked.seeds))}"
        )
        over = "images and seeds" if len(asked.seeds) > 1 else "images alone: there is one seed"
        level = pairs[0][1].gain.level
        said = (
            f"intervals over {over}: of shares 95 %, of differences {100 * level:.3g} %; blind: "
            "the LLM trained and asked without the image"
        )
        return [Table(heads, lines, title, (said,))]


@takes(ComplementSettings)
def run(settings: ComplementSettings, out: Path | None = None) -> ComplementResult:
    """Which encoders add to which on the same samples; writes a figure to `out` if it is given.

    Returns:
        For each ordered pair of encoders and each LLM the held-out R2 of ridge maps from A, B, both
        and A with copies of itself, the paired differences and the answer; with `answers`
        the same of right answers of small VLMs.

    Raises:
        MissingError: data or a model is not there.
        UsageError: fewer than two encoders, too few samples, a model twice, features that are
            not finite, or a setting that has no effect.
    """
    if len(settings.encoders) < 2:
        raise UsageError(
            "complement needs several encoders", got=", ".join(settings.encoders) or "none",
            want="two or more --encoders",
        )  # fmt: skip
    aligned = extract_features(settings)
    answers = None
    if settings.answers:
        from encoderlab.alignment.complement_answers import answers_of_pairs

        answers = answers_of_pairs(settings, aligned)
    return analyse(aligned, out, answers=answers, svg=settings.svg)


def analyse(
    aligned: AlignmentData,
    out: Path | None = None,
    *,
    answers: ComplementAnswers | None = None,
    svg: bool = False,
) -> ComplementResult:
    """The pairs of features that are extracted already."""
    from encoderlab.alignment.pair_scores import mean_recall_at_1

    pairs = list(itertools.permutations(aligned.encoders, 2))
    cells = list(itertools.product(aligned.text, pairs))
    rows = []
    with progress("what encoders add", total=len(cells), unit="pair") as bar:
        for llm, (base, added) in cells:
            found = _judged(aligned, base, added, llm, len(cells))
            rows.append(Addition(
                base, added, llm, found.adds, found.samples_needed, found.hidden_by_copies,
                found.base.r2, found.added.r2, found.both.r2, found.control,
                mean_recall_at_1(found.base), mean_recall_at_1(found.both), found.gain,
                found.over_control, found.recall_gain,
                answers.pairs[base, added, llm] if answers else None,
            ))  # fmt: skip
            bar.advance()
    return ComplementResult(
        _answer(rows), tuple(rows), answers, facts=aligned.facts(), warnings=aligned.warnings()
    ).with_figures(out, svg)


def _judged(
    aligned: AlignmentData, base: str, added: str, llm: str, comparisons: int
) -> Complement:
    """The judgement of a pair; models that several pairs share are fitted once."""
    from encoderlab.alignment.pair_scores import features_of, unit
    from encoderlab.metrics.complement import control_of, judge, standardised
    from encoderlab.metrics.ridge import ridge_probe

    def channels(name: str) -> np.ndarray:
        return aligned.cached(
            ("channels", name), lambda: standardised(unit(features_of(aligned, name)), name)
        )

    def fitted(*sides: np.ndarray) -> RidgeProbe:
        return ridge_probe(
            np.hstack(sides), unit(features_of(aligned, llm)), texts=aligned.texts,
            seed=aligned.seed,
        )  # fmt: skip

    def probe(key: Any, *sides: np.ndarray) -> RidgeProbe:
        return aligned.cached(("complement", key, llm), lambda: fitted(*sides))

    a, b = channels(base), channels(added)
    width = b.shape[1]
    control = aligned.cached(
        ("control", base, width, llm),
        lambda: control_of(
            unit(features_of(aligned, base)), width, lambda copy: fitted(a, copy),
            seed=aligned.seed,
        ),
    )  # fmt: skip
    both = probe(frozenset((base, added)), a, b)
    return judge(probe(base, a), probe(added, b), both, control, comparisons=comparisons)


def _answer(rows: Sequence[Addition]) -> str:
    """Which encoder adds to which, by ridge and by right answers."""
    by_ridge = _claims([row for row in rows if row.adds])
    if all(row.gain.difference is None for row in rows):
        by_ridge = f"Undefined: {rows[0].copy_r2.undefined}."
    asked = [row for row in rows if row.answers is not None]
    if not asked:
        return by_ridge
    by_answers = _claims([row for row in asked if row.answers and row.answers.adds])
    return f"By ridge: {by_ridge}\nBy right answers: {by_answers}"


def _said(judged: Addition | AddedAnswers) -> str:
    """The verdict of a row of a table."""
    if judged.gain.difference is None:
        return "undefined"
    return "adds" if judged.adds else "no gain shown"


def _claims(shown: Sequence[Addition]) -> str:
    if not shown:
        return "No gain can be shown of any encoder to another."
    return "; ".join(f"{row.added} adds to {row.base} for {row.llm}" for row in shown) + "."
