"""Rows of an index: their columns, rows of samples, and the difference between rows and samples.

Stored rows are read a batch at a time. Knows no database and no model.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from encoderlab.core.skipped import Skipped
from encoderlab.data.remote_files import is_url
from encoderlab.data.sample import Sample, distinct
from encoderlab.data.shard_image import ParquetCell, ShardImage, TarMember
from encoderlab.errors import is_utf8

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("path", "caption", "label", "width", "height", "hash", "source")
COMPARED = ("path", "hash", "caption", "label", "source")
UNREADABLE = "unreadable"  # the hash of a file that cannot be read
TOGETHER = 64  # files that a thread hashes before it asks for more: a million requests are slow


@dataclass(frozen=True)
class SyncPlan:
    """The rows that a source shall have.

    Args:
        samples: one for each path, with the texts of all samples of this path.
        hashes: of their images, in the same order.
        at: path -> position in both.
        skipped: samples that no row can hold.
    """

    samples: list[Sample]
    hashes: list[str]
    at: dict[str, int]
    skipped: list[Skipped] = field(default_factory=list)


@dataclass(frozen=True)
class Difference:
    """The changes to make.

    Args:
        new: positions in the plan of samples to embed.
        replaced: paths of those that have a row already.
        gone: paths of rows to remove.
        renamed: other names of the source in rows.
    """

    new: list[int]
    replaced: set[str]
    gone: list[str]
    renamed: list[str]


def schema(dim: int) -> pa.Schema:
    """The columns of the table, for embeddings of width `dim`."""
    import pyarrow as pa

    text = [pa.field(name, pa.string()) for name in ("path", "caption", "label")]
    size = [pa.field(name, pa.int32()) for name in ("width", "height")]
    more = [pa.field(name, pa.string()) for name in ("hash", "source")]
    return pa.schema([*text, *size, *more, pa.field("vector", pa.list_(pa.float32(), dim))])


def plan_sync(samples: Sequence[Sample]) -> SyncPlan:
    """The samples by path, with the hashes of their images; those of one path become one."""
    at: dict[str, int] = {}
    chosen: list[Sample] = []
    skipped: list[Skipped] = []
    folders: dict[str, str] = {}
    for original in samples:
        sample = _with_real_folder(original, folders)
        path = path_of(sample)
        if not is_utf8(path):
            skipped.append(Skipped(_storable(sample.id), "its path is not UTF-8: rename it"))
        elif path in at:
            first = chosen[at[path]]
            texts = distinct((*first.texts, *sample.texts))
            chosen[at[path]] = replace(first, texts=texts)
        else:
            at[path] = len(chosen)
            chosen.append(sample)
    return SyncPlan(chosen, _hashes(chosen), at, skipped)


def compare(
    stored: Iterable[pa.RecordBatch], plan: SyncPlan, source: str, remove: bool
) -> Difference:
    """The difference between stored rows (columns COMPARED) and the plan."""
    # `remove` is for rows that are not in the plan: those of `source`, and of missing files under
    # it.
    has_row, same = bytearray(len(plan.at)), bytearray(len(plan.at))
    gone = []
    is_ours: dict[str, bool] = {}
    for batch in stored:
        columns = [batch.column(name).to_pylist() for name in COMPARED]
        for path, content, caption, label, row_source in zip(*columns, strict=True):
            if row_source not in is_ours:
                is_ours[row_source] = is_same_source(row_source, source)
            i = plan.at.get(path)
            if i is None:
                if remove and (is_ours[row_source] or _is_missing_below(path, source)):
                    gone.append(path)
                continue
            has_row[i] = True
            sample = plan.samples[i]
            same[i] = content != UNREADABLE and (content, caption, label) == (
                plan.hashes[i], caption_of(sample), label_of(sample),
            )  # fmt: skip
    new = [i for i, is_same in enumerate(same) if not is_same]
    replaced = {path_of(plan.samples[i]) for i in new if has_row[i]}
    renamed = [name for name, ours in is_ours.items() if ours and name != source]
    return Difference(new, replaced, gone, renamed if remove else [])


def as_rows(
    samples: Sequence[Sample],
    sizes: Sequence[tuple[int, int]],
    vectors: Float[np.ndarray, "n d"],
    plan: SyncPlan,
    source: str,
) -> pa.Table:
    """The rows of some embedded samples, which are in the plan."""
    import pyarrow as pa

    dim = vectors.shape[1]
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
    paths = [path_of(sample) for sample in samples]
    columns = {
        "path": paths,
        "caption": [caption_of(sample) for sample in samples],
        "label": [label_of(sample) for sample in samples],
        "width": [width for width, _ in sizes],
        "height": [height for _, height in sizes],
        "hash": [plan.hashes[plan.at[path]] for path in paths],
        "source": [source] * len(samples),
        "vector": pa.FixedSizeListArray.from_arrays(flat, dim),
    }
    return pa.table(columns, schema=schema(dim))


def path_of(sample: Sample) -> str:
    """The key of a row: the image's full path, its place in a shard, or the id of one in memory."""
    if isinstance(sample.image, Path):
        return str(sample.image.absolute())
    return str(sample.image) if isinstance(sample.image, ShardImage) else sample.id


