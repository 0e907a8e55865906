"""Extracts features of many samples: reads those in the store, computes and stores the others in
chunks.

The batches depend on the order of the samples alone, so a run that was killed resumes to the same
bytes, with any engine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from encoderlab.core.progress import note, progress
from encoderlab.core.skipped import Skipped
from encoderlab.data.sample import Sample
from encoderlab.encoders.dual import DualEncoder
from encoderlab.encoders.layers import layer_numbers
from encoderlab.encoders.text import CutTexts, TextEncoder
from encoderlab.encoders.vision import VisionEncoder
from encoderlab.errors import UsageError
from encoderlab.feature_store.engines import LOCAL, Engine, engine
from encoderlab.feature_store.local_engine import remove_stale_locks
from encoderlab.feature_store.pipeline import Computing, batches_of, prepared
from encoderlab.feature_store.quantise import from_int8
from encoderlab.feature_store.store import FeatureStore, FeatureTable, digest_of
from encoderlab.feature_store.task import (
    EMBEDDING,
    Chunk,
    EmbeddingTask,
    ExtractionTask,
    ImageTask,
    Kind,
    TextTask,
    tables_of,
)

CHUNK = 256
BATCH, EMBED_BATCH = 32, 64
READ_TOGETHER = 256  # samples that a worker hashes in one call


@dataclass(frozen=True)
class Embedded:
    """Embeddings: `vectors[i]` (fp32, unit length) is that of `samples[i]`."""

    vectors: Float[np.ndarray, "n d"]
    samples: list[Sample]
    skipped: list[Skipped]


@dataclass(frozen=True)
class StoredFeatures:
    """Features of samples in the store; arrays are read on access.

    Args:
        samples: those that have features, in their original order; texts for a text encoder.
        skipped: those that could not be read, and why.
        computed: how many were computed, not read from the store.
        tables: kind of feature -> its table.
        digests: of the content of `samples`.
    """

    samples: list
    skipped: list[Skipped]
    computed: int
    tables: Mapping[str, FeatureTable]
    digests: list[bytes]

    def __len__(self) -> int:
        return len(self.samples)

    def array(self, what: str = "pooled") -> Float[np.ndarray, "n ..."]:
        """All rows of one kind of feature.

        Args:
            what: a kind that was extracted.

        Returns:
            Values in fp32; row i is of sample i.
        """
        return self.rows(range(len(self.digests)), what)

    def rows(self, indices: Sequence[int], what: str = "pooled") -> Float[np.ndarray, "k ..."]:
        """Some rows of one kind of feature.

        Args:
            indices: numbers of samples.
            what: a kind that was extracted.

        Returns:
            Values in fp32, in the order of `indices`.

        Raises:
            UsageError: a kind of feature that was not extracted.
        """
        return self.batch(indices, what).float().numpy()

    def batch(self, indices: Sequence[int], what: str = "patches") -> Shaped[Tensor, "k ..."]:
        """Some rows of one kind of feature, in their stored format.

        Args:
            indices: numbers of samples.
            what: a kind that was extracted.

        Returns:
            A tensor in the order of `indices`: bf16 stays bf16, int8 codes become fp32.

        Raises:
            UsageError: a kind of feature that was not extracted.
        """
        if what not in self.tables:
            raise UsageError(
                "this kind of feature was not extracted", got=what, want=", ".join(self.tables)
            )
        rows = self.tables[what].batch([self.digests[i] for i in indices])
        return from_int8(rows) if rows.dtype == torch.int8 else rows


def extract_images(
    encoder: VisionEncoder,
    samples: Sequence[Sample],
    store: FeatureStore | str | Path,
    *,
    what: Sequence[str] = ("pooled",),
    batch_size: int = BATCH,
    chunk_size: int = CHUNK,
    by: str | Engine = LOCAL,
) -> StoredFeatures:
    """The features of every sample whose image can be read.

    Args:
        encoder: computes what the store does not have.
        samples: each with an image.
        store: the store or its folder.
        what: kinds of feature: pooled; cls; projected; patches; patches@K and mean@K, the patches
            of hidden state K and their mean.
        batch_size: samples per forward pass.
        chunk_size: samples that are stored at once; a killed run loses at most one chunk.
        by: the engine: local, ray, or an instance.

    Returns:
        The stored features, with the samples that were skipped.

    Raises:
        UsageError: an unknown kind, a layer that the tower does not have, or a kind that its family
            does not give.
        WorkError: no room on the disk, or out of memory with one image at a time.
    """
    kinds = {name: Kind.parse(name, encoder) for name in what}
    task = ImageTask(encoder, tuple({kind.name: kind for kind in kinds.values()}.values()))
    if task.layers and encoder.backend is not None:
        note(f"{encoder.name}: hidden layers go through torch, not {encoder.backend.name}")
    features = _extract(task, list(samples), store, batch_size, chunk_size, engine(by))
    # "mean@-1" is stored under the number of the layer, and readable under both names.
    aliases = {name: features.tables[kind.name] for name, kind in kinds.items()}
    return dataclasses.replace(features, tables={**features.tables, **aliases})


def stored_images(
    tables: Sequence[FeatureTable], samples: Sequence[Sample]
) -> list[StoredFeatures]:
    """The features of samples that tables hold; loads no encoder and computes nothing.

    Args:
        tables: each of one encoder and kind of feature.
        samples: each with an image.

    Returns:
        Of each table its stored features; samples that it does not hold are among the skipped.
    """
    items = list(samples)
    digests, unreadable = _digests(items, engine())
    return [
        _collected(items, digests, list(unreadable), {table.key.what: table}, 0) for table in tables
    ]


def extract_texts(
    encoder: TextEncoder,
    texts: Sequence[str],
    store: FeatureStore | str | Path,
    *,
    layers: Sequence[int] = (),
    batch_size: int = BATCH,
    chunk_size: int = CHUNK,
    by: str | Engine = LOCAL,
    cut: CutTexts | None = None,
) -> StoredFeatures:
    """The pooled vector of every text, and of the hidden states `layers` ("mean@K").

    Args:
        encoder: computes what the store does not have.
        texts: in any order.
        store: the store or its folder.
        layers: numbers of hidden states.
        batch_size: texts per forward pass.
        chunk_size: texts that are stored at once; a killed run loses at most one chunk.
        by: the engine: local, ray, or an instance.
        cut: counts the texts that are longer than the model's context; None warns of them.

    Returns:
        The stored features; row i is of text i.

    Raises:
        UsageError: a layer that the model does not have.
        WorkError: no room on the disk, or out of memory with one sentence at a time.
    """
    task = TextTask(encoder, tuple(layer_numbers(layers, encoder.n_layers)))
    if cut is None:
        encoder.count_cut(texts).warn()
    else:
        cut.add(texts, encoder.cut_rows)
    return _extract(task, list(texts), store, batch_size, chunk_size, engine(by))


def embed_samples(
    encoder: DualEncoder,
    samples: Sequence[Sample],
    batch_size: int = EMBED_BATCH,
    store: FeatureStore | str | Path | None = None,
) -> Embedded:
    """The embeddings of all samples whose image can be read.

    Args:
        encoder: embeds the images.
        samples: each with an image.
        batch_size: images per forward pass.
        store: read first and filled; None: all are computed and none stored.

    Returns:
        Unit vectors (n, d), with their samples and those that were skipped.

    Raises:
        WorkError: out of memory even one image at a time, or no room in the store.
    """
    if store is not None:
        stored = _extract(EmbeddingTask(encoder), list(samples), store, batch_size, CHUNK, engine())
        vectors = stored.array(EMBEDDING) if len(stored) else np.empty((0, encoder.dim), np.float32)
        return Embedded(vectors, stored.samples, stored.skipped)
    # One array from the start: many small ones, alive between batches, would fragment the memory.
    vectors = np.empty((len(samples), encoder.dim), dtype=np.float32)
    embedded: list[Sample] = []
    skipped: list[Skipped] = []
    for part, _ in embed_batches(encoder, samples, batch_size):
        vectors[len(embedded) : len(embedded) + len(part.samples)] = part.vectors
        embedded += part.samples
        skipped += part.skipped
    return Embedded(vectors[: len(embedded)], embedded, skipped)


def embed_batches(
    encoder: DualEncoder, samples: Sequence[Sample], batch_size: int
) -> Iterator[tuple[Embedded, list[tuple[int, int]]]]:
    """Embeds a batch at a time.

    Args:
        encoder: embeds the images.
        samples: each with an image.
        batch_size: images per forward pass.

    Yields:
        The embeddings of a batch, and the (width, height) of each of its images.
    """
    task = EmbeddingTask(encoder)
    batches = prepared(task, ((batch, batch) for batch in batches_of(samples, batch_size)))
    empty = np.zeros((0, encoder.dim), dtype=np.float32)
    with progress("embedding images", total=len(samples), unit="image") as bar:
        for batch, rows, arrays in Computing(task, batch_size).run(batches):
            pairs = list(zip(batch, rows, strict=True))
            part = Embedded(
                arrays.get(EMBEDDING, empty),
                [sample for sample, row in pairs if not isinstance(row, str)],
                [Skipped(sample.id, row) for sample, row in pairs if isinstance(row, str)],
            )
            bar.advance(len(rows))
            yield part, [row.size for row in rows if not isinstance(row, str)]


def _extract(
    task: ExtractionTask,
    items: list[Any],
    store: FeatureStore | str | Path,
    batch_size: int,
    chunk_size: int,
    by: Engine,
) -> StoredFeatures:
    for name, value in (("batch_size", batch_size), ("chunk_size", chunk_size)):
        if value < 1:
            raise UsageError(f"{name} must be positive", got=value)
    store = store if isinstance(store, FeatureStore) else FeatureStore(store)
    tables = tables_of(store, task)
    name = task.encoder.name
    digests, unreadable = _digests(items, by)
    missing: dict[bytes, Any] = {}
    for digest, item in zip(digests, items, strict=True):
        if digest is not None and not all(digest in table for table in tables.values()):
            missing.setdefault(digest, item)
    readable = sum(digest is not None for digest in digests)
    if missing and len(missing) < readable:
        note(f"{name}: {readable - len(missing):,} of {readable:,} are stored")
    if missing:
        chunks = _chunks(missing, chunk_size)
        title = f"extracting features with {name}"
        with progress(title, total=len(missing), unit="sample") as bar:
            by.extract(task, chunks, tables, batch_size, bar)
    remove_stale_locks(store.root)  # of runs that were killed
    for table in tables.values():
        table.sweep()
        table.refresh()
    return _collected(items, digests, unreadable, tables, len(missing))


def _chunks(missing: dict[bytes, Any], size: int) -> list[Chunk]:
    digests = list(missing)
    parts = (digests[start : start + size] for start in range(0, len(digests), size))
    return [Chunk(part, [missing[digest] for digest in part]) for part in parts]


def _digests(items: list[Any], by: Engine) -> tuple[list[bytes | None], list[Skipped]]:
    """The digest of every item; None, and the reason, where the file cannot be read."""
    parts = [items[i : i + READ_TOGETHER] for i in range(0, len(items), READ_TOGETHER)]
    results = [result for part in by.map(_digests_of, parts) for result in part]
    skipped = [
        Skipped(item.id, result)
        for item, result in zip(items, results, strict=True)
        if isinstance(result, str)
    ]
    return [result if isinstance(result, bytes) else None for result in results], skipped


def _digests_of(items: Sequence[Any]) -> list[bytes | str]:
    def digest(item: Any) -> bytes | str:
        try:
            return digest_of(item)
        except OSError as error:
            return (error.strerror or str(error)).lower()

    return [digest(item) for item in items]


def _collected(
    items: list[Any],
    digests: list[bytes | None],
    skipped: list[Skipped],
    tables: dict[str, FeatureTable],
    computed: int,
) -> StoredFeatures:
    first = next(iter(tables.values()))
    samples: list[Any] = []
    rows: list[bytes] = []
    for item, digest in zip(items, digests, strict=True):
        if digest is None:
            continue
        if first.has_values(digest):
            samples.append(item)
            rows.append(digest)
        else:
            skipped.append(Skipped(item.id, first.why_left_out(digest) or "not computed"))
    return StoredFeatures(samples, skipped, computed, tables, rows)
