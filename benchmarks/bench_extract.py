"""Extraction end to end, as a share of what the matrix units can do.

    python benchmarks/bench_extract.py [-n 512]

A ViT-B/32 with random weights, JPEGs of 640 x 480 on disk, features into a fresh store. The
model's matrix products per image are counted, their rate is divided by that of one large product of
the same number format on the same machine: 1 would mean that nothing but products takes time. The
model alone, on pixels that are at hand, says how much of the rest is decoding and storing. Prints
CPU or GPU, whichever `--device` says.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from bench_embed_folder import make_checkpoint, make_photographs
from table import Row, report

from encoderlab.encoders.hardware import matrix_peak, wait_for
from encoderlab.encoders.vision import load_vision
from encoderlab.features.extract import extract_images
from encoderlab.progress import configure


def products_per_image(config, tokens: int) -> float:
    """Floating-point operations of all matrix products of a ViT, patch embedding included."""
    d, m = config.hidden_size, config.intermediate_size
    block = tokens * (4 * d * d + 2 * d * m) + 2 * tokens * tokens * d
    patches = (tokens - 1) * 3 * config.patch_size**2 * d
    return 2.0 * (config.num_hidden_layers * block + patches)


def main() -> None:
    """Prints the shares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=512, help="images")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    configure(quiet=True)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "model").mkdir()
        (folder / "images").mkdir()
        make_checkpoint(folder / "model")
        samples = make_photographs(folder / "images", given.n)
        encoder = load_vision(folder / "model", given.device)
        pixels = torch.randint(0, 256, (given.batch_size, 3, 224, 224), dtype=torch.uint8)
        encoder.encode_pixels(pixels)
        operations = products_per_image(encoder.config, 50)
        peak = matrix_peak(encoder.device, encoder.dtype)
        rounds = max(2, given.n // given.batch_size)
        started = time.perf_counter()
        for _ in range(rounds):
            encoder.encode_pixels(pixels)
        wait_for(encoder.device)
        alone = rounds * given.batch_size / (time.perf_counter() - started)
        started = time.perf_counter()
        extract_images(encoder, samples, folder / "store", batch_size=given.batch_size)
        whole = given.n / (time.perf_counter() - started)
    where, kind = encoder.where
    report(
        Row(
            f"extract features, files to store, ViT-B/32, {given.n} images",
            f"{whole:.0f} images/s",
            f"{alone:.0f} images/s",
            "the model alone on pixels at hand",
            (whole / alone,),
            "share of the matrix peak printed",
            None,
            f"{where}, {kind}: {whole * operations / peak:.2f} of the matrix peak "
            f"({peak / 1e12:.2f} T/s), the model alone {alone * operations / peak:.2f}",
        )
    )


if __name__ == "__main__":
    main()
