"""Held-out retrieval while training: Recall@K both ways, and whether the space has collapsed.

Holds the validation images as bytes and the texts as ids, so that each epoch only embeds them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from encoderlab.contrastive.dataset import ImageTextDataset, positives_of
from encoderlab.contrastive.images import DecodedImages
from encoderlab.contrastive.loop import Validation
from encoderlab.data.class_names import class_key, class_numbers, count_strays, stray_sentences
from encoderlab.errors import UsageError
from encoderlab.losses.contrastive import contrastive_loss
from encoderlab.losses.sigmoid import sigmoid_loss
from encoderlab.metrics.classification import classification
from encoderlab.metrics.retrieval import retrieval
from encoderlab.models.clip import Preprocess, Tokenizer, TwoTowers

CUTOFFS = (1, 5, 10)
BATCH = 256
# Above this mean cosine between images there is nothing left to tell them apart by.
COLLAPSED = 0.98


class RetrievalValidation:
    """Call it with a model in eval mode.

    The score that picks the best checkpoint is the mean of Recall@1, 5 and 10 in both directions:
    Recall@1 alone jumps by whole points between epochs on a few hundred images. Equal scores, which
    a few images give often, leave the choice to `validation_loss`: the training loss over the
    validation pairs. With `classes`, the labelled images are also classified by those names;
    `stray_labels` says which labels are none of them.

    Raises:
        UsageError: classes were given, and no validation image is labelled with one.
    """

    def __init__(
        self,
        checked: DecodedImages,
        tokenizer: Tokenizer,
        preprocess: Preprocess,
        device: torch.device,
        classes: Sequence[str] = (),
        keep_padding: bool = False,
    ) -> None:
        self.pairs = ImageTextDataset(
            checked.samples, tokenizer, preprocess, checked.pixels, keep_padding
        )
        self.preprocess, self.device = preprocess, device
        self.classes = list(classes)
        labels = [sample.label for sample in checked.samples]
        numbers = class_numbers(self.classes)
        answers = [numbers.get(class_key(label or "")) for label in labels]
        self.labelled = [i for i, answer in enumerate(answers) if answer is not None]
        self.answers = np.array([answers[i] for i in self.labelled], dtype=int)
        strays = count_strays(labels, self.classes) if self.classes else {}
        self.stray_labels = stray_sentences(strays, self.classes)
        if self.classes and not self.labelled:
            raise UsageError(
                "no validation image has one of the zero-shot classes as its label",
                got=", ".join(self.classes),
                want="a label column in --val-csv with these names",
                hint=self.stray_labels[0] if self.stray_labels else None,
            )
        self.texts = [text for sample in checked.samples for text in sample.texts]

    @torch.inference_mode()
    def __call__(self, model: TwoTowers) -> Validation:
        images = np.arange(len(self.pairs.samples))
        first_row = np.searchsorted(self.pairs.image_of, images)
        image_vectors = self._embedded(
            lambda rows: model.encode_image(
                self.preprocess.standardise(
                    self.pairs.__getitems__(first_row[rows].tolist()).pixels.to(self.device)
                )
            ),
            len(images),
        )
        rows_of_text = len(self.pairs.tokens)
        text_vectors = self._embedded(
            lambda rows: model.encode_text(self.pairs.tokens_of(rows).to(self.device)), rows_of_text
        )
        found = retrieval(
            image_vectors,
            text_vectors[self.pairs.text_of],
            image_of_text=self.pairs.image_of,
            texts=self.texts,
            cutoffs=CUTOFFS,
        )
        metrics: dict[str, float] = {}
        metrics["validation_loss"] = self._loss(model, image_vectors, text_vectors)
        for direction in ("image_to_text", "text_to_image"):
            scores = getattr(found, direction).recall
            for k, recall in scores.items():
                if recall.value is not None:  # ten of eight candidates say nothing
                    metrics[f"{direction}/R@{k}"] = recall.value
                    metrics[f"{direction}/R@{k}/chance"] = recall.chance
        if self.classes:
            tokens = self.pairs.tokenizer(self.classes).to(self.device)
            names = F.normalize(model.encode_text(tokens).float(), dim=-1).cpu().numpy()
            scores = image_vectors[self.labelled] @ names.T
            top1 = classification(scores, self.answers).top1
            metrics["zero_shot/top1"], metrics["zero_shot/n"] = float(top1), float(top1.n)
            metrics["zero_shot/top1/chance"] = 1 / len(self.classes)
        recalls = [
            value
            for name, value in metrics.items()
            if "/R@" in name and not name.endswith("chance")
        ]
        metrics["mean_cosine"] = mean_cosine(image_vectors)
        metrics["effective_rank"] = effective_rank(image_vectors)
        warnings: tuple[str, ...] = ()
        if len(images) > 2 and metrics["mean_cosine"] > COLLAPSED:
            warnings = (
                f"all images lie nearly in one direction (mean cosine "
                f"{metrics['mean_cosine']:.3f}): the space has collapsed, try a smaller --lr",
            )
        return Validation(float(np.mean(recalls)) if recalls else None, metrics, warnings)

    def _loss(self, model: TwoTowers, images: np.ndarray, texts: np.ndarray) -> float:
        """The mean loss over batches of pairs, in their own order so that epochs compare."""
        total = 0.0
        for start in range(0, len(self.pairs), BATCH):
            rows = slice(start, start + BATCH)
            image_of, text_of = self.pairs.image_of[rows], self.pairs.text_of[rows]
            image, text = torch.from_numpy(images[image_of]), torch.from_numpy(texts[text_of])
            positives = positives_of(torch.from_numpy(image_of), torch.from_numpy(text_of))
            scale = model.logit_scale.float().exp().cpu()
            if model.logit_bias is None:
                loss = contrastive_loss(image, text, scale, positives)
            else:
                loss = sigmoid_loss(image, text, scale, model.logit_bias.float().cpu(), positives)
            total += float(loss) * len(image_of)
        return total / len(self.pairs)

    def _embedded(self, embed, count: int) -> np.ndarray:
        parts = []
        for start in range(0, count, BATCH):
            rows = np.arange(start, min(start + BATCH, count))
            vectors: Tensor = embed(rows)
            parts.append(F.normalize(vectors.float(), dim=-1).cpu())
        return torch.cat(parts).numpy()


def mean_cosine(vectors: np.ndarray) -> float:
    """Mean cosine between two different rows of unit vectors (n, d); 1 means a collapsed space."""
    n = len(vectors)
    if n < 2:
        return 0.0
    total = float(np.square(vectors.sum(axis=0, dtype=np.float64)).sum())
    return (total - n) / (n * (n - 1))


def effective_rank(vectors: np.ndarray) -> float:
    """exp of the entropy of the normalised singular values of the centred rows (Roy & Vetterli
    2007): how many dimensions the embeddings use."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    values = np.linalg.svd(centred, compute_uv=False)
    share = values / max(values.sum(), 1e-300)
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum())) if len(share) else 0.0
