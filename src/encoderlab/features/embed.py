"""Embeddings of many images: decoding in threads ahead of the model, bad files listed, not fatal.

Knows samples and a dual encoder; stores nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float

from encoderlab.data.sample import Sample
from encoderlab.encoders.dual import DualEncoder, stack
from encoderlab.features.pipeline import (
    FittingBatch,
    Skipped,
    batches_of,
    decode_for,
    decoding_threads,
    prepared_ahead,
)
from encoderlab.progress import progress


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
    pixels: list[np.ndarray] = []

    def compute(rows: slice) -> dict[str, np.ndarray]:
        return {"pooled": encoder.embed_pixels(stack(pixels[rows]))}

    fitting = FittingBatch(batch_size, compute, encoder.name, encoder.device.type == "cuda")
    empty = np.zeros((0, encoder.dim), dtype=np.float32)
    with (
        decoding_threads() as pool,
        progress(what, total=len(samples), unit="image") as bar,
    ):
        batches = batches_of(samples, batch_size)
        decode = partial(decode_for, encoder.preprocess)
        for batch, decoded in prepared_ahead(pool, decode, batches):
            good = [(s, d) for s, d in zip(batch, decoded, strict=True) if not isinstance(d, str)]
            skipped = [
                Skipped(s.id, d) for s, d in zip(batch, decoded, strict=True) if isinstance(d, str)
            ]
            pixels[:] = [d.pixels for _, d in good]
            vectors = fitting.run(len(pixels)).get("pooled", empty)
            bar.advance(len(batch))
            yield Embedded(vectors, [s for s, _ in good], [d.size for _, d in good], skipped)
