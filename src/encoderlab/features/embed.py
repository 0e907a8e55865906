"""Embeddings of many images: decoding in threads ahead of the model, bad files listed, not fatal.

Knows samples and a dual encoder; stores nothing.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from encoderlab.data.decode import ImageError
from encoderlab.data.sample import Sample
from encoderlab.encoders.dual import DualEncoder, stack
from encoderlab.errors import WorkError
from encoderlab.progress import note, progress

# How many batches are decoded ahead of the model: enough to hide decoding, little memory.
AHEAD = 3


@dataclass(frozen=True)
class Skipped:
    """An image that was left out, and why."""

    id: str
    reason: str


@dataclass(frozen=True)
class Embedded:
    """`vectors[i]` (fp32, unit length) is of `samples[i]`; `sizes[i]` its (width, height)."""

    vectors: Float[np.ndarray, "n d"]
    samples: list[Sample]
    sizes: list[tuple[int, int]]
    skipped: list[Skipped]


def embed_samples(
    encoder: DualEncoder,
    samples: Sequence[Sample],
    batch_size: int = 64,
    what: str = "embedding images",
) -> Embedded:
    """The embeddings of all samples whose image can be read.

    Raises:
        WorkError: out of memory even one image at a time.
    """
    parts = list(embed_batches(encoder, samples, batch_size, what))
    empty = np.zeros((0, encoder.dim), dtype=np.float32)
    return Embedded(
        np.concatenate([empty, *(part.vectors for part in parts)]),
        [sample for part in parts for sample in part.samples],
        [size for part in parts for size in part.sizes],
        [skipped for part in parts for skipped in part.skipped],
    )


def embed_batches(
    encoder: DualEncoder, samples: Sequence[Sample], batch_size: int, what: str
) -> Iterator[Embedded]:
    """The same a batch at a time, for whoever stores as it goes."""
    size = _Batch(batch_size)
    with (
        ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as pool,
        progress(what, total=len(samples), unit="image") as bar,
    ):
        for batch, decoded in _decoded_ahead(pool, encoder, samples, batch_size):
            good = [(s, d) for s, d in zip(batch, decoded, strict=True) if not isinstance(d, str)]
            skipped = [
                Skipped(s.id, d) for s, d in zip(batch, decoded, strict=True) if isinstance(d, str)
            ]
            vectors = size.embed(encoder, [d.pixels for _, d in good])
            bar.advance(len(batch))
            yield Embedded(vectors, [s for s, _ in good], [d.size for _, d in good], skipped)


@dataclass(frozen=True)
class _Decoded:
    pixels: np.ndarray
    size: tuple[int, int]


def _decoded_ahead(
    pool: ThreadPoolExecutor, encoder: DualEncoder, samples: Sequence[Sample], batch_size: int
) -> Iterator[tuple[Sequence[Sample], list[_Decoded | str]]]:
    def decode(sample: Sample) -> _Decoded | str:
        try:
            image = sample.load(min_side=encoder.image_size)
        except ImageError as error:
            return error.reason
        return _Decoded(encoder.preprocess.to_bytes(image), image.size)

    waiting: deque[tuple[Sequence[Sample], list[Future[_Decoded | str]]]] = deque()
    try:
        for start in range(0, len(samples), batch_size):
            batch = samples[start : start + batch_size]
            waiting.append((batch, [pool.submit(decode, sample) for sample in batch]))
            if len(waiting) > AHEAD:
                first, futures = waiting.popleft()
                yield first, [future.result() for future in futures]
        while waiting:
            first, futures = waiting.popleft()
            yield first, [future.result() for future in futures]
    finally:
        for _, futures in waiting:
            for future in futures:
                future.cancel()


class _Batch:
    """The batch size that fits: halved, aloud, when memory runs out, and kept for what follows."""

    def __init__(self, size: int) -> None:
        self.size = size

    def embed(self, encoder: DualEncoder, pixels: list[np.ndarray]) -> np.ndarray:
        parts = [np.zeros((0, encoder.dim), dtype=np.float32)]
        start = 0
        while start < len(pixels):
            try:
                parts.append(encoder.embed_pixels(stack(pixels[start : start + self.size])))
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not _is_memory(error):
                    raise
                if self.size == 1:
                    raise WorkError(
                        "out of memory with one image at a time",
                        got=encoder.name,
                        hint="use a smaller model or --device cpu",
                    ) from error
                self.size = max(1, self.size // 2)
                note(f"out of memory: going on with batches of {self.size}")
                if encoder.device.type == "cuda":
                    torch.cuda.empty_cache()
                continue
            start += self.size
        return np.concatenate(parts)


def _is_memory(error: Exception) -> bool:
    said = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        "out of memory" in said or "can't allocate memory" in said
    )
