"""All images of a training set, decoded once, ahead of the run; those that cannot be are listed.

A run of hours must not die, or silently change its data, at the one bad file in ten thousand.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from encoderlab import processes
from encoderlab.data.decode import ImageError
from encoderlab.data.sample import Sample
from encoderlab.errors import MissingError, UsageError
from encoderlab.models.clip import Preprocess
from encoderlab.progress import progress

# Decoded images are kept in memory up to this many bytes, all processes of a machine together;
# beyond it each use decodes again.
MEMORY_FOR_IMAGES = 4 << 30


@dataclass(frozen=True)
class Checked:
    """Samples whose image can be read; `pixels` (n, 3, s, s) uint8, None if too big for memory."""

    samples: list[Sample]
    pixels: np.ndarray | None
    skipped: list[tuple[str, str]]


def decode_all(samples: Sequence[Sample], preprocess: Preprocess, what: str) -> Checked:
    """Decodes every image once, in threads.

    Raises:
        UsageError: not one image can be read.
    """
    side = preprocess.size
    room = MEMORY_FOR_IMAGES // processes.mine().local_world
    fits = len(samples) * 3 * side * side <= room
    pixels = np.empty((len(samples) if fits else 0, 3, side, side), dtype=np.uint8)

    def decode(position: int) -> str | None:
        try:
            picture = samples[position].load(min_side=side)
        except (ImageError, MissingError) as error:
            return str(error)
        if fits:
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
    if fits and skipped:
        pixels = pixels[good]
    return Checked([samples[i] for i in good], pixels if fits else None, skipped)
