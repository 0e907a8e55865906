"""Features of many samples, computed once: what the store has is read, the rest is computed in
chunks and stored as it comes.

A run that is killed goes on where it stopped, to the same bytes: which samples share a batch
follows from their order alone. Several processes may work on the same samples; they share out the
chunks.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from jaxtyping import Float, Shaped
from torch import Tensor

from encoderlab.data.sample import Sample
from encoderlab.encoders.layers import layer_numbers
from encoderlab.encoders.text import TextEncoder
from encoderlab.encoders.vision import VisionEncoder, VisionFeatures, stack
from encoderlab.errors import UsageError, WorkError
from encoderlab.features.pipeline import (
    FETCHED_LATER,
    Arrays,
    Coming,
    FittingBatch,
    Skipped,
    decoded_ahead,
    decoding_threads,
)
from encoderlab.features.quantise import from_int8, to_int8
from encoderlab.features.store import FeatureStore, Shelf, ShelfKey, chunk_name, digest_of
from encoderlab.progress import Bar, note, progress

CHUNK = 256
BATCH = 32
KINDS = "pooled, cls, projected, patches, patches@LAYER, patches@LAYER:int8, mean@LAYER"


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
    shelves: Mapping[str, Shelf]
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

    def _shelf(self, what: str) -> Shelf:
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
) -> StoredFeatures:
    """The features of every sample whose image can be read.

    Args:
        what: kinds of feature: pooled; cls; projected; patches; patches@K and mean@K, the patches
            of hidden state K and their mean.
        chunk_size: samples that are stored at once: what a killed run can lose.

    Raises:
        UsageError: an unknown kind, a layer that the tower does not have, or a kind that its family
            does not give.
        WorkError: no room on the disk, or out of memory with one image at a time.
    """
    kinds = [_Kind.parse(one, encoder) for one in dict.fromkeys(what)]
    layers = [kind.layer for kind in kinds if kind.layer is not None]
    preprocessing = dataclasses.asdict(encoder.preprocess)
    dtype = encoder.ran_in
    if layers and encoder.backend is not None:
        note(f"{encoder.name}: hidden layers go through torch, not {encoder.backend.name}")
        dtype = encoder.where[1]

    def compute(pixels: list[np.ndarray]) -> dict[str, Tensor]:
        seen = encoder.encode_pixels(stack(pixels, encoder.device), layers=layers)
        return {kind.name: kind.of(seen) for kind in kinds}

    with decoding_threads() as pool:

        def prepare(batches: Iterator[Sequence[Sample]]) -> Prepared:
            for batch, decoded in decoded_ahead(pool, encoder.preprocess, batches):
                yield batch, [one if isinstance(one, str) else one.pixels for one in decoded]

        names = dict.fromkeys(kind.name for kind in kinds)
        found = _Extraction(encoder, compute, prepare, batch_size, chunk_size).run(
            list(samples), _shelves(store, encoder, preprocessing, list(names), dtype)
        )
    # "mean@-1" is kept as the layer it is, and found under both names.
    asked = {kind.asked: found.shelves[kind.name] for kind in kinds}
    return dataclasses.replace(found, shelves={**found.shelves, **asked})


def extract_texts(
    encoder: TextEncoder,
    texts: Sequence[str],
    store: FeatureStore | str | Path,
    *,
    layers: Sequence[int] = (),
    batch_size: int = BATCH,
    chunk_size: int = CHUNK,
) -> StoredFeatures:
    """The pooled vector of every text, and of the hidden states `layers` ("mean@K").

    Raises:
        UsageError: a layer that the model does not have.
        WorkError: no room on the disk, or out of memory with one sentence at a time.
    """
    numbers = {f"mean@{k}": k for k in layer_numbers(layers, encoder.n_layers)}

    def compute(batch: list[str]) -> dict[str, Tensor]:
        seen = encoder.encode(batch, layers=list(numbers.values()))
        return {"pooled": seen.pooled, **{name: seen.layers[k] for name, k in numbers.items()}}

    def prepare(batches: Iterator[Sequence[str]]) -> Prepared:
        # A list where images have either pixels or a reason: a text is its own reason to be read.
        for batch in batches:
            yield batch, [[text] for text in batch]

    return _Extraction(
        encoder, lambda rows: compute([row[0] for row in rows]), prepare, batch_size, chunk_size
    ).run(
        list(texts),
        _shelves(
            store,
            encoder,
            {"max_length": encoder.max_length},
            ["pooled", *numbers],
            encoder.where[1],
        ),
    )


@dataclass(frozen=True)
class _Kind:
    """One kind of feature, as its name says: which tensor, of which layer."""

    name: str
    part: str
    asked: str
    layer: int | None = None
    coded: bool = False

    @classmethod
    def parse(cls, name: str, encoder: VisionEncoder) -> _Kind:
        found = re.fullmatch(r"(pooled|cls|projected|patches)|(patches|mean)@(-?\d+)(:int8)?", name)
        if found is None or (found[4] and found[2] == "mean"):
            raise UsageError("unknown kind of feature", got=name, want=KINDS)
        if found[1]:
            return cls(name, found[1], name)
        (layer,) = layer_numbers([int(found[3])], encoder.n_layers)
        coded = found[4] is not None
        return cls(f"{found[2]}@{layer}{found[4] or ''}", found[2], name, layer, coded)

    def of(self, seen: VisionFeatures) -> Tensor:
        if self.layer is not None:
            patches = seen.layers[self.layer]
            if self.part == "mean":
                return patches.float().mean(dim=1)
            return to_int8(patches) if self.coded else patches
        value = getattr(seen, self.part)
        if value is None:
            raise UsageError(
                "this family has no such feature", got=self.name, want="pooled or patches"
            )
        return value if value.ndim > 2 else value.float()


Prepared = Iterator[tuple[Sequence[Any], list[Any]]]


@dataclass
class _Chunk:
    """Samples that are stored together, and what became of them so far."""

    digests: list[bytes]
    items: list[Any]
    parts: list[Arrays] = field(default_factory=list)
    good: list[bytes] = field(default_factory=list)
    left_out: dict[bytes, str] = field(default_factory=dict)

    @property
    def done(self) -> int:
        return len(self.good) + len(self.left_out)

    def take(self, rows: list[Any], computed: Arrays) -> None:
        """Notes the next rows of the chunk: a text says why an item could not be read."""
        for row in rows:
            digest = self.digests[self.done]
            if isinstance(row, str):
                self.left_out[digest] = row
            else:
                self.good.append(digest)
        if computed:
            self.parts.append(computed)


class _Extraction:
    """The loop: what is missing, chunk by chunk, from files to the store.

    Args:
        compute: prepared items to tensors with one row each.
        prepare: batches of items to batches of prepared ones, ahead of need.
    """

    def __init__(
        self,
        encoder: VisionEncoder | TextEncoder,
        compute: Callable[[list[Any]], dict[str, Tensor]],
        prepare: Callable[[Iterator[Sequence[Any]]], Prepared],
        batch_size: int,
        chunk_size: int,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("chunk_size", chunk_size)):
            if value < 1:
                raise UsageError(f"{name} must be positive", got=value)
        self.encoder, self.prepare = encoder, prepare
        self.batch_size, self.chunk_size = batch_size, chunk_size
        self._rows: list[Any] = []
        self._fitting = FittingBatch(
            batch_size,
            lambda rows: compute(self._rows[rows]),
            encoder.name,
            encoder.device.type == "cuda",
        )

    def run(self, items: list[Any], shelves: dict[str, Shelf]) -> StoredFeatures:
        digests, unreadable = _digests(items)
        missing: dict[bytes, Any] = {}
        for digest, item in zip(digests, items, strict=True):
            if digest is not None and not all(digest in shelf for shelf in shelves.values()):
                missing.setdefault(digest, item)
        chunks = self._chunks(missing)
        readable = sum(digest is not None for digest in digests)
        if missing and len(missing) < readable:
            note(f"{self.encoder.name}: {readable - len(missing):,} of {readable:,} are stored")
        if missing:
            title = f"extracting features with {self.encoder.name}"
            with progress(title, total=len(missing), unit="sample") as bar:
                self._work(chunks, shelves, bar)
        for shelf in shelves.values():
            shelf.refresh()
        return _collected(items, digests, unreadable, shelves, len(missing))

    def _chunks(self, missing: dict[bytes, Any]) -> list[_Chunk]:
        digests = list(missing)
        return [
            _Chunk(part, [missing[digest] for digest in part])
            for part in (
                digests[i : i + self.chunk_size] for i in range(0, len(digests), self.chunk_size)
            )
        ]

    def _work(self, chunks: list[_Chunk], shelves: dict[str, Shelf], bar: Bar) -> None:
        locks = _Locks(next(iter(shelves.values())).folder.parent)
        postponed: list[_Chunk] = []

        def claimed() -> Iterator[_Chunk]:
            for chunk in chunks:
                if locks.claim(chunk):
                    yield chunk
                else:
                    postponed.append(chunk)

        with locks:
            self._compute(claimed(), shelves, bar, locks)
            # Another process is at the rest. One at a time and holding none: two that wait for one
            # another would wait for ever.
            for chunk in postponed:
                locks.wait_for(chunk)
                self._compute(iter([chunk]), shelves, bar, locks)

    def _compute(
        self, chunks: Iterator[_Chunk], shelves: dict[str, Shelf], bar: Bar, locks: _Locks
    ) -> None:
        under_way: deque[_Chunk] = deque()

        def batches() -> Iterator[Sequence[Any]]:
            for chunk in chunks:
                for shelf in shelves.values():
                    shelf.refresh()
                if all(d in shelf for shelf in shelves.values() for d in chunk.digests):
                    locks.release(chunk)  # another process has done it meanwhile
                    bar.advance(len(chunk.items))
                    continue
                for start in range(0, len(chunk.items), self.batch_size):
                    under_way.append(chunk)
                    yield chunk.items[start : start + self.batch_size]

        coming: deque[tuple[_Chunk, list[Any], Coming]] = deque()

        def fetch() -> None:
            chunk, rows, computed = coming.popleft()
            chunk.take(rows, computed())
            if chunk.done == len(chunk.items):
                self._store(chunk, shelves)
                locks.release(chunk)
            bar.advance(len(rows))

        for _, rows in self.prepare(batches()):
            self._rows = [row for row in rows if not isinstance(row, str)]
            computed = self._fitting.run(len(self._rows))
            coming.append((under_way.popleft(), rows, computed))
            if len(coming) > FETCHED_LATER[self.encoder.device.type]:
                fetch()
        while coming:
            fetch()

    @staticmethod
    def _store(chunk: _Chunk, shelves: dict[str, Shelf]) -> None:
        for name, shelf in shelves.items():
            if all(digest in shelf for digest in chunk.digests):
                continue
            if chunk.good:
                values = np.concatenate([part[name] for part in chunk.parts])
            else:
                values = np.zeros((0, 1), dtype=np.float32)
            shelf.add(chunk.good, values, chunk.left_out)
        chunk.parts.clear()


class _Locks:
    """Which chunks this process works on: a lock file each, let go when the process dies."""

    def __init__(self, root: Path) -> None:
        self.folder = root / ".locks"
        self.held: dict[str, FileLock] = {}

    def __enter__(self) -> _Locks:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WorkError(
                "features cannot be stored",
                got=f"{self.folder.parent}: {error.strerror or error}",
                want="a folder that can be written",
            ) from error
        return self

    def __exit__(self, *error: object) -> None:
        for lock in self.held.values():
            lock.release()
        self.held.clear()

    def claim(self, chunk: _Chunk) -> bool:
        """Whether the chunk is ours now."""
        name = chunk_name(chunk.digests)
        lock = FileLock(self.folder / name)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        self.held[name] = lock
        return True

    def wait_for(self, chunk: _Chunk) -> None:
        """Takes a chunk over when the process that has it is done with it, or dead."""
        if self.claim(chunk):
            return
        note("waiting for another process that works on the same samples")
        name = chunk_name(chunk.digests)
        self.held[name] = lock = FileLock(self.folder / name)
        lock.acquire()

    def release(self, chunk: _Chunk) -> None:
        name = chunk_name(chunk.digests)
        self.held.pop(name).release()
        (self.folder / name).unlink(missing_ok=True)


def _shelves(
    store: FeatureStore | str | Path,
    encoder: VisionEncoder | TextEncoder,
    preprocessing: Mapping[str, Any],
    what: Sequence[str],
    dtype: str,
) -> dict[str, Shelf]:
    store = store if isinstance(store, FeatureStore) else FeatureStore(store)
    described = json.dumps(preprocessing, sort_keys=True)
    return {
        one: store.shelf(ShelfKey(encoder.name, encoder.fingerprint, described, one, dtype))
        for one in what
    }


def _digests(items: list[Any]) -> tuple[list[bytes | None], list[Skipped]]:
    """The digest of every item; None, and the reason, where the file cannot be read."""

    def digest(item: Any) -> bytes | str:
        try:
            return digest_of(item)
        except OSError as error:
            return (error.strerror or str(error)).lower()

    with decoding_threads() as pool:
        found = list(pool.map(digest, items))
    skipped = [
        Skipped(item.id, one)
        for item, one in zip(items, found, strict=True)
        if isinstance(one, str)
    ]
    return [one if isinstance(one, bytes) else None for one in found], skipped


def _collected(
    items: list[Any],
    digests: list[bytes | None],
    skipped: list[Skipped],
    shelves: dict[str, Shelf],
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
