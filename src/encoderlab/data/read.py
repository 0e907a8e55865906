"""One door to every layout of samples on disk, and the split of a set in two."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from encoderlab.data.chat import read_chat
from encoderlab.data.csv_table import read_csv
from encoderlab.data.folder import read_folder
from encoderlab.data.sample import Sample
from encoderlab.data.shards import existing, read_shard, read_shards, shards_of
from encoderlab.errors import MissingError, UsageError
from encoderlab.progress import note

KINDS_OF_DATA = "a CSV, a JSONL, a folder of images, or shards (.tar, .parquet)"
# Samples that are looked at together: enough to keep every worker busy, few enough to hold.
PART = 100_000


def read_samples(source: str | Path, img_root: str | Path | None = None) -> list[Sample]:
    """The samples of a CSV, a chat-format JSONL, a folder of images or shards, by what `source` is.

    Args:
        source: shards may be several in one word, `train-{000..123}.tar` or `train-*.parquet`, and
            behind a URL.

    Raises:
        MissingError: there is nothing at `source`.
        UsageError: it is something else, or its content is wrong.
    """
    shards = shards_of(source)
    path = Path(source)
    if shards:
        _warn_of_root(img_root, source)
        existing(shards)
        return read_shards(shards)
    if path.is_dir():
        _warn_of_root(img_root, source)
        return read_folder(path)
    if not path.exists():
        raise MissingError("no such data", got=str(source), want=f"{KINDS_OF_DATA} that exists")
    ending = path.suffix.lower()
    if ending in (".csv", ".tsv"):
        return read_csv(path, img_root)
    if ending in (".jsonl", ".ndjson"):
        return read_chat(path, img_root)
    raise UsageError("unknown kind of data", got=str(source), want=KINDS_OF_DATA)


def _warn_of_root(img_root: str | Path | None, source: str | Path) -> None:
    if img_root is not None:
        note(f"warning: img_root={img_root} has no effect: {source} is no list of image paths")


def read_parts(
    source: str | Path, img_root: str | Path | None = None, size: int = PART
) -> Iterator[list[Sample]]:
    """The same a part at a time, in order, for whoever need not hold all: whole shards until there
    are `size` samples. Data that is one file or folder is one part.

    Raises:
        MissingError: there is nothing at `source`.
        UsageError: it is something else, or its content is wrong.
    """
    shards = shards_of(source)
    if not shards:
        yield read_samples(source, img_root)
        return
    _warn_of_root(img_root, source)
    existing(shards)
    part: list[Sample] = []
    for shard in shards:
        part += read_shard(shard)
        if len(part) >= size:
            yield part
            part = []
    if part:
        yield part


def split_by_image(samples: Sequence[Sample], held_out: float) -> tuple[list[Sample], list[Sample]]:
    """Splits off about the share `held_out` of the images, each by its own id alone.

    An image stays on its side when others are added or the order changes; at least one image is
    held out and one kept.

    Raises:
        UsageError: fewer than two images.
    """
    if len(samples) < 2:
        raise UsageError("too few images to hold some out", got=len(samples), want="at least 2")

    def place(sample: Sample) -> int:
        digest = hashlib.blake2b(sample.id.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big")

    limit = held_out * 2**64
    out = [sample for sample in samples if place(sample) < limit]
    if not out or len(out) == len(samples):
        first = min(samples, key=place)
        out = [first] if not out else [sample for sample in samples if sample is not first]
    chosen = {sample.id for sample in out}
    return [sample for sample in samples if sample.id not in chosen], out
