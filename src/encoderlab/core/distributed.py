"""Which of several processes of one run this is, and whether it speaks: read from the environment.

torchrun and srun start one process per device and tell each its place in variables; `--devices N`
starts them itself and does the same. Of all of them the first one prints, draws and writes. Knows
no tensor and no collective; standard library only.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from encoderlab.errors import UsageError, is_of_lost_process

TORCHRUN, SRUN, SELF_STARTED = "torchrun", "srun", "--devices"
MASTER = ("MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class RankInfo:
    """Where a process stands among those of its run.

    Args:
        launcher: what started them: "torchrun", "srun", "--devices", or empty for one alone.
        rank: its number, of `world` ones; the first is 0 and speaks for all.
        local_rank: its number on this machine, of `local_world` ones.
    """

    launcher: str = ""
    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    @property
    def nodes(self) -> int:
        """How many machines there are."""
        return self.world // self.local_world

    @property
    def node(self) -> int:
        """The number of this machine."""
        return self.rank // self.local_world

    @property
    def external(self) -> bool:
        """Whether somebody else has started the processes: none is ours to start."""
        return self.launcher in (TORCHRUN, SRUN) and self.world > 1


SINGLE_PROCESS = RankInfo()


def rank_info(environment: Mapping[str, str] = os.environ) -> RankInfo:
    """The place that the environment names.

    Raises:
        UsageError: the variables contradict one another, or machines have unlike numbers of
            processes.
    """
    if "RANK" in environment and "WORLD_SIZE" in environment:
        return _of_torchrun(environment)
    # Both are there in a batch script too, which is one process; a step is what srun starts.
    if "SLURM_PROCID" in environment and _number(environment, "SLURM_STEP_NUM_TASKS", 1) > 1:
        return _of_srun(environment)
    if "LOCAL_RANK" in environment:
        rank = _number(environment, "LOCAL_RANK")
        world = max(_number(environment, "WORLD_SIZE", rank + 1), rank + 1)
        return RankInfo(SELF_STARTED, rank, world, rank, world)
    return SINGLE_PROCESS


def _of_torchrun(environment: Mapping[str, str]) -> RankInfo:
    rank, world = _number(environment, "RANK"), _number(environment, "WORLD_SIZE")
    lacking = [name for name in MASTER if name not in environment]
    if world > 1 and lacking:
        raise UsageError(
            "the processes cannot find one another",
            got=f"RANK={rank} and WORLD_SIZE={world} without {' and '.join(lacking)}",
            want="all that torchrun sets: RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT",
        )
    # Others than torchrun set no LOCAL_*: one process per machine then.
    local_rank = _number(environment, "LOCAL_RANK", 0)
    local_world = _number(environment, "LOCAL_WORLD_SIZE", local_rank + 1 if local_rank else 1)
    return _checked(RankInfo(TORCHRUN, rank, world, local_rank, local_world))


def _of_srun(environment: Mapping[str, str]) -> RankInfo:
    world = _number(environment, "SLURM_STEP_NUM_TASKS")
    nodes = _number(environment, "SLURM_STEP_NUM_NODES", 1)
    # "2(x3)": two tasks on each of three machines; "2,1": two on the first, one on the second.
    spread = environment.get("SLURM_STEP_TASKS_PER_NODE", "")
    counts = {int(count) for count in re.findall(r"(\d+)(?:\(x\d+\))?", spread)}
    if len(counts) > 1 or world % nodes:
        raise _uneven(spread or f"{world} tasks on {nodes} machines")
    found = RankInfo(
        SRUN, _number(environment, "SLURM_PROCID"), world,
        _number(environment, "SLURM_LOCALID", 0), world // nodes,
    )  # fmt: skip
    return _checked(found)


def _checked(found: RankInfo) -> RankInfo:
    if found.local_world < 1 or found.world % found.local_world:
        raise _uneven(f"{found.world} processes, {found.local_world} on this machine")
    if not (0 <= found.rank < found.world and 0 <= found.local_rank < found.local_world):
        raise UsageError(
            "the process has a number that there is not",
            got=f"process {found.rank} of {found.world}, {found.local_rank} of "
            f"{found.local_world} on its machine",
            want=f"the variables as {found.launcher} sets them",
        )
    return found


def _uneven(got: str) -> UsageError:
    return UsageError(
        "the machines have unlike numbers of processes",
        got=got,
        want="as many on each: --ntasks-per-node of sbatch, --nproc-per-node of torchrun",
    )


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name, "")
    if not text and default is not None:
        return default
    if not text.isdigit():
        raise UsageError(f"{name} in the environment is no number", got=text, want="a whole number")
    return int(text)


@dataclass
class _State:
    """What this process has learnt of the run that it takes part in."""

    place: RankInfo = SINGLE_PROCESS
    # What makes all wait for all; None until the processes have found one another.
    meet: Callable[[], None] | None = None


_state = _State()


def set_shared(shares_work: bool) -> None:
    """Says whether what is done now is shared with the other processes that were started, or this
    process's own business.

    Raises:
        UsageError: as `place`.
    """
    _state.place, _state.meet = SINGLE_PROCESS, None
    if shares_work:
        _state.place = rank_info()


def set_connected(found: RankInfo, meet: Callable[[], None]) -> None:
    """The processes have found one another: from now on an error of one is not that of all.

    Args:
        meet: waits until every process calls it.
    """
    _state.place, _state.meet = found, meet


def current_rank() -> RankInfo:
    """This process's place in the work at hand."""
    return _state.place


def is_secondary_rank() -> bool:
    """Whether this is one of several processes of a run, and not the one that speaks for it."""
    return _state.place.rank > 0


def mark_collective(error: BaseException) -> BaseException:
    """Marks an error that every process of the run has: only the first one tells it."""
    error.__dict__["_of_every_process"] = True
    return error


def should_report(error: BaseException) -> bool:
    """Whether this process is the one to tell of an error.

    Before the processes have found one another every error is everyone's: all look at the same
    words. Afterwards those are that `everyones` marked, and that another process is gone.
    """
    shared = _state.meet is None or is_collective(error) or is_of_lost_process(error)
    return not (is_secondary_rank() and shared)


def barrier_after_error(error: BaseException) -> None:
    """Waits, after an error that all have, until the first process has told it: a launcher ends
    the others as soon as one is gone."""
    if _state.meet is not None and is_collective(error):
        with suppress(RuntimeError):  # the others may be gone already
            _state.meet()


def is_collective(error: BaseException) -> bool:
    return "_of_every_process" in getattr(error, "__dict__", {})


def process_name() -> str:
    """This process in words, for a message that only it can tell; empty for the first."""
    here = _state.place
    return f"process {here.rank} of {here.world} on {platform.node()}: " if here.rank else ""


def exit_now(code: int) -> int:
    """Ends this process here where it was one of several that had found one another, else gives
    `code` back. After an error the others may be gone, and what threads of the collectives do at
    the interpreter's own end can turn an exit code into a crash."""
    if _state.meet is None:
        return code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
