"""Collective calls: errors, values, signals and gradients that all ranks of a run share.

A rank that fails alone leaves the others waiting. So whatever may fail on one (a file that one
machine lacks, a full disk) is called through `on_all_ranks`. Knows Fabric; no model and no data.
"""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from encoderlab.core.distributed import mark_collective, rank_info
from encoderlab.core.progress import note
from encoderlab.errors import EncoderLabError, WorkError, as_ours

if TYPE_CHECKING:
    from lightning.fabric import Fabric

T = TypeVar("T")
SAME_CTRL_C = 1.0  # seconds


def on_all_ranks(fabric: Fabric, make: Callable[..., T], *args: Any, **options: Any) -> T:
    """Calls `make` on every rank; if it raises on any rank, all raise the lowest rank's error."""
    if fabric.world_size == 1:
        return make(*args, **options)
    made, error = _try(make, args, options)
    errors = _gather(fabric, None if error is None else _reportable(error, fabric))
    first = next((reported for reported in errors if reported is not None), None)
    if first is not None:
        # Rank 0 raises its own error with its traceback.
        raise collective_error(fabric, error if error and fabric.is_global_zero else first)
    return made  # type: ignore[return-value]


def from_rank0(fabric: Fabric, make: Callable[..., T], *args: Any, **options: Any) -> T:
    """Calls `make` on rank 0 and broadcasts what it returns; all ranks raise its error."""
    on_rank0: Any = make if fabric.is_global_zero else lambda *_, **__: None
    return fabric.broadcast(on_all_ranks(fabric, on_rank0, *args, **options))


def deferred(make: Callable[..., T], *args: Any) -> Callable[[], T]:
    """Calls `make` before there is a Fabric; the result gives its value or raises its error."""
    made, error = _try(make, args, {})
    if error is not None and not rank_info().external:  # no launcher: one process, so at once
        raise error

    def settle() -> T:
        if error is not None:
            raise error
        return made  # type: ignore[return-value]

    return settle


def check_same(fabric: Fabric, what: str, value: object) -> None:
    """Raises a WorkError on all ranks where `value`, which is called `what`, differs."""
    for rank, other in enumerate(values := _gather(fabric, value)):
        if other != values[0]:
            error = WorkError(
                f"the processes do not see the same {what}",
                got=f"{other} in process {rank}, {values[0]} in process 0",
                hint="every machine needs the same files, at the same paths",
            )
            raise collective_error(fabric, error)


def collective_error(fabric: Fabric, error: BaseException) -> BaseException:
    """Marks an error that every rank raises at this point, so that rank 0 reports it once."""
    # Lightning kills the processes that it started as soon as one of them ends with an error.
    started = getattr(getattr(fabric.strategy, "launcher", None), "procs", None)
    if started is not None:
        started.clear()
    return mark_collective(error)


def any_rank(fabric: Fabric, *conditions: bool) -> tuple[bool, ...]:
    """For each of `conditions` whether it holds on any rank."""
    if fabric.world_size == 1:
        return conditions
    flags = torch.tensor(conditions, dtype=torch.int32, device=fabric.device)
    torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX)
    return tuple(bool(flag) for flag in flags.tolist())


def mean_over(fabric: Fabric, values: dict[str, float]) -> dict[str, float]:
    """Each value's mean over the ranks, which all have the same names."""
    if fabric.world_size == 1:
        return values
    row = torch.tensor(list(values.values()), dtype=torch.float64, device=fabric.device)
    torch.distributed.all_reduce(row)
    return dict(zip(values, (row / fabric.world_size).tolist(), strict=True))


def average_gradients(fabric: Fabric, parameters: Iterator[torch.nn.Parameter]) -> None:
    """Replaces each gradient by its mean over the ranks."""
    if fabric.world_size > 1:
        for parameter in parameters:
            if parameter.grad is not None:
                torch.distributed.all_reduce(parameter.grad)
                parameter.grad /= fabric.world_size


@dataclass
class Stop:
    """Whether SIGINT or SIGTERM was received, and when."""

    asked: bool = False
    at: float = 0.0


@contextmanager
def stop_on_signal() -> Iterator[Stop]:
    """Makes SIGINT and SIGTERM set `Stop.asked`; the second signal raises KeyboardInterrupt."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread receives signals
        return

    def ask(number: int, frame: object) -> None:
        now = time.monotonic()
        if stop.asked:
            # A terminal and a launcher may both pass on one Ctrl-C.
            if now - stop.at > SAME_CTRL_C:
                raise KeyboardInterrupt
            return
        stop.asked, stop.at = True, now
        with suppress(RuntimeError):  # it may have come in the middle of another line
            note(f"{signal.Signals(number).name}: stopping after this step; once more: at once")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_stop_signals(worker: int) -> None:
    """Initialises a data-loading process: its run stops it, after the step."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _gather(fabric: Fabric, value: Any) -> list[Any]:
    values: list[Any] = [value] * fabric.world_size
    if fabric.world_size > 1:
        torch.distributed.all_gather_object(values, value)
    return values


def _try(make: Callable[..., T], args: Any, options: Any) -> tuple[T | None, Any]:
    try:
        return make(*args, **options), None
    except Exception as error:
        return None, error


def _reportable(error: Exception, fabric: Fabric) -> EncoderLabError:
    """The error as it can be sent to rank 0 and reported there."""
    known = as_ours(error)
    if known is None:
        known = WorkError(f"unexpected error: {type(error).__name__}: {error}")
    if fabric.is_global_zero:
        return known
    where = f"process {fabric.global_rank} on {socket.gethostname()}: {known.what}"
    return type(known)(where, got=known.got, want=known.want, hint=known.hint)
