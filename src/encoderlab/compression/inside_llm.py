"""FastV in the comparison of methods: it drops tokens inside the LLM, so it has answers alone."""

from __future__ import annotations

from encoderlab.compression.answers import AnswerTask
from encoderlab.compression.bench import Measurement
from encoderlab.models.token_grid import Grid
from encoderlab.vlm.fastv import fastv

FASTV = "fastv"


def measure(task: AnswerTask, budget: Grid) -> Measurement:
    """Answers all questions with all tokens of their images, of which later layers see few.

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
