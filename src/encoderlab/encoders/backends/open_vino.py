"""OpenVINO on the CPU, in bf16 where the encoder runs in it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from encoderlab.encoders.backends import graph
from encoderlab.encoders.backends.contract import ImageSide, Run
from encoderlab.encoders.backends.onnx_runtime import lacking, on_cpu_alone
from encoderlab.encoders.hardware import cpu_has_bf16
from encoderlab.errors import EncoderLabError, UsageError

EXTRA = 'pip install "encoderlab[openvino]"'
PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16"}


class OpenVINO:
    """The module as an ONNX graph, compiled by OpenVINO for this CPU."""

    name = "openvino"
    copies = True

    def format(self, dtype: torch.dtype, free: bool) -> torch.dtype:
        return dtype

    def refusal(self, device: torch.device, dtype: torch.dtype) -> EncoderLabError | None:
        error = lacking("OpenVINO", ("openvino", "onnxscript"), EXTRA) or on_cpu_alone(
            "OpenVINO", device
        )
        if error is None and dtype == torch.bfloat16 and not cpu_has_bf16():
            return UsageError(
                "OpenVINO has no bf16 on this CPU", got="bfloat16", want="--dtype float32 or auto"
            )
        return error

    def build(self, side: ImageSide, dtype: torch.dtype, batch: int) -> Run:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            request = _compiled(graph.of_image_side(side, Path(folder)), dtype)
        places = range(len(side.outputs))

        def run(pixels: Tensor) -> tuple[Tensor, ...]:
            # Outputs are copied: the request's own are overwritten by its next run.
            found = request.infer([pixels.float().contiguous().numpy()], share_inputs=True)
            return tuple(torch.from_numpy(found[place]) for place in places)

        return run


def _compiled(file: Path, dtype: torch.dtype) -> Any:
    import openvino

    core = openvino.Core()
    model = core.compile_model(
        core.read_model(file),
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": PRECISIONS[dtype],
            "PERFORMANCE_HINT": "LATENCY",  # all cores on one batch
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        },
    )
    return model.create_infer_request()
