"""Reads learners' answers of any type: their numbers, and what a function returns and prints.
Raises `Wrong` for an answer of the wrong kind.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from grader.phrases import Wrong, expect


def as_numbers(value: Any, name: str) -> np.ndarray:
    """The numbers of a tensor, an array, a list or a single number, in float64.

    Args:
        name: what both languages call it: code, such as `cosine(a, b)`, and no words.

    Raises:
        Wrong: there are none, or one is NaN or infinite.
    """
    try:
        plain = value.detach().cpu().double() if isinstance(value, torch.Tensor) else value
        found = np.asarray(plain)
        if found.dtype.kind not in "iuf":
            raise TypeError
        found = found.astype(np.float64)
    except (TypeError, ValueError, RuntimeError):
        raise Wrong("no_numbers", name=name, value=value) from None
    bad = int((~np.isfinite(found)).sum())
    expect(not bad, "not_finite", name=name, bad=bad, size=found.size)
    return found


def as_number(value: Any, name: str) -> float:
    """A single number, also from a tensor without axes.

    Raises:
        Wrong: it is none, or has an axis (the message `one_number`).
    """
    found = as_numbers(value, name)
    expect(not found.ndim, "one_number", name=name, found=value)
    return float(found)


def call(function: Any, *arguments: Any, name: str) -> Any:
    """The return value of a learner's function for copies of the arguments, without its output.

    Raises:
        Wrong: it is no function, returns nothing or the placeholder, or raises.
    """
    return call_and_listen(function, *arguments, name=name)[0]


def call_and_listen(function: Any, *arguments: Any, name: str) -> tuple[Any, str]:
    """The return value as in `call`, and the printed text.

    Raises:
        Wrong: as `call`.
    """
    expect(callable(function), "no_function", name=name, function=function)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            returned = function(*map(_copy, arguments))
    except Exception as error:
        raise Wrong("raised", name=name, given=arguments, reason=first_line(error)) from error
    if returned is ...:
        raise Wrong("not_answered", state="open")
    expect(returned is not None, "returns_none", name=name)
    return returned, printed.getvalue()


def number_from(function: Any, *arguments: Any, name: str) -> float:
    """The one number that a learner's function returns.

    Raises:
        Wrong: as `call` and `as_number`.
    """
    return as_number(call(function, *arguments, name=name), f"the result of `{name}`")


def numbers_from(function: Any, *arguments: Any, name: str) -> np.ndarray:
    """The numbers that a learner's function returns.

    Raises:
        Wrong: as `call` and `as_numbers`.
    """
    return as_numbers(call(function, *arguments, name=name), f"the result of `{name}`")


def check_printed(printed: str, expected: str, name: str) -> None:
    """Accepts a function that has printed the line that the task asks for.

    Raises:
        Wrong: it has printed something else, or nothing.
    """
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    expect(lines, "prints_nothing", name=name, expected=expected)
    is_there = expected in lines
    expect(is_there, "prints_other", name=name, expected=expected, printed=lines[-1][:80])


def is_near(value: Any, expected: Any, tolerance: float = 1e-4) -> bool:
    """Whether two arrays have one shape and the same numbers."""
    value, expected = np.asarray(value, dtype=float), np.asarray(expected, dtype=float)
    return value.shape == expected.shape and bool(np.allclose(value, expected, atol=tolerance))


def name_mistake(found: Any, mistakes: Mapping[str, Any], **values: Any) -> None:
    """Names the known mistake that gives exactly what was found.

    Args:
        mistakes: {key of the message: what the mistake gives, or a tuple of what it may give}.
        values: what fills the messages.

    Raises:
        Wrong: one of `mistakes` does.
    """
    for key, gives in mistakes.items():
        for one in gives if isinstance(gives, tuple) else (gives,):
            expect(not is_near(found, one), key, **values)


def unit(rows: np.ndarray) -> np.ndarray:
    """The vectors along the last axis, each divided by its length."""
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def to_torch(values: Any) -> torch.Tensor:
    """An array as the float32 tensor that a learner's function gets."""
    return torch.tensor(values).float()


def first_line(error: Exception) -> str:
    """The kind of an error and its first line."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


def _copy(value: Any) -> Any:
    """A copy, so that a function that works in place does not change the original."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    return value.copy() if isinstance(value, np.ndarray | list) else value
