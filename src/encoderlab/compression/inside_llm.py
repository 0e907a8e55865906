"""FastV in the comparison of methods: it drops tokens inside the LLM, so it has answers alone."""

from __future__ import annotations

from encoderlab.compression.answers import AnswerTask
from encoderlab.compression.bench import Measurement
from encoderlab.compression.settings import CompressEvaluation
from encoderlab.errors import UsageError
from encoderlab.models.token_grid import Grid
from encoderlab.vlm.fastv import fastv

FASTV = "fastv"


def check(settings: CompressEvaluation) -> None:
    """Refuses FastV by name where there is no VLM to ask.

    Args:
        settings: name the methods and the VLM.

    Raises:
        UsageError: it is named, and there is no VLM.
    """
    if FASTV in settings.methods and not settings.answers:
        raise UsageError(
            "fastv needs --answers: it drops tokens inside the LLM",
            got=f"--methods {' '.join(settings.methods)}",
            want="--answers tiny-vlm, or --methods without fastv",
        )


def measure(task: AnswerTask, budget: Grid) -> Measurement:
    """Asks all questions with all tokens of their images, of which later layers see few.

    Args:
        task: the questions and the VLM.
        budget: (rows, columns); FastV keeps as many of the image tokens of the LLM.

    Returns:
        A measurement of answers alone.

    Raises:
        UsageError: the budget is not smaller than the number of image tokens.
    """
    count = budget[0] * budget[1]
    with fastv(task.vlm, count):
        return Measurement(FASTV, budget, count, texts=[task.ask(task.pictures.tokens)])
