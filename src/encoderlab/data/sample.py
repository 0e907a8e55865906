"""Samples: an image with its captions and its label, and lists of them with the items left out.

Knows the names that data sets give to captions and labels. The image is a path, or a member of a
shard, until it is loaded: a list of a million samples decodes nothing.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image

from encoderlab.core.skipped import Skipped
from encoderlab.data.decode import ImageError, open_with_size
from encoderlab.data.shard_image import ShardImage
from encoderlab.errors import MissingError, UsageError

CAPTION_COLUMNS = ("caption", "captions", "text", "texts", "txt", "TEXT", "alt_text", "sentences")
LABEL_COLUMNS = ("label", "labels", "class", "cls", "category")


@dataclass(frozen=True)
class Sample:
    """An image with its texts.

    Args:
        id: stable name within its data set.
        image: a path or an image in a shard, decoded on demand, or a PIL image.
        texts: captions, or the assistant turns of a chat record.
        label: data type or class, if known.
        fields: further fields of its record in a shard that the reader was asked to keep.

    Examples:
        >>> Sample("grey", Image.new("L", (4, 2)), texts=("a grey field",)).load().size
        (4, 2)
    """

    id: str
    image: Path | ShardImage | Image.Image
    texts: tuple[str, ...] = ()
    label: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def load(self, min_side: int | None = None) -> Image.Image:
        """The image as RGB, upright.

        Args:
            min_side: lets a JPEG be decoded at a smaller scale, its short side at least this long.

        Returns:
            The image; at full scale unless `min_side` is given.

        Raises:
            ImageError: missing, truncated, no image, or over the pixel limit.
        """
        return self.load_with_size(min_side)[0]

    def load_with_size(self, min_side: int | None = None) -> tuple[Image.Image, tuple[int, int]]:
        """The image of `load` with its size.

        Args:
            min_side: as of `load`.

        Returns:
            The image, and the (width, height) of the upright image at its full scale.

        Raises:
            ImageError: as `load` does.
        """
        if isinstance(self.image, ShardImage):
            return open_with_size(self.image.read(), min_side=min_side, name=str(self.image))
        return open_with_size(self.image, min_side=min_side)

    def content(self) -> bytes:
        """The bytes that identify the picture.

        Returns:
            Those of the file; of a decoded image those of its mode, size and pixels.

        Raises:
            OSError: the file cannot be read.
        """
        try:
            if isinstance(self.image, Path):
                return self.image.read_bytes()
            if isinstance(self.image, ShardImage):
                return self.image.read()
        except ImageError as error:
            raise OSError(errno.EIO, error.reason) from error
        except ValueError as error:  # a name that no file can have
            raise OSError(errno.EINVAL, str(error)) from error
        return f"{self.image.mode} {self.image.size}".encode() + self.image.tobytes()


class Samples(list[Sample]):
    """Samples in order.

    Args:
        samples: those that can be used.
        skipped: items of the source that are left out, with the reason.
    """

    def __init__(self, samples: Iterable[Sample] = (), skipped: Iterable[Skipped] = ()) -> None:
        super().__init__(samples)
        self.skipped = list(skipped)

    def with_texts(self) -> Samples:
        """The samples that have a text; the others are added to `skipped`."""
        without = (Skipped(sample.id, "it has no caption") for sample in self if not sample.texts)
        return Samples((sample for sample in self if sample.texts), [*self.skipped, *without])


def distinct(texts: Iterable[str]) -> tuple[str, ...]:
    """Texts without repeats; two that differ in white space only are one.

    Args:
        texts: in order.

    Returns:
        The first of equal texts, stripped, without empty ones.

    Raises:
        UnicodeEncodeError: a text with half of a surrogate pair, which JSON can hold and no
            tokenizer and no table takes.
    """
    by_words: dict[str, str] = {}
    for text in texts:
        text.encode()
        by_words.setdefault(collapse_spaces(text), text.strip())
    by_words.pop("", None)
    return tuple(by_words.values())


def collapse_spaces(text: str) -> str:
    """The text with one blank for each run of white space."""
    return " ".join(text.split())


def captions_in(record: Mapping[str, Any]) -> list[str]:
    """The captions of a record, under any of `CAPTION_COLUMNS`."""
    value = _first(record, CAPTION_COLUMNS)
    if isinstance(value, dict):  # COCO: {"raw": [...]}
        value = value.get("raw")
    values = value if isinstance(value, list | tuple) else [value]
    return [text for text in map(_as_text, values) if text is not None]


def label_in(record: Mapping[str, Any]) -> str | None:
    """The label of a record, under any of `LABEL_COLUMNS`; None for no label and a blank one."""
    return (_as_text(_first(record, LABEL_COLUMNS)) or "").strip() or None


def _first(record: Mapping[str, Any], columns: Iterable[str]) -> Any:
    return next((record[name] for name in columns if record.get(name) not in (None, "")), None)


def _as_text(value: Any) -> str | None:
    if value is None or value != value:  # NaN: the missing value of pandas
        return None
    return value.decode() if isinstance(value, bytes) else str(value)


def check_name(path: str | Path) -> None:
    """Refuses a path that is not UTF-8: indexes and results store names in UTF-8.

    Raises:
        UsageError: with the path.
    """
    try:
        os.path.abspath(path).encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            "the path is not UTF-8",
            got=str(path).encode(errors="backslashreplace").decode(),
            hint="rename it; indexes and results hold names in UTF-8",
        ) from error


def printable(name: str) -> str:
    """The name with an escape for each byte that is not UTF-8."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def content_digests(samples: Sequence[Sample], packed: bool = True) -> list[Hashable]:
    """A key per sample; samples of the same picture have equal keys.

    Pictures are the same if the bytes of their files, or the pixels of decoded images, are equal. A
    file that cannot be read equals no other.

    Args:
        samples: of one data set.
        packed: whether images inside shards are read; if not, each of them has a key of its own.

    Returns:
        One key per sample, in order.
    """
    sizes = [_size(sample) for sample in samples]
    counts = Counter(sizes)

    def key(number: int) -> Hashable:
        sample, size = samples[number], sizes[number]
        # Only files of the same size can be equal: the others need not be read.
        comparable = size is None or counts[size] > 1
        if comparable and (packed or not isinstance(sample.image, ShardImage)):
            with suppress(OSError, MissingError):
                return hashlib.blake2b(sample.content(), digest_size=16).digest()
        return number

    with ThreadPoolExecutor() as pool:
        return list(pool.map(key, range(len(samples))))


