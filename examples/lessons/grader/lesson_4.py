"""Checks of lesson 4, look inside the tokens.

Right values are computed in NumPy, in float64; learners work in torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from grader.phrases import Right, Wrong, expect
from grader.values import as_numbers, call, is_near, name_mistake, number_from, to_torch, unit

Array = np.ndarray


def exercise_1(count_tokens: Any) -> Right:
    """`count_tokens(height, width, patch)`: the patches of a picture and CLS."""
    for height, width, patch in ((224, 336, 14), (96, 96, 8), (100, 90, 8)):
        got = number_from(count_tokens, height, width, patch, name="count_tokens")
        rows, columns = height // patch, width // patch
        right = rows * columns + 1
        if is_near(got, right):
            continue
        values = {"size": f"{height} x {width}, {patch}", "got": got, "right": right}
        mistakes = {
            "patches_only": right - 1,
            "divided_once": height * width // patch + 1,
            "added": rows + columns + 1,
            "no_width": rows**2 + 1,
            "no_height": columns**2 + 1,
            "rounded_up": -(-height // patch) * -(-width // patch) + 1,
            "divided_at_once": (height * width) // patch**2 + 1,
        }
        name_mistake(got, mistakes, **values)
        raise Wrong("no_whole" if got != round(got) else "wrong", **values)
    return Right(count_tokens)


def exercise_2(to_grid: Any) -> Right:
    """`to_grid(tokens, height, width)`: (1 + H*W, D) with CLS first, to (H, W, D)."""
    rng = np.random.default_rng(2)
    h, w, d = 3, 4, 5
    n = 1 + h * w
    tokens = rng.normal(size=(n, d))
    try:
        found = call(to_grid, to_torch(tokens), h, w, name="to_grid")
    except Wrong as wrong:
        reason = wrong.phrase.values.get("reason", "")
        if f"input of size {tokens.size}" in reason or f"({n})" in reason:
            raise Wrong("cls_inside", n=n, h=h, w=w) from wrong
        raise
    got, right = as_numbers(found, "the map"), tokens[1:].reshape(h, w, d)
    values = {"found": found, "got": got, "expected": (h, w, d)}
    expect(got.shape != (w, h, d), "turned", **values)
    expect(got.shape != (d, h, w), "channels_first", **values)
    expect(got.shape == (h, w, d), "shape", **values)
    mistakes = {
        "last_dropped": tokens[:-1].reshape(h, w, d),
        "by_columns": tokens[1:].reshape(w, h, d).transpose(1, 0, 2),
        "scattered": tokens[1:].T.reshape(h, w, d),
        "upside_down": right[::-1],
        "mirrored": right[:, ::-1],
    }
    name_mistake(got, mistakes)
    expect(is_near(got, right), "wrong")
    return Right(to_grid)


def exercise_3(neighbour_cosines: Any) -> Right:
    """`neighbour_cosines(grid)`: of (H, W, D), (H, W - 1) and (H - 1, W)."""
    rng = np.random.default_rng(3)
    h, w, d = 3, 5, 6
    grid = rng.normal(size=(h, w, d)) * rng.uniform(0.5, 3, size=(h, w, 1))
    found = call(neighbour_cosines, to_torch(grid), name="neighbour_cosines")
    expect(isinstance(found, tuple | list) and len(found) == 2, "two_tensors", found=found)
    products: dict[str, Callable[[Array], Array]] = {
        "right": lambda grid: (grid[:, :-1] * grid[:, 1:]).sum(axis=-1),
        "down": lambda grid: (grid[:-1] * grid[1:]).sum(axis=-1),
    }
    for one, other, name in zip(found, ("down", "right"), products, strict=True):
        got, of = as_numbers(one, f"`{name}`"), products[name]
        expected, turned = of(unit(grid)), products[other](unit(grid))
        values = {"name": name, "got": got, "expected": expected, "h": h, "w": w}
        expect(not is_near(got, turned), "other_direction", **values)
        expect(got.shape != (h, w), "every_patch", **values)
        expect(got.shape != (*expected.shape, d), "not_summed", **values)
        expect(got.shape == expected.shape, "shape", **values)
        mistakes = {
            "dot_products": of(grid),
            "squared_lengths": of(grid / np.square(grid).sum(axis=-1, keepdims=True)),
            "wrong_axis": tuple(
                of(grid / np.linalg.norm(grid, axis=i, keepdims=True)) for i in (0, 1)
            ),
            "whole_grid": of(grid / np.linalg.norm(grid)),
            "distance": 1 - expected,
            "squares": expected**2,
        }
        name_mistake(got, mistakes)
        if not is_near(got, expected):
            i, j = (int(k) for k in np.unravel_index(np.abs(got - expected).argmax(), got.shape))
            partner = (i, j + 1) if name == "right" else (i + 1, j)
            cells = {"got": got[i, j], "expected": expected[i, j]}
            raise Wrong("wrong", name=name, i=i, j=j, partner=partner, **cells)
    return Right(neighbour_cosines)


def exercise_4(within: Any, between: Any) -> Right:
    """`within(tokens)` over pairs of different tokens, `between(tokens, others)` over all."""
    rng = np.random.default_rng(4)
    x, y = ((rng.normal(size=(n, 4)) + 0.7) * rng.uniform(0.5, 3, size=(n, 1)) for n in (6, 9))
    n, m = len(x), len(y)
    pairs = n * (n - 1)
    cosines, products = unit(x) @ unit(x).T, x @ x.T
    right = (cosines.sum() - n) / pairs
    got = number_from(within, to_torch(x), name="within")
    mistakes = {
        "with_itself": cosines.mean(),
        "number_of_pairs": (cosines.sum() - n) / n**2,
        "half": right / 2,
        "within_dot": (products.sum() - np.trace(products)) / pairs,
        "within_dot_itself": products.mean(),
        "next_only": np.diag(cosines, 1).mean(),
    }
    values = {"got": got, "right": right, "n": n, "others": n - 1}
    name_mistake(got, mistakes, **values)
    expect(is_near(got, right), "within_wrong", **values)
    got = number_from(between, to_torch(x), to_torch(y), name="between")
    across = unit(x) @ unit(y).T
    right = across.mean()
    mistakes = {
        "between_dot": (x @ y.T).mean(),
        "mean_tokens": unit(x.mean(axis=0)) @ unit(y.mean(axis=0)),
        "same_place": np.diag(across).mean(),
        "left_out": (across.sum() / (n * (m - 1)), (across.sum() - n) / (n * m)),
    }
    name_mistake(got, mistakes)
    expect(is_near(got, right), "between_wrong", got=got, right=right, n=n, m=m)
    return Right((within, between))


# Two pictures in which each condition of the rule finds tokens that the other does not.
_NARROW = np.r_[np.linspace(46, 54, 31), 70, 170, 200, 3]
_WIDE = np.r_[np.linspace(20, 80, 32), 100, 150, 260]


def exercise_5(outliers: Any, mean_without: Any) -> Right:
    """`outliers(lengths)` -> booleans; `mean_without(right, down, drop)` -> one number."""
    rng = np.random.default_rng(5)
    lengths = [rng.permutation(values).reshape(5, 7) for values in (_NARROW, _WIDE)]
    _check_outliers([_truth(outliers, one) for one in lengths], lengths)
    h, w = 3, 4
    right, down = rng.uniform(0.2, 0.6, (h, w - 1)), rng.uniform(0.5, 1, (h - 1, w))
    drop = np.zeros((h, w), dtype=bool)
    drop[1, 1:3] = True
    inputs = (to_torch(right), to_torch(down), torch.tensor(drop))
    got = number_from(mean_without, *inputs, name="mean_without")
    keep = ~drop

    def mean(across: Array, below: Array) -> float:
        return float(np.concatenate([right[across], down[below]]).mean())

    across, below = keep[:, :-1] & keep[:, 1:], keep[:-1] & keep[1:]
    expected, total = mean(across, below), right.size + down.size
    mistakes = {
        "nothing_left_out": (right.sum() + down.sum()) / total,
        "both_outliers": mean(keep[:, :-1] | keep[:, 1:], keep[:-1] | keep[1:]),
        "first_only": mean(keep[:, :-1], keep[:-1]),
        "second_only": mean(keep[:, 1:], keep[1:]),
        "mean_of_means": (right[across].mean() + down[below].mean()) / 2,
        "zeros": (right[across].sum() + down[below].sum()) / total,
        "mask": mean(~across, ~below),
        "right_only": right[across].mean(),
    }
    name_mistake(got, mistakes)
    n = int(across.sum() + below.sum())
    expect(is_near(got, expected), "wrong_mean", got=got, expected=expected, n=n, total=total)
    return Right((outliers, mean_without))


def _truth(outliers: Any, lengths: Array) -> Array:
    """The result of `outliers` for the lengths, as booleans of the same shape."""
    found = call(outliers, to_torch(lengths), name="outliers")
    is_bool = isinstance(found, torch.Tensor | np.ndarray) and found.dtype in (torch.bool, bool)
    got = as_numbers(found * 1 if is_bool else found, "the result of `outliers`")
    expect(got.shape == lengths.shape, "no_truth", found=found, shape=lengths.shape)
    expect(np.isin(got, (0, 1)).all(), "lengths")
    return got.astype(bool)


def _check_outliers(got: list[Array], lengths: list[Array]) -> None:
    """The mistake that explains the results for both pictures."""

    def rule(x: Array, factor: float = 1.4826) -> tuple[Array, Array]:
        middle, spread = _middle_and_spread(x, factor)
        return x > middle + 5 * spread, x > 1.5 * middle

    def explains(gives: Callable[[Array], Array]) -> bool:
        return all((a == gives(x)).all() for a, x in zip(got, lengths, strict=True))

    if explains(lambda x: np.logical_and(*rule(x))):
        return
    mistakes: tuple[tuple[str, Callable[[Array], Array]], ...] = (
        ("turned", lambda x: ~np.logical_and(*rule(x))),
        ("either", lambda x: np.logical_or(*rule(x))),
        ("no_median", lambda x: rule(x)[0]),
        ("no_deviation", lambda x: rule(x)[1]),
        ("no_factor", lambda x: np.logical_and(*rule(x, 1.0))),
        ("short", lambda x: np.abs(x - np.median(x)) > 5 * _middle_and_spread(x)[1]),
        ("by_mean", lambda x: (x > x.mean() + 5 * x.std()) & (x > 1.5 * x.mean())),
        ("by_mean", lambda x: x > x.mean() + 5 * x.std()),
    )
    for key, gives in mistakes:
        expect(not explains(gives), key)
    for one, values in zip(got, lengths, strict=True):
        expected = np.logical_and(*rule(values))
        shown = ", ".join(f"{length:.0f}" for length in values[one != expected][:3])
        numbers = {"n": one.sum(), "total": one.size, "right": expected.sum(), "shown": shown}
        m, s = _middle_and_spread(values)
        expect((one == expected).all(), "wrong_outliers", m=m, s=s, **numbers)


def _middle_and_spread(values: Array, factor: float = 1.4826) -> tuple[float, float]:
    """The median, and the scaled median of the distances to it."""

    def median(values: Array) -> float:
        # The lower of two middle values, as in torch.
        return float(np.sort(values, axis=None)[(values.size - 1) // 2])

    middle = median(values)
    return middle, factor * median(np.abs(values - middle))


def exercise_6(effective_rank: Any) -> Right:
    """`effective_rank(tokens)`: exp of the entropy of the shares of variance."""
    rng = np.random.default_rng(6)
    tokens = rng.normal(size=(9, 5)) * [3, 2, 1, 0.5, 0.2] + [4, 0, 0, 0, 1]

    def entropy(values: Array) -> float:
        shares = values / values.sum()
        return float(-(shares * np.log(shares)).sum())

    def singular(mean: Any) -> Array:
        values = np.linalg.svd(tokens - mean, compute_uv=False)
        return values[values > 1e-9]

    values, uncentred = singular(tokens.mean(axis=0)), singular(0)
    by_token = singular(tokens.mean(axis=1, keepdims=True))
    right = np.exp(entropy(values**2))
    got = number_from(effective_rank, to_torch(tokens), name="effective_rank")
    mistakes = {
        "entropy": entropy(values**2),
        "not_squared": np.exp(entropy(values)),
        "not_centred": np.exp(entropy(uncentred**2)),
        "not_centred_squared": np.exp(entropy(uncentred)),
        "by_token": np.exp(entropy(by_token**2)),
        "sign": np.exp(-entropy(values**2)),
        "base": np.exp(entropy(values**2) / np.log(2)),
        "squared_twice": np.exp(entropy(values**4)),
        "rank": len(values),
    }
    name_mistake(got, mistakes)
    expect(is_near(got, right, 1e-3), "wrong", n=len(tokens), got=got, right=right)
    line = torch.outer(torch.linspace(-1, 1, 8), torch.tensor([1.0, 2.0, 0.0]))
    try:
        flat = number_from(effective_rank, line, name="effective_rank")
    except Wrong as wrong:
        raise Wrong("zero_share") if "not_finite" in wrong.phrase.keys else wrong from wrong
    expect(is_near(flat, 1, 1e-2), "line", flat=flat)
    return Right(effective_rank)
