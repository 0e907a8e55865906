"""What the encoder itself makes of rebuilt tokens: put back at their layer, run on to the end.

With the true CLS, and as a hard variant with the data set's mean CLS: CLS already carries much of
the answer. Scores per image: zero-shot and image-to-text hits, and the cosine to the embedding that
all tokens give. b images, n tokens, c channels, p width of the embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from encoderlab.encoders.vision import VisionEncoder

BATCH = 128
TASKS = {
    "retrieval": "image to text, first hit",
    "zero_shot": "zero-shot class, first hit",
    "embedding": "cosine to the embedding that all tokens give",
}


@dataclass(frozen=True)
class Question:
    """What embeddings are asked: which of the candidates is each image's.

    Args:
        texts: (m, p), normalised embeddings of the candidates.
        answers: (b,), the right one of each image.
    """

    texts: Float[Tensor, "m p"]
    answers: np.ndarray

    def hits(self, embeddings: Float[Tensor, "b p"]) -> Float[np.ndarray, " b"]:
        """1 where the right candidate alone is the nearest; ties count against."""
        similarity = embeddings @ self.texts.T
        own = similarity.gather(1, torch.from_numpy(self.answers)[:, None])
        return ((similarity >= own).sum(dim=1) == 1).double().numpy()


class Reinjection:
    """The rest of an encoder as a measure of tokens.

    Args:
        cls: (b, special, c), the special tokens of the measured images at that layer.
        mean_cls: (special, c), their mean over other images.
        full: (b, n, c), the tokens as they are.
        questions: task -> what is asked of the embeddings.
    """

    def __init__(
        self,
        encoder: VisionEncoder,
        layer: int,
        cls: Float[Tensor, "b special c"],
        mean_cls: Float[Tensor, "special c"],
        full: Float[Tensor, "b n c"],
        questions: Mapping[str, Question],
    ) -> None:
        self.encoder, self.layer, self.cls, self.mean_cls = encoder, layer, cls, mean_cls
        self.questions = questions
        self._truth = {hard: self._embedded(full, hard) for hard in self.variants}

    @property
    def variants(self) -> tuple[bool, ...]:
        """Without and with the hard variant; an encoder without CLS is hard by itself."""
        return (False, True) if self.cls.shape[1] else (False,)

    def scores(self, patches: Float[Tensor, "b n c"]) -> dict[str, Float[np.ndarray, " b"]]:
        """Task -> score of every image; the hard variant's tasks end in "_hard"."""
        found = {}
        for hard in self.variants:
            embeddings = self._embedded(patches, hard)
            ending = "_hard" if hard else ""
            for task, question in self.questions.items():
                found[task + ending] = question.hits(embeddings)
            near = (embeddings * self._truth[hard]).sum(dim=1)
            found["embedding" + ending] = near.double().numpy()
        return found

    def _embedded(self, patches: Float[Tensor, "b n c"], hard: bool) -> Float[Tensor, "b p"]:
        special = self.mean_cls.expand_as(self.cls) if hard else self.cls
        parts = [
            self.encoder.finish(torch.cat([some, rest.to(some)], dim=1), self.layer).float().cpu()
            for some, rest in zip(special.split(BATCH), patches.split(BATCH), strict=True)
        ]
        return F.normalize(torch.cat(parts), dim=-1)
