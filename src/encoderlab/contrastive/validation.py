"""Validation during contrastive training: Recall@K in both directions, loss, collapse, zero-shot.

Keeps the validation images as bytes and the texts as token ids. Knows models; no optimiser.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
COLLAPSED = 0.98  # mean cosine between images above which the space has collapsed


class RetrievalValidation:
    """Measures a model in eval mode on held-out pairs.

    The score is the mean of Recall@1, 5 and 10 in both directions: Recall@1 alone jumps by whole
    points between epochs on a few hundred images.

    Args:
        checked: the validation images.
        classes: names that the labelled images are classified by; `stray_labels` names the labels
            that are none of them.
        keep_padding: pad every text to full length, for a model that reads the padding too.

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
        """Recall, and classification if there are classes, of a model in eval mode."""
        images = np.arange(len(self.pairs.samples))
        first_row = np.searchsorted(self.pairs.image_of, images)
        image_vectors = _embed(
            lambda rows: model.encode_image(
                self.preprocess.standardise(
                    self.pairs.__getitems__(first_row[rows].tolist()).pixels.to(self.device)
                )
            ),
            len(images),
        )
        text_vectors = _embed(
            lambda rows: model.encode_text(self.pairs.tokens_of(rows).to(self.device)),
            len(self.pairs.tokens),
        )
        recalls = retrieval(
            image_vectors,
            text_vectors[self.pairs.text_of],
            image_of_text=self.pairs.image_of,
            texts=self.texts,
            cutoffs=CUTOFFS,
        )
        metrics = {"validation_loss": self._loss(model, image_vectors, text_vectors)}
        values = []
        for direction in ("image_to_text", "text_to_image"):
            for k, recall in getattr(recalls, direction).recall.items():
                if recall.value is not None:
                    values.append(recall.value)
                    metrics[f"{direction}/R@{k}"] = recall.value
                    metrics[f"{direction}/R@{k}/chance"] = recall.chance
        if self.classes:
            tokens = self.pairs.tokenizer(self.classes).to(self.device)
            names = F.normalize(model.encode_text(tokens).float(), dim=-1).cpu().numpy()
            scores = image_vectors[self.labelled] @ names.T
            top1 = classification(scores, self.answers).top1
            metrics["zero_shot/top1"], metrics["zero_shot/n"] = float(top1), float(top1.n)
            metrics["zero_shot/top1/chance"] = 1 / len(self.classes)
        metrics["mean_cosine"] = mean_cosine(image_vectors)
        metrics["effective_rank"] = effective_rank(image_vectors)
        warnings: tuple[str, ...] = ()
        if len(images) > 2 and metrics["mean_cosine"] > COLLAPSED:
            warnings = (
                f"all images lie nearly in one direction (mean cosine "
                f"{metrics['mean_cosine']:.3f}): the space has collapsed, try a smaller --lr",
            )
        return Validation(float(np.mean(values)) if values else None, metrics, warnings)

    def _loss(self, model: TwoTowers, images: np.ndarray, texts: np.ndarray) -> float:
        """The mean training loss over batches of the pairs in order."""
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


def _embed(embed: Callable[[np.ndarray], Tensor], count: int) -> np.ndarray:
    """Unit vectors of `count` items, embedded a batch at a time."""
    batches = np.split(np.arange(count), range(BATCH, count, BATCH))
    return torch.cat([F.normalize(embed(rows).float(), dim=-1).cpu() for rows in batches]).numpy()


def mean_cosine(vectors: np.ndarray) -> float:
    """The mean cosine between two different rows of unit vectors (n, d).

    Returns:
        -1 to 1; 1 for a collapsed space, 0 for a single row.
    """
    n = len(vectors)
    if n < 2:
        return 0.0
    total = float(np.square(vectors.sum(axis=0, dtype=np.float64)).sum())
    return (total - n) / (n * (n - 1))


def effective_rank(vectors: np.ndarray) -> float:
    """How many dimensions the rows of `vectors` (n, d) use.

    Returns:
        exp of the entropy of the normalised singular values of the centred rows (Roy & Vetterli
        2007); 0 where all rows are equal.
    """
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    values = np.linalg.svd(centred, compute_uv=False)
    share = values / max(values.sum(), 1e-300)
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum())) if len(share) else 0.0
