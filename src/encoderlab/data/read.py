"""One door to every layout of samples on disk, and the split of a set in two."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from encoderlab.data.chat import read_chat
from encoderlab.data.csv_table import read_csv
from encoderlab.data.folder import read_folder
from encoderlab.data.sample import Sample
from encoderlab.errors import MissingError, UsageError


def read_samples(source: str | Path, img_root: str | Path | None = None) -> list[Sample]:
    """The samples of a CSV, a chat-format JSONL or a folder of images, by what `source` is.

    Raises:
        MissingError: there is nothing at `source`.
        UsageError: it is something else, or its content is wrong.
    """
    path = Path(source)
    if path.is_dir():
        return read_folder(path)
    if not path.exists():
        raise MissingError(
            "no such data", got=str(source), want="a CSV, a JSONL or a folder of images that exists"
        )
    ending = path.suffix.lower()
    if ending in (".csv", ".tsv"):
        return read_csv(path, img_root)
    if ending in (".jsonl", ".ndjson"):
        return read_chat(path, img_root)
    raise UsageError(
        "unknown kind of data", got=str(source), want="a .csv, a .jsonl or a folder of images"
    )


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
