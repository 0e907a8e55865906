"""The grader's messages. `common.yaml` and `lesson_<n>.yaml` contain them in English and Korean; a
check names the key and gives the values. This module does not depend on marimo.

Besides format specifications, a placeholder may have one of these conversions: `{found!w}`
describes a value in words, `{given!l}` describes several, `{got!n}` writes it with few digits, and
`{missing!j}` joins other messages.
"""

from __future__ import annotations

import functools
import numbers
import string
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

LANGUAGES = ("en", "ko")


class Phrase:
    """One or several messages by their keys (None is skipped), and the values that fill them."""

    def __init__(self, *keys: str | None, **values: Any) -> None:
        self.keys = [key for key in keys if key]
        self.values = values


class Right:
    """A right answer, with the message `right`. The lesson continues with `value`."""

    def __init__(self, value: Any = None, **values: Any) -> None:
        self.value, self.phrase, self.state = value, Phrase("right", **values), "right"


class Wrong(Exception):
    """The reason why an answer is wrong. `state` is wrong, or open (not yet answered)."""

    def __init__(self, *keys: str | None, state: str = "wrong", **values: Any) -> None:
        self.phrase, self.state = Phrase(*keys, **values), state
        super().__init__(*self.phrase.keys)


def expect(is_right: Any, *keys: str | None, **values: Any) -> None:
    """Raises `Wrong(*keys, **values)` unless `is_right`."""
    if not is_right:
        raise Wrong(*keys, **values)


def in_both_languages(phrase: Phrase, lesson: int, exercise: int) -> dict[str, str]:
    """{language: message}; an exercise's own message comes before that of its lesson and of all."""
    lesson_table = _table(f"lesson_{lesson}")
    table = _table("common") | lesson_table.get("all", {}) | lesson_table[exercise]
    return {language: _Filler(table, language).fill(phrase) for language in LANGUAGES}


@functools.cache
def _table(name: str) -> dict[Any, Any]:
    return yaml.safe_load(Path(__file__).with_name(f"{name}.yaml").read_text(encoding="utf-8"))


class _Filler(string.Formatter):
    def __init__(self, table: dict[str, tuple[str, str]], language: str) -> None:
        self.table, self.language = table, language

    def fill(self, phrase: Phrase) -> str:
        texts = (self.table[key][LANGUAGES.index(self.language)] for key in phrase.keys)
        return " ".join(self.vformat(text, (), phrase.values) for text in texts)

    def convert_field(self, value: Any, conversion: str | None) -> Any:
        match conversion:
            case "w":
                return what(value, self.language)
            case "l":
                joint = {"en": " and ", "ko": ", "}[self.language]
                return joint.join(what(one, self.language) for one in value)
            case "n":
                return short(value)
            case "j":
                return "; ".join(self.fill(one) for one in value)
        return super().convert_field(value, conversion)


def what(value: Any, language: str = "en") -> str:
    """A learner's value in a few words.

    >>> what(torch.zeros(4, 9))
    'a tensor of shape (4, 9), float32'
    """
    name = type(value).__name__

    def say(english: str, korean: str) -> str:
        return korean if language == "ko" else english

    if value is None:
        return "None"
    if isinstance(value, torch.Tensor | np.ndarray):
        is_tensor = isinstance(value, torch.Tensor)
        called = say("a tensor", "텐서") if is_tensor else say("an array", "배열")
        kind, shape = str(value.dtype).removeprefix("torch."), tuple(value.shape)
        if value.ndim == 0 or (value.ndim == 1 and len(value) <= 5):
            shown = short(value.tolist())
            return say(f"{called} {shown}, {kind}", f"{called} {shown}({kind})")
        return say(f"{called} of shape {shape}, {kind}", f"모양이 {shape}인 {called}({kind})")
    if isinstance(value, str):
        return f"{say('the text', '문자열')} {short(value)}"
    if isinstance(value, bool):
        return f"{say('the truth value', '참거짓 값')} {value}"
    if isinstance(value, numbers.Number):
        return f"{say('the number', '수')} {short(value)}"
    if isinstance(value, list | tuple | set | dict):
        if len(value) <= 5 and all(isinstance(one, numbers.Number) for one in value):
            return say(f"the {name} {short(value)}", f"{name} {short(value)}")
        return say(f"a {name} of {len(value)}", f"길이가 {len(value)}인 {name}")
    if callable(value):
        return f"{say('the function', '함수')} `{getattr(value, '__name__', '?')}`"
    return say(f"a {name}", f"{name} 객체")


def short(value: Any) -> str:
    """A value as it is written, with four digits and at most sixty characters."""
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    if isinstance(value, np.ndarray):
        return short(value.tolist())
    if isinstance(value, list | tuple):
        inside = ", ".join(short(one) for one in value)
        return f"[{inside}]" if isinstance(value, list) else f"({inside})"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
