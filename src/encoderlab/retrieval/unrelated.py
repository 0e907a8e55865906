"""How near sentences that no image shows come to images: whether a query fits any of them.

Two comparisons, since each has a blind spot. By cosine, an image that the model does not know may
lie near to every sentence. By z, the cosine beside those of the unrelated sentences with the same
image, an image on which these differ much hides a query that fits it.
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
        cosines, zs: of each sentence with its nearest image.
    """

    images: int
    sentences: Float[np.ndarray, "s d"]
    cosines: Float[np.ndarray, " s"]
    zs: Float[np.ndarray, " s"]

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
        return cls(images, sentences, cosines, _z(sentences, cosines, nearest))

    def z(self, cosine: float, image: Float[np.ndarray, " d"]) -> float:
        """Of a query, beside the unrelated sentences with the same image.

        Args:
            cosine: of the query with the image.
            image: its unit vector.

        Returns:
            Standard deviations above the mean of the sentences' cosines.
        """
        return float(_z(self.sentences, np.array([cosine]), image[None])[0])

    def shares(self, cosine: float, image: Float[np.ndarray, " d"]) -> tuple[float, float]:
        """How many sentences reach with their nearest image what a query does.

        Args:
            cosine: of the query with the image.
            image: its unit vector.

        Returns:
            Shares in [0, 1]: by cosine, and by z.
        """
        z = self.z(cosine, image)
        return float((self.cosines >= cosine).mean()), float((self.zs >= z).mean())

    def to_json(self) -> dict[str, Any]:
        """What index.json holds."""
        half = base64.b64encode(self.sentences.astype("<f2").tobytes()).decode()
        cosines, zs = ([round(float(x), 4) for x in of] for of in (self.cosines, self.zs))
        return {"images": self.images, "cosines": cosines, "zs": zs, "sentences": half}

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
        cosines, zs = (np.array(record[name], dtype=np.float64) for name in ("cosines", "zs"))
        if not len(sentences) == len(cosines) == len(zs):
            raise ValueError("the unrelated sentences and their values do not fit together")
        return cls(int(record["images"]), sentences, cosines, zs)


def _z(sentences: np.ndarray, cosines: np.ndarray, images: np.ndarray) -> np.ndarray:
    of_unrelated = images @ sentences.T
    spread = np.maximum(of_unrelated.std(axis=1), 1e-6)
    return (cosines - of_unrelated.mean(axis=1)) / spread
