"""torch.compile: fused kernels for one shape of batch.

On a CPU the weights are frozen into the compiled code, which lets the compiler lay them out for the
matrix units; on a GPU the whole forward becomes one CUDA graph, launched at once.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from encoderlab.encoders.backends.contract import ImageSide, Run
from encoderlab.errors import EncoderLabError, MissingError


class Compiled:
    """The module through inductor."""

    name = "compile"
    copies = False

    def format(self, dtype: torch.dtype, free: bool) -> torch.dtype:
        return dtype

    def refusal(self, device: torch.device, dtype: torch.dtype) -> EncoderLabError | None:
        lacking = _no_compiler(device)
        if lacking is None:
            return None
        return MissingError(
            f"torch.compile has {lacking[0]}",
            want=lacking[1],
            hint="install it, or choose another --backend",
        )

    def build(self, side: ImageSide, dtype: torch.dtype, batch: int) -> Run:
        # Another shape would be compiled anew, for half a minute: so there is one shape.
        how: dict[str, Any] = {"dynamic": False}
        if "isolate_recompiles" in inspect.signature(torch.compile).parameters:
            # Every encoder compiles the same few lines of Python; torch gives up on a function that
            # was compiled eight times, unless it is told that they have nothing to do with another.
            how["isolate_recompiles"] = True
        if side.device.type == "cuda":
            compiled = torch.compile(side, mode="reduce-overhead", **how)
            run = FixedBatches(_graphed(compiled), batch)
        else:
            compiled = torch.compile(side, options={"freezing": True}, **how)
            run = FixedBatches(compiled, batch)
        return lambda pixels: run(pixels.to(dtype))


class FixedBatches:
    """Runs what takes one size of batch alone on any: longer ones are cut, the last short piece is
    filled up with black pictures, whose rows are dropped.

    Out of memory halves the size, as whoever retries with half a batch expects.
    """

    def __init__(self, run: Run, size: int) -> None:
        self.run, self.size = run, size

    def __call__(self, pixels: Tensor) -> tuple[Tensor, ...]:
        parts = [self._piece(piece) for piece in pixels.split(self.size)]
        if len(parts) == 1:
            return parts[0]
        return tuple(torch.cat(one) for one in zip(*parts, strict=True))

    def _piece(self, pixels: Tensor) -> tuple[Tensor, ...]:
        count = len(pixels)
        if count < self.size:
            black = pixels.new_zeros((self.size - count, *pixels.shape[1:]))
            pixels = torch.cat([pixels, black])
        try:
            found = self.run(pixels.contiguous())
        except (torch.OutOfMemoryError, MemoryError):
            self.size = max(1, self.size // 2)
            raise
        return tuple(one[:count] for one in found)


def _graphed(compiled: Any) -> Run:
    def run(pixels: Tensor) -> tuple[Tensor, ...]:
        torch.compiler.cudagraph_mark_step_begin()
        # The graph's own outputs are overwritten by its next run.
        return tuple(one.clone() for one in compiled(pixels))

    return run


def _no_compiler(device: torch.device) -> tuple[str, str] | None:
    """What is lacking, and what would be right."""
    if device.type == "cuda":
        from torch.utils._triton import has_triton

        return None if has_triton() else ("no Triton here", "the Triton that comes with torch")
    from torch._inductor import cpp_builder, exc

    try:
        cpp_builder.get_cpp_compiler()
    except (exc.InvalidCxxCompiler, RuntimeError, OSError):
        return "no C++ compiler here", "g++ or clang++"
    return None
