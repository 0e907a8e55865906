"""Checks of lesson 6, judge an encoder by answers.

Right values are computed in NumPy and SciPy, in float64.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import rankdata, spearmanr

from grader.phrases import Right, Wrong, expect
from grader.values import as_number, call, is_near, name_mistake, number_from, to_torch

IGNORED = -100


def exercise_1(answer_loss: Any) -> Right:
    """`answer_loss(logits, labels)`: the mean over all labels that are tokens, in nats."""
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(3, 4, 6)) * 2
    labels = np.array([[IGNORED, IGNORED, IGNORED, 2], [1, 5, 3, 2], [IGNORED, 4, 0, 2]])
    given = to_torch(logits).requires_grad_(), torch.tensor(labels)
    found = call(answer_loss, *given, name="answer_loss")
    got = as_number(found, "`answer_loss(...)`")
    is_token = labels != IGNORED
    rows, columns = np.nonzero(np.ones_like(labels))
    filled = np.where(is_token, labels, 0)

    def losses(logs: np.ndarray) -> np.ndarray:
        return -logs[rows, columns, filled.ravel()].reshape(labels.shape)

    logs = log_softmax(logits, axis=-1)
    each, n = losses(logs), int(is_token.sum())
    right, plain = each[is_token].mean(), losses(softmax(logits, axis=-1))[is_token].mean()
    shifted = losses(np.roll(logs, 1, axis=1))
    by_answer = (each * is_token).sum(axis=1) / is_token.sum(axis=1)
    mistakes = {
        "sum": right * n,
        "counts_padding": each.mean(),
        "divides_by_all": (each * is_token).sum() / labels.size,
        "per_answer": by_answer.mean(),
        "per_row": right * n / len(labels),
        "sign": -right,
        "softmax_twice": losses(log_softmax(softmax(logits, axis=-1), axis=-1))[is_token].mean(),
        "no_logarithm": (plain, 1 + plain),
        "shifted": (shifted[:, 1:][is_token[:, 1:]].mean(), shifted[is_token].mean()),
        "perplexity": math.exp(right),
    }
    name_mistake(got, mistakes, n=n)
    expect(is_near(got, right, 1e-3), "wrong", got=got, right=right, n=n)
    expect(isinstance(found, torch.Tensor) and found.requires_grad, "no_gradient")
    return Right(answer_loss)


def exercise_2(most_common: Any) -> Right:
    """`most_common(questions, answers)`: question -> its most common answer; "" -> that of all."""
    rows = [
        ("How many?", "2"), ("How many?", "3"), ("Which colour?", "red"), ("How many?", "3"),
        ("Which colour?", "red"), ("Which colour?", "blue"), ("Is it red?", "no"),
        ("Which colour?", "red"),
    ]  # fmt: skip
    questions, answers = map(list, zip(*rows, strict=True))
    found = call(most_common, questions, answers, name="most_common")
    expect(isinstance(found, dict), "no_dictionary", found=found)
    right = {"How many?": "3", "Which colour?": "red", "Is it red?": "no", "": "red"}
    missing = [question for question in right if question not in found]
    expect(missing != [""], "no_default")
    expect(not missing, "missing", question=missing[0] if missing else "")
    expect(
        any(found[question] != right[""] for question in right), "same_for_all", answer=right[""]
    )
    for question, expected in right.items():
        got = found[question]
        values = {"question": question, "got": got, "expected": expected}
        expect(not isinstance(got, tuple | list | dict), "not_a_text", **values)
        expect(got == expected, "wrong", **values)
    return Right(most_common)


def exercise_3(share_between: Any) -> Right:
    """`share_between(right, blind)`: (right - blind) / (1 - blind)."""
    a, b = 0.7, 0.2
    got = number_from(share_between, a, b, name="share_between")
    right = (a - b) / (1 - b)
    mistakes = {
        "difference": a - b,
        "ratio": a / b,
        "relative": (a - b) / b,
        "of_right": ((a - b) / a, (a - b) / (1 - a)),
        "turned": (b - a) / (1 - a),
        "left": 1 - right,
        "percent": 100 * right,
    }
    name_mistake(got, mistakes, a=a, b=b, got=got)
    expect(is_near(got, right), "wrong", a=a, b=b, got=got, right=right)
    below = number_from(share_between, 0.1, 0.2, name="share_between")
    expect(is_near(below, -0.125), "below", below=below)
    return Right(share_between)


def exercise_4(noise_ceiling: Any) -> Right:
    """`noise_ceiling(by_seed)` of (encoders, seeds): mean Spearman over pairs of seeds."""
    shares = np.array(
        [[0.50, 0.42, 0.47], [0.44, 0.70, 0.48], [0.30, 0.25, 0.52], [0.20, 0.22, 0.15],
         [0.33, 0.31, 0.11]]
    )  # fmt: skip
    seeds = shares.shape[1]
    got = number_from(noise_ceiling, shares, name="noise_ceiling")

    def mean(values: np.ndarray, pairs: Any) -> float:
        return float(np.mean([np.corrcoef(values[a], values[b])[0, 1] for a, b in pairs]))

    ranks, apart = rankdata(shares, axis=0).T, [*itertools.combinations(range(seeds), 2)]
    right = float(np.mean([spearmanr(shares[:, a], shares[:, b]).statistic for a, b in apart]))
    of_encoders = rankdata(shares, axis=1)
    mistakes = {
        "pearson": mean(shares.T, apart),
        "with_itself": mean(ranks, itertools.product(range(seeds), repeat=2)),
        "first_two": mean(ranks, [(0, 1)]),
        "one_argsort": mean(shares.T.argsort(axis=1), apart),
        "between_encoders": mean(of_encoders, itertools.combinations(range(len(shares)), 2)),
        "sum": right * len(apart),
    }
    name_mistake(got, mistakes, seeds=seeds, pairs=len(apart))
    expect(is_near(got, right), "wrong", got=got, right=right, pairs=len(apart))
    return Right(noise_ceiling)


def exercise_5(encoders_needed: Any) -> Right:
    """`encoders_needed(metrics, level)`: the smallest n with metrics * 2 / n! <= level."""

    def smallest(metrics: int, level: float, sides: int = 2) -> int:
        return next(n for n in itertools.count(1) if metrics * sides / math.factorial(n) <= level)

    for metrics, level in ((3, 0.06), (40, 0.01)):
        got = number_from(encoders_needed, metrics, level, name="encoders_needed")
        right = smallest(metrics, level)
        p = metrics * 2 / math.factorial(right)
        values = {"metrics": metrics, "level": level, "got": got, "right": right, "p": p}
        if is_near(got, right):
            continue
        if got in (p, 2 / math.factorial(right)):
            raise Wrong("p_itself", **values)
        mistakes = {
            "uncorrected": smallest(1, level),
            "one_sided": smallest(metrics, level, 1),
            "one_less": right - 1,
            "one_more": right + 1,
        }
        name_mistake(got, mistakes, **values)
        raise Wrong("wrong", **values)
    exact = number_from(encoders_needed, 3, 0.25, name="encoders_needed")
    expect(is_near(exact, 4), "exactly", got=exact)
    return Right(encoders_needed)
