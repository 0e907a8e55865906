"""Reads samples from any layout on disk, all at once or in parts, and splits them by image.

Knows which reader a source needs; not what the files look like.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path

from encoderlab.core.progress import note
from encoderlab.data.chat import read_chat
from encoderlab.data.csv_table import read_csv
from encoderlab.data.folder import read_folder
from encoderlab.data.sample import Sample, Samples, check_name, content_digests
from encoderlab.data.shards import check_exist, read_shard, shards_of
from encoderlab.errors import MissingError, UsageError, one_line

KINDS_OF_DATA = "a CSV, a JSONL, a folder of images, or shards (.tar, .parquet)"
# Samples per part: enough to keep every worker busy, few enough to hold in memory.
PART = 100_000


def read_samples(source: str | Path, img_root: str | Path | None = None) -> Samples:
    """The samples of a CSV, a chat-format JSONL, a folder of images or shards.

    Args:
        source: a path; shards may be several, `train-{000..123}.tar` or `train-*.parquet`, and
            behind a URL.
        img_root: the folder that the paths in a CSV or JSONL start from.

    Returns:
        The samples; their `skipped` lists the items of the source that cannot be used, and why.

    Raises:
        MissingError: there is nothing at `source`.
        UsageError: it is something else, or its content is wrong.
    """
    path, shards = Path(source), _checked_shards(source, img_root)
    if shards:
        samples = Samples()
        for shard in shards:
            _add(samples, read_shard(shard))
    else:
        samples = _read(path, img_root)
    _note_skipped(samples, source)
    return samples


def _read(path: Path, img_root: str | Path | None) -> Samples:
    check_name(img_root or path)
    if path.is_dir():
        _warn_of_root(img_root, path)
        return read_folder(path)
    if not path.exists():
        raise MissingError("no such data", got=str(path), want=f"{KINDS_OF_DATA} that exists")
    ending = path.suffix.lower()
    if ending in (".csv", ".tsv"):
        return read_csv(path, img_root)
    if ending in (".jsonl", ".ndjson"):
        return read_chat(path, img_root)
    raise UsageError("unknown kind of data", got=str(path), want=KINDS_OF_DATA)


def read_parts(
    source: str | Path, img_root: str | Path | None = None, size: int = PART
) -> Iterator[Samples]:
    """The samples of `read_samples` in parts, in order, so that not all are in memory.

    Args:
        source: as in `read_samples`. Data in one file or folder is one part.
        img_root: as in `read_samples`.
        size: a part is whole shards until there are this many samples.

    Yields:
        At least one part; each holds complete shards.

    Raises:
        MissingError: there is nothing at `source`.
        UsageError: it is something else, or its content is wrong.
    """
    shards = _checked_shards(source, img_root)
    if not shards:
        yield read_samples(source, img_root)
        return
    part = Samples()
    for shard in shards:
        samples = read_shard(shard)
        _note_skipped(samples, shard)
        _add(part, samples)
        if len(part) >= size:
            yield part
            part = Samples()
    if part:
        yield part


def _checked_shards(source: str | Path, img_root: str | Path | None) -> list[str]:
    shards = shards_of(source)
    if shards:
        _warn_of_root(img_root, source)
    check_exist(shards)
    return shards


def _add(samples: Samples, others: Samples) -> None:
    samples += others
    samples.skipped += others.skipped


def _warn_of_root(img_root: str | Path | None, source: str | Path) -> None:
    if img_root is not None:
        note(f"warning: img_root={img_root} has no effect: {source} is no list of image paths")


def _note_skipped(samples: Samples, source: str | Path) -> None:
    if samples.skipped:
        first = samples.skipped[0]
        note(
            f"data: {len(samples.skipped):,} items of {source} are left out, "
            f"the first: {one_line(first.id)}: {one_line(first.reason)}"
        )


def split_by_image(samples: Sequence[Sample], held_out: float) -> tuple[list[Sample], list[Sample]]:
    """Splits off about the share `held_out` of the images, each by its own id alone.

    An image stays on its side when others are added or the order changes. Copies of an image are
    on the same side, that of the copy whose id sorts first; copies inside shards are not looked
    for, since that would read all shards.

    Args:
        samples: of one data set.
        held_out: share of the images, from 0 to 1.

    Returns:
        The samples that stay and the samples that are held out, each with at least one image.

    Raises:
        UsageError: fewer than two different images.
    """
    keys = content_digests(samples, packed=False)
    ids: dict[Hashable, str] = {}
    for sample, key in zip(samples, keys, strict=True):
        ids[key] = min(sample.id, ids.get(key, sample.id))
    if len(ids) < 2:
        raise UsageError("too few images to hold some out", got=len(ids), want="at least 2")
    position = {
        key: int.from_bytes(hashlib.blake2b(id_.encode(), digest_size=8).digest(), "big")
        for key, id_ in ids.items()
    }
    out = {key for key in position if position[key] < held_out * 2**64}
    if not out or len(out) == len(position):
        first = min(position, key=lambda key: position[key])
        out = {first} if not out else set(position) - {first}
    sides: tuple[list[Sample], list[Sample]] = ([], [])
    for sample, key in zip(samples, keys, strict=True):
        sides[key in out].append(sample)
    return sides
