"""What several processes of one run agree on: errors, data, when to save, when to stop.

A process that fails alone leaves the others waiting for it. So whatever may go wrong in one (a
file that one machine lacks, a full disk) is done through `agreed`: the error of one becomes that
of all, with one message and one exit code. With one process everything here is plain.
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
from torch import Tensor

from encoderlab.core.distributed import mark_collective, rank_info
from encoderlab.core.progress import note
from encoderlab.errors import EncoderLabError, WorkError, as_ours

if TYPE_CHECKING:
    from lightning.fabric import Fabric

Made = TypeVar("Made")
SAME_CTRL_C = 1.0  # seconds


def on_all_ranks(fabric: Fabric, make: Callable[..., Made], *args: Any, **options: Any) -> Made:
    """What `make` gives, in every process; an error in one is raised in all.

    Raises:
        EncoderLabError: of the first process that has one.
    """
    if fabric.world_size == 1:
        return make(*args, **options)
    made, error = _try(make, args, options)
    found: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(
        found, None if error is None else _reportable(error, fabric)
    )
    told = next((one for one in found if one is not None), None)
    if told is not None:
        _detach_children(fabric)
        # The first process shows its own error as it is, with where it came from.
        raise mark_collective(error if error is not None and fabric.is_global_zero else told)
    return made  # type: ignore[return-value]


def deferred(make: Callable[..., Made], *args: Any) -> Callable[[], Made]:
    """Does `make` now, before there is a Fabric to agree with; `agreed` settles it later.

    Where no other process waits for us a mistake is told at once, before anything is started.
    """
    made, error = _try(make, args, {})
    if error is not None and not rank_info().external:
        raise error

    def settle() -> Made:
        if error is not None:
            raise error
        return made  # type: ignore[return-value]

    return settle


def from_rank0(fabric: Fabric, make: Callable[..., Made], *args: Any, **options: Any) -> Made:
    """What `make` gives in the first process, sent to all; its error is raised in all."""
    if fabric.world_size == 1:
        return make(*args, **options)
    answer: tuple[Any, Any] = (None, None)
    error: Exception | None = None
    if fabric.is_global_zero:
        made, error = _try(make, args, options)
        answer = made, None if error is None else _reportable(error, fabric)
    made, told = fabric.broadcast(answer)
    if told is not None:
        _detach_children(fabric)
        raise mark_collective(error if error is not None else told)
    return made


def check_same(fabric: Fabric, what: str, value: object) -> None:
    """Refuses to go on where the processes see different things.

    Raises:
        WorkError: `value` is another one somewhere.
    """
    if fabric.world_size == 1:
        return
    found: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(found, value)
    for rank, one in enumerate(found):
        if one != found[0]:
            error = WorkError(
                f"the processes do not see the same {what}",
                got=f"{one} in process {rank}, {found[0]} in process 0",
                hint="every machine needs the same files, at the same paths",
            )
            raise collective_error(fabric, error)


def collective_error(fabric: Fabric, error: EncoderLabError) -> BaseException:
    """An error that every process of the run has at this same point, ready to be raised."""
    _detach_children(fabric)
    return mark_collective(error)


def any_rank(fabric: Fabric, *answers: bool) -> tuple[bool, ...]:
    """To each question whether any process says yes."""
    if fabric.world_size == 1:
        return answers
    flags = torch.tensor(answers, dtype=torch.int32, device=fabric.device)
    torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX)
    return tuple(bool(flag) for flag in flags.tolist())


def mean_over(fabric: Fabric, values: dict[str, float]) -> dict[str, float]:
    """Each value's mean over the processes, which all have the same names."""
    if fabric.world_size == 1:
        return values
    row = torch.tensor(list(values.values()), dtype=torch.float64, device=fabric.device)
    torch.distributed.all_reduce(row)
    return dict(zip(values, (row / fabric.world_size).tolist(), strict=True))


def average_gradients(fabric: Fabric, parameters: Iterator[torch.nn.Parameter]) -> None:
    """Replaces each gradient by its mean over the processes."""
    if fabric.world_size == 1:
        return
    for parameter in parameters:
        if parameter.grad is not None:
            torch.distributed.all_reduce(parameter.grad)
            parameter.grad /= fabric.world_size


def broadcast_from_rank0(fabric: Fabric, tensors: Iterator[Tensor]) -> None:
    """Gives every process the values of the first one, to the last bit."""
    if fabric.world_size == 1:
        return
    for tensor in tensors:
        torch.distributed.broadcast(tensor.data, 0)


@dataclass
class Stop:
    """Whether the user or the scheduler asked the run to stop."""

    asked: bool = False
    at: float = 0.0

    def interrupt(self, fabric: Fabric, how_to_go_on: str) -> KeyboardInterrupt:
        """What to raise when all have stopped and the state is saved."""
        _detach_children(fabric)
        note(f"stopped; {how_to_go_on}")
        stopped = KeyboardInterrupt()
        mark_collective(stopped)
        return stopped


@contextmanager
def stop_on_signal() -> Iterator[Stop]:
    """SIGINT (Ctrl-C) and SIGTERM (a scheduler) ask, in this block, for a stop after the step at
    hand; asked twice, the run is interrupted where it is."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread hears signals
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
    """For a process that prepares batches: a signal to all must not kill it before the run, which
    ends it, has finished its step."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _try(make: Callable[..., Made], args: Any, options: Any) -> tuple[Made | None, Any]:
    try:
        return make(*args, **options), None
    except Exception as error:
        return None, error


def _reportable(error: Exception, fabric: Fabric) -> EncoderLabError:
    """The error as it can be sent, and told by the first process."""
    known = as_ours(error)
    if known is None:
        known = WorkError(f"something unexpected: {type(error).__name__}: {error}")
    if fabric.is_global_zero:
        return known
    where = f"process {fabric.global_rank} on {socket.gethostname()}: {known.what}"
    return type(known)(where, got=known.got, want=known.want, hint=known.hint)


def _detach_children(fabric: Fabric) -> None:
    """Processes that we started end with us, each by itself: without this Lightning kills the
    first one as soon as another ends with an error, agreed or not."""
    started = getattr(getattr(fabric.strategy, "launcher", None), "procs", None)
    if started is not None:
        started.clear()
