"""A torch module as an ONNX file, by torch's own exporter (through torch.export).

Knows modules and files; nothing of encoders. Quiet: what the exporter tells goes to nobody.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from encoderlab.encoders.backends.contract import ImageSide
from encoderlab.errors import UsageError

PIXELS = "pixels"
OPSET = 20
# protobuf ends at 2 GB: larger weights go into a file beside the graph.
LARGEST_FILE = 1_500_000_000


def of_image_side(side: ImageSide, folder: Path) -> Path:
    """The plain forward of an encoder as a graph that takes any batch; its weights must be in fp32.

    Raises:
        UsageError: a family that the exporter cannot take.
    """
    height, width = side.shape
    pixels = torch.zeros(2, 3, height, width, device=side.device)
    file = folder / "image_side.onnx"
    write(side, {PIXELS: (pixels, {0: any_batch()})}, side.outputs, file, side.called)
    return file


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
