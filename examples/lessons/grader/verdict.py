"""What the grader answers: right, wrong and why, or not yet answered; shown as a notebook or a
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


class _Told:
    """Something to say that a notebook shows in a coloured box and a script prints."""

    kind = "neutral"

    def tell_script(self) -> None:
        """Prints it, unless a notebook is there to show it."""
        if not mo.running_in_notebook():
            print(self)

    def _mime_(self) -> tuple[Any, str]:
        text = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(str(self)))
        return mo.callout(mo.Html(f"<span>{text}</span>"), kind=self.kind)._mime_()


@dataclass(frozen=True)
class Verdict(_Told):
    """The answer to one exercise. `state` is right, wrong or open (not yet answered)."""

    exercise: int
    state: str
    en: str
    ko: str
    language: str
    make_value: Callable[[], Any]

    @functools.cached_property
    def value(self) -> Any:
        """What the lesson goes on with: the learner's own where it is right, ours otherwise."""
        return self.make_value()

    @property
    def kind(self) -> str:
        """marimo's name of the colour."""
        return {"right": "success", "wrong": "warn", "open": "neutral"}[self.state]

    def __str__(self) -> str:
        said = self.ko if self.language == "ko" else self.en
        name = f"{'연습' if self.language == 'ko' else 'exercise'} {self.exercise}"
        if self.state == "right":
            right = "정답입니다." if self.language == "ko" else "right."
            said = f"{right} {said}".rstrip()
        return f"{name}: {said}"


@dataclass(frozen=True)
class Summary(_Told):
    """How far the learner is."""

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
        right = sum(one.state == "right" for one in self.verdicts)
        if self.language == "ko":
            parts = [f"연습 {len(self.verdicts)}개 중 {right}개가 정답입니다"]
            parts += [f"다시 볼 연습: {wrong}"] if wrong else []
            parts += [f"아직 답하지 않은 연습: {left}"] if left else []
        else:
            parts = [f"{right} of {len(self.verdicts)} exercises are right"]
            parts += [f"to mend: {wrong}"] if wrong else []
            parts += [f"not yet answered: {left}"] if left else []
        return "; ".join(parts) + "."
