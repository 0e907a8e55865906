"""Which hardware a training run uses, decided once and said aloud. Builds the Fabric only."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch

from encoderlab.encoders.hardware import choose_device, cpu_has_bf16
from encoderlab.errors import MissingError, UsageError
from encoderlab.progress import note

if TYPE_CHECKING:
    from lightning.fabric import Fabric

PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
STRATEGIES = ("auto", "ddp")


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

    # Lightning says the precision again, in its own words.
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    if strategy not in STRATEGIES:
        raise UsageError("unknown strategy", got=strategy, want=", ".join(STRATEGIES))
    if devices < 1:
        raise UsageError("devices must be positive", got=devices)
    chosen = choose_device(device)
    on_gpu = chosen.type == "cuda"
    if on_gpu and devices > torch.cuda.device_count():
        raise MissingError(
            "there are not as many GPUs as were asked for",
            got=f"devices={devices}",
            want=f"at most {torch.cuda.device_count()}",
        )
    # One named GPU is that one; several are the first ones.
    which: int | list[int] = [chosen.index] if on_gpu and devices == 1 else devices
    if precision == "auto":
        has_bf16 = torch.cuda.is_bf16_supported() if on_gpu else cpu_has_bf16()
        precision = "bf16" if has_bf16 else "fp32"
        note(
            f"precision: {precision} ({'' if has_bf16 else 'no '}bf16 in this "
            f"{'GPU' if on_gpu else 'CPU'})"
        )
    if precision not in PRECISIONS:
        raise UsageError("unknown precision", got=precision, want=", ".join(["auto", *PRECISIONS]))
    if precision == "fp16" and not on_gpu:
        raise UsageError(
            "fp16 training needs a GPU", got="precision=fp16 on the CPU", want="bf16 or fp32"
        )
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
