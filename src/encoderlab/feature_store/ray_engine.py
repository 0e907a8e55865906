"""Extraction by the workers of a Ray cluster: decoding on CPUs, models on GPUs, one common store.

A chunk's name follows from its samples, it is written atomically, and a worker that finds it does
not compute it again: so a worker that dies is simply replaced. Every machine of the cluster must
see the store and the data.
"""

from __future__ import annotations

import functools
import logging
import math
import os
import pickle
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch

from encoderlab.core.progress import Bar, note
from encoderlab.errors import EncoderLabError, MissingError, UsageError, WorkError
from encoderlab.feature_store.pipeline import Computing, batches_of
from encoderlab.feature_store.store import (
    FeatureStore,
    FeatureTable,
    TableKey,
    chunk_name,
)
from encoderlab.feature_store.task import Chunk, ExtractionTask

In = TypeVar("In")
Out = TypeVar("Out")
ADDRESS_VARIABLE = "RAY_ADDRESS"
AHEAD_PER_CPU = 2  # tasks that are queued, per CPU of the cluster
RETRIES = 5  # of an item whose worker died


class RayEngine:
    """A cluster: the one that RAY_ADDRESS names, else this machine.

    Args:
        workers: processes with a model each; 0: one per GPU of the cluster, or one per machine.

    Raises:
        MissingError: Ray is not installed.
    """

    def __init__(self, workers: int = 0) -> None:
        if workers < 0:
            raise UsageError("workers must not be negative", got=workers)
        self.ray = _started()
        total = self.ray.cluster_resources()
        self.cpus, self.gpus = float(total.get("CPU", 1)), int(total.get("GPU", 0))
        machines = sum(bool(node["Alive"]) for node in self.ray.nodes())
        self.taskers = workers or self.gpus or machines
        if self.gpus and self.taskers > self.gpus:
            raise UsageError(
                "more workers than GPUs",
                got=f"workers={workers}",
                want=f"at most {self.gpus}: each has a model of its own",
            )
        note(
            f"ray: {machines} machine{'s' * (machines > 1)}, {self.cpus:g} CPUs, {self.gpus} GPUs; "
            f"{self.taskers} worker{'s' * (self.taskers > 1)} with a model"
        )

    def map(self, function: Callable[[In], Out], items: Iterable[In]) -> Iterator[Out]:
        """`function` of every item, in order, on the cluster's CPUs."""
        remote = self.ray.remote(function).options(num_cpus=1, max_retries=RETRIES)
        ahead = max(2, math.ceil(AHEAD_PER_CPU * self.cpus))
        waiting: deque[Any] = deque()
        for item in items:
            waiting.append(remote.remote(item))
            if len(waiting) >= ahead:
                yield self._got(waiting.popleft())
        while waiting:
            yield self._got(waiting.popleft())

    def extract(
        self,
        task: ExtractionTask,
        chunks: Sequence[Chunk],
        tables: Mapping[str, FeatureTable],
        batch_size: int,
        bar: Bar,
    ) -> None:
        """Computes and stores every chunk, as a pipeline of Ray Data."""
        import ray.data

        plans = [{"plan": pickle.dumps((chunk.digests, chunk.items))} for chunk in chunks]
        rows: ray.data.Dataset = ray.data.from_items(plans, override_num_blocks=len(plans))
        shares = self._shares()
        if task.needs_decoding:
            decode = functools.partial(_prepared, task.preparing())
            rows = rows.map(decode, num_cpus=shares["decoding"])
        done = rows.map(
            _Worker,  # type: ignore[arg-type]  # a class, made once per worker
            fn_constructor_args=[
                task,
                {name: table.key for name, table in tables.items()},
                FeatureStore(next(iter(tables.values())).folder.parent.absolute()),
                batch_size,
                shares["threads"],
            ],
            compute=ray.data.ActorPoolStrategy(size=min(self.taskers, len(plans))),
            num_cpus=shares["computing"],
            num_gpus=1 if self.gpus else 0,
        )
        try:
            for row in done.iter_rows():
                bar.advance(row["items"])
        except self.ray.exceptions.RayError as error:
            raise _as_encoderlab_error(error) from error

    def _shares(self) -> dict[str, Any]:
        """CPUs of each kind of worker. Without GPUs the models get most of them."""
        if self.gpus:
            return {"computing": 1, "decoding": 1, "threads": None}
        per_worker = self.cpus / self.taskers
        return {
            "computing": 0.75 * per_worker,
            "decoding": min(1.0, self.cpus / 8),
            "threads": max(1, math.floor(per_worker)),
        }

    def _got(self, reference: Any) -> Any:
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            raise _as_encoderlab_error(error) from error


