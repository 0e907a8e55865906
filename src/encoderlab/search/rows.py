"""The rows of an index: their columns, how samples become them, and which samples are new.

Rows that are there come a batch at a time: of a million of them no second copy is made in memory.
Knows no database and no model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from encoderlab.data.packed import Packed
from encoderlab.data.sample import Sample, distinct

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("path", "caption", "label", "width", "height", "hash", "source")
COMPARED = ("path", "hash", "caption", "label", "source")
TOGETHER = 64  # files that a thread hashes before it asks for more: a million requests are slow


@dataclass(frozen=True)
class Wanted:
    """What the rows of a source shall be.

    Args:
        samples: one for each path.
        hashes: of their images, in the same order.
        at: path -> where it is in both, in their order.
    """

    samples: list[Sample]
    hashes: list[str]
    at: dict[str, int]


@dataclass(frozen=True)
class Difference:
    """What has to be done: `new` counts in the wanted lists; `replaced` and `gone` are paths."""

    new: list[int]
    replaced: set[str]
    gone: list[str]


def schema(dim: int) -> pa.Schema:
    """The columns of the table, for embeddings of width `dim`."""
    import pyarrow as pa

    text = [pa.field(name, pa.string()) for name in ("path", "caption", "label")]
    size = [pa.field(name, pa.int32()) for name in ("width", "height")]
    more = [pa.field(name, pa.string()) for name in ("hash", "source")]
    return pa.schema([*text, *size, *more, pa.field("vector", pa.list_(pa.float32(), dim))])


def want(samples: Sequence[Sample]) -> Wanted:
    """The samples with their paths and the hashes of their images; those with the same path are
    one, with the texts of all."""
    at: dict[str, int] = {}
    chosen: list[Sample] = []
    for sample in samples:
        i = at.setdefault(path_of(sample), len(chosen))
        if i == len(chosen):
            chosen.append(sample)
        elif sample.texts:
            texts = distinct([*chosen[i].texts, *sample.texts])
            chosen[i] = replace(chosen[i], texts=texts)
    return Wanted(chosen, _hashes(chosen), at)


def compare(
    there: Iterable[pa.RecordBatch], wanted: Wanted, source: str, remove: bool
) -> Difference:
    """How the rows `there` (columns COMPARED) differ from what is wanted.

    Args:
        remove: whether rows of `source` that nobody wants any more are gone.
    """
    known, same = bytearray(len(wanted.at)), bytearray(len(wanted.at))
    gone = []
    for batch in there:
        columns = [batch.column(name).to_pylist() for name in COMPARED]
        for path, content, caption, label, row_source in zip(*columns, strict=True):
            i = wanted.at.get(path)
            if i is None:
                if remove and row_source == source:
                    gone.append(path)
                continue
            known[i] = True
            sample = wanted.samples[i]
            same[i] = (content, caption, label) == (
                wanted.hashes[i], caption_of(sample), sample.label or "",
            )  # fmt: skip
    new = [i for i, is_same in enumerate(same) if not is_same]
    replaced = {path_of(wanted.samples[i]) for i in new if known[i]}
    return Difference(new, replaced, gone)


def as_rows(
    samples: Sequence[Sample],
    sizes: Sequence[tuple[int, int]],
    vectors: Float[np.ndarray, "n d"],
    wanted: Wanted,
    source: str,
) -> pa.Table:
    """The rows of some embedded samples, which are among the wanted."""
    import pyarrow as pa

    dim = vectors.shape[1]
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
    paths = [path_of(sample) for sample in samples]
    columns = {
        "path": paths,
        "caption": [caption_of(sample) for sample in samples],
        "label": [sample.label or "" for sample in samples],
        "width": [width for width, _ in sizes],
        "height": [height for _, height in sizes],
        "hash": [wanted.hashes[wanted.at[path]] for path in paths],
        "source": [source] * len(samples),
        "vector": pa.FixedSizeListArray.from_arrays(flat, dim),
    }
    return pa.table(columns, schema=schema(dim))


def path_of(sample: Sample) -> str:
    """What a row is known by: the image's full path, or its place in a shard; the id of an image in
    memory."""
    if isinstance(sample.image, Path):
        return str(sample.image.absolute())
    return str(sample.image) if isinstance(sample.image, Packed) else sample.id


def caption_of(sample: Sample) -> str:
    """All that is said about a sample, in one line."""
    return " | ".join(sample.texts)


def _hashes(samples: Sequence[Sample]) -> list[str]:
    parts = [samples[start : start + TOGETHER] for start in range(0, len(samples), TOGETHER)]
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda part: [_content_hash(sample) for sample in part], parts)
        return [content for part in found for content in part]


def _content_hash(sample: Sample) -> str:
    try:
        return hashlib.blake2b(sample.content(), digest_size=16).hexdigest()
    except OSError:
        return "unreadable"  # the decoder will say why
