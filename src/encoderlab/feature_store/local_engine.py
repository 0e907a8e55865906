"""Extraction in this process: threads decode ahead of the model, and several processes that work
on the same samples share out the chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from encoderlab.core.progress import Bar, note
from encoderlab.errors import WorkError
from encoderlab.feature_store.pipeline import Computing, batches_of, decoding_threads, prepared
from encoderlab.feature_store.store import FeatureTable, chunk_name
from encoderlab.feature_store.task import Chunk, ExtractionTask

LOCKS = ".locks"
In = TypeVar("In")
Out = TypeVar("Out")


class LocalEngine:
    """One process, its threads, its device."""

    def map(self, function: Callable[[In], Out], items: Iterable[In]) -> Iterator[Out]:
        """`function` of every item, in threads."""
        with decoding_threads() as pool:
            yield from pool.map(function, items)

    def extract(
        self,
        task: ExtractionTask,
        chunks: Sequence[Chunk],
        tables: Mapping[str, FeatureTable],
        batch_size: int,
        bar: Bar,
    ) -> None:
        """Computes and stores first the chunks that no other process works on, then the others.

        Raises:
            WorkError: no room on the disk, or out of memory with one item at a time.
        """
        locks = _Locks(next(iter(tables.values())).folder.parent)
        loop = _Loop(task, tables, batch_size, bar, locks)
        postponed: list[Chunk] = []

        def claimed() -> Iterator[Chunk]:
            for chunk in chunks:
                if locks.claim(chunk):
                    yield chunk
                else:
                    postponed.append(chunk)

        with locks:
            loop.run(claimed())
            # One at a time and without holding another: no deadlock with a process that waits too.
            for chunk in postponed:
                locks.wait_for(chunk)
                loop.run(iter([chunk]))


class _Loop:
    """From chunks to the store, a batch at a time."""

    def __init__(
        self,
        task: ExtractionTask,
        tables: Mapping[str, FeatureTable],
        batch_size: int,
        bar: Bar,
        locks: _Locks,
    ) -> None:
        self.task, self.tables, self.batch_size = task, tables, batch_size
        self.bar, self.locks = bar, locks
        self.computing = Computing(task, batch_size)

    def run(self, chunks: Iterator[Chunk]) -> None:
        batches = prepared(self.task, self._batches(chunks))
        for chunk, rows, arrays in self.computing.run(batches):
            chunk.take(rows, arrays)
            if chunk.done == len(chunk.items):
                chunk.store(self.tables)
                self.locks.release(chunk)
            self.bar.advance(len(rows))

    def _batches(self, chunks: Iterator[Chunk]) -> Iterator[tuple[Chunk, Sequence[Any]]]:
        for chunk in chunks:
            if self._is_there(chunk):
                self.locks.release(chunk)  # another process has done it meanwhile
                self.bar.advance(len(chunk.items))
                continue
            for items in batches_of(chunk.items, self.batch_size):
                yield chunk, items

    def _is_there(self, chunk: Chunk) -> bool:
        for table in self.tables.values():
            table.refresh()
        return all(digest in table for table in self.tables.values() for digest in chunk.digests)


def remove_stale_locks(root: Path) -> None:
    """Deletes the lock files of processes that were killed."""
    for path in (root / LOCKS).glob("*"):
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except OSError:  # held (a Timeout is one), or in a store that can only be read
            continue
        path.unlink(missing_ok=True)
        lock.release()


class _Locks:
    """The chunks that this process works on: one lock file each, released when it dies."""

    def __init__(self, root: Path) -> None:
        self.folder = root / LOCKS
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

    def claim(self, chunk: Chunk) -> bool:
        """Locks the chunk unless another process has it; whether this process has it now."""
        name = chunk_name(chunk.digests)
        lock = FileLock(self.folder / name)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        self.held[name] = lock
        return True

    def wait_for(self, chunk: Chunk) -> None:
        """Locks the chunk when the process that has it is done with it, or dead."""
        if self.claim(chunk):
            return
        note("waiting for another process that works on the same samples")
        name = chunk_name(chunk.digests)
        self.held[name] = lock = FileLock(self.folder / name)
        lock.acquire()

    def release(self, chunk: Chunk) -> None:
        name = chunk_name(chunk.digests)
        self.held.pop(name).release()
        (self.folder / name).unlink(missing_ok=True)
