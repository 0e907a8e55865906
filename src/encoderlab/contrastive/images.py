"""Decodes all images of a data set before training and lists those that cannot be read.

Knows samples and preprocessing; no captions and no model.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from encoderlab.core import distributed
from encoderlab.core.progress import note, progress
from encoderlab.data.decode import ImageError
from encoderlab.data.sample import Sample
from encoderlab.data.shard_image import ShardImage
from encoderlab.errors import MissingError, UsageError
from encoderlab.models.clip import Preprocess

MEMORY_FOR_IMAGES = 4 << 30  # bytes of decoded images, of all processes of a machine together


@dataclass(frozen=True)
class DecodedImages:
    """The samples whose image can be read.

    Args:
        pixels: (n, 3, s, s) uint8; None if they are not kept in memory.
        skipped: (id, reason) of the others.
        streamed: whether the images are in shards and none has been read yet.
    """

    samples: list[Sample]
    pixels: np.ndarray | None
    skipped: list[tuple[str, str]]
    streamed: bool = False


def images_of(
    samples: Sequence[Sample], preprocess: Preprocess, what: str, in_memory: str
) -> DecodedImages:
    """Decodes all images of `what`, except those of shards that do not fit into memory."""
    limit = MEMORY_FOR_IMAGES // distributed.current_rank().local_world
    fits = len(samples) * 3 * preprocess.size**2 <= limit
    keep = in_memory == "yes" or (in_memory == "auto" and fits)
    if not keep and samples and all(isinstance(sample.image, ShardImage) for sample in samples):
        note(f"{what}: {len(samples):,}, read from their shards as they are needed")
        return DecodedImages(list(samples), None, [], streamed=True)
    return decode_all(samples, preprocess, what, keep)


def decode_all(
    samples: Sequence[Sample], preprocess: Preprocess, what: str, keep: bool = True
) -> DecodedImages:
    """Decodes every image of `what` once, in threads; the pixels stay in memory if `keep`."""
    side = preprocess.size
    pixels = np.empty((len(samples) if keep else 0, 3, side, side), dtype=np.uint8)

    def decode(position: int) -> str | None:
        try:
            picture = samples[position].load(min_side=preprocess.min_side)
        except (ImageError, MissingError) as error:
            return str(error)
        if keep:
            pixels[position] = preprocess.to_bytes(picture).transpose(2, 0, 1)
        return None

    reasons: list[str | None] = []
    with (
        progress(f"reading {what}", total=len(samples), unit="image") as bar,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        for reason in pool.map(decode, range(len(samples))):
            reasons.append(reason)
            bar.advance(1)
    good = [i for i, reason in enumerate(reasons) if reason is None]
    if not good:
        raise UsageError(
            f"no image of {what} can be read",
            got=f"{len(samples)} files",
            want=f"readable images; the first says: {reasons[0]}",
        )
    skipped = [(samples[i].id, reason) for i, reason in enumerate(reasons) if reason is not None]
    if keep and skipped:
        pixels = pixels[good]
    return DecodedImages([samples[i] for i in good], pixels if keep else None, skipped)
