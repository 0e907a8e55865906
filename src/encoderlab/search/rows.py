"""The rows of an index: their columns, how samples become them, and which samples are new.

Arrow in, Arrow out, a column at a time: a million rows never become a million Python dictionaries.
Knows no database and no model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from encoderlab.data.sample import Sample

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("path", "caption", "label", "width", "height", "hash", "source")
COMPARED = ("path", "hash", "caption", "label", "source")
AT_ONCE = 4096  # files whose hashing is queued at a time: a queue of a million fills the memory


@dataclass(frozen=True)
class Wanted:
    """What the rows of a source shall be; entry i of each list is of the same sample."""

    samples: list[Sample]
    paths: list[str]
    hashes: list[str]


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
    """The samples with their paths and the hashes of their images; of two with the same path, the
    first."""
    first: dict[str, Sample] = {}
    for sample in samples:
        first.setdefault(path_of(sample), sample)
    chosen = list(first.values())
    return Wanted(chosen, list(first), list(_hashes(chosen)))


def compare(there: pa.Table, wanted: Wanted, source: str, remove: bool) -> Difference:
    """How the rows `there` (columns COMPARED) differ from what is wanted.

    Args:
        remove: whether rows of `source` that nobody wants any more are gone.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    # large_string: 2 GB of text, where a string column overflows, are ten million paths.
    text = pa.large_string()
    old = {name: there.column(name).cast(text).combine_chunks() for name in COMPARED}
    paths = pa.array(wanted.paths, text)
    at = pc.index_in(paths, value_set=old["path"])
    same = pc.is_valid(at)
    for name, values in (
        ("hash", wanted.hashes),
        ("caption", [caption_of(sample) for sample in wanted.samples]),
        ("label", [sample.label or "" for sample in wanted.samples]),
    ):
        equal = pc.equal(old[name].take(at), pa.array(values, text))
        same = pc.and_(same, pc.fill_null(equal, False))
    known = pc.is_valid(at).to_numpy(zero_copy_only=False)
    new = np.flatnonzero(~same.to_numpy(zero_copy_only=False))
    gone: list[str] = []
    if remove:
        unwanted = pc.and_(
            pc.equal(old["source"], source), pc.invert(pc.is_in(old["path"], value_set=paths))
        )
        gone = old["path"].filter(unwanted).to_pylist()
    return Difference(new.tolist(), {wanted.paths[i] for i in new.tolist() if known[i]}, gone)


def as_rows(
    samples: Sequence[Sample],
    sizes: Sequence[tuple[int, int]],
    vectors: Float[np.ndarray, "n d"],
    hashes: Mapping[str, str],
    source: str,
) -> pa.Table:
    """The rows of some embedded samples; `hashes` are by path."""
    import pyarrow as pa

    dim = vectors.shape[1]
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
    columns = {
        "path": [path_of(sample) for sample in samples],
        "caption": [caption_of(sample) for sample in samples],
        "label": [sample.label or "" for sample in samples],
        "width": [width for width, _ in sizes],
        "height": [height for _, height in sizes],
        "hash": [hashes[path_of(sample)] for sample in samples],
        "source": [source] * len(samples),
        "vector": pa.FixedSizeListArray.from_arrays(flat, dim),
    }
    return pa.table(columns, schema=schema(dim))


def path_of(sample: Sample) -> str:
    """What a row is known by: the image's full path, or the id of an image in memory."""
    return str(sample.image.absolute()) if isinstance(sample.image, Path) else sample.id


def caption_of(sample: Sample) -> str:
    """All that is said about a sample, in one line."""
    return " | ".join(sample.texts)


def _hashes(samples: Sequence[Sample]) -> Iterator[str]:
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(samples), AT_ONCE):
            yield from pool.map(_content_hash, samples[start : start + AT_ONCE])


def _content_hash(sample: Sample) -> str:
    digest = hashlib.blake2b(digest_size=16)
    if isinstance(sample.image, Path):
        try:
            digest.update(sample.image.read_bytes())
        except OSError:
            return "unreadable"  # the decoder will say why
    else:
        digest.update(sample.image.tobytes())
    return digest.hexdigest()
