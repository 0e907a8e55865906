"""One GPU to its limit: the model alone and end to end from JPEG files, eager and compiled.

    python benchmarks/bench_one_gpu.py [--device auto] [--models b32 l14] [-n 4096]

CLIP's ViT-B/32 and ViT-L/14 with random weights, JPEGs of 640 x 480 on disk, pooled features into a
fresh store. The model's matrix products are counted by torch's own counter; their rate is divided
by that of one large product in the same number format, measured here. Decoding alone, on all cores,
says whether it or the model is the bottleneck (on a CPU they share the cores). Where no GPU is the
same is printed of the CPU, by default for ViT-B/32 alone and for few images.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import deque
from functools import partial
from pathlib import Path

import torch
from bench_embed_folder import make_checkpoint, make_photographs
from table import Row, report

from encoderlab.alignment.speed import operations
from encoderlab.core.progress import configure
from encoderlab.data import Sample
from encoderlab.encoders.hardware import choose_device, device_name, matrix_peak, synchronize
from encoderlab.encoders.vision import VisionEncoder, load_vision, stack
from encoderlab.errors import EncoderLabError
from encoderlab.feature_store.extract import extract_images
from encoderlab.feature_store.pipeline import (
    batches_of,
    decode_for,
    decoding_threads,
    prepared_ahead,
)

MODELS = {
    "b32": ("ViT-B/32", None),
    "l14": ("ViT-L/14", {
        "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
        "intermediate_size": 4096, "patch_size": 14,
    }),
}  # fmt: skip


def main() -> None:
    """Prints the figures of every model, eager and compiled."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, help="JPEGs (4096 on a GPU, 96 on a CPU)")
    parser.add_argument("--models", nargs="+", choices=list(MODELS))
    parser.add_argument("--batch-size", type=int, help="256 on a GPU, 32 on a CPU")
    parser.add_argument("--backends", nargs="+", default=["torch", "compile"])
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    configure(quiet=True)
    device = choose_device(given.device)
    on_gpu = device.type == "cuda"
    count = given.n or (4096 if on_gpu else 96)
    batch = given.batch_size or (256 if on_gpu else 32)
    print(f"{device} ({device_name(device)}), {os.cpu_count()} cores, {count} JPEGs, "
          f"batches of {batch}")  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "images").mkdir()
        samples = make_photographs(Path(place) / "images", count)
        for key in given.models or (list(MODELS) if on_gpu else ["b32"]):
            name, shape = MODELS[key]
            folder = make_checkpoint(Path(place) / key, shape)
            for backend in given.backends:
                try:
                    encoder = load_vision(folder, device, backend=backend, batch_size=batch)
                except EncoderLabError as error:
                    print(f"{name}, {backend}: left out: {error}")
                    continue
                measure(name, encoder, samples, batch, Path(place) / f"store-{key}-{backend}")


def measure(
    name: str, encoder: VisionEncoder, samples: list[Sample], batch: int, store: Path
) -> None:
    """Prints one model on one backend."""
    work = operations(encoder)
    peak = matrix_peak(encoder.device, encoder.dtype)
    alone = model_alone(encoder, batch, max(4, len(samples) // batch))
    decoding = decoding_alone(encoder, samples, batch)
    # The first files warm up what the whole run will use: allocator, streams, threads.
    extract_images(encoder, samples[: 2 * batch], f"{store}-warm", batch_size=batch)
    started = time.perf_counter()
    extract_images(encoder, samples, store, batch_size=batch)
    whole = len(samples) / (time.perf_counter() - started)
    slower, other = ("the model", "decoding") if alone < decoding else ("decoding", "the model")
    times = max(alone, decoding) / min(alone, decoding)
    report(
        Row(
            f"files to store, {name}, {encoder.device.type}, {encoder.ran_in}",
            f"{whole:,.0f} images/s",
            f"{alone:,.0f} images/s",
            "the model alone",
            (whole / alone,),
            "the model is the bottleneck",
            slower == "the model",
            f"{work / 1e9:.1f} GFLOP an image: {whole * work / peak:.2f} of the matrix peak "
            f"({peak / 1e12:.2f} TFLOP/s), the model alone {alone * work / peak:.2f}; decoding "
            f"alone {decoding:,.0f} images/s: the bottleneck is {slower}, {other} is {times:.1f} x "
            "as fast",
        )
    )


def model_alone(encoder: VisionEncoder, batch: int, rounds: int) -> float:
    """Images/s on pixels that are at hand, from bytes to features on the device; as many batches
    under way as the device takes."""
    import numpy as np

    images = np.random.default_rng(0).integers(
        0, 256, (batch, *encoder.preprocess.shape, 3), dtype=np.uint8
    )
    pixels = stack(list(images), encoder.device)
    for _ in range(3):
        encoder.encode_pixels(pixels)
    synchronize(encoder.device)
    seen: deque[torch.Tensor] = deque(maxlen=2)
    started = time.perf_counter()
    for _ in range(rounds):
        seen.append(encoder.encode_pixels(pixels).pooled)
    synchronize(encoder.device)
    return rounds * batch / (time.perf_counter() - started)


def decoding_alone(encoder: VisionEncoder, samples: list[Sample], batch: int) -> float:
    """Images/s from files to bytes, by the threads that every extraction uses."""
    decode = partial(decode_for, encoder.preprocess)
    started = time.perf_counter()
    with decoding_threads() as pool:
        batches = ((None, part) for part in batches_of(samples, batch))
        deque(prepared_ahead(pool, decode, batches), maxlen=0)
    return len(samples) / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
