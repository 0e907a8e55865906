"""Zero-shot classification from embeddings: class vectors, probabilities, accuracy, confusion.

Pure functions of arrays. Letters: n images, c classes, d width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from encoderlab.core.results import Result
from encoderlab.core.score import Score, undefined, wilson
from encoderlab.metrics.matrix import Groups, group_numbers

ACCURACY = "share of images; Wilson interval"
BALANCED = "mean of the classes' recalls"


@dataclass(frozen=True)
class Classification(Result):
    """Accuracy of images whose class is known.

    Args:
        top1, top5: share of images whose class is the first, or among the first five.
        balanced: mean recall of the classes that have images.
        recall: of each class.
        confusion: `confusion[i, j]` counts images of class i that are predicted as class j.
    """

    top1: Score
    top5: Score
    balanced: Score
    recall: list[Score]
    confusion: Int[np.ndarray, "c c"]

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        return {**super().to_json(), "confusion": self.confusion.tolist()}


def class_vector(prompts: Float[np.ndarray, "p d"]) -> Float[np.ndarray, " d"]:
    """The vector of a class from the embeddings of its prompts (Radford et al. 2021, 3.1.4).

    Args:
        prompts: embeddings of the prompts of one class.

    Returns:
        The normalised mean of the normalised prompts.
    """
    unit = prompts / np.maximum(np.linalg.norm(prompts, axis=1, keepdims=True), 1e-12)
    mean = unit.mean(axis=0)
    return mean / max(float(np.linalg.norm(mean)), 1e-12)


def probabilities(
    image: Float[np.ndarray, "n d"], classes: Float[np.ndarray, "c d"], scale: float
) -> Float[np.ndarray, "n c"]:
    """Softmax of the scaled cosines, in float64.

    Args:
        image: unit vectors of images.
        classes: unit vectors of classes.
        scale: the factor on the cosines.

    Returns:
        Rows that sum to one.
    """
    logits = scale * (image.astype(np.float64) @ classes.astype(np.float64).T)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def ranking(scores: Float[np.ndarray, " c"], answer: int | None = None) -> Int[np.ndarray, " c"]:
    """The classes by decreasing score.

    Args:
        scores: of one image.
        answer: its class, placed after the classes that tie with it, so that a tie counts as wrong.

    Returns:
        Indices of classes, the best first.

    >>> ranking(np.array([0.2, 0.4, 0.4]), answer=1).tolist()
    [2, 1, 0]
    """
    is_answer = np.arange(len(scores)) == answer
    return np.lexsort((is_answer, -scores))


def classification(
    scores: Float[np.ndarray, "n c"],
    answer: Int[np.ndarray, " n"],
    groups: Groups | None = None,
) -> Classification:
    """Accuracy of taking the class with the largest score. A tie counts as wrong.

    Args:
        scores: of each class for each image.
        answer: the right class of each image.
        groups: the picture that each image shows; None where all are different. Copies count in the
            accuracy but add no evidence: intervals are those of the effective number of images,
            (sum of sizes)^2 / (sum of squared sizes) (Kish 1965).

    Returns:
        Accuracies in [0, 1]; `n` is the number of images.
    """
    n, c = scores.shape
    picture_of = group_numbers(groups, n)
    own = scores[np.arange(n), answer][:, None]
    rank = (scores >= own).sum(axis=1)  # the own score is included
    predicted = np.array(
        [ranking(row, right)[0] for row, right in zip(scores, answer, strict=True)]
    )
    confusion = np.zeros((c, c), dtype=np.int64)
    np.add.at(confusion, (answer, predicted), 1)
    counts = confusion.sum(axis=1)
    recall = [
        _share(int(confusion[i, i]), picture_of[answer == i], 1 / c)
        if counts[i]
        else undefined("no image of this class", 0, ACCURACY)
        for i in range(c)
    ]
    values = [float(score) for score in recall if score.value is not None]
    return Classification(
        top1=_share(int((rank <= 1).sum()), picture_of, 1 / c)
        if c > 1
        else undefined("there is only one class, so every answer is right", n, ACCURACY),
        top5=_share(int((rank <= 5).sum()), picture_of, 5 / c)
        if c > 5
        else undefined(f"there are only {c} classes", n, ACCURACY),
        balanced=Score(float(np.mean(values)), None, None, 1 / c, n, BALANCED),
        recall=recall,
        confusion=confusion,
    )


def _share(hits: int, picture_of: Int[np.ndarray, " n"], chance: float) -> Score:
    n, sizes = len(picture_of), np.unique(picture_of, return_counts=True)[1]
    effective = n**2 / float(np.square(sizes).sum())
    low, high = wilson(hits / n * effective, effective)
    name = ACCURACY if len(sizes) == n else f"{ACCURACY}; {len(sizes)} different images of {n}"
    return Score(hits / n, low, high, chance, n, name)
