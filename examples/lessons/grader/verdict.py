"""The results of a check: right, wrong with a reason, or not yet answered, for a notebook or a
script can show it. Knows no exercise.
"""

from __future__ import annotations

import functools
import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import marimo as mo


class _Shown:
    """A sentence that a notebook shows in a coloured box and a script prints."""

    kind = "neutral"

    def show(self) -> None:
        """Shows it below the running cell, or prints it in a script."""
        if mo.running_in_notebook():
            mo.output.append(self)
        else:
            print(self)

    def _mime_(self) -> tuple[Any, str]:
        text = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(str(self)))
        return mo.callout(mo.Html(f"<span>{text}</span>"), kind=self.kind)._mime_()


@dataclass(frozen=True)
class Verdict(_Shown):
    """The answer to one exercise. `state` is right, wrong or open (not yet answered)."""

    exercise: int
    state: str
    messages: dict[str, str]
    language: str
    make_value: Callable[[], Any]

    @functools.cached_property
    def value(self) -> Any:
        """The learner's answer if it is right, our solution otherwise."""
        return self.make_value()

    @property
    def kind(self) -> str:
        """marimo's name of the colour."""
        return {"right": "success", "wrong": "warn", "open": "neutral"}[self.state]

    def __str__(self) -> str:
        name, right = {"en": ("exercise", "right."), "ko": ("연습", "정답입니다.")}[self.language]
        start = f"{name} {self.exercise}: " + (f"{right} " if self.state == "right" else "")
        return start + self.messages[self.language]


@dataclass(frozen=True)
class Summary(_Shown):
    """The number of right answers so far."""

    verdicts: Sequence[Verdict]
    language: str

    @property
    def kind(self) -> str:
        """Green once all is right."""
        return "success" if all(one.state == "right" for one in self.verdicts) else "neutral"

    def __str__(self) -> str:
        wrong, left = (
            ", ".join(str(one.exercise) for one in self.verdicts if one.state == state)
            for state in ("wrong", "open")
        )
        n, right = len(self.verdicts), sum(one.state == "right" for one in self.verdicts)
        done, again, todo = {
            "en": (f"{right} of {n} exercises are right", "to correct: ", "not yet answered: "),
            "ko": (
                f"연습 {n}개 중 {right}개가 정답입니다",
                "다시 볼 연습: ",
                "아직 답하지 않은 연습: ",
            ),
        }[self.language]
        parts = [done, again + wrong if wrong else "", todo + left if left else ""]
        return "; ".join(part for part in parts if part) + "."
