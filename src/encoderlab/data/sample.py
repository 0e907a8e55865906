"""One item of a data set: an image, what is said about it, and what kind it is; a list of items and
of what was left out of it; the names that data sets give to captions and labels.

The image is a path, or a place in a shard, until somebody looks at it: a list of a million samples
costs no decoding.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
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
        image: a path or a place in a shard, decoded on demand, or a PIL image.
        texts: captions, or the assistant turns of a chat record.
        label: data type or class, if known.

    Examples:
        >>> Sample("grey", Image.new("L", (4, 2)), texts=("a grey field",)).load().size
        (4, 2)
    """

    id: str
    image: Path | ShardImage | Image.Image
    texts: tuple[str, ...] = ()
    label: str | None = None

    def load(self, min_side: int | None = None) -> Image.Image:
        """The image as RGB, upright. `min_side` allows a JPEG to be decoded at a smaller scale, its
        short side never under that many pixels.

        Raises:
            ImageError: missing, truncated, no image, or over the pixel limit.
        """
        return self.load_with_size(min_side)[0]

    def load_with_size(self, min_side: int | None = None) -> tuple[Image.Image, tuple[int, int]]:
        """What `load` returns, and the (width, height) of the upright image at its full scale.

        Raises:
            ImageError: as `load` does.
        """
        if isinstance(self.image, ShardImage):
            return open_with_size(self.image.read(), min_side=min_side, name=str(self.image))
        return open_with_size(self.image, min_side=min_side)

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
        if isinstance(self.image, ShardImage):
            try:
                return self.image.read()
            except ImageError as error:
                raise OSError(errno.EIO, error.reason) from error
        return f"{self.image.mode} {self.image.size}".encode() + self.image.tobytes()


class Samples(list[Sample]):
    """Samples in order.

    Args:
        skipped: the items of the source that are not among them, and why.
    """

    def __init__(self, samples: Iterable[Sample] = (), skipped: Iterable[Skipped] = ()) -> None:
        super().__init__(samples)
        self.skipped = list(skipped)

    def with_texts(self) -> Samples:
        """The samples that have a text; those without are added to what is left out."""
        without = (Skipped(sample.id, "it has no caption") for sample in self if not sample.texts)
        return Samples((sample for sample in self if sample.texts), [*self.skipped, *without])


def distinct(texts: Iterable[str]) -> tuple[str, ...]:
    """The texts without blanks at their ends, in order, each once: two that differ in blanks or
    line breaks only are one. Empty ones are dropped.

    Raises:
        UnicodeEncodeError: a text with half of a surrogate pair, which JSON can spell: no tokenizer
            and no table takes it.
    """
    by_words: dict[str, str] = {}
    for text in texts:
        text.encode()
        by_words.setdefault(captions_of(text), text.strip())
    by_words.pop("", None)
    return tuple(by_words.values())


def captions_of(text: str) -> str:
    """The text with one blank wherever it has blanks or line breaks."""
    return " ".join(text.split())


def captions_in(record: Mapping[str, Any]) -> list[str]:
    """The captions of a record, under any of the names that data sets use.

    Raises:
        UnicodeDecodeError: a caption of bytes that is not UTF-8.
    """
    value = _first(record, CAPTION_COLUMNS)
    if isinstance(value, dict):  # COCO: {"raw": [...]}
        value = value.get("raw")
    values = value if isinstance(value, list | tuple) else [value]
    return [text for text in map(_as_text, values) if text is not None]


def label_in(record: Mapping[str, Any]) -> str | None:
    """The label of a record, likewise; None where it has none, or a blank one."""
    return (_as_text(_first(record, LABEL_COLUMNS)) or "").strip() or None


def _first(record: Mapping[str, Any], known: Iterable[str]) -> Any:
    return next((record[name] for name in known if record.get(name) not in (None, "")), None)


def _as_text(value: Any) -> str | None:
    if value is None or value != value:  # NaN: how pandas writes that nothing is there
        return None
    return value.decode() if isinstance(value, bytes) else str(value)


def check_name(path: str | Path) -> None:
    """Refuses a path whose name is not UTF-8, in which indexes and results keep names.

    Raises:
        UsageError: naming it.
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
    """The name with an escape for each byte that is not UTF-8: JSON, tables and terminals hold text
    only."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def content_digests(samples: Sequence[Sample], packed: bool = True) -> list[Hashable]:
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
        if comparable and (packed or not isinstance(sample.image, ShardImage)):
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


def merge_duplicates(samples: Sequence[Sample], keys: Sequence[Hashable]) -> Samples:
    """One sample per image, in order of first appearance: several samples of one image are not
    independent, and count once in every metric and interval.

    Args:
        keys: equal for samples of the same image, such as `contents`.

    Returns:
        The first sample of each key, with the texts of all its samples, each once; its label is
        the first one that any of them has. What is left out of `samples` stays named.
    """
    merged: dict[Hashable, Sample] = {}
    for sample, key in zip(samples, keys, strict=True):
        first = merged.setdefault(key, sample)
        texts = distinct((*first.texts, *sample.texts))
        merged[key] = replace(first, texts=texts, label=first.label or sample.label)
    return Samples(merged.values(), getattr(samples, "skipped", ()))