class _Worker:
    """A model in a process of its own."""

    def __init__(
        self,
        task: ExtractionTask,
        keys: dict[str, TableKey],
        store: FeatureStore,
        batch_size: int,
        threads: int | None,
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        if {key.name for key in keys.values()} != {key.name for key in task.keys.values()}:
            raise WorkError(
                "a worker has another model under the same name",
                got=task.encoder.fingerprint,
                want=next(iter(keys.values())).fingerprint,
                hint="let every machine see the same checkpoint",
            )
        self.task, self.batch_size = task, batch_size
        self.tables = {name: store.table(key) for name, key in keys.items()}
        self.computing = Computing(task, batch_size)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        digests, items = pickle.loads(row["plan"])
        name = chunk_name(digests)
        # Written already where a worker died after writing.
        if not all(table.has_chunk(name) for table in self.tables.values()):
            chunk = Chunk(digests, items)
            if "ready" in row:
                ready = pickle.loads(row["ready"])
            else:
                prepare = self.task.preparing()
                ready = [prepare(item) for item in items]
            batches = ((chunk, part) for part in batches_of(ready, self.batch_size))
            for _, rows, arrays in self.computing.run(batches):
                chunk.take(rows, arrays)
            chunk.store(self.tables)
        return {"items": len(digests)}


def _prepared(prepare: Callable[[Any], Any], row: dict[str, Any]) -> dict[str, Any]:
    _, items = pickle.loads(row["plan"])
    return {**row, "ready": pickle.dumps([prepare(item) for item in items], protocol=5)}


def _started() -> Any:
    # No usage statistics; a worker counts its own GPUs.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingError(
            "Ray is not installed",
            got=str(error),
            want='pip install "encoderlab[ray]"',
            hint="or leave out --engine ray",
        ) from error
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    if not ray.is_initialized():
        try:
            ray.init(
                address=os.environ.get(ADDRESS_VARIABLE),
                include_dashboard=False if not os.environ.get(ADDRESS_VARIABLE) else None,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
        except OSError as error:
            if "AF_UNIX" in str(error):  # a socket's path may have 107 bytes
                raise UsageError(
                    "Ray cannot work in a folder for temporary files with so long a path",
                    got=os.environ.get("RAY_TMPDIR") or tempfile.gettempdir(),
                    want="some forty characters at most",
                    hint="name a shorter one with RAY_TMPDIR",
                ) from error
            if not isinstance(error, ConnectionError):
                raise
            raise MissingError(
                "the Ray cluster cannot be reached",
                got=os.environ.get(ADDRESS_VARIABLE),
                want=f"{ADDRESS_VARIABLE} of a cluster that runs, or none for this machine",
            ) from error
    return ray


def _as_encoderlab_error(error: BaseException) -> EncoderLabError:
    """The worker's own error, as this process would raise it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, EncoderLabError):
            return cause
        cause = getattr(cause, "cause", None) or cause.__cause__
    lines = [line for line in str(error).splitlines() if line.strip()]
    return WorkError(
        "the workers failed",
        got=lines[-1].strip()[:300] if lines else type(error).__name__,
        hint="chunks stored so far are complete; run the same command again to continue",
    )
