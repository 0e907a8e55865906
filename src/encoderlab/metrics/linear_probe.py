"""The linear probe: accuracy of a linear classifier on frozen features, with its interval.

Pure functions of arrays. Letters: n rows, m test rows, d width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from encoderlab.core.score import Score, undefined, wilson
from encoderlab.errors import UsageError

FOLDS = 3


def linear_probe(
    features: Float[np.ndarray, "n d"],
    labels: Shaped[np.ndarray, " n"],
    test_features: Float[np.ndarray, "m d"],
    test_labels: Shaped[np.ndarray, " m"],
    strengths: Sequence[float] = (0.1, 1.0, 10.0),
) -> Score:
    """Accuracy of a logistic regression on standardised features (Alain & Bengio 2017).

    Args:
        features: one row per training image; interval and cross-validation take rows as
            independent.
        labels: the class of each training image.
        test_features: one row per test image.
        test_labels: the class of each test image.
        strengths: values of scikit-learn's C, one of which is chosen by cross-validation on the
            training rows.

    Returns:
        Accuracy in [0, 1] on the test rows with a Wilson interval; chance is that of the commonest
        training label.

    Raises:
        UsageError: a single class, no test row, or features and labels of different length.

    >>> x = np.array([[0.0], [1.0], [9.0], [10.0]])
    >>> linear_probe(x, np.array(list("aabb")), x, np.array(list("aabb"))).value
    1.0
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    if len(features) != len(labels) or len(test_features) != len(test_labels):
        raise UsageError(
            "features and labels do not match",
            got=f"{len(features)} and {len(labels)}, {len(test_features)} and {len(test_labels)}",
        )
    if len(set(labels.tolist())) < 2 or not len(test_labels):
        raise UsageError(
            "a probe needs two classes and something to test on",
            got=f"{len(set(labels.tolist()))} classes, {len(test_labels)} test rows",
        )
    rarest = min(Counter(labels.tolist()).values())
    chosen = strengths[len(strengths) // 2]
    if rarest >= FOLDS and len(strengths) > 1:
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
        accuracy = [
            cross_val_score(_probe(strength), features, labels, cv=folds).mean()
            for strength in strengths
        ]
        chosen = strengths[int(np.argmax(accuracy))]
    commonest = Counter(labels.tolist()).most_common(1)[0][0]
    n, estimator = len(test_labels), f"logistic regression, C={chosen:g}, on held-out rows"
    if set(test_labels.tolist()) == {commonest}:
        reason = f"all {n} test rows have the commonest label, so guessing it is always right"
        return undefined(reason, n, estimator)
    right = _probe(chosen).fit(features, labels).predict(test_features) == test_labels
    return Score(
        float(np.mean(right)),
        *wilson(float(right.sum()), n),
        chance=float(np.mean(test_labels == commonest)),
        n=n,
        estimator=f"{estimator}; Wilson interval",
    )


def _probe(strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, solver="newton-cg"))
