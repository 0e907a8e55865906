"""The functional probe: can a linear map carry this encoder's features into this LLM's?

Closed-form ridge regression, its penalty chosen inside the training folds, judged on held-out
samples: the cheap and honest answer. n samples, d_x and d_y widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from encoderlab.core.score import Score, undefined
from encoderlab.metrics.matrix import Groups, Matrix, group_numbers, pair
from encoderlab.metrics.retrieval import Part, Retrieval, retrieval_over
from encoderlab.metrics.uncertainty import jackknife_interval

FOLDS = 5
LEAST = 10
PENALTIES = np.logspace(-4, 6, 21)


@dataclass(frozen=True)
class RidgeProbe:
    """What a linear map predicts of samples it has not seen.

    Args:
        r2: 1 - squared error over the variance about the training mean; 0 for a map that ignores
            the image, negative for one that does harm.
        retrieval: the right text among the held-out ones of the fold, and the other way; None
            where r2 is undefined.
        residual, total: squared error and squared deviation of each sample (n,).
    """

    r2: Score
    retrieval: Retrieval | None
    residual: Float[np.ndarray, " n"] | None = None
    total: Float[np.ndarray, " n"] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "r2": self.r2.to_json(),
            "retrieval": None if self.retrieval is None else self.retrieval.to_json(),
        }


def ridge_probe(
    x: Matrix,
    y: Matrix,
    *,
    groups: Groups | None = None,
    texts: Sequence[str] | None = None,
    seed: int = 0,
) -> RidgeProbe:
    """Predicts y (n, d_y) from x (n, d_x) by nested cross-validation.

    Five folds; in each the penalty is the one with the least leave-one-out error on the other four
    (scikit-learn's RidgeCV). x is scaled to unit mean square, so that penalties mean the same for
    all encoders.

    Args:
        groups: a label per sample; those of a group share a fold, are right for each other in the
            retrieval, and are left out together for the interval.
        texts: the captions: equal ones are right for each other's images.

    Raises:
        UsageError: values that are not finite, other counts, or not one group label per sample.
    """
    left, right = (one.cpu().numpy() for one in pair(x, y))
    member = group_numbers(groups, len(left))
    n = int(member.max(initial=-1)) + 1
    over = "samples" if n == len(left) else f"{n} groups of {len(left)} samples"
    name = f"ridge map, nested {FOLDS}-fold cross-validation; jackknife over {over}"
    fold = folds(len(left), groups, seed)
    if n < LEAST or fold is None:
        reason = f"needs at least {LEAST} independent samples, and there are {n}"
        return RidgeProbe(undefined(reason, n, name), None)
    if not np.square(left).sum() or not np.square(right).sum():
        return RidgeProbe(undefined("the features are the same for every sample", n, name), None)
    predicted, baseline = _out_of_fold(left / np.sqrt(np.square(left).mean()), right, fold)
    residual = np.square(right - predicted).sum(axis=1)
    total = np.square(right - baseline).sum(axis=1)
    score = r2_score(residual, total, groups, name)
    parts = []
    for number in range(FOLDS):
        rows = np.flatnonzero(fold == number)
        # What both share is no information: the training mean goes before the cosine.
        parts.append(
            Part(
                predicted[rows] - baseline[rows],
                right[rows] - baseline[rows],
                group=member[rows],
                texts=None if texts is None else [texts[i] for i in rows.tolist()],
            )
        )
    return RidgeProbe(score, retrieval_over(parts), residual, total)


def r2_score(
    residual: Float[np.ndarray, " n"],
    total: Float[np.ndarray, " n"],
    groups: Groups | None,
    name: str,
) -> Score:
    """1 - sum of `residual` over sum of `total`, with the interval over samples or groups; `n`
    counts groups."""
    n = int(group_numbers(groups, len(residual)).max(initial=-1)) + 1
    if n < 2 or total.sum() <= 0:
        return undefined("nothing varies in the held-out samples", n, name)
    value, left_out = r2_without_each(residual, total, groups)
    low, high = jackknife_interval(value, left_out) or (None, None)
    return Score(value, low, high, 0.0, n, name)


def r2_without_each(
    residual: Float[np.ndarray, " n"],
    total: Float[np.ndarray, " n"],
    groups: Groups | None = None,
) -> tuple[float, Float[np.ndarray, " g"]]:
    """R2, and R2 without each sample or group."""
    part = group_numbers(groups, len(residual))
    e, t = np.bincount(part, residual), np.bincount(part, total)
    with np.errstate(divide="ignore", invalid="ignore"):
        left_out = 1 - (e.sum() - e) / (t.sum() - t)
    return float(1 - e.sum() / t.sum()), left_out


def folds(
    n: int, groups: Groups | None, seed: int, count: int = FOLDS
) -> Int[np.ndarray, " n"] | None:
    """A fold for every sample, groups kept together; None where there are fewer groups than
    folds."""
    labels = group_numbers(groups, n)
    members = int(labels.max(initial=-1)) + 1
    if members < count:
        return None
    place = np.empty(members, dtype=np.int64)
    place[np.random.default_rng(seed).permutation(members)] = np.arange(members) % count
    return place[labels]


def _out_of_fold(x: np.ndarray, y: np.ndarray, fold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(prediction, training mean) of every sample from the folds that it is not in."""
    from sklearn.linear_model import RidgeCV

    predicted, baseline = np.empty_like(y), np.empty_like(y)
    for number in range(FOLDS):
        test, train = fold == number, fold != number
        model = RidgeCV(alphas=PENALTIES * train.sum() * 1e-2).fit(x[train], y[train])
        predicted[test] = model.predict(x[test])
        baseline[test] = y[train].mean(axis=0)
    return predicted, baseline
