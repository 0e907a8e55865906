"""Looks at a learner's answer and says, in one or two sentences, what is wrong with it.

`Grader` is what a notebook talks to. `verdict` is what it answers, `said` what a check says;
`values` looks at what a learner may have written. Each `lesson_<n>` holds the checks of one lesson,
with what they say in English and Korean beside one another. Right values are computed here,
independently of the solutions.

A lesson's module has, for exercise n:

    def exercise_<n>(answer, another_answer, *, given, also_given) -> Right | None
        raises `Wrong` with what is wrong
    def value_<n>(*, given, also_given)                               (only where it is needed)
        what the lesson goes on with while the answer is not right
"""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

from grader.said import Right, Wrong, not_answered
from grader.values import failed
from grader.verdict import Summary, Verdict

__all__ = ["Grader", "Right", "Summary", "Verdict", "Wrong"]

LANGUAGES = ("en", "ko")


class Grader:
    """The checks of one lesson, in the language of the notebook that asks.

    Args:
        notebook: path of the notebook, `.../<language>/<number>_<name>.py`.

    Raises:
        ValueError: a path that says neither the language nor the number.
    """

    def __init__(self, notebook: str | Path) -> None:
        path = Path(notebook)
        number = re.match(r"(\d+)_", path.name)
        if path.parent.name not in LANGUAGES or number is None:
            raise ValueError(
                f"{path} is no lesson: a copy must keep its name (<number>_<name>.py) and lie in a "
                f"folder named {' or '.join(LANGUAGES)}"
            )
        self.language = path.parent.name
        self._checks = importlib.import_module(f"grader.lesson_{number[1]}")

    def check(self, number: int, *answers: Any, **given: Any) -> Verdict:
        """What there is to say about the answers to exercise `number`.

        Whatever the answers are, this raises nothing. In a script the verdict is printed too.

        Args:
            answers: what the learner has made, in the order of the check's arguments.
            given: what the lesson has made for the exercise.
        """
        check = getattr(self._checks, f"exercise_{number}")
        names = [
            name
            for name, parameter in inspect.signature(check).parameters.items()
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        ]
        state, value = "right", None
        try:
            missing = [name for name, answer in zip(names, answers, strict=True) if answer is ...]
            if missing:
                raise not_answered(missing if len(missing) < len(names) else ())
            said = check(*answers, **given) or Right("", "")
            value = said.value
        except Wrong as wrong:
            said, state = wrong, wrong.state
        except Exception as error:  # whatever a strange answer does in here
            said, state = failed(error, answers), "wrong"
        goes_on = getattr(self._checks, f"value_{number}", lambda **_: None)
        verdict = Verdict(
            number,
            state,
            said.en,
            said.ko,
            self.language,
            lambda: goes_on(**given) if value is None else value,
        )
        verdict.tell_script()
        return verdict

    def summary(self, *verdicts: Verdict) -> Summary:
        """How many exercises are right, and which are left."""
        told = Summary(verdicts, self.language)
        told.tell_script()
        return told
