"""Every backend that can run the image tower on this machine, against one image at a time in fp32.

    python benchmarks/bench_backends.py [--batch-size 32] [--turns 7] [--device auto]

A ViT-B/32 with random weights on pixels that are at hand, so the model alone. All ways are built
first, then timed in turns: what else the machine does meets all of them alike, and a ratio is the
median over the turns. The parity is to torch in fp32 on the same pictures. What cannot run here is
listed with the reason.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from bench_embed_folder import make_checkpoint
from table import Row, report

from encoderlab.core.progress import configure
from encoderlab.encoders.backends.contract import BACKENDS, Run, backend_called
from encoderlab.encoders.backends.parity import Parity
from encoderlab.encoders.backends.probe import answer, pictures
from encoderlab.encoders.hardware import choose_device, cpu_has_bf16, device_name
from encoderlab.encoders.vision import load_vision
from encoderlab.errors import EncoderLabError


@dataclass
class Way:
    """One way to run the tower, ready; `seconds` are those of its turns, per image."""

    name: str
    run: Run
    batch: int
    parity: Parity
    built: float
    seconds: list[float] = field(default_factory=list)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    configure(quiet=True)
    device = choose_device(given.device)
    with tempfile.TemporaryDirectory() as place:
        folder = make_checkpoint(Path(place))
        whole = load_vision(folder, given.device, "float32")
        pixels = pictures(whole.preprocess, given.batch_size, device)
        reference = answer(whole.image_side(), pixels)
        single = Way(
            "torch, float32, one at a time", whole.image_side(), 1,
            Parity.between(reference, reference), 0.0,
        )  # fmt: skip
        ways, left_out = [single], []
        for dtype in formats(device):
            for name in BACKENDS:
                kind = backend_called(name)
                refused = kind.refusal(device, dtype)
                called = f"{name}, {str(dtype).removeprefix('torch.')}"
                if refused is not None:
                    left_out.append(f"{called}: {refused.what}")
                    continue
                encoder = load_vision(folder, given.device, "float32")
                if not kind.copies:
                    encoder.to(dtype=dtype)
                started = time.perf_counter()
                try:
                    run = kind.build(encoder.image_side(), dtype, given.batch_size)
                    outputs = answer(run, pixels)
                except EncoderLabError as error:
                    left_out.append(f"{called}: {error.what}")
                    continue
                built = time.perf_counter() - started
                parity = Parity.between(outputs, reference)
                ways.append(Way(called, run, given.batch_size, parity, built))
    for _ in range(given.turns):
        for way in ways:
            # A few single images say as much as a whole batch of them.
            some = pixels if way.batch > 1 else pixels[:8]
            started = time.perf_counter()
            for piece in some.split(way.batch):
                answer(way.run, piece)
            way.seconds.append((time.perf_counter() - started) / len(some))
    print(f"ViT-B/32 on {device} ({device_name(device)}), {torch.get_num_threads()} threads, "
          f"batches of {given.batch_size}, {given.turns} turns")  # fmt: skip
    for way in ways[1:]:
        ratios = np.divide(single.seconds, way.seconds)
        report(
            Row(
                f"image tower ViT-B/32 by {way.name}",
                f"{1 / np.median(way.seconds):.0f} images/s",
                f"{1 / np.median(single.seconds):.1f} images/s",
                "torch, float32, one at a time",
                tuple(ratios.tolist()),
                note=f"smallest cosine {way.parity.cosine:.6f}, largest difference of a patch "
                f"{way.parity.difference:.0e}, built in {way.built:.0f} s",
            )
        )
    for reason in left_out:
        print(f"left out: {reason}")


def formats(device: torch.device) -> list[torch.dtype]:
    """Those that the device computes in by hardware."""
    on_gpu = device.type == "cuda"
    has_bf16 = torch.cuda.is_bf16_supported() if on_gpu else cpu_has_bf16()
    return [torch.float32, torch.bfloat16] if has_bf16 else [torch.float32]


if __name__ == "__main__":
    main()
