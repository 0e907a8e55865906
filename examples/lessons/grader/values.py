"""Looks at values that a learner has made, whatever they are: what it is, its numbers, what a
function of theirs returns and prints.

Everything that is not as it should be is a `Wrong`, a sentence in both languages.
"""

from __future__ import annotations

import contextlib
import io
import numbers
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from grader.said import Wrong, not_answered


class Both(NamedTuple):
    """The same words in both languages."""

    en: str
    ko: str


def what(value: Any) -> Both:
    """A learner's value in a few words.

    >>> what(torch.zeros(4, 9)).en
    'a tensor of shape (4, 9), float32'
    """
    if value is None:
        return Both("None", "None")
    if isinstance(value, torch.Tensor | np.ndarray):
        is_tensor = isinstance(value, torch.Tensor)
        kind = str(value.dtype).removeprefix("torch.")
        if value.ndim == 0 or (value.ndim == 1 and len(value) <= 5):
            shown = short(value.tolist())
            return Both(
                f"{'a tensor' if is_tensor else 'an array'} {shown}, {kind}",
                f"{'텐서' if is_tensor else '배열'} {shown}({kind})",
            )
        shape = tuple(value.shape)
        return Both(
            f"{'a tensor' if is_tensor else 'an array'} of shape {shape}, {kind}",
            f"모양이 {shape}인 {'텐서' if is_tensor else '배열'}({kind})",
        )
    if isinstance(value, str):
        return Both(f"the text {short(value)}", f"문자열 {short(value)}")
    if isinstance(value, bool):
        return Both(f"the truth value {value}", f"참거짓 값 {value}")
    if isinstance(value, numbers.Number):
        return Both(f"the number {short(value)}", f"수 {short(value)}")
    if isinstance(value, list | tuple | set | dict):
        name = type(value).__name__
        if len(value) <= 5 and all(isinstance(one, numbers.Number) for one in value):
            return Both(f"the {name} {short(value)}", f"{name} {short(value)}")
        return Both(f"a {name} of {len(value)}", f"길이가 {len(value)}인 {name}")
    if callable(value):
        name = getattr(value, "__name__", "?")
        return Both(f"the function `{name}`", f"함수 `{name}`")
    return Both(f"a {type(value).__name__}", f"{type(value).__name__} 객체")


def short(value: Any) -> str:
    """A value as it is written, with four digits and no more than sixty letters."""
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        inside = ", ".join(short(one) for one in value)
        return f"[{inside}]" if isinstance(value, list) else f"({inside})"
    said = repr(value)
    return said if len(said) <= 60 else f"{said[:57]}..."


