"""From image files to a model at its own speed: threads decode ahead, a full memory halves the
batch, an image that cannot be read is listed.

Knows samples and preprocessing; not what is computed, nor where it goes.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from encoderlab.core.progress import note
from encoderlab.data.decode import ImageError
from encoderlab.data.sample import Sample
from encoderlab.encoders.loading import require_finite_output
from encoderlab.errors import WorkError
from encoderlab.feature_store.store import for_disk
from encoderlab.models.clip import Preprocess

# How many batches are decoded ahead of the model: enough to hide decoding, little memory.
AHEAD = 3
# How many batches are computed before the first of them is fetched: a GPU has the next one to work
# on while the last one's results are copied and stored; a CPU computes and stores by turns.
FETCHED_LATER = {"cuda": 1, "cpu": 0}

Computed = Mapping[str, Tensor]
Arrays = Mapping[str, np.ndarray]
In = TypeVar("In")
Out = TypeVar("Out")
# Rows that may still be on their way; calling it waits for them.
Coming = Callable[[], Arrays]


@dataclass(frozen=True)
class Decoded:
    """Pixels (h, w, 3) as bytes, ready for a tower, and the (width, height) of the whole image."""

    pixels: np.ndarray
    size: tuple[int, int]


def decode_for(preprocess: Preprocess, sample: Sample) -> Decoded | str:
    """The pixels of a sample as a tower takes them, or the reason why there are none."""
    try:
        image, size = sample.load_with_size(min_side=preprocess.min_side)
    except ImageError as error:
        return error.reason
    return Decoded(preprocess.to_bytes(image), size)


@contextmanager
def decoding_threads() -> Iterator[ThreadPoolExecutor]:
    """Threads to decode in: PIL lets go of the interpreter while it works."""
    with ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as pool:
        yield pool


def prepared_ahead(
    pool: ThreadPoolExecutor, prepare: Callable[[In], Out], batches: Iterable[Sequence[In]]
) -> Iterator[tuple[Sequence[In], list[Out]]]:
    """Each batch with what `prepare` makes of its items, a few batches ahead."""
    waiting: deque[tuple[Sequence[In], list[Future[Out]]]] = deque()
    try:
        for batch in batches:
            waiting.append((batch, [pool.submit(prepare, one) for one in batch]))
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


class _Copied:
    """What was computed, on its way into this memory: from a GPU beside what it computes next."""

    def __init__(self, computed: Computed, model: str) -> None:
        self.there: dict[str, Tensor] = dict(computed)
        self.model = model
        self.done: torch.cuda.Event | None = None
        if any(one.device.type == "cuda" for one in computed.values()):
            self.there = {name: _into_pinned(one) for name, one in computed.items()}
            self.done = torch.cuda.Event()
            self.done.record()

    def arrays(self) -> Arrays:
        """The rows, as soon as they are here.

        Raises:
            WorkError: a value is not finite.
        """
        if self.done is not None:
            self.done.synchronize()
        for name, values in self.there.items():
            require_finite_output(values, name, self.model)
        return {name: for_disk(one) for name, one in self.there.items()}


def _into_pinned(tensor: Tensor) -> Tensor:
    there = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return there.copy_(tensor, non_blocking=True)


def _joined(parts: Sequence[Arrays]) -> dict[str, np.ndarray]:
    names = parts[0] if parts else {}
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


class FittingBatch:
    """The batch size that fits: halved, aloud, when memory runs out, and kept for what follows.

    Args:
        compute: takes a slice of the batch and gives tensors with one row per item.
        name: the model, for the message when not even one item fits.
        cuda: whether the memory that ran out is a GPU's.
    """

    def __init__(
        self, size: int, compute: Callable[[slice], Computed], name: str, cuda: bool = False
    ) -> None:
        self.size, self.compute, self.name, self.cuda = size, compute, name, cuda

    def run(self, count: int) -> Coming:
        """What is computed of `count` items.

        Raises:
            WorkError: out of memory even one item at a time.
        """
        parts: list[Coming] = []
        start = 0
        while start < count:
            try:
                rows = slice(start, min(start + self.size, count))
                parts.append(_Copied(self.compute(rows), self.name).arrays)
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not _is_memory(error):
                    raise
                if self.size == 1:
                    raise WorkError(
                        "out of memory with one image at a time",
                        got=self.name,
                        hint="use a smaller model or --device cpu",
                    ) from error
                self.size = max(1, self.size // 2)
                note(f"out of memory: going on with batches of {self.size}")
                if self.cuda:
                    torch.cuda.empty_cache()
                continue
            start += self.size
        return lambda: _joined([part() for part in parts])


def batches_of(items: Sequence[Sample], size: int) -> Iterator[Sequence[Sample]]:
    """`items` in order, `size` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _is_memory(error: Exception) -> bool:
    said = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        "out of memory" in said or "can't allocate memory" in said
    )