def caption_of(sample: Sample) -> str:
    """All captions of a sample, in one line."""
    return _storable(" | ".join(sample.texts))


def label_of(sample: Sample) -> str:
    """The label of a sample, empty without one."""
    return _storable(sample.label or "")


def source_name(source: str | Path) -> str:
    """The name of a source in the table: an existing path without links and `..`, else as given."""
    # So all spellings of a folder or file are one source.
    name = str(source)
    return os.path.realpath(name) if not is_url(name) and os.path.exists(name) else name


def is_same_source(stored: str, source: str) -> bool:
    """Whether the source of a row is `source`, in any spelling."""
    # Version 0.1 kept links and `..` and put the working folder before a URL.
    if stored == source:
        return True
    if is_url(source):
        return stored.endswith(f"/{Path(source)}")
    if not os.path.isabs(stored) or not source:
        return False
    names = (os.path.abspath(source), os.path.realpath(source))
    return stored in names or os.path.realpath(stored) in names


def file_of(path: str) -> str:
    """The file that a row's path names: the shard of an image in a shard."""
    shard = re.match(r".*?\.(?:tar|parquet)(?=/)", path)
    return path if shard is None else shard[0]


def _is_missing_below(path: str, folder: str) -> bool:
    return path.startswith(folder + os.sep) and not os.path.exists(file_of(path))


def _with_real_folder(sample: Sample, known: dict[str, str]) -> Sample:
    """The sample with links and `..` of its folder resolved: one path for each image."""
    # A link to a single image stays: its name may be the label.

    def real(path: str | Path) -> str:
        folder, name = os.path.split(path)
        if folder not in known:
            try:
                known[folder] = os.path.realpath(folder)
            except ValueError:  # no system has a folder of such a name
                known[folder] = os.path.abspath(folder)
        return os.path.join(known[folder], name)

    image = sample.image
    if isinstance(image, Path):
        path = real(image)
        return sample if str(image) == path else replace(sample, image=Path(path))
    if isinstance(image, TarMember | ParquetCell) and not is_url(image.shard):
        return replace(sample, image=replace(image, shard=real(image.shard)))
    return sample


def _storable(text: str) -> str:
    """The text with an escape for what UTF-8 cannot hold: a lone surrogate."""
    return text.encode(errors="backslashreplace").decode()


def _hashes(samples: Sequence[Sample]) -> list[str]:
    parts = [samples[start : start + TOGETHER] for start in range(0, len(samples), TOGETHER)]
    with ThreadPoolExecutor() as pool:
        hashes = pool.map(lambda part: [_content_hash(sample) for sample in part], parts)
        return [content for part in hashes for content in part]


def _content_hash(sample: Sample) -> str:
    try:
        return hashlib.blake2b(sample.content(), digest_size=16).hexdigest()
    except OSError:
        return UNREADABLE  # the decoder reports why
