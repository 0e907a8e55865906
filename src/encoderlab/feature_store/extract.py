"""Features of many samples, computed once: what the store has is read, the rest is computed in
chunks and stored as it comes.

A run that is killed goes on where it stopped, to the same bytes: which samples share a batch
follows from their order alone, whoever computes it.
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
# Samples whose content is read by one worker at a time.
READ_TOGETHER = 256


@dataclass(frozen=True)
class Embedded:
    """`vectors[i]` (fp32, unit length) is of `samples[i]`."""

    vectors: Float[np.ndarray, "n d"]
    samples: list[Sample]
    skipped: list[Skipped]


@dataclass(frozen=True)
class StoredFeatures:
    """The features of samples, in the store; arrays are read when they are asked for.

    Args:
        samples: those that have features, in the order they were given; texts for a text encoder.
        skipped: those that could not be read, and why.
        computed: how many of them were computed now.
    """

    samples: list
    skipped: list[Skipped]
    computed: int
    shelves: Mapping[str, FeatureTable]
    digests: list[bytes]

    def __len__(self) -> int:
        return len(self.samples)

    def array(self, what: str = "pooled") -> Float[np.ndarray, "n ..."]:
        """All rows of one kind of feature, fp32; row i is of sample i."""
        return self.rows(range(len(self.digests)), what)

    def rows(self, indices: Sequence[int], what: str = "pooled") -> Float[np.ndarray, "k ..."]:
        """Some rows, in the order asked for, fp32.

        Raises:
            UsageError: a kind of feature that was not extracted.
        """
        return self.batch(indices, what).float().numpy()

    def batch(self, indices: Sequence[int], what: str = "patches") -> Shaped[Tensor, "k ..."]:
        """Some rows as a tensor in the format they are stored in (bf16 tokens stay bf16, codes of
        a byte become fp32): a random batch costs what the disk costs.

        Raises:
            UsageError: a kind of feature that was not extracted.
        """
        found = self._shelf(what).batch([self.digests[i] for i in indices])
        return from_int8(found) if found.dtype == torch.int8 else found

    def _shelf(self, what: str) -> FeatureTable:
        if what not in self.shelves:
            raise UsageError(
                "this kind of feature was not extracted", got=what, want=", ".join(self.shelves)
            )
        return self.shelves[what]


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
        what: kinds of feature: pooled; cls; projected; patches; patches@K and mean@K, the patches
            of hidden state K and their mean.
        chunk_size: samples that are stored at once: what a killed run can lose.
        by: the engine: local, ray, or one that is at hand.

    Raises:
        UsageError: an unknown kind, a layer that the tower does not have, or a kind that its family
            does not give.
        WorkError: no room on the disk, or out of memory with one image at a time.
    """
    kinds = {kind.name: kind for kind in (Kind.parse(one, encoder) for one in what)}
    work = ImageTask(encoder, tuple(kinds.values()))
    if work.layers and encoder.backend is not None:
        note(f"{encoder.name}: hidden layers go through torch, not {encoder.backend.name}")
    found = _extract(work, list(samples), store, batch_size, chunk_size, engine(by))
    # "mean@-1" is kept as the layer it is, and found under both names.
    asked = {one: found.shelves[Kind.parse(one, encoder).name] for one in what}
    return dataclasses.replace(found, shelves={**found.shelves, **asked})


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
        cut: counts the texts that are longer than the model's context, for whoever extracts part by
            part; otherwise this warns of them, stored ones included.

    Raises:
        UsageError: a layer that the model does not have.
        WorkError: no room on the disk, or out of memory with one sentence at a time.
    """
    work = TextTask(encoder, tuple(layer_numbers(layers, encoder.n_layers)))
    if cut is None:
        encoder.count_cut(texts).warn()
    else:
        cut.add(texts, encoder.cut_rows)
    return _extract(work, list(texts), store, batch_size, chunk_size, engine(by))


def embed_samples(
    encoder: DualEncoder,
    samples: Sequence[Sample],
    batch_size: int = EMBED_BATCH,
    store: FeatureStore | str | Path | None = None,
) -> Embedded:
    """The embeddings of all samples whose image can be read.

    Args:
        store: where they are read from and kept; None: computed, and not kept.

    Raises:
        WorkError: out of memory even one image at a time, or no room in the store.
    """
    if store is not None:
        found = _extract(EmbeddingTask(encoder), list(samples), store, batch_size, CHUNK, engine())
        vectors = found.array(EMBEDDING) if len(found) else np.empty((0, encoder.dim), np.float32)
        return Embedded(vectors, found.samples, found.skipped)
    # One array from the start: many small ones, kept while each batch comes and goes, would leave
    # the allocator no room to use twice.
    vectors = np.empty((len(samples), encoder.dim), dtype=np.float32)
    seen: list[Sample] = []
    skipped: list[Skipped] = []
    for part, _ in embed_batches(encoder, samples, batch_size):
        vectors[len(seen) : len(seen) + len(part.samples)] = part.vectors
        seen += part.samples
        skipped += part.skipped
    return Embedded(vectors[: len(seen)], seen, skipped)


def embed_batches(
    encoder: DualEncoder, samples: Sequence[Sample], batch_size: int
) -> Iterator[tuple[Embedded, list[tuple[int, int]]]]:
    """The same a batch at a time, with the (width, height) of each image, for whoever stores them
    elsewhere."""
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
    work: ExtractionTask,
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
    shelves = tables_of(store, work)
    name = work.encoder.name
    digests, unreadable = _digests(items, by)
    missing: dict[bytes, Any] = {}
    for digest, item in zip(digests, items, strict=True):
        if digest is not None and not all(digest in shelf for shelf in shelves.values()):
            missing.setdefault(digest, item)
    readable = sum(digest is not None for digest in digests)
    if missing and len(missing) < readable:
        note(f"{name}: {readable - len(missing):,} of {readable:,} are stored")
    if missing:
        chunks = _chunks(missing, chunk_size)
        title = f"extracting features with {name}"
        with progress(title, total=len(missing), unit="sample") as bar:
            by.extract(work, chunks, shelves, batch_size, bar)
    remove_stale_locks(store.root)  # a killed run may have stored its chunk and left the lock
    for shelf in shelves.values():
        shelf.sweep()  # another run may have been killed meanwhile, and this one have done its work
        shelf.refresh()
    return _collected(items, digests, unreadable, shelves, len(missing))


def _chunks(missing: dict[bytes, Any], size: int) -> list[Chunk]:
    digests = list(missing)
    parts = (digests[start : start + size] for start in range(0, len(digests), size))
    return [Chunk(part, [missing[digest] for digest in part]) for part in parts]


def _digests(items: list[Any], by: Engine) -> tuple[list[bytes | None], list[Skipped]]:
    """The digest of every item; None, and the reason, where the file cannot be read."""
    parts = [items[i : i + READ_TOGETHER] for i in range(0, len(items), READ_TOGETHER)]
    found = [one for part in by.map(_digests_of, parts) for one in part]
    skipped = [
        Skipped(item.id, one)
        for item, one in zip(items, found, strict=True)
        if isinstance(one, str)
    ]
    return [one if isinstance(one, bytes) else None for one in found], skipped


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
    shelves: dict[str, FeatureTable],
    computed: int,
) -> StoredFeatures:
    first = next(iter(shelves.values()))
    kept: list[Any] = []
    rows: list[bytes] = []
    for item, digest in zip(items, digests, strict=True):
        if digest is None:
            continue
        if first.has_values(digest):
            kept.append(item)
            rows.append(digest)
        else:
            skipped.append(Skipped(item.id, first.why_left_out(digest) or "not computed"))
    return StoredFeatures(kept, skipped, computed, shelves, rows)
