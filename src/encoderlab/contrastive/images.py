"""All images of a training set, decoded once, ahead of the run; those that cannot be are listed.

A run of hours must not die, or silently change its data, at the one bad file in ten thousand.
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

# Decoded images are kept in memory up to this many bytes, all processes of a machine together;
# beyond it each use decodes again.
MEMORY_FOR_IMAGES = 4 << 30


KEPT = ("auto", "yes", "no")


@dataclass(frozen=True)
class DecodedImages:
    """Samples whose image can be read; `pixels` (n, 3, s, s) uint8, None if they are not kept.

    Args:
        streamed: whether the images lie in shards and are read as they are needed: none of them
            has been looked at yet.
    """

    samples: list[Sample]
    pixels: np.ndarray | None
    skipped: list[tuple[str, str]]
    streamed: bool = False


def images_of(
    samples: Sequence[Sample], preprocess: Preprocess, what: str, in_memory: str = "auto"
) -> DecodedImages:
    """Decoded images where they fit into memory; from shards that do not, a promise of them.

    Args:
        in_memory: whether decoded images are kept: yes, no, or auto: while they fit.

    Raises:
        UsageError: not one image can be read.
    """
    if in_memory not in KEPT:
        raise UsageError("unknown choice for in_memory", got=in_memory, want=", ".join(KEPT))
    room = MEMORY_FOR_IMAGES // distributed.current_rank().local_world
    fits = len(samples) * 3 * preprocess.size**2 <= room
    kept = in_memory == "yes" or (in_memory == "auto" and fits)
    if not kept and samples and all(isinstance(sample.image, ShardImage) for sample in samples):
        note(f"{what}: {len(samples):,}, read from their shards as they are needed")
        return DecodedImages(list(samples), None, [], streamed=True)
    return decode_all(samples, preprocess, what, kept)


def decode_all(
    samples: Sequence[Sample], preprocess: Preprocess, what: str, keep: bool = True
) -> DecodedImages:
    """Decodes every image once, in threads.

    Args:
        keep: whether the pixels stay in memory.

    Raises:
        UsageError: not one image can be read.
    """
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

    faults: list[str | None] = []
    with (
        progress(f"reading {what}", total=len(samples), unit="image") as bar,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        for fault in pool.map(decode, range(len(samples))):
            faults.append(fault)
            bar.advance(1)
    good = [i for i, fault in enumerate(faults) if fault is None]
    if not good:
        raise UsageError(
            f"not one image of {what} can be read",
            got=f"{len(samples)} files",
            want=f"readable images; the first says: {faults[0]}",
        )
    skipped = [(samples[i].id, fault) for i, fault in enumerate(faults) if fault is not None]
    if keep and skipped:
        pixels = pixels[good]
    return DecodedImages([samples[i] for i in good], pixels if keep else None, skipped)
