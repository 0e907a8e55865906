"""Chooses devices, processes and precision of a training run, and builds its Fabric.

torchrun or srun decide the number of processes where they started this one, else `--devices`.
Knows no model; `core.distributed` reads the launchers' variables.
"""

from __future__ import annotations

import atexit
import logging
import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch

from encoderlab.core import distributed
from encoderlab.core.distributed import SRUN, RankInfo
from encoderlab.core.progress import note
from encoderlab.encoders.hardware import automatic_format, choose_device
from encoderlab.errors import MissingError, UsageError, WorkError

if TYPE_CHECKING:
    from lightning.fabric import Fabric

PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
# One process may be this much behind another, such as at reading images from a slow disk.
PATIENCE = timedelta(hours=2)


def make_fabric(
    device: str = "auto",
    devices: int | None = None,
    strategy: str = "auto",
    precision: str = "auto",
) -> Fabric:
    """Makes a Fabric for devices of one kind, and connects all processes of the run.

    Args:
        device: "auto", "cpu", "cuda", "cuda:1" or an index.
        devices: number on this machine; None: as many as torchrun or srun started, else one.
        strategy: "auto" or "ddp".
        precision: "auto", "fp32", "bf16" or "fp16".

    Returns:
        The Fabric.

    Raises:
        MissingError: a GPU was asked for and there is none.
        UsageError: a combination that no hardware has, or another number of devices than
            processes were started.
        WorkError: the processes cannot communicate.
    """
    here = distributed.rank_info()
    local = _processes_here(devices, here)
    chosen = choose_device(device)
    where = _devices(chosen, local, here)
    precision = _precision(precision, chosen)
    fabric = _fabric(where, here, strategy, precision)
    _join(fabric, here)
    return fabric


def _processes_here(devices: int | None, here: RankInfo) -> int:
    """How many processes work on this machine."""
    if devices is not None and devices < 1:
        raise UsageError("devices must be positive", got=devices)
    if not here.external:
        _warn_of_batch_script()
        return devices or 1
    if devices not in (None, here.local_world):
        raise UsageError(
            f"--devices contradicts the processes that {here.launcher} started",
            got=f"devices={devices}",
            want=f"{here.local_world}, as many as there are on each machine",
            hint=f"leave out --devices: {here.launcher} says how many there are",
        )
    return here.local_world


def _warn_of_batch_script() -> None:
    tasks = os.environ.get("SLURM_NTASKS", "1")
    if "SLURM_PROCID" in os.environ and tasks != "1" and "SLURM_STEP_NUM_TASKS" not in os.environ:
        note(f"warning: SLURM gave {tasks} tasks, and this is one process: start it with srun")


def _devices(chosen: torch.device, local: int, here: RankInfo) -> list[torch.device]:
    """The device of each process on this machine, by its local number."""
    if chosen.type != "cuda":
        return [chosen] * local
    if local == 1:
        return [chosen]
    if chosen.index:
        raise UsageError(
            "one GPU was named, and there are several processes",
            got=f"cuda:{chosen.index} for {local} processes",
            want="cuda, or CUDA_VISIBLE_DEVICES for a choice of GPUs",
        )
    visible = torch.cuda.device_count()
    if visible == 1 and here.launcher == SRUN:
        # With --gpus-per-task each task sees only its own GPU, as cuda:0.
        return [chosen] * local
    if local > visible:
        raise MissingError(
            "there are not as many GPUs as were asked for",
            got=f"{local} processes on one machine",
            want=f"at most {visible}",
        )
    return [torch.device("cuda", index) for index in range(local)]


def _precision(precision: str, device: torch.device) -> str:
    if precision == "auto":
        return automatic_format("precision", ("bf16", "fp32"), device)
    if precision == "fp16" and device.type != "cuda":
        raise UsageError(
            "fp16 training needs a GPU", got="precision=fp16 on the CPU", want="bf16 or fp32"
        )
    return precision


def _fabric(where: list[torch.device], here: RankInfo, strategy: str, precision: str) -> Fabric:
    from lightning.fabric import Fabric
    from lightning.fabric.plugins.environments import LightningEnvironment
    from lightning.fabric.strategies import DDPStrategy, SingleDeviceStrategy

    # Lightning would report the precision and the processes again.
    for name in ("lightning.fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Always set: Lightning's detection takes a SLURM batch script for a task.
    environment = _environment(here) if here.external else LightningEnvironment()
    nodes = here.nodes if here.external else 1
    chosen: Any = SingleDeviceStrategy(where[0])
    if strategy == "ddp" or len(where) * nodes > 1:
        chosen = DDPStrategy(
            parallel_devices=where, cluster_environment=environment, timeout=PATIENCE
        )
    return Fabric(
        accelerator=where[0].type,
        devices=1,  # the strategy knows them
        num_nodes=nodes,
        strategy=chosen,
        precision=PRECISIONS[precision],  # type: ignore[arg-type]
    )


def _environment(here: RankInfo) -> Any:
    """The environment with the ranks of `here`: Lightning's for SLURM refuses `srun -n`."""
    from lightning.fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

    class Started(TorchElasticEnvironment):
        world_size = staticmethod(lambda: here.world)
        global_rank = staticmethod(lambda: here.rank)
        local_rank = staticmethod(lambda: here.local_rank)
        node_rank = staticmethod(lambda: here.node)

    if here.launcher == SRUN:
        names = ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST")
        nodes = next((os.environ[name] for name in names if name in os.environ), "")
        root = SLURMEnvironment.resolve_root_node_address(nodes) if here.nodes > 1 else ""
        os.environ.setdefault("MASTER_ADDR", root or "127.0.0.1")
        # Every process can compute it, and another step of the job has another one.
        job, step = (int(os.environ.get(f"SLURM_{name}", "0")) for name in ("JOB_ID", "STEP_ID"))
        os.environ.setdefault("MASTER_PORT", str(15_000 + (job + 101 * step) % 10_000))
    return Started()


def _join(fabric: Fabric, here: RankInfo) -> None:
    atexit.register(_end_process_group)
    try:
        fabric.launch()
        fabric.barrier()  # what is wrong between the processes shows now
    except torch.distributed.DistError as error:
        raise WorkError(
            "the processes of the run cannot communicate",
            got=str(error).strip().splitlines()[0][:200],
            want="one GPU for each process, and a network between the machines",
            hint="NCCL_DEBUG=INFO shows more; see docs/en/clusters.md",
        ) from error
    if fabric.world_size == 1:
        return
    local = here.local_world if here.external else fabric.world_size
    distributed.set_connected(
        RankInfo(
            here.launcher or distributed.SELF_STARTED, fabric.global_rank, fabric.world_size,
            fabric.local_rank, local,
        ),
        fabric.barrier,
    )  # fmt: skip
    machines = fabric.world_size // local
    places = "one machine" if machines == 1 else f"{machines} machines"
    note(
        f"processes: {fabric.world_size} on {places}, started by "
        f"{here.launcher or distributed.SELF_STARTED}, joined by {torch.distributed.get_backend()}"
    )


def _end_process_group() -> None:
    # Gloo's threads free tensors of Python: one that does so while the interpreter ends aborts the
    # process. Lightning ends the group for NCCL only.
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
