"""Which hardware a training run uses, decided once and said aloud. Builds the Fabric, nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from encoderlab.errors import MissingError, UsageError
from encoderlab.progress import note

if TYPE_CHECKING:
    from lightning.fabric import Fabric

PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
STRATEGIES = ("auto", "ddp", "fsdp")


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bf16 matrices in hardware (emulated, bf16 is slower than fp32)."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)


def make_fabric(
    device: str = "auto", devices: int = 1, strategy: str = "auto", precision: str = "auto"
) -> Fabric:
    """A Fabric for `devices` devices of one kind.

    Args:
        device: "auto", "cpu", "cuda", "cuda:1" or an index.
        precision: "auto", "fp32", "bf16" or "fp16".

    Raises:
        MissingError: a GPU was asked for and there is none.
        UsageError: an unknown word, or a combination that no hardware has.
    """
    from lightning.fabric import Fabric

    if strategy not in STRATEGIES:
        raise UsageError("unknown strategy", got=strategy, want=", ".join(STRATEGIES))
    if devices < 1:
        raise UsageError("devices must be positive", got=devices)
    on_gpu, which = _gpu(str(device), devices)
    if precision == "auto":
        has_bf16 = torch.cuda.is_bf16_supported() if on_gpu else cpu_has_bf16()
        precision = "bf16" if has_bf16 else "fp32"
        note(f"precision: {precision} ({'' if has_bf16 else 'no '}bf16 in this "
             f"{'GPU' if on_gpu else 'CPU'})")
    if precision not in PRECISIONS:
        raise UsageError("unknown precision", got=precision, want=", ".join(["auto", *PRECISIONS]))
    if precision == "fp16" and not on_gpu:
        raise UsageError("fp16 training needs a GPU", got="precision=fp16 on the CPU",
                         want="bf16 or fp32")
    if strategy == "auto" and devices > 1:
        strategy = "ddp"
    fabric = Fabric(
        accelerator="cuda" if on_gpu else "cpu",
        devices=which,
        strategy=strategy,
        precision=PRECISIONS[precision],  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric


def _gpu(device: str, devices: int) -> tuple[bool, int | list[int]]:
    available = torch.cuda.device_count()
    if device == "auto":
        if not available:
            note("device: cpu (no CUDA device found)")
        return available > 0, devices
    if device == "cpu":
        return False, devices
    index = device.removeprefix("cuda").removeprefix(":")
    if (not device.startswith("cuda") and not device.isdigit()) or (index and not index.isdigit()):
        raise UsageError("unknown device", got=device, want="auto, cpu, cuda, cuda:1 or 1")
    wanted = devices if not index else int(index) + 1
    if wanted > available:
        raise MissingError(
            "the GPU that was asked for is not there",
            got=f"device={device}, devices={devices}",
            want=f"one of the {available} CUDA devices found" if available
            else "device=cpu: no CUDA device was found",
        )
    return True, [int(index)] if index else devices
