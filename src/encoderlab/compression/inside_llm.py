"""FastV in the comparison of methods: it drops tokens inside the LLM, so it has answers alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from encoderlab.compression.answers import AnswerTask
from encoderlab.compression.settings import CompressEvaluation
from encoderlab.errors import UsageError
from encoderlab.models.token_grid import Grid
from encoderlab.patch_tokens.methods import METHODS, meaning_of
from encoderlab.vlm.fastv import fastv

FASTV = "fastv"


@dataclass
class Answered:
    """The answers with FastV.

    Args:
        texts: budget -> one text per question.
        refused: method and budget -> why it was left out.
    """

    texts: dict[Grid, list[str]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def is_asked(settings: CompressEvaluation) -> bool:
    """Whether FastV is measured.

    Args:
        settings: name the methods and the VLM.

    Returns:
        True if it is named, or all methods are, and there is a VLM.

    Raises:
        UsageError: it is named, and there is no VLM.
    """
    if settings.answers:
        return FASTV in (settings.methods or METHODS)
    if FASTV in settings.methods:
        raise UsageError(
            "fastv needs --answers: it drops tokens inside the LLM",
            got=f"--methods {' '.join(settings.methods)}",
            want="--answers tiny-vlm-clip, or --methods without fastv",
        )
    return False


def answer(task: AnswerTask, budgets: Sequence[Grid]) -> Answered:
    """Asks all questions with all tokens of their images, of which later layers see few.

    Args:
        task: the questions and the VLM.
        budgets: (rows, columns); FastV keeps as many of the image tokens of the LLM.

    Returns:
        The answers, and budgets that are not smaller than the number of image tokens.
    """
    found = Answered()
    for rows, columns in budgets:
        try:
            with fastv(task.vlm, rows * columns):
                found.texts[rows, columns] = task.ask(task.pictures.tokens)
        except UsageError as error:
            found.refused[f"{FASTV}, {rows} x {columns}"] = str(error)
    return found


def records(answered: Answered, others: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records of FastV before the answers are judged.

    Args:
        answered: the answers.
        others: records of the methods that have tokens, at least one for each budget.

    Returns:
        One record per budget, with the keys of the others and None for every score.
    """
    made = []
    for budget in answered.texts:
        (like, *_) = (record for record in others if tuple(record["budget"]) == budget)
        made.append({
            **dict.fromkeys(like), "method": FASTV, "words": meaning_of(FASTV),
            "training_free": True, "scores": {},
            **{name: like[name] for name in ("budget", "tokens", "distance_floor")},
            **{part: dict.fromkeys(like[part]) for part in ("kept", "reading")},
        })  # fmt: skip
    return made
