"""The extraction loop: threads decode ahead of the model, a batch that does not fit into memory is
halved, an image that cannot be read is listed.

Every command that embeds many samples runs `prepared` and `Computing`. Knows samples and
preprocessing; neither what is computed, nor where it goes.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

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

if TYPE_CHECKING:
    from encoderlab.encoders.dual import DualEncoder
    from encoderlab.encoders.text import TextEncoder
    from encoderlab.encoders.vision import VisionEncoder

# How many batches are decoded ahead of the model: enough to hide decoding, little memory.
AHEAD = 3
# How many batches are computed before the first of them is fetched: a GPU has the next one to work
# on while the last one's results are copied and stored; a CPU computes and stores by turns.
FETCHED_LATER = {"cuda": 1, "cpu": 0}

Computed = Mapping[str, Tensor]
Arrays = Mapping[str, np.ndarray]
In = TypeVar("In")
Out = TypeVar("Out")
Tag = TypeVar("Tag")
# Rows that may still be on their way; calling it waits for them.
Coming = Callable[[], Arrays]


class Task(Protocol):
    """What the loop needs to know of the work on samples."""

    @property
    def encoder(self) -> VisionEncoder | TextEncoder | DualEncoder:
        """The model."""
        ...

    @property
    def needs_decoding(self) -> bool:
        """Whether preparing an item is work of its own, worth doing ahead."""
        ...

    def preparing(self) -> Callable[[Any], Any]:
        """From an item to what the model takes, or to a text: why it cannot be used. Needs no
        model, so that other processes can do it without one."""
        ...

    def compute(self, rows: list[Any]) -> dict[str, Tensor]:
        """Name -> a tensor with one row per prepared item."""
        ...


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
    pool: ThreadPoolExecutor,
    prepare: Callable[[In], Out],
    batches: Iterable[tuple[Tag, Sequence[In]]],
) -> Iterator[tuple[Tag, list[Out]]]:
    """Each batch's tag with what `prepare` makes of its items, a few batches ahead."""
    waiting: deque[tuple[Tag, list[Future[Out]]]] = deque()
    try:
        for tag, items in batches:
            waiting.append((tag, [pool.submit(prepare, item) for item in items]))
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


def prepared(
    task: Task, batches: Iterable[tuple[Tag, Sequence[Any]]]
) -> Iterator[tuple[Tag, list[Any]]]:
    """Each batch's tag with its items as the model takes them; a text says why one cannot be
    used. What needs decoding is decoded in threads, a few batches ahead."""
    prepare = task.preparing()
    if not task.needs_decoding:
        for tag, items in batches:
            yield tag, [prepare(item) for item in items]
        return
    with decoding_threads() as pool:
        yield from prepared_ahead(pool, prepare, batches)


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


class Computing:
    """A model on batches of prepared rows.

    A GPU's results are fetched while it has the next batch to work on. When memory runs out, the
    batch is halved, with a note, for this batch and all that follow.
    """

    def __init__(self, task: Task, batch_size: int) -> None:
        self.task, self.batch_size = task, batch_size

    def run(
        self, batches: Iterable[tuple[Tag, Sequence[Any]]]
    ) -> Iterator[tuple[Tag, Sequence[Any], Arrays]]:
        """Each batch with what is computed of it.

        Args:
            batches: (tag, prepared rows); a row that is a text is not computed.

        Yields:
            (tag, rows, name -> an array with one row for each that is no text), in order.

        Raises:
            WorkError: out of memory even one item at a time, or a value is not finite.
        """
        later = FETCHED_LATER[self.task.encoder.device.type]
        coming: deque[tuple[Tag, Sequence[Any], Coming]] = deque()
        for tag, rows in batches:
            coming.append((tag, rows, self._start([r for r in rows if not isinstance(r, str)])))
            if len(coming) > later:
                first, its_rows, arrays = coming.popleft()
                yield first, its_rows, arrays()
        for first, its_rows, arrays in coming:
            yield first, its_rows, arrays()

    def _start(self, rows: list[Any]) -> Coming:
        encoder = self.task.encoder
        parts: list[Coming] = []
        start = 0
        while start < len(rows):
            try:
                computed = self.task.compute(rows[start : start + self.batch_size])
                parts.append(_Copied(computed, encoder.name).arrays)
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not _is_memory(error):
                    raise
                if self.batch_size == 1:
                    raise WorkError(
                        "out of memory with one image at a time",
                        got=encoder.name,
                        hint="use a smaller model or --device cpu",
                    ) from error
                self.batch_size = max(1, self.batch_size // 2)
                note(f"out of memory: going on with batches of {self.batch_size}")
                if encoder.device.type == "cuda":
                    torch.cuda.empty_cache()
                continue
            start += self.batch_size
        return lambda: _joined([part() for part in parts])


def batches_of(items: Sequence[In], size: int) -> Iterator[Sequence[In]]:
    """`items` in order, `size` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _is_memory(error: Exception) -> bool:
    said = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        "out of memory" in said or "can't allocate memory" in said
    )
