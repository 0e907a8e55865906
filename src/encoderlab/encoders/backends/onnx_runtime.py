"""ONNX Runtime on the CPU, in fp32: its kernels for CPUs know no bf16."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from encoderlab.encoders.backends import graph
from encoderlab.encoders.backends.contract import ImageSide, Run
from encoderlab.errors import EncoderLabError, MissingError, UsageError

EXTRA = 'pip install "encoderlab[onnx]"'


class OnnxRuntime:
    """The module as an ONNX graph."""

    name = "onnxruntime"
    copies = True

    def format(self, dtype: torch.dtype, free: bool) -> torch.dtype:
        return torch.float32 if free else dtype

    def refusal(self, device: torch.device, dtype: torch.dtype) -> EncoderLabError | None:
        return (
            lacking("ONNX Runtime", ("onnxruntime", "onnxscript"), EXTRA)
            or on_cpu_alone("ONNX Runtime", device)
            or in_float32_alone(dtype)
        )

    def build(self, side: ImageSide, dtype: torch.dtype, batch: int) -> Run:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            running = session(graph.of_image_side(side, Path(folder)))

        def run(pixels: Tensor) -> tuple[Tensor, ...]:
            found = running.run(None, {graph.PIXELS: pixels.float().contiguous().numpy()})
            return tuple(torch.from_numpy(one) for one in found)

        return run


def session(file: Path) -> Any:
    """An ONNX Runtime session on as many threads as torch uses."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def lacking(what: str, modules: tuple[str, ...], extra: str) -> MissingError | None:
    """The error where one of its packages is not installed."""
    absent = [name for name in modules if importlib.util.find_spec(name) is None]
    if not absent:
        return None
    return MissingError(f"{what} is not installed", got=f"no {absent[0]}", hint=extra)


def on_cpu_alone(what: str, device: torch.device) -> UsageError | None:
    """The error where the encoder is on a GPU."""
    if device.type == "cpu":
        return None
    return UsageError(
        f"{what} runs on the CPU here", got=str(device), want="--backend torch or compile on a GPU"
    )


def in_float32_alone(dtype: torch.dtype) -> UsageError | None:
    """The error where another number format was asked for."""
    if dtype == torch.float32:
        return None
    return UsageError(
        "ONNX Runtime runs in float32 alone on a CPU",
        got=str(dtype).removeprefix("torch."),
        want="--dtype float32 or auto",
    )
