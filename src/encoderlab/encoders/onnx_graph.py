"""A torch module as an ONNX file, by torch's exporter, without its messages. Knows no encoder."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from encoderlab.errors import MissingError, UsageError

OPSET = 20
# Larger weights go into a second file: protobuf ends at 2 GB.
LARGEST_FILE = 1_500_000_000


def require_onnx() -> None:
    """Checks that the packages of the extra are installed.

    Raises:
        MissingError: naming the package and the extra.
    """
    for name in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(name) is None:
            hint = 'pip install "encoderlab[onnx]"'
            raise MissingError("ONNX is not installed", got=f"no {name}", hint=hint)


def session(file: Path) -> Any:
    """An ONNX Runtime session on the CPU, on as many threads as torch uses."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def write(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: tuple[str, ...],
    file: Path,
    called: str,
    opset: int = OPSET,
) -> None:
    """Writes `module` as the ONNX file `file`, for batches of any size.

    Args:
        module: takes the inputs in order.
        inputs: name -> an example, a batch of 2 or more.
        outputs: names of the outputs, in order.
        file: where to write; large weights go into a file beside it.
        called: what is exported, for the message.
        opset: version of the ONNX operators.

    Raises:
        UsageError: the exporter cannot take it.
        ImportError: a package of the exporter is missing.
        MemoryError: out of memory.
        OSError: the file cannot be written.
    """
    size = sum(weight.numel() * weight.element_size() for weight in module.parameters())
    what = "this encoder cannot be written as an ONNX graph"
    try:
        with _silence(), torch.no_grad():
            program: Any = torch.onnx.export(
                module,
                tuple(inputs.values()),
                dynamo=True,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_shapes=tuple({0: Dim("batch", min=1)} for _ in inputs),
                opset_version=opset,
                verbose=False,
            )
            # The exporter fixes an axis silently, such as where Python loops over the batch.
            if any(isinstance(value.shape[0], int) for value in program.model.graph.inputs):
                want = "code that takes any length of batch: this fixes it"
                raise UsageError(what, got=called, want=want)
            program.save(file, external_data=size > LARGEST_FILE)
    except (OSError, MemoryError, ImportError, UsageError):
        raise
    except Exception as error:  # a tracer may raise anything
        raise UsageError(what, got=called, hint=f"the exporter says: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """The first line of the innermost error; the outer ones name steps of the exporter."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160] if lines else ''}"


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
