"""`encoderlab compare` of 12 encoders x 4 language models x 300 samples, from the first word.

The checkpoints have random weights in the shapes of the bundled ones: the time does not depend on
what the vectors mean.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from table import Row, report

from encoderlab.zoo import ZOO

ENCODERS, LLMS, SAMPLES = 12, 4, 300
WEIGHTS = "model.safetensors"


def randomised(name: str, seed: int, folder: Path) -> str:
    """A copy of a bundled checkpoint whose matrices have other random weights."""
    copy = folder / f"{name}-{seed}"
    copy.mkdir()
    for file in (ZOO / name).iterdir():
        if file.name != WEIGHTS:
            (copy / file.name).write_bytes(file.read_bytes())
    generator = torch.Generator().manual_seed(seed)
    weights = {
        key: value + value.float().std() * torch.randn(value.shape, generator=generator)
        if value.ndim > 1
        else value
        for key, value in load_file(ZOO / name / WEIGHTS).items()
    }
    halves = {key: value.to(torch.float16).contiguous() for key, value in weights.items()}
    save_file(halves, copy / WEIGHTS, metadata={"format": "pt"})
    return str(copy)


def main() -> None:
    """Prints the time."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        kinds = ("tiny-clip", "tiny-siglip", "tiny-dinov2")
        encoders = [randomised(kinds[n % 3], n, folder) for n in range(ENCODERS)]
        llms = [randomised(("tiny-llama", "tiny-qwen")[n % 2], n, folder) for n in range(LLMS)]
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "encoderlab", "compare", "--quiet", "--encoders", *encoders,
             "--llms", *llms, "--n-samples", str(SAMPLES // 5)],
            cwd=folder, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        seconds = time.perf_counter() - started
    report(
        Row(
            f"encoderlab compare, {ENCODERS} encoders x {LLMS} LLMs x {SAMPLES} samples",
            f"{seconds:.0f} s",
            note="features included; projectors are trained on request alone",
        )
    )


if __name__ == "__main__":
    main()
