"""Which method a stored evaluation recommends at a number of tokens. Measures nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from encoderlab.compression.answers import ANSWERS
from encoderlab.compression.evaluate import MAIN, CompressEvaluationResult
from encoderlab.metrics.uncertainty import Verdict

# Its tokens are wider, so it loses nothing and is no choice at the same cost.
LOSSLESS = "pixel_shuffle"
Score = Mapping[str, Any]


@dataclass(frozen=True)
class Recommendation:
    """The method with the best score at the measured budget that is nearest.

    Args:
        task: what the score is of: the answers of a VLM, or the embedding.
        tokens: number of tokens of the measured budget.
        score: of the method: the share of right answers, or of the embedding kept.
        alike: the methods that the paired comparison cannot tell apart from it.
        training_free: the best method that is neither trained nor fitted, and its score; None where
            it is `method` or one of `alike`.
    """

    task: str
    tokens: int
    method: str
    score: Score
    alike: tuple[str, ...]
    training_free: tuple[str, Score] | None


def recommend(result: CompressEvaluationResult, tokens: int) -> Recommendation | None:
    """What to use at a number of tokens.

    Args:
        result: the evaluation; right answers count where a VLM was asked, else the embedding.
        tokens: the number of tokens.

    Returns:
        The recommendation; None where neither was measured.
    """
    task = ANSWERS if result.vlm else MAIN
    kind = "answers" if result.vlm else "kept"
    scored = [
        (row, score) for row in result.rows
        if row["method"] != LOSSLESS and (score := (row.get(kind) or {}).get(task))
        and score["value"] is not None
    ]  # fmt: skip
    if not scored:
        return None
    nearest = min((row["tokens"] for row, _ in scored), key=lambda n: abs(math.log(n / tokens)))
    here = [(row, score) for row, score in scored if row["tokens"] == nearest]
    here.sort(key=lambda pair: -pair[1]["value"])
    best, score = here[0]
    budget = list(best["budget"])
    own = [v for v in result.verdicts if v["task"] == task and list(v["budget"]) == budget]
    alike = _alike(best["method"], [row["method"] for row, _ in here], own)
    free = next(((row["method"], s) for row, s in here if row["training_free"]), None)
    if free and free[0] in (best["method"], *alike):
        free = None
    return Recommendation(task, nearest, best["method"], score, alike, free)


def _alike(
    best: str, methods: Sequence[str], verdicts: Sequence[Mapping[str, Any]]
) -> tuple[str, ...]:
    undecided = {
        name for v in verdicts if v["verdict"] == Verdict.CANNOT_DISTINGUISH
        and best in (v["a"], v["b"]) for name in (v["a"], v["b"])
    }  # fmt: skip
    return tuple(name for name in methods if name in undecided and name != best)