def as_numbers(value: Any, name: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """The numbers of a tensor, an array, a list or a single number, in float64.

    Args:
        name: what both languages call it: code, as `cosine(a, b)`, and no words.

    Raises:
        Wrong: there are none, one is NaN or infinite, or it has not the `shape` that was wanted.
    """
    got = what(value)
    try:
        plain = value.detach().cpu().double() if isinstance(value, torch.Tensor) else value
        found = np.asarray(plain)
        if found.dtype.kind not in "iuf":
            raise TypeError
        found = found.astype(np.float64)
    except (TypeError, ValueError, RuntimeError):
        raise Wrong(
            f"{name} should hold numbers; you have given {got.en}.",
            f"{name} 값은 수로 이루어져야 합니다. 제출한 값: {got.ko}.",
        ) from None
    if not np.isfinite(found).all():
        bad = int((~np.isfinite(found)).sum())
        raise Wrong(
            f"{bad} of the {found.size} numbers in {name} are NaN or infinite: has something been "
            "divided by a length of zero?",
            f"{name}에 있는 수 {found.size}개 중 {bad}개가 NaN이거나 무한대입니다. "
            "길이가 0인 것으로 나누지 않았는지 확인해 보십시오.",
        )
    if shape is not None and found.shape != shape:
        raise Wrong(
            f"{name} has shape {found.shape}; expect {shape}.",
            f"{name} 값의 모양은 {found.shape}입니다. {shape}이어야 합니다.",
        )
    return found


def as_number(value: Any, name: str) -> float:
    """A single number, also out of a tensor without axes.

    Raises:
        Wrong: it is none, or in brackets.
    """
    found = as_numbers(value, name)
    if found.ndim:
        raise Wrong(
            f"{name} should be one number without an axis; you have given {what(value).en}.",
            f"{name} 값은 축이 없는 수 하나여야 합니다. 제출한 값: {what(value).ko}.",
        )
    return float(found)


def call(function: Any, *arguments: Any, name: str) -> Any:
    """What a learner's function returns for copies of the arguments; what it prints is dropped.

    Raises:
        Wrong: it is no function, returns nothing or the placeholder, or raises.
    """
    return call_and_listen(function, *arguments, name=name)[0]


def call_and_listen(function: Any, *arguments: Any, name: str) -> tuple[Any, str]:
    """The same, and what it has printed.

    Raises:
        Wrong: as `call`.
    """
    if not callable(function):
        raise Wrong(
            f"`{name}` should be a function; it is {what(function).en}.",
            f"`{name}` 이름은 함수여야 합니다. 지금 값: {what(function).ko}.",
        )
    heard = io.StringIO()
    try:
        with contextlib.redirect_stdout(heard):
            returned = function(*map(_copy, arguments))
    except Exception as error:
        given = [what(one) for one in arguments]
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise Wrong(
            f"`{name}` raised an error for {' and '.join(one.en for one in given)}: {reason}",
            f"`{name}` 함수가 다음 입력에서 오류를 냈습니다: "
            f"{', '.join(one.ko for one in given)}. 오류: {reason}",
        ) from error
    if returned is ...:
        raise not_answered()
    if returned is None:
        raise Wrong(
            f"`{name}` returns None: is a `return` missing?",
            f"`{name}` 함수가 None을 돌려줍니다. `return`이 빠지지 않았는지 확인해 보십시오.",
        )
    return returned, heard.getvalue()


def check_printed(heard: str, expected: str, name: str) -> None:
    """Passes a function that has printed the line that the task asks for.

    Raises:
        Wrong: it has printed something else, or nothing.
    """
    lines = [line.strip() for line in heard.splitlines() if line.strip()]
    if expected in lines:
        return
    if not lines:
        raise Wrong(
            f"`{name}` returns the right thing, but prints nothing; expect `{expected}`.",
            f"`{name}` 함수의 반환값은 맞지만 아무것도 출력하지 않습니다. "
            f"기대하는 출력: `{expected}`",
        )
    raise Wrong(
        f"`{name}` returns the right thing, but prints `{lines[-1][:80]}`; expect `{expected}`.",
        f"`{name}` 함수의 반환값은 맞지만 출력이 `{lines[-1][:80]}`입니다. "
        f"기대하는 출력: `{expected}`",
    )


def is_near(value: Any, expected: Any, tolerance: float = 1e-4) -> bool:
    """Whether two arrays have one shape and the same numbers."""
    value, expected = np.asarray(value, dtype=float), np.asarray(expected, dtype=float)
    return value.shape == expected.shape and bool(np.allclose(value, expected, atol=tolerance))


def name_mistake(found: Any, mistakes: Sequence[tuple[Any, str, str]]) -> None:
    """Says which well-known mistake gives exactly what was found.

    Raises:
        Wrong: one of `mistakes`, each (what it gives, the sentence in English, in Korean), does.
    """
    for gives, en, ko in mistakes:
        if is_near(found, gives):
            raise Wrong(en, ko)


def failed(error: Exception, answers: Sequence[Any]) -> Wrong:
    """An answer so unexpected that looking at it raised an error."""
    got = [what(answer) for answer in answers]
    reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    return Wrong(
        f"your answer could not be checked ({reason}). You have given "
        f"{' and '.join(one.en for one in got)}: is that the kind of thing the task asks for?",
        f"답을 채점할 수 없었습니다({reason}). 제출한 답: {', '.join(one.ko for one in got)}. "
        "문제에서 요구한 종류의 값인지 확인해 보십시오.",
    )


def _copy(value: Any) -> Any:
    """So that a function that works in place does not spoil what others are given."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    return value.copy() if isinstance(value, np.ndarray | list) else value
