"""Which method an evaluation recommends at a number of tokens. Measures nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from encoderlab.compression import catalogue
from encoderlab.compression.answers import ANSWERS
from encoderlab.metrics.uncertainty import Verdict

MAIN = "embedding"
# Its tokens are wider, so it loses nothing and is no choice at the same cost.
LOSSLESS = "pixel_shuffle"
Record = Mapping[str, Any]


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
        ahead_of: the reference methods that it is ahead of.
        fastest: of it and those alike, and its milliseconds an image; None where no time is known.
    """

    task: str
    tokens: int
    method: str
    score: Record
    alike: tuple[str, ...]
    training_free: tuple[str, Record] | None
    ahead_of: tuple[str, ...]
    fastest: tuple[str, float] | None


def recommend(
    rows: Sequence[Record], verdicts: Sequence[Record], tokens: int, answered: bool
) -> Recommendation | None:
    """What to use at a number of tokens.

    Args:
        rows: of the evaluation.
        verdicts: paired comparisons of the best method of each budget with every other one.
        tokens: the number of tokens.
        answered: whether right answers of a VLM count, else the embedding kept.

    Returns:
        The recommendation; None where neither was measured.
    """
    task, kind = (ANSWERS, "answers") if answered else (MAIN, "kept")
    scored = [
        (row, score) for row in rows
        if row["method"] != LOSSLESS and (score := (row.get(kind) or {}).get(task))
        and score["value"] is not None
    ]  # fmt: skip
    if not scored:
        return None
    nearest = min((row["tokens"] for row, _ in scored), key=lambda n: abs(math.log(n / tokens)))
    here = [(row, score) for row, score in scored if row["tokens"] == nearest]
    here.sort(key=lambda pair: -pair[1]["value"])
    (best, score), budget = here[0], list(here[0][0]["budget"])
    name = best["method"]
    known = {row["method"]: row for row, _ in here}
    seen: dict[str, str | None] = {}  # how the best one compares with each other method
    turned = {Verdict.AHEAD: Verdict.BEHIND, Verdict.BEHIND: Verdict.AHEAD}
    for v in verdicts:
        if v["task"] == task and list(v["budget"]) == budget:
            if v["a"] == name:
                seen[v["b"]] = v["verdict"]
            elif v["b"] == name:
                seen[v["a"]] = turned.get(v["verdict"], v["verdict"])
    alike = [m for m in known if seen.get(m) == Verdict.CANNOT_DISTINGUISH]
    free = next(((row["method"], s) for row, s in here if row["training_free"]), None)
    if free and free[0] in (name, *alike):
        free = None
    times = {m: known[m]["milliseconds"] for m in (name, *alike)}
    timed = {m: time for m, time in times.items() if time is not None}
    fastest = min(timed, key=lambda m: timed[m], default=None)
    return Recommendation(
        task, nearest, name, score, tuple(alike), free,
        tuple(m for m in catalogue.REFERENCES if seen.get(m) == Verdict.AHEAD),
        None if fastest is None else (fastest, timed[fastest]),
    )  # fmt: skip


def what_to_use(
    rows: Sequence[Record], verdicts: Sequence[Record], vlm: Record | None
) -> list[str]:
    """The recommendation at each budget, in a sentence.

    Args:
        rows: one per method and budget.
        verdicts: as of `recommend`.
        vlm: what was asked of a VLM, if one was.

    Returns:
        One sentence per budget: the best method, those that the data cannot tell apart from it, the
        fastest of all these, and the references that it is ahead of.
    """
    lines = []
    for tokens in dict.fromkeys(row["tokens"] for row in rows):
        best = recommend(rows, verdicts, tokens, vlm is not None)
        if best is None or best.tokens != tokens:
            continue
        share = 100 * best.score["value"]
        if vlm is None:
            parts = [f"{best.method} keeps {share:.1f} % of the embedding"]
        else:
            full = 100 * vlm["full"]["value"]
            parts = [f"{best.method}: {share:.1f} % right answers (all tokens {full:.1f} %)"]
        if best.alike:
            parts.append(f"cannot be told apart from {', '.join(best.alike)}")
        if best.alike and best.fastest:
            parts.append(f"the fastest of these is {best.fastest[0]} ({best.fastest[1]:.2f} ms)")
        here = {row["method"] for row in rows if row["tokens"] == tokens}
        named = [m for m in catalogue.REFERENCES if m in here]
        not_ahead = [m for m in named if m not in (*best.ahead_of, best.method, LOSSLESS)]
        parts += [f"ahead of {', '.join(best.ahead_of)}"] if best.ahead_of else []
        parts += [f"not ahead of {', '.join(not_ahead)}"] if not_ahead else []
        lines.append(f"{tokens} tokens: " + "; ".join(parts))
    return lines
