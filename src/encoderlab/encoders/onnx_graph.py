"""A torch module as an ONNX file, by torch's own exporter (through torch.export).

Knows modules and files; nothing of encoders. The exporter's own messages are not shown.
"""

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

PIXELS = "pixels"
OPSET = 20
# protobuf ends at 2 GB: larger weights go into a file beside the graph.
LARGEST_FILE = 1_500_000_000


def require_onnx() -> None:
    """Refuses where a package of the extra is not installed.

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


def any_batch() -> Dim:
    """The axis that may have any length."""
    return Dim("batch", min=1)


def write(
    module: nn.Module,
    inputs: Mapping[str, tuple[Tensor, Mapping[int, Dim]]],
    outputs: tuple[str, ...],
    file: Path,
    called: str,
    opset: int = OPSET,
) -> None:
    """Writes `module` as the ONNX file `file`.

    Args:
        inputs: name -> an example of length 2 or more, and those of its axes whose length is free.
        outputs: names of what the module gives, in order.
        called: what is exported, for the message.

    Raises:
        UsageError: the exporter cannot take it.
    """
    size = sum(one.numel() * one.element_size() for one in module.parameters())
    try:
        with _silence(), torch.no_grad():
            program = torch.onnx.export(
                module,
                tuple(example for example, _ in inputs.values()),
                dynamo=True,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_shapes=tuple(dict(axes) for _, axes in inputs.values()),
                opset_version=opset,
                verbose=False,
            )
            assert program is not None
            _require_free(program, inputs, called)
            program.save(file, external_data=size > LARGEST_FILE)
    except (OSError, MemoryError, ImportError, UsageError):
        raise
    except Exception as error:  # whatever a tracer may say of somebody's Python
        raise UsageError(
            "this encoder cannot be written as an ONNX graph",
            got=called,
            hint=f"the exporter says: {_reason(error)}",
        ) from error


def _require_free(
    program: Any, inputs: Mapping[str, tuple[Tensor, Mapping[int, Dim]]], called: str
) -> None:
    """The exporter fixes an axis without a word, such as where Python loops over the batch."""
    for value, (_, axes) in zip(program.model.graph.inputs, inputs.values(), strict=True):
        for axis, dim in axes.items():
            if isinstance(value.shape[axis], int):
                raise UsageError(
                    "this encoder cannot be written as an ONNX graph",
                    got=called,
                    want=f"code that takes any length of {dim.__name__}: this fixes it",
                )


def _reason(error: BaseException) -> str:
    """The first line of the error at the root: the outer ones tell of the exporter's steps."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160] if lines else ''}"


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    before = [one.level for one in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for one in loggers:
            one.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for one, level in zip(loggers, before, strict=True):
                one.setLevel(level)
