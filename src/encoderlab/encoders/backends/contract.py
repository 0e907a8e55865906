"""What a backend gets and what it gives. Knows no backend and no family.

Shapes: b batch, (h, w) pixels, n tokens, d width, p width of the vector of an image.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from encoderlab.errors import EncoderLabError, unknown

TORCH, AUTO = "torch", "auto"
# name -> "module:class", in the order in which the report lists them.
BACKENDS = {
    TORCH: "eager:Eager",
    "compile": "compiled:Compiled",
    "onnxruntime": "onnx_runtime:OnnxRuntime",
    "openvino": "open_vino:OpenVINO",
}

Run = Callable[[Tensor], tuple[Tensor, ...]]


class ImageSide(nn.Module):
    """The plain forward of an encoder as one module: standardised pixels in, tensors out.

    The last output is the vector of each image (b, p); before it, where the encoder has them, all
    tokens (b, n, d).

    Args:
        network: holds the weights.
        run: pixels to outputs, through `network`.
        outputs: their names.
        shape: height and width of the pixels.
        name: the encoder's, and its family's, for messages.
    """

    def __init__(
        self,
        network: nn.Module,
        run: Run,
        outputs: tuple[str, ...],
        shape: tuple[int, int],
        name: str,
        family: str,
    ) -> None:
        super().__init__()
        self.network = network
        self.run = run
        self.outputs, self.shape = outputs, shape
        self.called = f"{name} ({family})"

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, ...]:
        return self.run(pixels)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the weights."""
        return next(self.network.parameters()).dtype


class Backend(Protocol):
    """One way to run an `ImageSide`."""

    name: str
    # Whether it makes its own copy of the weights, which it reads in fp32; the others run the
    # module itself, in the format that it is in.
    copies: bool

    def format(self, dtype: torch.dtype, free: bool) -> torch.dtype:
        """The number format that it would run in, where `dtype` is what the encoder would, and
        `free` says that nobody asked for it."""
        ...

    def refusal(self, device: torch.device, dtype: torch.dtype) -> EncoderLabError | None:
        """Why it cannot run here in this format; None where it can."""
        ...

    def build(self, side: ImageSide, dtype: torch.dtype, batch: int) -> Run:
        """Makes it ready for batches of at most `batch`; may take a minute.

        Raises:
            UsageError: a family that it cannot take.
        """
        ...


def backend_called(name: str) -> Backend:
    """The backend of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in BACKENDS:
        raise unknown("backend", name, [*BACKENDS, AUTO], "encoderlab features --help")
    module, _, kind = BACKENDS[name].partition(":")
    return getattr(importlib.import_module(f"encoderlab.encoders.backends.{module}"), kind)()


def ran_in(dtype: torch.dtype, engine: Engine | None) -> str:
    """The number format, and the backend where it is not torch: `bfloat16`, `bfloat16+openvino`."""
    return str(dtype).removeprefix("torch.") + (f"+{engine.name}" if engine else "")


class Engine:
    """A backend that is ready, in an encoder: any batch of standardised pixels in, outputs in the
    format that it runs in, on the device that the pixels are on.
    """

    def __init__(self, name: str, run: Run, dtype: torch.dtype) -> None:
        self.name, self.dtype = name, dtype
        self._run = run
        # Encoders serve several threads; an inference request or a CUDA graph serves one.
        self._lock = threading.Lock()

    def __call__(self, pixels: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, ...]:
        with self._lock:
            return tuple(one.to(pixels.device, self.dtype) for one in self._run(pixels))
