"""Checks of the training and validation data before training; each finding is one sentence.

Knows samples and decoded images; stops nothing.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence

import numpy as np
import torch

from encoderlab.contrastive.dataset import ImageTextDataset, positives_of
from encoderlab.contrastive.images import DecodedImages
from encoderlab.core.progress import counted
from encoderlab.core.score import caveats
from encoderlab.encoders.text import CutTexts
from encoderlab.errors import one_line
from encoderlab.training.schedule import Schedule

BATCHES_CHECKED = 20


def findings(
    pairs: ImageTextDataset,
    train: DecodedImages,
    val: DecodedImages,
    batch_size: int,
    multi_positive: bool,
    classes: Sequence[str] = (),
) -> list[str]:
    """Warnings of leakage, false negatives, few validation images, unreadable images, cut texts."""
    sentences = []
    parts = {"training": train, "validation": val}
    texts_of: dict[str, Sequence[str]] = {
        f"{name} captions": [text for sample in part.samples for text in sample.texts]
        for name, part in parts.items()
    }
    for name, texts in {**texts_of, "zero-shot classes": classes}.items():
        cut = CutTexts("the text encoder", pairs.tokenizer.context_length, name)
        cut.add(texts, pairs.tokenizer.cut_rows)
        sentences += [] if (sentence := cut.sentence()) is None else [sentence]
    for name, part in parts.items():
        if part.skipped:
            first, why = part.skipped[0]
            sentences.append(
                f"left out: {counted(len(part.skipped), f'{name} image')} that cannot be read; "
                f"the first is {one_line(f'{first}: {why}')}"
            )
    sentences += caveats(len(val.samples), {}, "validation")
    leaked = _content(train) & _content(val)
    if leaked:
        sentences.append(
            f"the training data holds {counted(len(leaked), 'validation image')} too: recall on "
            "them says nothing about new images"
        )
    share = false_negative_share(pairs, batch_size)
    if share > 0.01 and not multi_positive:
        sentences.append(
            f"{share:.1%} of the rows of a batch of {batch_size} have a second right "
            "answer that is punished as wrong (images sharing a caption, captions "
            "sharing an image); multi_positive=true counts it as right"
        )
    return sentences


def false_negative_share(pairs: ImageTextDataset, batch_size: int) -> float:
    """The share of rows with a second right partner in their batch.

    Args:
        pairs: the training pairs.
        batch_size: pairs per batch.

    Returns:
        The mean over at most 20 batches, drawn as in training; 0 to 1.
    """
    schedule = Schedule(len(pairs), min(batch_size, len(pairs)), 1)
    shares = []
    for batch in itertools.islice(schedule.batches(), BATCHES_CHECKED):
        right = positives_of(
            torch.from_numpy(pairs.image_of[batch]), torch.from_numpy(pairs.text_of[batch])
        )
        shares.append(float((right.sum(dim=1) > 1).float().mean()))
    return float(np.mean(shares)) if shares else 0.0


def _content(images: DecodedImages) -> set[bytes]:
    """Digests of the decoded images; the paths where the images are not in memory."""
    if images.pixels is None:
        return {str(sample.image).encode() for sample in images.samples}
    return {hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images.pixels}
