"""What is worth knowing about the pairs before hours are spent on them: one sentence a finding.

Pure checks on what has been read; decides nothing and stops nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from encoderlab.contrastive.dataset import ImageTextDataset, positives_of
from encoderlab.contrastive.images import DecodedImages
from encoderlab.core.progress import counted
from encoderlab.core.score import caveats
from encoderlab.encoders.text import CutTexts
from encoderlab.errors import one_line
from encoderlab.training.schedule import Schedule

BATCHES_LOOKED_AT = 20


def findings(
    pairs: ImageTextDataset,
    train: DecodedImages,
    val: DecodedImages,
    batch_size: int,
    multi_positive: bool,
    classes: Sequence[str] = (),
) -> list[str]:
    """Sentences about leakage, false negatives, too small a validation set, images that could not
    be read and texts that are cut.

    Args:
        classes: names that the validation images are classified by.
    """
    found = []
    captions = {
        f"{name} captions": [text for sample in checked.samples for text in sample.texts]
        for name, checked in (("training", train), ("validation", val))
    }
    for name, texts in {**captions, "zero-shot classes": classes}.items():
        cut = CutTexts("the text encoder", pairs.tokenizer.context_length, name)
        cut.add(texts, pairs.tokenizer.cut_rows)
        found += [] if (sentence := cut.sentence()) is None else [sentence]
    for name, checked in (("training", train), ("validation", val)):
        if checked.skipped:
            first, why = checked.skipped[0]
            found.append(
                f"left out: {counted(len(checked.skipped), f'{name} image')} that cannot be read; "
                f"the first is {one_line(f'{first}: {why}')}"
            )
    found += caveats(len(val.samples), {}, "validation")
    leaked = _content(train) & _content(val)
    if leaked:
        found.append(
            f"the training data holds {counted(len(leaked), 'validation image')} too: recall on "
            "them says nothing about new images"
        )
    share = false_negative_share(pairs, batch_size)
    if share > 0.01 and not multi_positive:
        found.append(
            f"{share:.1%} of the rows of a batch of {batch_size} have a second right "
            "answer that is punished as wrong (images sharing a caption, captions "
            "sharing an image); multi_positive=true counts it as right"
        )
    return found


def false_negative_share(pairs: ImageTextDataset, batch_size: int, seed: int = 0) -> float:
    """The share of rows, in batches drawn as training draws them, with another right partner."""
    import torch

    schedule = Schedule(len(pairs), min(batch_size, len(pairs)), 1, seed)
    shares = []
    for number, batch in enumerate(schedule.batches()):
        if number == BATCHES_LOOKED_AT:
            break
        right = positives_of(
            torch.from_numpy(pairs.image_of[batch]), torch.from_numpy(pairs.text_of[batch])
        )
        shares.append(float((right.sum(dim=1) > 1).float().mean()))
    return float(np.mean(shares)) if shares else 0.0


def _content(checked: DecodedImages) -> set[bytes]:
    """Digests of the decoded images; of the paths where the images are not in memory."""
    if checked.pixels is None:
        return {str(sample.image).encode() for sample in checked.samples}
    return {hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in checked.pixels}
