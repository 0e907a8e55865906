"""Digests that tell whether two runs use the same images. Knows samples; decodes nothing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from encoderlab.data.sample import Sample
from encoderlab.data.shard_image import ShardImage

HEAD = 16_384  # first bytes of a file that go into its digest


def images_digest(samples: Sequence[Sample], pixels: np.ndarray | None = None) -> str:
    """A digest of the images of samples, in their order; the folder of the files does not matter.

    Args:
        samples: in order.
        pixels: decoded images, used for samples whose file is not there.

    Returns:
        A text of hexadecimal digits.
    """
    # A file's identity is its size and its first HEAD bytes, that of an image in a shard its name
    # and size: reading a million complete images would take as long as an epoch.

    def identity(number: int) -> bytes:
        image = samples[number].image
        if isinstance(image, ShardImage):
            name = getattr(image, "name", None) or getattr(image, "number", image)
            return f"{name} {getattr(image, 'size', '')}".encode()
        if isinstance(image, Path):
            try:
                with image.open("rb") as file:
                    head = file.read(HEAD)
                    return f"{os.fstat(file.fileno()).st_size} ".encode() + head
            except (OSError, ValueError):
                return str(image).encode() if pixels is None else pixels[number].tobytes()
        return samples[number].content()

    return digest_of(map(identity, range(len(samples))))


def digest_of(parts: Iterable[bytes]) -> str:
    """A digest of byte strings, in their order."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(f"{len(part)} ".encode())
        digest.update(part)
    return digest.hexdigest()
