"""torch as it is: what every other backend is compared with."""

from __future__ import annotations

import torch
from torch import Tensor

from encoderlab.encoders.backends.contract import TORCH, ImageSide, Run


class Eager:
    """The module itself, operation by operation."""

    name = TORCH
    copies = False

    def format(self, dtype: torch.dtype, free: bool) -> torch.dtype:
        return dtype

    def refusal(self, device: torch.device, dtype: torch.dtype) -> None:
        return None

    def build(self, side: ImageSide, dtype: torch.dtype, batch: int) -> Run:
        def run(pixels: Tensor) -> tuple[Tensor, ...]:
            return side(pixels.to(dtype))

        return run
