"""Checks of lesson 5, choose a token budget.

Right values are computed in NumPy, in float64; learners work in torch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from grader.phrases import Phrase, Right, Wrong, expect
from grader.values import as_number, as_numbers, call, is_near, name_mistake, number_from, to_torch


def exercise_1(cache_bytes: Any) -> Right:
    """`cache_bytes(tokens, layers, kv_heads, head_dim)`: keys and values in 16 bits."""
    given = (10, 3, 5, 7)
    got, right = number_from(cache_bytes, *given, name="cache_bytes"), 4 * 10 * 3 * 5 * 7
    mistakes = {
        "keys_only": right / 4,
        "half": right / 2,
        "bits": right * 8,
        "twice": right * 2,
        "squared": right * 10,
        "no_layers": right / 3,
        "no_heads": right / 5,
    }
    name_mistake(got, mistakes)
    expect(is_near(got, right), "wrong", given=given, got=got, right=right)
    return Right(cache_bytes)


def exercise_2(average_pool: Any) -> Right:
    """`average_pool(tokens, side, small)`: (B, side^2, D) to (B, small^2, D)."""
    rng = np.random.default_rng(2)
    b, d = 2, 5
    for side, small in ((6, 3), (6, 2)):
        tokens = rng.normal(size=(b, side**2, d))
        k, shape = side // small, (b, small**2, d)
        windows = tokens.reshape(b, small, k, small, k, d)
        right = windows.mean(axis=(2, 4)).reshape(shape)
        found = call(average_pool, to_torch(tokens), side, small, name="average_pool")
        got = as_numbers(found, "the result of `average_pool`")
        values = {"side": side, "small": small, "found": found, "got": got, "right": right}
        expect(got.shape != (b, small, small, d), "grid", **values)
        expect(got.shape == shape, "shape", **values)
        apart = tokens.reshape(b, k, small, k, small, d).mean(axis=(1, 3))
        by_columns = right.reshape(b, small, small, d).transpose(0, 2, 1, 3)
        mistakes = {
            "in_row": tokens.reshape(b, small**2, k * k, d).mean(axis=2),
            "far_apart": apart.reshape(shape),
            "rows_apart": tokens.reshape(b, k * k, small**2, d).mean(axis=1),
            "sum": right * k * k,
            "largest": windows.max(axis=(2, 4)).reshape(shape),
            "upper_left": windows[:, :, 0, :, 0].reshape(shape),
            "by_columns": by_columns.reshape(shape),
        }
        name_mistake(got, mistakes, k=k, n=k * k)
        expect(is_near(got, right), "wrong", last=k - 1, **values)
    return Right(average_pool)


def exercise_3(relative_error: Any) -> Right:
    """`relative_error(tokens, rebuilt)`: squared error over the variance about the mean token."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(3, 4, 5)) + rng.normal(size=5) + rng.normal(size=(3, 1, 1))
    y = x + 0.4 * rng.normal(size=x.shape)
    got = number_from(relative_error, to_torch(x), to_torch(y), name="relative_error")
    error, mean = np.square(y - x).sum(), x.mean(axis=(0, 1))

    def about(mean: Any) -> float:
        return float(np.square(x - mean).sum())

    right = error / about(mean)
    mistakes = {
        "root": np.sqrt(right),
        "squared_lengths": error / about(0),
        "one_mean": error / about(x.mean()),
        "per_picture": error / about(x.mean(axis=1, keepdims=True)),
        "per_place": error / about(x.mean(axis=0)),
        "last_axis": error / about(x.mean(axis=2, keepdims=True)),
        "mean_squared": error / x.size,
        "undivided": error,
        "explained": 1 - right,
        "absolute": np.abs(y - x).sum() / np.abs(x - mean).sum(),
        "of_rebuilt": error / np.square(y - y.mean(axis=(0, 1))).sum(),
    }
    name_mistake(got, mistakes)
    expect(is_near(got, right), "wrong", got=got, right=right)
    return Right(relative_error)


def exercise_4(smallest_budget: Any) -> Right:
    """`smallest_budget(scores, floor, full, most)`: of {tokens: score}, or None."""
    scores = {16: 0.97, 144: 1.0, 36: 0.985, 4: 0.9, 9: 0.94}
    found = _budget(smallest_budget, scores, 0.8, 1.0, 0.10)
    expect(found is not None, "none")
    got = as_number(found, "the budget")
    name_mistake(got, {"no_floor": 4, "most_tokens": 144, "too_much": 16, "score": 0.985})
    expect(is_near(got, 36), "wrong", got=got)
    for reason, expected, scores, floor, full, most in (
        ("exactly_most", 16, {16: 0.875, 4: 0.5, 36: 1.0}, 0.5, 1.0, 0.25),
        ("as_given", 4, {16: 0.3, 4: 0.28}, 0.2, 0.4, 0.6),
        ("no_budget", None, {16: 0.3, 4: 0.2}, 0.2, 1.0, 0.1),
    ):
        found = _budget(smallest_budget, scores, floor, full, most)
        if found is not None and expected is not None:
            found = as_number(found, "the budget")
        values = {"scores": scores, "floor": floor, "full": full, "most": most, "found": found}
        expect(found == expected, "other", expected=expected, reason=[Phrase(reason)], **values)
    return Right(smallest_budget)


def _budget(function: Any, *arguments: Any) -> Any:
    """The return value, also None; an empty list of candidates is a separate mistake."""
    returned: list[Any] = []

    def listening(*given: Any) -> Any:
        returned.append(function(*given))
        return 0 if returned[0] is None else returned[0]

    expect(callable(function), "no_function", name="smallest_budget", function=function)
    try:
        call(listening, *arguments, name="smallest_budget")
    except Wrong as wrong:
        raise (
            Wrong("raises") if "empty" in wrong.phrase.values.get("reason", "") else wrong
        ) from wrong
    return returned[0]


def exercise_5(paired_interval: Any) -> Right:
    """`paired_interval(a, b)`: both ends of the 95 % interval of the mean of a - b."""
    rng = np.random.default_rng(5)
    n = 12
    hard = rng.normal(size=n)
    a, b = hard + 0.3 * rng.normal(size=n) + 0.5, hard + 0.3 * rng.normal(size=n)
    found = call(paired_interval, to_torch(a), to_torch(b), name="paired_interval")
    is_row = isinstance(found, torch.Tensor | np.ndarray) and tuple(found.shape) == (2,)
    is_pair = isinstance(found, tuple | list) and len(found) == 2
    expect(is_row or is_pair, "two_numbers", found=found)
    got = np.array([as_number(end, "an end of the interval") for end in found])
    d, root = a - b, np.sqrt(n)
    middle, s = d.mean(), d.std(ddof=1)

    def ends(half: float, centre: float = middle) -> list[float]:
        return [centre - 1.96 * half, centre + 1.96 * half]

    right = ends(s / root)
    mistakes = {
        "no_root": ends(s),
        "by_n": ends(s / n),
        "unpaired": ends(np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / n)),
        "no_factor": ends(s / root / 1.96),
        "variance": ends(s**2 / root),
        "by_n_minus_1": ends(d.std() / root),
        "turned": ends(s / root, -middle),
        "ends_turned": right[::-1],
        "around_0": ends(s / root, 0.0),
    }
    values = {"got": got, "right": right, "n": n, "middle": middle, "s": s}
    name_mistake(got, mistakes, **values)
    expect(is_near(got, right, 1e-3), "wrong", **values)
    return Right(paired_interval)
