"""The extraction loop: threads decode ahead of the model, a batch that does not fit into memory is
halved, an unreadable image is reported.

Every command that embeds many samples runs `prepared` and `Computing`. Knows samples and
preprocessing; not what is computed and where it is stored.
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

AHEAD = 3  # batches that are decoded ahead of the model
# Batches that are computed before the first of them is fetched: a GPU computes the next one while
# the results of the last one are copied and stored.
FETCHED_LATER = {"cuda": 1, "cpu": 0}

Computed = Mapping[str, Tensor]
Arrays = Mapping[str, np.ndarray]
In = TypeVar("In")
Out = TypeVar("Out")
Tag = TypeVar("Tag")
Pending = Callable[[], Arrays]  # waits for a copy and gives its rows


class Task(Protocol):
    """What the loop needs of a task on samples."""

    @property
    def encoder(self) -> VisionEncoder | TextEncoder | DualEncoder:
        """The model."""
        ...

    @property
    def needs_decoding(self) -> bool:
        """Whether preparing an item is slow enough to be done ahead in threads."""
        ...

    def preparing(self) -> Callable[[Any], Any]:
        """The function from an item to the model's input, or to a text: why it cannot be used. It
        holds no model, so other processes can run it."""
        ...

    def compute(self, rows: list[Any]) -> dict[str, Tensor]:
        """Name -> a tensor with one row per prepared item."""
        ...


@dataclass(frozen=True)
class Decoded:
    """Preprocessed pixels (h, w, 3) as bytes, and the (width, height) of the original image."""

    pixels: np.ndarray
    size: tuple[int, int]


def decode_for(preprocess: Preprocess, sample: Sample) -> Decoded | str:
    """Decodes one image for a model.

    Args:
        preprocess: of the model.
        sample: with an image.

    Returns:
        The preprocessed pixels, or the reason why there are none.
    """
    try:
        image, size = sample.load_with_size(min_side=preprocess.min_side)
    except ImageError as error:
        return error.reason
    return Decoded(preprocess.to_bytes(image), size)


@contextmanager
def decoding_threads() -> Iterator[ThreadPoolExecutor]:
    """Threads to decode in: PIL releases the GIL."""
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
    """Each batch's tag with its items as the model takes them, or a text for an unusable item."""
    # What needs decoding is decoded in threads, a few batches ahead.
    prepare = task.preparing()
    if not task.needs_decoding:
        for tag, items in batches:
            yield tag, [prepare(item) for item in items]
        return
    with decoding_threads() as pool:
        yield from prepared_ahead(pool, prepare, batches)


class _Copied:
    """Computed tensors on their way to the CPU; from a GPU by an asynchronous copy."""

    def __init__(self, computed: Computed, model: str) -> None:
        self.tensors: dict[str, Tensor] = dict(computed)
        self.model = model
        self.done: torch.cuda.Event | None = None
        if any(tensor.device.type == "cuda" for tensor in computed.values()):
            self.tensors = {name: _into_pinned(tensor) for name, tensor in computed.items()}
            self.done = torch.cuda.Event()
            self.done.record()

    def arrays(self) -> Arrays:
        """The rows, once the copy is finished."""
        if self.done is not None:
            self.done.synchronize()
        for name, values in self.tensors.items():
            require_finite_output(values, name, self.model)
        return {name: for_disk(tensor) for name, tensor in self.tensors.items()}


def _into_pinned(tensor: Tensor) -> Tensor:
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return pinned.copy_(tensor, non_blocking=True)


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
        pending: deque[tuple[Tag, Sequence[Any], Pending]] = deque()
        for tag, rows in batches:
            pending.append((tag, rows, self._start([r for r in rows if not isinstance(r, str)])))
            if len(pending) > later:
                first, its_rows, arrays = pending.popleft()
                yield first, its_rows, arrays()
        for first, its_rows, arrays in pending:
            yield first, its_rows, arrays()

    def _start(self, rows: list[Any]) -> Pending:
        encoder = self.task.encoder
        parts: list[Pending] = []
        start = 0
        while start < len(rows):
            try:
                computed = self.task.compute(rows[start : start + self.batch_size])
                parts.append(_Copied(computed, encoder.name).arrays)
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
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


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that the memory of the machine or the GPU is too small."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        "out of memory" in text or "can't allocate memory" in text
    )
