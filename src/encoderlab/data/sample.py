"""One item of a data set: an image, what is said about it, and what kind it is.

The image is a path, or a place in a shard, until somebody looks at it: a list of a million samples
costs no decoding.
"""

from __future__ import annotations

import errno
import hashlib
from collections import Counter
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from encoderlab.data.decode import ImageError, open_image
from encoderlab.data.packed import Packed
from encoderlab.errors import MissingError


@dataclass(frozen=True)
class Sample:
    """An image with its texts.

    Args:
        id: stable name within its data set.
        image: a path or a place in a shard, decoded on demand, or a PIL image.
        texts: captions, or the assistant turns of a chat record.
        label: data type or class, if known.

    Examples:
        >>> Sample("grey", Image.new("L", (4, 2)), texts=("a grey field",)).load().size
        (4, 2)
    """

    id: str
    image: Path | Packed | Image.Image
    texts: tuple[str, ...] = ()
    label: str | None = None

    def load(self, min_side: int | None = None) -> Image.Image:
        """The image as RGB, upright. `min_side` allows a JPEG to be decoded at a smaller scale, its
        short side never under that many pixels.

        Raises:
            ImageError: missing, truncated, no image, or over the pixel limit.
        """
        if isinstance(self.image, Packed):
            return open_image(self.image.read(), min_side=min_side, name=str(self.image))
        return open_image(self.image, min_side=min_side)

    def content(self) -> bytes:
        """What makes two samples the same picture: the bytes of the file, or of the pixels.

        Raises:
            OSError: the file cannot be read.
        """
        if isinstance(self.image, Path):
            try:
                return self.image.read_bytes()
            except ValueError as error:  # no system has a file of such a name
                raise OSError(errno.EINVAL, str(error)) from error
        if isinstance(self.image, Packed):
            try:
                return self.image.read()
            except ImageError as error:
                raise OSError(errno.EIO, error.reason) from error
        return f"{self.image.mode} {self.image.size}".encode() + self.image.tobytes()


def contents(samples: Sequence[Sample], packed: bool = True) -> list[Hashable]:
    """A key per sample that is equal for samples of the same picture: the bytes of their files, or
    the pixels of decoded images, are the same. A file that cannot be read is equal to no other.

    Args:
        packed: whether images inside shards are read; else each of them is taken as another one.
    """
    sizes = [_size(sample) for sample in samples]
    times = Counter(sizes)

    def key(place: int) -> Hashable:
        sample, size = samples[place], sizes[place]
        # Only files of the same size can be equal: the others need not be read.
        comparable = size is None or times[size] > 1
        if comparable and (packed or not isinstance(sample.image, Packed)):
            with suppress(OSError, MissingError):
                return hashlib.blake2b(sample.content(), digest_size=16).digest()
        return place

    with ThreadPoolExecutor() as pool:
        return list(pool.map(key, range(len(samples))))


def _size(sample: Sample) -> Hashable:
    """The bytes of the file, or the pixels of a decoded image; None where that is not known."""
    if isinstance(sample.image, Path):
        try:
            return sample.image.stat().st_size
        except (OSError, ValueError):
            return None
    return getattr(sample.image, "size", None)


def first_of_each(keys: Sequence[Hashable]) -> list[int]:
    """The places of the keys that no earlier one is equal to."""
    first: dict[Hashable, int] = {}
    for place, key in enumerate(keys):
        first.setdefault(key, place)
    return list(first.values())


def merge_copies(samples: Sequence[Sample], keys: Sequence[Hashable]) -> list[Sample]:
    """One sample per image, in order of first appearance: several samples of one image are not
    independent, and count once in every metric and interval.

    Args:
        keys: equal for samples of the same image, such as `contents`.

    Returns:
        The first sample of each key, with the texts of all its samples, each once; its label is
        the first one that any of them has.
    """
    merged: dict[Hashable, Sample] = {}
    for sample, key in zip(samples, keys, strict=True):
        first = merged.setdefault(key, sample)
        texts = tuple(dict.fromkeys((*first.texts, *sample.texts)))
        merged[key] = replace(first, texts=texts, label=first.label or sample.label)
    return list(merged.values())
