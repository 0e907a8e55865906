"""A process finds its place among those of its run in what torchrun and srun tell it."""

from __future__ import annotations

import pytest

from encoderlab import processes
from encoderlab.errors import UsageError, WorkError
from encoderlab.processes import ALONE, Place, place

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
        ({}, ALONE),
        (TORCHRUN, Place("torchrun", 5, 8, 1, 4)),
        (SRUN, Place("srun", 3, 4, 1, 2)),
        # torchrun as the one task of a SLURM step: the nearer one knows
        (SRUN | TORCHRUN, Place("torchrun", 5, 8, 1, 4)),
        # a batch script has srun's variables, and is one process
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, ALONE),
        (SRUN | {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, ALONE),
        ({"LOCAL_RANK": "1", "WORLD_SIZE": "2"}, Place("--devices", 1, 2, 1, 2)),
        # one process per machine, as Kubernetes' operators start them
        (
            {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"},
            Place("torchrun", 1, 2, 0, 1),
        ),
    ],
)
def test_place_is_what_the_environment_says(environment, expected):
    assert place(environment) == expected


def test_nodes_follow_from_the_processes_of_a_machine():
    assert place(TORCHRUN).nodes == 2 and place(TORCHRUN).node == 1
    assert place(TORCHRUN).external and not place({"LOCAL_RANK": "1"}).external


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        (TORCHRUN | {"RANK": "x"}, "RANK in the environment is no number"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "without MASTER_ADDR and MASTER_PORT"),
        (TORCHRUN | {"RANK": "8"}, "process 8 of 8"),
        (TORCHRUN | {"LOCAL_WORLD_SIZE": "3"}, "unlike numbers of processes"),
        (SRUN | {"SLURM_STEP_TASKS_PER_NODE": "3,1"}, "unlike numbers of processes"),
    ],
)
def test_a_contradiction_is_one_sentence(environment, says):
    with pytest.raises(UsageError, match=says):
        place(environment)


def test_only_the_first_tells_what_all_have(monkeypatch):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    mistake, alone = UsageError("the words are wrong"), WorkError("the disk is full")
    try:
        processes.take_part(True)
        assert not processes.tells(mistake)  # all look at the same words
        processes.joined(place(), lambda: None)
        assert processes.tells(alone)
        assert not processes.tells(processes.everyones(mistake))
        assert not processes.tells(RuntimeError("[gloo] Connection closed by peer"))
        assert processes.name().startswith("process 5 of 8 on ")
        processes.take_part(False)  # another command's work is its own
        assert processes.tells(mistake) and not processes.is_follower()
    finally:
        monkeypatch.undo()
        processes.take_part(False)
