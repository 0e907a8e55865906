"""Embeddings of many images: decoding in threads ahead of the model, bad files listed, not fatal.

Knows samples and a dual encoder; stores nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float
from torch import Tensor

from encoderlab.core.progress import progress
from encoderlab.core.skipped import Skipped
from encoderlab.data.sample import Sample
from encoderlab.encoders.dual import DualEncoder, stack
from encoderlab.feature_store.pipeline import (
    FETCHED_LATER,
    Coming,
    Decoded,
    FittingBatch,
    batches_of,
    decode_for,
    decoding_threads,
    prepared_ahead,
)

Good = tuple[Sample, Decoded]


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
    # One array from the start: many small ones, kept while each batch comes and goes, would leave
    # the allocator no room to use twice.
    vectors = np.empty((len(samples), encoder.dim), dtype=np.float32)
    seen: list[Sample] = []
    sizes: list[tuple[int, int]] = []
    skipped: list[Skipped] = []
    for part in embed_batches(encoder, samples, batch_size, what):
        vectors[len(seen) : len(seen) + len(part.samples)] = part.vectors
        seen += part.samples
        sizes += part.sizes
        skipped += part.skipped
    return Embedded(vectors[: len(seen)], seen, sizes, skipped)


def embed_batches(
    encoder: DualEncoder, samples: Sequence[Sample], batch_size: int, what: str
) -> Iterator[Embedded]:
    """The same a batch at a time, for whoever stores as it goes."""
    pixels: list[np.ndarray] = []

    def compute(rows: slice) -> dict[str, Tensor]:
        return {"pooled": encoder.encode_pixels(stack(pixels[rows], encoder.device))}

    fitting = FittingBatch(batch_size, compute, encoder.name, encoder.device.type == "cuda")
    empty = np.zeros((0, encoder.dim), dtype=np.float32)
    with (
        decoding_threads() as pool,
        progress(what, total=len(samples), unit="image") as bar,
    ):
        coming: deque[tuple[list[Good], list[Skipped], Coming]] = deque()

        def fetch() -> Embedded:
            good, skipped, computed = coming.popleft()
            bar.advance(len(good) + len(skipped))
            return Embedded(
                computed().get("pooled", empty),
                [sample for sample, _ in good],
                [decoded.size for _, decoded in good],
                skipped,
            )

        batches = batches_of(samples, batch_size)
        decode = partial(decode_for, encoder.preprocess)
        for batch, decoded in prepared_ahead(pool, decode, batches):
            pairs = list(zip(batch, decoded, strict=True))
            good = [(s, d) for s, d in pairs if not isinstance(d, str)]
            skipped = [Skipped(s.id, d) for s, d in pairs if isinstance(d, str)]
            pixels[:] = [d.pixels for _, d in good]
            coming.append((good, skipped, fitting.run(len(pixels))))
            if len(coming) > FETCHED_LATER[encoder.device.type]:
                yield fetch()
        while coming:
            yield fetch()
