"""Zero-shot classification from embeddings: class vectors, probabilities, accuracy, confusion.

Pure functions of arrays. Letters: n images, c classes, d width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from encoderlab.metrics.score import Score, undefined, wilson

ACCURACY = "share of images; Wilson interval"
BALANCED = "mean of the classes' recalls"


@dataclass(frozen=True)
class Classification:
    """Accuracy of known answers: `confusion[i, j]` counts class i taken for class j."""

    top1: Score
    top5: Score
    balanced: Score
    recall: list[Score]
    confusion: Int[np.ndarray, "c c"]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "top1": self.top1.to_json(),
            "top5": self.top5.to_json(),
            "balanced": self.balanced.to_json(),
            "recall": [score.to_json() for score in self.recall],
            "confusion": self.confusion.tolist(),
        }


def class_vector(prompts: Float[np.ndarray, "p d"]) -> Float[np.ndarray, " d"]:
    """One class from its prompts: each normalised, averaged, normalised again (CLIP, 3.1.4)."""
    unit = prompts / np.maximum(np.linalg.norm(prompts, axis=1, keepdims=True), 1e-12)
    mean = unit.mean(axis=0)
    return mean / max(float(np.linalg.norm(mean)), 1e-12)


def probabilities(
    image: Float[np.ndarray, "n d"], classes: Float[np.ndarray, "c d"], scale: float
) -> Float[np.ndarray, "n c"]:
    """Softmax of the scaled cosines, in float64. Both sides are unit vectors."""
    logits = scale * (image.astype(np.float64) @ classes.astype(np.float64).T)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def ranking(scores: Float[np.ndarray, " c"], answer: int | None = None) -> Int[np.ndarray, " c"]:
    """The classes by decreasing score. The answer comes after the classes that tie with it: a tie
    counts against the model, whatever the order of the classes.

    >>> ranking(np.array([0.2, 0.4, 0.4]), answer=1).tolist()
    [2, 1, 0]
    """
    is_answer = np.arange(len(scores)) == answer
    return np.lexsort((is_answer, -scores))


def classification(
    scores: Float[np.ndarray, "n c"], answer: Int[np.ndarray, " n"]
) -> Classification:
    """How often the largest score is the answer's. A tie counts against the model. Rows are
    different images: the intervals take them as independent."""
    n, c = scores.shape
    own = scores[np.arange(n), answer][:, None]
    rank = (scores >= own).sum(axis=1)  # its own score is among them
    predicted = np.array(
        [ranking(row, right)[0] for row, right in zip(scores, answer, strict=True)]
    )
    confusion = np.zeros((c, c), dtype=np.int64)
    np.add.at(confusion, (answer, predicted), 1)
    counts = confusion.sum(axis=1)
    recall = [
        _share(int(confusion[i, i]), int(counts[i]), 1 / c)
        if counts[i]
        else undefined("no image of this class", 0, ACCURACY)
        for i in range(c)
    ]
    values = [float(score) for score in recall if score.value is not None]
    return Classification(
        top1=_share(int((rank <= 1).sum()), n, 1 / c)
        if c > 1
        else undefined("there is only one class, so every answer is right", n, ACCURACY),
        top5=_share(int((rank <= 5).sum()), n, 5 / c)
        if c > 5
        else undefined(f"there are only {c} classes", n, ACCURACY),
        balanced=Score(float(np.mean(values)), None, None, 1 / c, n, BALANCED),
        recall=recall,
        confusion=confusion,
    )


def _share(hits: int, n: int, chance: float) -> Score:
    low, high = wilson(hits, n)
    return Score(hits / n, low, high, chance, n, ACCURACY)
