"""Scores reconstructed tokens with the encoder: inserted at their layer, run through the rest.

With the true CLS, and as a hard variant with the data set's mean CLS, because CLS alone contains
much of the answer. Scores per image: zero-shot and image-to-text hits, and the cosine with the
embedding of all tokens. b images, n tokens, c channels, p width of the embedding.
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

BATCH = 32  # the hidden states of more images leave the cache of a CPU


@dataclass(frozen=True)
class Question:
    """A retrieval task: which candidate belongs to each image.

    Args:
        texts: (m, p), normalised embeddings of the candidates.
        answers: (b,), index of the correct one of each image.
    """

    texts: Float[Tensor, "m p"]
    answers: np.ndarray

    def hits(self, embeddings: Float[Tensor, "b p"]) -> Float[np.ndarray, " b"]:
        """1 where the correct candidate alone is the nearest, else 0; a tie is 0."""
        similarity = embeddings @ self.texts.T
        own = similarity.gather(1, torch.from_numpy(self.answers)[:, None])
        return ((similarity >= own).sum(dim=1) == 1).double().numpy()


class Reinjection:
    """Scores tokens by the embedding that the rest of the encoder computes from them.

    Args:
        encoder: the encoder of the tokens.
        layer: their hidden state.
        cls: (b, special, c), the special tokens of the measured images at that layer.
        mean_cls: (special, c), their mean over other images.
        full: (b, n, c), the original tokens.
        questions: task -> retrieval task.
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
        self._full = {hard: self._embed(full, hard) for hard in self.variants}

    @property
    def variants(self) -> tuple[bool, ...]:
        """Values of `hard`; an encoder without CLS has one variant."""
        return (False, True) if self.cls.shape[1] else (False,)

    def scores(self, patches: Float[Tensor, "b n c"]) -> dict[str, Float[np.ndarray, " b"]]:
        """Task -> score of every image; the hard variant's tasks end in "_hard"."""
        scores = {}
        for hard in self.variants:
            embeddings = self._embed(patches, hard)
            ending = "_hard" if hard else ""
            for task, question in self.questions.items():
                scores[task + ending] = question.hits(embeddings)
            cosine = (embeddings * self._full[hard]).sum(dim=1)
            scores["embedding" + ending] = cosine.double().numpy()
        return scores

    def _embed(self, patches: Float[Tensor, "b n c"], hard: bool) -> Float[Tensor, "b p"]:
        special = self.mean_cls.expand_as(self.cls) if hard else self.cls
        parts = [
            self.encoder.finish(torch.cat([cls, rest.to(cls)], dim=1), self.layer).float().cpu()
            for cls, rest in zip(special.split(BATCH), patches.split(BATCH), strict=True)
        ]
        return F.normalize(torch.cat(parts), dim=-1)
