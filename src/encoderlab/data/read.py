"""One door to every layout of samples on disk, and the split of a set in two."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path

from encoderlab.core.progress import note
from encoderlab.data.chat import read_chat
from encoderlab.data.csv_table import read_csv
from encoderlab.data.folder import read_folder
from encoderlab.data.sample import Sample, Samples, check_name, content_digests
from encoderlab.data.shards import existing, read_shard, read_shards, shards_of
from encoderlab.errors import MissingError, UsageError, one_line

KINDS_OF_DATA = "a CSV, a JSONL, a folder of images, or shards (.tar, .parquet)"
# Samples that are looked at together: enough to keep every worker busy, few enough to hold.
PART = 100_000


def read_samples(source: str | Path, img_root: str | Path | None = None) -> Samples:
    """The samples of a CSV, a chat-format JSONL, a folder of images or shards, by what `source` is.

    Args:
        source: shards may be several in one word, `train-{000..123}.tar` or `train-*.parquet`, and
            behind a URL.

    Returns:
        A list of samples; its `skipped` lists what the source holds beside them that cannot be
        used, and why.

    Raises:
        MissingError: there is nothing at `source`.
        UsageError: it is something else, or its content is wrong.
    """
    samples = _read(source, img_root)
    _note_skipped(samples, source)
    return samples


def _read(source: str | Path, img_root: str | Path | None) -> Samples:
    shards = shards_of(source)
    path = Path(source)
    if shards:
        _warn_of_root(img_root, source)
        existing(shards)
        return read_shards(shards)
    check_name(img_root or path)
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
) -> Iterator[Samples]:
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
    part = Samples()
    for shard in shards:
        read = read_shard(shard)
        _note_skipped(read, shard)
        part = Samples([*part, *read], [*part.skipped, *read.skipped])
        if len(part) >= size:
            yield part
            part = Samples()
    if part:
        yield part


def _note_skipped(samples: Samples, source: str | Path) -> None:
    if samples.skipped:
        first = samples.skipped[0]
        note(
            f"data: {len(samples.skipped):,} items of {source} are left out, "
            f"the first: {one_line(first.id)}: {one_line(first.reason)}"
        )


def split_by_image(samples: Sequence[Sample], held_out: float) -> tuple[list[Sample], list[Sample]]:
    """Splits off about the share `held_out` of the images, each by its own id alone.

    An image stays on its side when others are added or the order changes; at least one image is
    held out and one kept. Copies of an image are on the side of the one whose id sorts first;
    copies inside shards are not looked for, since that would read all shards.

    Raises:
        UsageError: fewer than two different images.
    """
    keys = content_digests(samples, packed=False)
    ids: dict[Hashable, str] = {}
    for sample, key in zip(samples, keys, strict=True):
        ids[key] = min(sample.id, ids.get(key, sample.id))
    if len(ids) < 2:
        raise UsageError("too few images to hold some out", got=len(ids), want="at least 2")
    place = {
        key: int.from_bytes(hashlib.blake2b(one.encode(), digest_size=8).digest(), "big")
        for key, one in ids.items()
    }
    limit = held_out * 2**64
    out = {key for key in place if place[key] < limit}
    if not out or len(out) == len(place):
        first = min(place, key=lambda key: place[key])
        out = {first} if not out else set(place) - {first}
    sides: tuple[list[Sample], list[Sample]] = ([], [])
    for sample, key in zip(samples, keys, strict=True):
        sides[key in out].append(sample)
    return sides
