"""Torch and compiled torch on this machine, against one image at a time in fp32.

    python benchmarks/bench_backends.py [--batch-size 32] [--device auto]

A ViT-B/32 with random weights on pixels that are at hand, so the model alone. Both are built first,
then timed in turns: what else the machine does affects all alike, and a ratio is the median over
the turns. The parity is to torch in fp32 on the same pictures.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from bench_embed_folder import make_checkpoint
from table import Row, report
from torch import Tensor

from encoderlab.core.progress import configure
from encoderlab.encoders.compile import (
    Run,
    answer,
    compile_image_side,
    parity,
    pictures,
    time_in_turns,
)
from encoderlab.encoders.hardware import choose_device, cpu_has_bf16, device_name
from encoderlab.encoders.vision import load_vision
from encoderlab.errors import MissingError

# A few single images say as much as a whole batch of them.
SINGLE = 8


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    configure(quiet=True)
    device = choose_device(given.device)
    runs: list[Run] = []
    rows: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory() as place:
        folder = make_checkpoint(Path(place))
        whole = load_vision(folder, given.device, "float32")
        pixels = pictures(whole.preprocess, given.batch_size, device)
        side = whole.image_side()
        reference = answer(side, pixels)
        runs.append(lambda pixels: [side(piece) for piece in pixels[:SINGLE].split(1)][-1])
        for dtype in formats(device):
            encoder = load_vision(folder, given.device, "float32")
            try:
                compiled, *_, seconds = compile_image_side(encoder, dtype, given.batch_size)
            except MissingError as error:
                parser.exit(error.exit_code, f"{error}\n")
            plain = in_format(encoder.image_side(), dtype)
            for name, run, built in (("torch", plain, 0.0), ("compile", compiled, seconds)):
                cosine, difference = parity(answer(run, pixels), reference)
                runs.append(run)
                rows.append(
                    (
                        f"image tower ViT-B/32 by {name}, {str(dtype).removeprefix('torch.')}",
                        f"smallest cosine {cosine:.6f}, largest difference of a patch "
                        f"{difference:.0e}, built in {built:.0f} s",
                    )
                )
    single, *batched = [np.array(seconds) for seconds in time_in_turns(runs, pixels)]
    single /= min(SINGLE, given.batch_size)
    print(f"ViT-B/32 on {device} ({device_name(device)}), {torch.get_num_threads()} threads, "
          f"batches of {given.batch_size}, {len(single)} turns")  # fmt: skip
    for (task, note), seconds in zip(rows, batched, strict=True):
        seconds /= given.batch_size
        report(
            Row(
                task,
                f"{1 / np.median(seconds):.0f} images/s",
                f"{1 / np.median(single):.1f} images/s",
                "torch, float32, one at a time",
                tuple((single / seconds).tolist()),
                note=note,
            )
        )


def in_format(side: Run, dtype: torch.dtype) -> Run:
    """Torch's own forward of pixels that are in fp32."""

    def run(pixels: Tensor) -> tuple[Tensor, ...]:
        return side(pixels.to(dtype))

    return run


def formats(device: torch.device) -> list[torch.dtype]:
    """Those that the device computes in by hardware."""
    on_gpu = device.type == "cuda"
    has_bf16 = torch.cuda.is_bf16_supported() if on_gpu else cpu_has_bf16()
    return [torch.float32, torch.bfloat16] if has_bf16 else [torch.float32]


if __name__ == "__main__":
    main()
