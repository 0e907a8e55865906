"""Texts and checks of the lessons, in the language that the reader has chosen.

A notebook uses `Grader`. `lesson_<n>` contains the checks of one lesson, `lesson_<n>.yaml` their
messages in English and Korean. `verdict` contains the results of checks, `values` reads learners'
answers, `solutions.lesson_<n>` contains our answers. For exercise n, `lesson_<n>` has

    def exercise_<n>(answer, another_answer, *, given, also_given) -> Right
        raises `Wrong` with what is wrong
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import inspect
import io
import re
from typing import Any

import marimo as mo

from grader.phrases import LANGUAGES, Right, Wrong, in_both_languages
from grader.values import first_line
from grader.verdict import Summary, Verdict

__all__ = ["Grader", "Right", "Summary", "Verdict", "Wrong", "chosen_language"]


def chosen_language() -> str:
    """The value of `--lang` on the command line: `marimo edit LESSON -- --lang ko`, or
    `python LESSON --lang ko`; the default is English."""
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    parser.add_argument("--lang", choices=LANGUAGES, default=LANGUAGES[0])
    return parser.parse_known_args()[0].lang


class Grader:
    """The texts and checks of one lesson.

    Args:
        lesson: its number.
        language: en or ko; what the command line says where it is None.
    """

    def __init__(self, lesson: int, language: str | None = None) -> None:
        self.lesson, self.language = lesson, language or chosen_language()
        self._checks = importlib.import_module(f"grader.lesson_{lesson}")

    def text(self, both: str) -> mo.Html:
        """The markdown in the reader's language: English above the line `[ko]`, Korean below."""
        english, korean = re.split(r"\n *\[ko\]\n", both)
        return mo.md(korean if self.language == "ko" else english)

    def check(self, number: int, *answers: Any, **given: Any) -> Verdict:
        """Checks the answers to exercise `number`.

        It never raises, whatever the answers are. The verdict is shown below the cell; a script
        prints it.

        Args:
            answers: the learner's answers, in the order of the check's arguments.
            given: values that the lesson provides for the exercise.
        """
        check = getattr(self._checks, f"exercise_{number}")
        names = list(inspect.signature(check).parameters)[: len(answers)]
        missing = [
            f"`{name}`" for name, answer in zip(names, answers, strict=True) if answer is ...
        ]
        result: Right | Wrong
        try:
            if len(missing) == len(answers):
                raise Wrong("not_answered", state="open")
            if missing:
                raise Wrong("some_not_answered", state="open", names=", ".join(missing))
            result = check(*answers, **given)
        except Wrong as wrong:
            result = wrong
        except Exception as error:  # any error that an answer causes in a check
            result = Wrong("unchecked", reason=first_line(error), given=answers)

        def value() -> Any:
            return result.value if isinstance(result, Right) else self._ours(number, given)

        messages = in_both_languages(result.phrase, self.lesson, number)
        verdict = Verdict(number, result.state, messages, self.language, value)
        verdict.show()
        return verdict

    def summary(self, *verdicts: Verdict) -> None:
        """Shows how many exercises are right, and which are left."""
        Summary(verdicts, self.language).show()

    def _ours(self, number: int, given: dict[str, Any]) -> Any:
        """Our solution, checked; the lesson continues with it while the answer is not right."""
        solutions = importlib.import_module(f"solutions.lesson_{self.lesson}")
        solve = getattr(solutions, f"exercise_{number}")
        used = {name: given[name] for name in inspect.signature(solve).parameters}
        with contextlib.redirect_stdout(io.StringIO()):
            return getattr(self._checks, f"exercise_{number}")(*solve(**used), **given).value
