"""Checks of lesson 2, train your own CLIP.

Right values are computed in NumPy, in float64; learners work in torch.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.special import log_softmax, softmax

from grader.phrases import Right, Wrong, expect
from grader.values import (
    as_number,
    as_numbers,
    call,
    is_near,
    name_mistake,
    number_from,
    to_torch,
    unit,
)


def exercise_1(clip_loss: Any) -> Right:
    """`clip_loss(image, text, scale)` of unit rows (N, D): the mean of both cross-entropies."""
    rng = np.random.default_rng(1)
    n, scale = 5, 10.0
    x, y = (unit(rng.normal(size=(n, 4))) for _ in range(2))
    image = to_torch(x).requires_grad_()
    found = call(clip_loss, image, to_torch(y), torch.tensor(scale), name="clip_loss")
    logits = scale * x @ y.T
    rows, columns = _one_way(logits), _one_way(logits.T)
    right = (rows + columns) / 2
    got = as_number(found, "`clip_loss(...)`")
    mistakes = {
        "one_direction": rows,
        "other_direction": columns,
        "both_directions": rows + columns,
        "sum_over_batch": right * n,
        "sign": -right,
        "no_scale": _both_ways(x @ y.T),
        "divided_by_scale": _both_ways(x @ y.T / scale),
        "exp_of_scale": _both_ways(math.exp(scale) * x @ y.T),
        "softmax_twice": (_one_way(softmax(logits, 1)) + _one_way(softmax(logits.T, 1))) / 2,
        "no_logarithm": -np.trace(softmax(logits, 1) + softmax(logits, 0)) / (2 * n),
    }
    name_mistake(got, mistakes, n=n)
    expect(is_near(got, right, 1e-3), "wrong", n=n, got=got, right=right)
    expect(isinstance(found, torch.Tensor) and found.requires_grad, "no_gradient")
    same = torch.full((8, 4), 0.5)
    flat = number_from(clip_loss, same, same, torch.tensor(scale), name="clip_loss")
    expect(is_near(flat, math.log(8), 1e-3), "batch_size", n=n, flat=flat, ln8=math.log(8))
    return Right(clip_loss)


def _one_way(logits: np.ndarray) -> float:
    """Cross-entropy of the rows, the diagonal being right."""
    return float(-np.diag(log_softmax(logits, 1)).mean())


def _both_ways(logits: np.ndarray) -> float:
    return (_one_way(logits) + _one_way(logits.T)) / 2


def exercise_2(chance_loss: Any, *, BATCH: int) -> Right:
    """The loss of a model that gives every caption of a batch the same probability."""
    got, right = as_number(chance_loss, "`chance_loss`"), math.log(BATCH)
    mistakes = {
        "base_2": math.log2(BATCH),
        "base_10": math.log10(BATCH),
        "probability": 1 / BATCH,
        "sign": -right,
        "both_directions": 2 * right,
    }
    name_mistake(got, mistakes, got=got, batch_size=BATCH)
    expect(is_near(got, right, 5e-3), "wrong", got=got, batch_size=BATCH)
    return Right(right=right, batch_size=BATCH)


def exercise_3(split: Any, *, pairs: Sequence[Any], share: float) -> Right:
    """`split(pairs, share)`: train and held-out pairs, each picture on one side."""
    mixed = random.Random(1).sample(list(pairs), len(pairs))
    _check_split(call(split, mixed, share, name="split"), mixed, share)
    found = call(split, list(pairs), share, name="split")
    _check_split(found, pairs, share)
    train, held_out = (list(part) for part in found)
    return Right((train, held_out), n_train=len(train), n_held_out=len(held_out))


def _check_split(found: Any, pairs: Sequence[Any], share: float) -> None:
    expect(isinstance(found, tuple | list) and len(found) == 2, "two_lists", found=found)
    try:
        train, held_out = ([(one.picture, one.caption) for one in part] for part in found)
    except (AttributeError, TypeError):
        try:
            first = next(iter(found[0]))
        except (TypeError, StopIteration):
            first = found[0]
        raise Wrong("no_pairs", first=first) from None
    n_train, n_held_out = len(train), len(held_out)
    expect(train and held_out, "one_side_empty", n_train=n_train, n_held_out=n_held_out)
    held = {number for number, _ in held_out}
    if both := held & {number for number, _ in train}:
        raise Wrong("leak", n_both=len(both), n_held_out=len(held), example=min(both))
    everything = sorted((one.picture, one.caption) for one in pairs)
    is_whole = sorted([*train, *held_out]) == everything
    expect(is_whole, "lost_pairs", total=len(everything), n=n_train + n_held_out)
    got = len(held) / len({number for number, _ in everything})
    expect(abs(got - (1 - share)) >= 0.05, "turned", got=got)
    expect(abs(got - share) <= 0.05, "share", got=got, share=share)


def exercise_4(recall_at_k: Any) -> Right:
    """`recall_at_k(similarity, k)`: share of rows whose diagonal is among the k largest."""
    rng = np.random.default_rng(3)
    n = 20
    scores = rng.normal(size=(n, n)) + 1.2 * np.eye(n)

    def recall(matrix: np.ndarray, k: int) -> float:
        return float(((matrix > np.diag(matrix)[:, None]).sum(axis=1) < k).mean())

    for k in (1, 5):
        right, turned = recall(scores, k), recall(scores.T, k)
        found = call(recall_at_k, to_torch(scores), k, name="recall_at_k")
        got = as_numbers(found, "`recall_at_k(...)`")
        expect(got.shape != (n,), "per_row", n=n)
        expect(not got.ndim, "one_number", found=found)
        values = {"n": n, "k": k, "got": got, "right": right}
        mistakes = {"count": right * n, "percent": right * 100, "misses": 1 - right}
        name_mistake(got, mistakes, **values)
        expect(not is_near(got, turned) or is_near(turned, right), "columns", **values)
        expect(k == 1 or not is_near(got, recall(scores, 1)), "ignores_k", **values)
        expect(is_near(got, right), "wrong", **values)
    return Right(recall_at_k)


def exercise_5(zero_shot: Any) -> Right:
    """`zero_shot(image_vectors, class_vectors)`: of (N, D) and (K, D), N positions."""
    rng = np.random.default_rng(5)
    n, classes, d = 7, 3, 6
    x, y = unit(rng.normal(size=(n, d))), unit(rng.normal(size=(classes, d)))
    cosines = x @ y.T
    right = cosines.argmax(axis=1)
    found = call(zero_shot, to_torch(x), to_torch(y), name="zero_shot")
    got = as_numbers(found, "`zero_shot(...)`")
    values = {"n": n, "classes": classes, "found": found, "got": got}
    expect(got.shape not in ((classes,), (1, classes)), "per_class", **values)
    expect(got.shape not in ((n, classes), (classes, n)), "scores", **values)
    expect(got.shape == (n,), "shape", **values)
    mistakes = {
        "cosines": cosines.max(axis=1),
        "from_1": right + 1,
        "worst": cosines.argmin(axis=1),
    }
    name_mistake(got, mistakes)
    if not is_near(got, right):
        i = int(np.flatnonzero(got != right)[0])
        cosine = cosines[i, right[i]]
        raise Wrong("wrong", i=i, right=right[i], cosine=cosine, got=float(got[i]))
    return Right(zero_shot)
