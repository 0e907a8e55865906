"""Ranks: which of several processes of one run this is, read from the environment.

torchrun and srun start one process per device and number them in variables; `--devices N` starts
them itself and does the same. Rank 0 prints, draws and writes. Knows no tensor and no collective;
standard library only.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from encoderlab.errors import UsageError, is_of_lost_process

TORCHRUN, SRUN, SELF_STARTED = "torchrun", "srun", "--devices"
MASTER = ("MASTER_ADDR", "MASTER_PORT")
# How long a process that does not report its error waits for torchrun to end it.
REPORT_WAIT_S = 30.0


@dataclass(frozen=True)
class RankInfo:
    """The rank of a process among those of its run.

    Args:
        launcher: what started them: "torchrun", "srun", "--devices", or empty for one alone.
        rank: its number, of `world` ones; rank 0 reports for all.
        local_rank: its number on this machine, of `local_world` ones.

    Raises:
        UsageError: the numbers contradict one another, or machines have unequal numbers of
            processes.
    """

    launcher: str = ""
    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    def __post_init__(self) -> None:
        if self.local_world < 1 or self.world % self.local_world:
            raise _unequal(f"{self.world} processes, {self.local_world} on this machine")
        if self.rank >= self.world or self.local_rank >= self.local_world:
            raise UsageError(
                "the rank of the process is too large",
                got=f"process {self.rank} of {self.world}, {self.local_rank} of "
                f"{self.local_world} on its machine",
                want=f"the variables as {self.launcher} sets them",
            )

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
        """Whether torchrun or srun has started the processes: none is ours to start."""
        return self.launcher in (TORCHRUN, SRUN) and self.world > 1


SINGLE_PROCESS = RankInfo()


def rank_info(environment: Mapping[str, str] = os.environ) -> RankInfo:
    """The rank that the environment names."""

    def number(name: str, default: int | None = None) -> int:
        text = environment.get(name, "")
        if not text and default is not None:
            return default
        if not text.isdigit():
            raise UsageError(
                f"{name} in the environment is no number", got=text, want="a whole number"
            )
        return int(text)

    local_rank = number("LOCAL_RANK", 0)
    if "RANK" in environment and "WORLD_SIZE" in environment:
        # Others than torchrun set no LOCAL_*: one process per machine then.
        local_world = number("LOCAL_WORLD_SIZE", local_rank + 1)
        ranks = RankInfo(TORCHRUN, number("RANK"), number("WORLD_SIZE"), local_rank, local_world)
        lacking = [name for name in MASTER if name not in environment]
        if ranks.world > 1 and lacking:
            raise UsageError(
                "the processes cannot find one another",
                got=f"RANK={ranks.rank} and WORLD_SIZE={ranks.world} without "
                f"{' and '.join(lacking)}",
                want="all variables of torchrun: RANK, WORLD_SIZE, LOCAL_RANK, "
                + ", ".join(MASTER),
            )
        return ranks
    # A batch script, which is one process, has SLURM_PROCID too; srun starts a step.
    if "SLURM_PROCID" in environment and number("SLURM_STEP_NUM_TASKS", 1) > 1:
        world, nodes = number("SLURM_STEP_NUM_TASKS"), number("SLURM_STEP_NUM_NODES", 1)
        # "2(x3)": two tasks on each of three machines; "2,1": two on the first, one on the second.
        spread = environment.get("SLURM_STEP_TASKS_PER_NODE", "")
        if len(set(re.findall(r"(\d+)(?:\(x\d+\))?", spread))) > 1 or world % nodes:
            raise _unequal(spread or f"{world} tasks on {nodes} machines")
        rank, local_rank = number("SLURM_PROCID"), number("SLURM_LOCALID", 0)
        return RankInfo(SRUN, rank, world, local_rank, world // nodes)
    if "LOCAL_RANK" in environment:
        world = max(number("WORLD_SIZE", 1), local_rank + 1)
        return RankInfo(SELF_STARTED, local_rank, world, local_rank, world)
    return SINGLE_PROCESS


def _unequal(got: str) -> UsageError:
    return UsageError(
        "the machines have unequal numbers of processes",
        got=got,
        want="as many on each: --ntasks-per-node of sbatch, --nproc-per-node of torchrun",
    )


@dataclass
class _State:
    """The rank of this process, and the run that it is part of."""

    ranks: RankInfo = SINGLE_PROCESS
    # Waits until every process calls it; None until the processes are connected.
    barrier: Callable[[], None] | None = None


_state = _State()


def set_shared(shares_work: bool) -> None:
    """Sets whether the other started processes take part in the current work.

    Raises:
        UsageError: as `rank_info`.
    """
    _state.ranks, _state.barrier = SINGLE_PROCESS, None
    if shares_work:
        _state.ranks = rank_info()


def set_connected(ranks: RankInfo, barrier: Callable[[], None]) -> None:
    """Marks the processes as connected: from now on an error of one is not that of all."""
    # `barrier` waits until every process calls it.
    _state.ranks, _state.barrier = ranks, barrier


def current_rank() -> RankInfo:
    """This process's rank in the current command."""
    return _state.ranks


def is_secondary_rank() -> bool:
    """Whether this is one of several processes of a run, and not rank 0."""
    return _state.ranks.rank > 0


def mark_collective(error: BaseException) -> BaseException:
    """Marks an error that every process of the run has: only rank 0 reports it."""
    error.__dict__["_collective"] = True
    return error


def is_collective(error: BaseException) -> bool:
    """Whether `mark_collective` marked it."""
    return "_collective" in getattr(error, "__dict__", {})


def should_report(error: BaseException) -> bool:
    """Whether this process reports an error."""
    # Before the processes are connected every error is that of all: all read the same command line.
    # Afterwards only those that `mark_collective` marked, and that another process is gone.
    shared = _state.barrier is None or is_collective(error) or is_of_lost_process(error)
    return not (is_secondary_rank() and shared)


def barrier_after_error(error: BaseException) -> None:
    """Waits, after an error that all have, until rank 0 has reported it: torchrun ends the others
    as soon as one is gone."""
    if _state.barrier is not None and is_collective(error):
        with suppress(RuntimeError):  # the others may be gone already
            _state.barrier()
    elif _state.barrier is None and is_secondary_rank() and _state.ranks.launcher == TORCHRUN:
        # Not connected yet: rank 0 meets the same error, and torchrun then ends this process.
        with suppress(KeyboardInterrupt):
            time.sleep(REPORT_WAIT_S)


def process_name() -> str:
    """This process's name before a message that only it reports; empty for rank 0."""
    here = _state.ranks
    return f"process {here.rank} of {here.world} on {platform.node()}: " if here.rank else ""


def exit_now(code: int) -> int:
    """Ends this process at once if it is connected to others, else returns `code`."""
    # After an error the others may be gone, and the threads of the collectives can crash in the
    # interpreter's own shutdown, which changes the exit code.
    if _state.barrier is None:
        return code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
