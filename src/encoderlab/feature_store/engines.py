"""Who carries a work out: this process, or the workers of a Ray cluster. The same chunks and the
same bytes either way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

from encoderlab.core.progress import Bar
from encoderlab.errors import unknown
from encoderlab.feature_store.store import FeatureTable
from encoderlab.feature_store.task import Chunk, ExtractionTask

LOCAL, RAY = "local", "ray"
ENGINES = (LOCAL, RAY)

In = TypeVar("In")
Out = TypeVar("Out")


class Engine(Protocol):
    """What extraction asks of whoever computes."""

    def map(self, function: Callable[[In], Out], items: Iterable[In]) -> Iterator[Out]:
        """`function` of every item, in order; it must not mind being called twice."""
        ...

    def extract(
        self,
        work: ExtractionTask,
        chunks: Sequence[Chunk],
        shelves: Mapping[str, FeatureTable],
        batch_size: int,
        bar: Bar,
    ) -> None:
        """Computes every chunk and stores it on the work's shelves."""
        ...


def engine(name: str | Engine = LOCAL, workers: int = 0) -> Engine:
    """The engine called `name`.

    Args:
        workers: processes with a model each; 0: as many as there are GPUs, else one. For Ray.

    Raises:
        UsageError: an unknown name.
        MissingError: Ray is not installed.
    """
    if not isinstance(name, str):
        return name
    if name == LOCAL:
        from encoderlab.feature_store.local_engine import LocalEngine

        return LocalEngine()
    if name == RAY:
        from encoderlab.feature_store.ray_engine import RayEngine

        return RayEngine(workers)
    raise unknown("engine", name, ENGINES, "encoderlab features --help")
