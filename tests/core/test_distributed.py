"""A process finds its place among those of its run in what torchrun and srun tell it."""

import pytest

from encoderlab.core import distributed
from encoderlab.core.distributed import SINGLE_PROCESS, RankInfo, rank_info
from encoderlab.errors import UsageError, WorkError

TORCHRUN = {
    "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "a", "MASTER_PORT": "1",
}  # fmt: skip
SRUN = {
    "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
}  # fmt: skip


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, SINGLE_PROCESS),
        (TORCHRUN, RankInfo("torchrun", 5, 8, 1, 4)),
        (SRUN, RankInfo("srun", 3, 4, 1, 2)),
        # torchrun as the one task of a SLURM step: the nearer one knows
        (SRUN | TORCHRUN, RankInfo("torchrun", 5, 8, 1, 4)),
        # a batch script has srun's variables, and is one process
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, SINGLE_PROCESS),
        (SRUN | {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, SINGLE_PROCESS),
        ({"LOCAL_RANK": "1", "WORLD_SIZE": "2"}, RankInfo("--devices", 1, 2, 1, 2)),
        # one process per machine, as Kubernetes' operators start them
        (
            {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"},
            RankInfo("torchrun", 1, 2, 0, 1),
        ),
    ],
)
def test_place_is_what_the_environment_says(environment, expected):
    assert rank_info(environment) == expected


def test_nodes_follow_from_the_processes_of_a_machine():
    assert rank_info(TORCHRUN).nodes == 2 and rank_info(TORCHRUN).node == 1
    assert rank_info(TORCHRUN).external and not rank_info({"LOCAL_RANK": "1"}).external


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        (TORCHRUN | {"RANK": "x"}, "RANK in the environment is no number"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "without MASTER_ADDR and MASTER_PORT"),
        (TORCHRUN | {"RANK": "8"}, "process 8 of 8"),
        (TORCHRUN | {"LOCAL_WORLD_SIZE": "3"}, "unequal numbers of processes"),
        (SRUN | {"SLURM_STEP_TASKS_PER_NODE": "3,1"}, "unequal numbers of processes"),
    ],
)
def test_a_contradiction_is_one_sentence(environment, says):
    with pytest.raises(UsageError, match=says):
        rank_info(environment)


def test_only_the_first_tells_what_all_have(monkeypatch):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    mistake, alone = UsageError("the words are wrong"), WorkError("the disk is full")
    try:
        distributed.set_shared(True)
        assert not distributed.should_report(mistake)  # all look at the same words
        distributed.set_connected(rank_info(), lambda: None)
        assert distributed.should_report(alone)
        assert not distributed.should_report(distributed.mark_collective(mistake))
        assert not distributed.should_report(RuntimeError("[gloo] Connection closed by peer"))
        assert distributed.process_name().startswith("process 5 of 8 on ")
        distributed.set_shared(False)  # another command's work is its own
        assert distributed.should_report(mistake) and not distributed.is_secondary_rank()
    finally:
        monkeypatch.undo()
        distributed.set_shared(False)
