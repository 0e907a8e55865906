"""The loss of a compressor through a frozen VLM: how likely the right answers are.

The VLM answers from the rebuilt tokens of a question's image; gradients flow through its language
model and projector to the tokens. b questions, n tokens, c channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from encoderlab.compression.answers import answering_vlm
from encoderlab.compression.settings import Compress
from encoderlab.data.digests import digest_of
from encoderlab.encoders.vision import VisionEncoder
from encoderlab.feature_store.pipeline import batches_of
from encoderlab.metrics.answers import exact_match
from encoderlab.vlm.model import VLM
from encoderlab.vlm.prompt import IGNORED
from encoderlab.vlm.questions import Question
from encoderlab.vlm.settings import VlmTrain
from encoderlab.vlm.train import read_train_questions
from encoderlab.vlm.trainer import ANSWERED_TOGETHER, VisionTokens, answer_all

Rebuild = Callable[[Float[Tensor, "b n c"]], Float[Tensor, "b n c"]]


class AskedTokens(VisionTokens):
    """The tokens of the images of questions as a `TokenSource`: a row is a question."""

    def __len__(self) -> int:
        return len(self.questions)

    def batch(self, indices: Sequence[int]) -> Float[Tensor, "b n c"]:
        """The tokens of the images of some questions."""
        return self.of(indices)

    def fingerprint(self) -> str:
        """A digest of the questions, their answers and images."""
        return self.digest()


@dataclass(frozen=True)
class _Rebuilt:
    """The input of `answer_all`: the questions, and rebuilt tokens of their images."""

    source: AskedTokens
    rebuild: Rebuild

    @property
    def questions(self) -> Sequence[Question]:
        return self.source.questions

    def of(self, rows: Sequence[int]) -> Float[Tensor, "b n c"]:
        return self.rebuild(self.source.of(rows))


class AnswerLoss:
    """The negative log-likelihood that a frozen VLM gives the right answers.

    Args:
        vlm: becomes frozen and fp32.
        train: questions to train on.
        validation: held-out questions.
    """

    def __init__(self, vlm: VLM, train: AskedTokens, validation: AskedTokens) -> None:
        self.vlm = vlm.requires_grad_(False).float().eval()
        self.train, self.validation = train, validation

    @classmethod
    def of(
        cls,
        encoder: VisionEncoder,
        layer: int,
        settings: Compress,
        train: Sequence[Question],
        validation: Sequence[Question],
    ) -> AnswerLoss:
        """The loss of the settings.

        Args:
            encoder: of the compressed tokens.
            layer: of the compressed tokens.
            settings: name the VLM and the feature store.
            train: questions to train on.
            validation: held-out questions.

        Returns:
            The loss.

        Raises:
            UsageError: the VLM has another encoder or layer, or reduces the tokens itself; no image
                can be read.
            MissingError: the VLM is not there.
        """
        name, store = str(settings.evaluation.answers), settings.data.store
        vlm = answering_vlm(name, encoder, layer, settings.trust_remote_code)
        return cls(vlm, AskedTokens(vlm, train, store), AskedTokens(vlm, validation, store))

    def __call__(
        self, decoded: Float[Tensor, "b n c"], rows: Sequence[int]
    ) -> tuple[Float[Tensor, ""], int]:
        """The loss of some training questions.

        Args:
            decoded: rebuilt tokens of the image of each.
            rows: their numbers.

        Returns:
            The sum of the negative log-likelihoods of the answers' tokens, in nats, and the number
            of these tokens.
        """
        return self._loss(decoded, [self.train.questions[row] for row in rows])

    @torch.no_grad()
    def measure(self, rebuild: Rebuild) -> dict[str, float]:
        """Metrics of the held-out questions.

        Args:
            rebuild: gives the rebuilt tokens of full grids of tokens.

        Returns:
            "answer_nll", in nats per answer token; and "answers", the share of right answers (exact
            match).
        """
        shown, total, count = _Rebuilt(self.validation, rebuild), 0.0, 0
        for part in batches_of(list(range(len(shown.questions))), ANSWERED_TOGETHER):
            loss, tokens = self._loss(shown.of(part), [shown.questions[row] for row in part])
            total, count = total + float(loss), count + tokens
        data: Any = shown
        texts = answer_all(self.vlm, data)
        right = [
            exact_match(text, question.answers)
            for text, question in zip(texts, shown.questions, strict=True)
        ]
        return {"answer_nll": total / count, "answers": float(np.mean(right))}

    @cached_property
    def full(self) -> dict[str, float]:
        """The metrics of all tokens, as they are."""
        return self.measure(lambda tokens: tokens)

    def fingerprint(self) -> str:
        """A digest of the weights of the VLM's projector and language model."""
        weights = self.vlm.state_dict().values()
        return digest_of(value.cpu().contiguous().numpy().tobytes() for value in weights)

    def _loss(
        self, tokens: Float[Tensor, "b n c"], questions: Sequence[Question]
    ) -> tuple[Float[Tensor, ""], int]:
        rows = self.vlm.prompter.rows(
            [question.text for question in questions],
            [question.answers[0] for question in questions],
            self.vlm.image_tokens,
        )
        return self.vlm.loss(tokens, rows), int((rows.labels != IGNORED).sum())


def questions_of(settings: Compress) -> tuple[list[Question], list[Question], list[Any]]:
    """The questions to train on, held-out ones, and what cannot be used, as in `vlm train`."""
    chosen, data = settings.evaluation, settings.data
    return read_train_questions(
        VlmTrain(data=chosen.questions, n_images=data.n_samples, languages=chosen.languages)
    )