def _size(sample: Sample) -> Hashable:
    """The bytes of the file, or (width, height) of a decoded image; None where it is unknown."""
    if isinstance(sample.image, Path):
        try:
            return sample.image.stat().st_size
        except (OSError, ValueError):
            return None
    return getattr(sample.image, "size", None)


def first_of_each(keys: Sequence[Hashable]) -> list[int]:
    """The position of the first occurrence of each key, ascending."""
    first: dict[Hashable, int] = {}
    for number, key in enumerate(keys):
        first.setdefault(key, number)
    return list(first.values())


def merge_duplicates(samples: Sequence[Sample], keys: Sequence[Hashable]) -> Samples:
    """One sample per image, in order of first appearance.

    Several samples of one image are not independent, so they count once in metrics and intervals.

    Args:
        samples: any number per image; `skipped` is passed on.
        keys: equal for samples of the same image, such as `content_digests`.

    Returns:
        The first sample of each key, with the distinct texts of all its samples and the first
        label that any of them has.
    """
    merged: dict[Hashable, Sample] = {}
    for sample, key in zip(samples, keys, strict=True):
        first = merged.setdefault(key, sample)
        texts = distinct((*first.texts, *sample.texts))
        merged[key] = replace(first, texts=texts, label=first.label or sample.label)
    return Samples(merged.values(), getattr(samples, "skipped", ()))
