"""Training that compares every picture of a batch with all short captions, right and wrong.

"red star" is right for every picture with one. Short captions as pairs of their own would encode
a picture once for each of them, and be wrong for the other right pictures of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from encoderlab.contrastive.dataset import Batch
from encoderlab.contrastive.loop import ContrastiveTrainer
from encoderlab.models.clip import Tokenizer
from recipes.short_captions import ENGLISH, KOREAN, NUMBER, TAGS

KOREAN_SHARE = 0.4


class TagTrainer(ContrastiveTrainer):
    """Adds to the loss of each step that of its pictures and of every tag, in a random wording.

    Args:
        tags: of each picture; those after the listed ones have none and are no wrong pictures of
            a tag either, as they may well show it.
        others: what `ContrastiveTrainer` takes.
    """

    def __init__(self, tags: Sequence[Sequence[str]], *others: Any, **settings: Any) -> None:
        super().__init__(*others, **settings)
        self._right = torch.zeros(len(self.pairs.samples), len(TAGS), dtype=torch.bool)
        for number, own in enumerate(tags):
            self._right[number, [NUMBER[tag] for tag in own]] = True
        self._listed = len(tags)
        self._right = self._right.to(self.fabric.device)
        tokens = wordings(self.pairs.tokenizer, self.pairs.keep_padding)
        self._wordings = tokens.to(self.fabric.device)

    def backward(self, batch: Batch) -> Tensor:
        """As that of `ContrastiveTrainer`, with the loss of the tags."""
        self._pictures = batch.image_ids.to(self.fabric.device)
        return super().backward(batch)

    def _loss(self, image: Tensor, text: Tensor, positives: Tensor | None) -> Tensor:
        with self.fabric.autocast():
            names = self.module.encode_text(self._names())
        cosines = F.normalize(image.float(), dim=-1) @ F.normalize(names.float(), dim=-1).T
        logits = self.module.logit_scale.exp() * cosines
        right = self._right[self._pictures]
        wrong = ~right & (self._pictures < self._listed).unsqueeze(1)
        return (
            super()._loss(image, text, positives)
            + ranking_loss(logits, right, wrong)
            + ranking_loss(logits.T, right.T, wrong.T)
        )

    def _names(self) -> Int[Tensor, "tags t"]:
        """Tokens of every tag, each in a random language and wording."""
        number = len(TAGS)
        korean = len(ENGLISH) + torch.randint(len(KOREAN), (number,))
        chosen = torch.where(
            torch.rand(number) < KOREAN_SHARE, korean, torch.randint(len(ENGLISH), (number,))
        )
        # The indices are drawn on the CPU, so that every device reads the same words.
        return self._wordings[chosen, torch.arange(number)]


def wordings(tokenizer: Tokenizer, keep_padding: bool) -> Int[Tensor, "wordings tags t"]:
    """Tokens of every tag in every English, then every Korean wording.

    Args:
        tokenizer: of the model.
        keep_padding: pad to full length instead of that of the longest.
    """
    english = [tokenizer([wording.format(tag) for tag in TAGS]) for wording in ENGLISH]
    korean = [tokenizer([wording.format(tag) for tag in TAGS.values()]) for wording in KOREAN]
    tokens = torch.stack(english + korean)
    if keep_padding:
        return tokens
    return tokens[..., : int((tokens == tokenizer.end_id).int().argmax(dim=-1).max()) + 1]


def ranking_loss(
    logits: Float[Tensor, "r c"], right: Bool[Tensor, "r c"], wrong: Bool[Tensor, "r c"]
) -> Float[Tensor, ""]:
    """Cross-entropy of each right column of a row against all wrong ones.

    Unlike the target of Khosla et al. 2020 (eq. 2), one right column is no rival of another.

    Args:
        logits: of rows and columns.
        right: columns that belong to the row.
        wrong: columns that do not; some may be neither.

    Returns:
        Mean over rows that have a right column of the mean over these; at least 0, and 0 if there
        is no such row.
    """
    rivals = logits.masked_fill(~wrong, -torch.inf).logsumexp(dim=1, keepdim=True)
    costs = F.softplus(rivals - logits) * right
    number = right.sum(dim=1)
    rows = number > 0
    return (costs.sum(dim=1)[rows] / number[rows]).sum() / rows.sum().clamp(min=1)
