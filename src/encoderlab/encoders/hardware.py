"""Chooses device and number format, and notes the choice; memory and speed of a device."""

from __future__ import annotations

import ctypes
import functools
import platform
import time
from pathlib import Path

import torch
from torch import Tensor

from encoderlab.core.progress import note_once
from encoderlab.core.project import configured_device
from encoderlab.errors import MissingError, UsageError

DTYPES = {
    "float32": torch.float32, "fp32": torch.float32,
    "bfloat16": torch.bfloat16, "bf16": torch.bfloat16,
    "float16": torch.float16, "fp16": torch.float16,
}  # fmt: skip


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bf16 matrices in hardware (emulation is slower than fp32)."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)


def get_device() -> str:
    """The torch device that models run on: the project's setting, else the first GPU, else the CPU.

    Returns:
        Its name for torch: "cpu", "cuda:0".

    Raises:
        MissingError: the configured GPU is missing.
        UsageError: the configuration names no device.
    """
    return str(choose_device(configured_device()))


def choose_device(name: str | int | None = "auto") -> torch.device:
    """The torch device that a name stands for.

    Args:
        name: "auto" (or None), "cpu", "cuda", "cuda:1" or 1.

    Returns:
        The device; for "auto" the first GPU, else the CPU.

    Raises:
        MissingError: that GPU is missing.
        UsageError: an unknown name.
    """
    text = "auto" if name is None else str(name).lower()
    count = torch.cuda.device_count()
    if text == "auto":
        if count:
            return torch.device("cuda", 0)
        note_once("device: cpu (no CUDA device found)")
        return torch.device("cpu")
    if text == "cpu":
        return torch.device("cpu")
    index = text.removeprefix("cuda").removeprefix(":") or "0"
    if not index.isdigit() or not (text.startswith("cuda") or text.isdigit()):
        raise UsageError("unknown device", got=name, want="auto, cpu, cuda, cuda:1 or 1")
    if int(index) >= count:
        raise MissingError(
            "the GPU that was asked for is not there",
            got=name,
            want=f"one of the {count} found" if count else "cpu: no CUDA device was found",
        )
    return torch.device("cuda", int(index))


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The number format that a name stands for.

    Args:
        name: "auto", "float32", "bfloat16" or "float16".
        device: where the model runs.

    Returns:
        The format; for "auto" bfloat16 if the hardware computes it, else float32.

    Raises:
        UsageError: an unknown name, or float16 on a CPU.
    """
    if name == "auto":
        name = automatic_format("dtype", ("bfloat16", "float32"), device)
    if name not in DTYPES:
        raise UsageError("unknown dtype", got=name, want="auto, float32, bfloat16 or float16")
    if DTYPES[name] == torch.float16 and device.type == "cpu":
        raise UsageError(
            "float16 needs a GPU", got=f"dtype={name} on the CPU", want="bfloat16 or float32"
        )
    return DTYPES[name]


def automatic_format(setting: str, names: tuple[str, str], device: torch.device) -> str:
    """What "auto" means for a setting of the number format; prints it once.

    Args:
        setting: its name.
        names: those of bf16 and of fp32.
        device: where the model runs.

    Returns:
        The first name if the hardware computes bf16, else the second.
    """
    on_gpu = device.type == "cuda"
    fast = torch.cuda.is_bf16_supported() if on_gpu else cpu_has_bf16()
    chosen = names[0] if fast else names[1]
    note_once(
        f"{setting}: {chosen} ({'' if fast else 'no '}bf16 in this {'GPU' if on_gpu else 'CPU'})"
    )
    return chosen


def device_name(device: torch.device) -> str:
    """The name of the chip; of a CPU with its vector instructions."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    able = torch.backends.cpu.get_cpu_capability() + (", bf16" if cpu_has_bf16() else "")
    return f"{names[0] if names else name}, {able}"


def matrix_peak(device: torch.device, dtype: torch.dtype) -> float:
    """The speed of one large matrix product: an upper bound for any model on this device.

    Args:
        device: that computes.
        dtype: number format of both matrices.

    Returns:
        Operations per second, the best of 8.
    """
    size = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = 0.0
    for _ in range(8):
        synchronize(device)
        started = time.perf_counter()
        a @ b
        synchronize(device)
        best = max(best, 2.0 * size**3 / (time.perf_counter() - started))
    return best


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy on the device; from pinned memory to a GPU, while the GPU computes."""
    if device.type != "cuda" or not tensor.is_pinned():
        return tensor.to(device)
    copying = _copying(device)
    with torch.cuda.stream(copying):
        moved = tensor.to(device, non_blocking=True)
    computing = torch.cuda.current_stream(device)
    computing.wait_stream(copying)
    # Its memory must not be reused while a kernel still reads it.
    moved.record_stream(computing)
    return moved


@functools.cache
def _copying(device: torch.device) -> torch.cuda.Stream:
    """One stream per GPU for copies to it."""
    return torch.cuda.Stream(device)


def synchronize(device: torch.device) -> None:
    """Waits until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class PeakMemory:
    """The peak memory of a block above what was held before: `bytes` after the block, None where
    the system does not tell."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.bytes: int | None = None

    def __enter__(self) -> PeakMemory:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before: int | None = torch.cuda.memory_allocated(self.device)
        else:
            self._before = _begin_counting()
        return self

    def __exit__(self, *error: object) -> None:
        if self.device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self.device) - (self._before or 0)
            return
        peak = _of_this_process("VmHWM")
        if peak is not None and self._before is not None:
            self.bytes = max(0, peak - self._before)


def _begin_counting() -> int | None:
    """Returns freed memory to the system and resets the peak (Linux only); gives the bytes held
    now."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):
        return None
    return _of_this_process("VmRSS")


def _of_this_process(field: str) -> int | None:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    return None
