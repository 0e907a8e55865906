"""How near sentences that no image shows come to images: whether a query fits any of them.

An image that the model does not know may lie near to every sentence. The cosine of a query is
therefore compared with those of the unrelated sentences with the same image.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, eq=False)
class Unrelated:
    """Unrelated sentences and the images of an index.

    Args:
        images: number of images in the index.
        sentences: unit vectors of the sentences.
        reached: z of each sentence with its nearest image, ascending.
    """

    images: int
    sentences: Float[np.ndarray, "s d"]
    reached: Float[np.ndarray, " s"]

    @classmethod
    def measured(
        cls,
        images: int,
        sentences: Float[np.ndarray, "s d"],
        cosines: Float[np.ndarray, " s"],
        nearest: Float[np.ndarray, "s d"],
    ) -> Unrelated:
        """From the nearest image of each sentence.

        Args:
            images: number of images in the index.
            sentences: unit vectors.
            cosines: of each sentence with its nearest image.
            nearest: unit vectors of these images.

        Returns:
            What a query is compared with.
        """
        return cls(images, sentences, np.sort(_z(sentences, cosines, nearest)))

    def z(self, cosine: float, image: Float[np.ndarray, " d"]) -> float:
        """Of a query, beside the unrelated sentences with the same image.

        Args:
            cosine: of the query with the image.
            image: its unit vector.

        Returns:
            Standard deviations above the mean of the sentences' cosines.
        """
        return float(_z(self.sentences, np.array([cosine]), image[None])[0])

    def share(self, z: float) -> float:
        """Share of the sentences whose nearest image is as near, in [0, 1]."""
        return float((self.reached >= z).mean())

    def to_json(self) -> dict[str, Any]:
        """What index.json holds."""
        half = base64.b64encode(self.sentences.astype("<f2").tobytes()).decode()
        reached = [round(float(z), 4) for z in self.reached]
        return {"images": self.images, "reached": reached, "sentences": half}

    @classmethod
    def from_json(cls, record: dict[str, Any], dim: int) -> Unrelated:
        """What `to_json` wrote.

        Args:
            record: of index.json.
            dim: numbers per vector.

        Returns:
            The same, with sentences of half precision.

        Raises:
            ValueError: it is damaged.
        """
        half = np.frombuffer(base64.b64decode(record["sentences"], validate=True), "<f2")
        sentences = half.astype(np.float32).reshape(-1, dim)
        reached = np.array(record["reached"], dtype=np.float64)
        if reached.shape != sentences.shape[:1] or not np.isfinite(reached).all():
            raise ValueError("the unrelated sentences and their values do not fit together")
        return cls(int(record["images"]), sentences, reached)


def _z(sentences: np.ndarray, cosines: np.ndarray, images: np.ndarray) -> np.ndarray:
    of_unrelated = images @ sentences.T
    spread = np.maximum(of_unrelated.std(axis=1), 1e-6)
    return (cosines - of_unrelated.mean(axis=1)) / spread
