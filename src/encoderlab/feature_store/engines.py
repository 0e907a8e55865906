"""The engines that run an extraction: this process, or the workers of a Ray cluster. Both write the
same bytes.
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
    """Runs extraction tasks."""

    def map(self, function: Callable[[In], Out], items: Iterable[In]) -> Iterator[Out]:
        """`function` of every item, in order; it may be called twice for an item."""
        ...

    def extract(
        self,
        work: ExtractionTask,
        chunks: Sequence[Chunk],
        tables: Mapping[str, FeatureTable],
        batch_size: int,
        bar: Bar,
    ) -> None:
        """Computes every chunk and stores it in the tables."""
        ...


def engine(name: str | Engine = LOCAL, workers: int = 0) -> Engine:
    """The engine called `name`.

    Args:
        name: "local" or "ray", or an engine, which is returned.
        workers: processes with a model each; 0: as many as there are GPUs, else one. For Ray.

    Returns:
        An engine.

    Raises:
        UsageError: an unknown name.
        MissingError: Ray is not installed.
    """  # noqa: DOC501
    if not isinstance(name, str):
        return name
    if name == LOCAL:
        from encoderlab.feature_store.local_engine import LocalEngine

        return LocalEngine()
    if name == RAY:
        from encoderlab.feature_store.ray_engine import RayEngine

        return RayEngine(workers)
    raise unknown("engine", name, ENGINES, "encoderlab features --help")
