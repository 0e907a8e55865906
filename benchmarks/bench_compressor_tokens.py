"""Training a compressor from stored tokens against computing them at every step.

    python benchmarks/bench_compressor_tokens.py [-n 256] [--steps 6]

The encoder has the shape of ViT-B/32 (random weights; 7 x 7 tokens of 768 channels) and reads JPEG
files. Both run the same trainer on the same batches, in turns; the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from table import Row, report

from encoderlab.compression.token_source import FreshTokens, StoredTokens, TokenSource
from encoderlab.compression.trainer import CompressorTrainer, Recipe
from encoderlab.core.progress import configure
from encoderlab.data.read import read_samples
from encoderlab.encoders.vision import load_vision
from encoderlab.feature_store.extract import extract_images
from encoderlab.models.token_compressor import AutoencoderShape
from encoderlab.training.devices import make_fabric

LAYER, BUDGET = 11, (3, 3)


def main() -> None:
    """Prints both rates and their ratio, for the default recipe and with a critic."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=256, help="images")
    parser.add_argument("--steps", type=int, default=6, help="steps per round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--width", type=int, default=128, help="channels inside the compressor")
    given = parser.parse_args()
    configure(quiet=True)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _make_model(root / "vit-b-32")
        _make_photographs(root / "photographs", given.n)
        encoder = load_vision(root / "vit-b-32")
        samples = read_samples(root / "photographs")
        kind = f"patches@{LAYER}"
        stored = StoredTokens(extract_images(encoder, samples, root / "store", what=[kind]), kind)
        fresh = FreshTokens(encoder, samples, LAYER)
        shape = AutoencoderShape(encoder.width, encoder.grid, (BUDGET,), given.width)
        print(f"ViT-B/32's shape, {encoder.where[1]}, batches of {given.batch_size}")
        for words, distribution in (("as it comes", Recipe.of().distribution), ("critic", "wgan")):
            recipe = Recipe.of(epochs=1000, batch_size=given.batch_size, distribution=distribution)
            fabric = make_fabric("cpu" if encoder.device.type == "cpu" else "auto")
            rates: dict[str, list[float]] = {"stored": [], "computed": []}
            for _ in range(given.rounds):
                for name, source in (("stored", stored), ("computed", fresh)):
                    trainer = CompressorTrainer(shape, source, source, recipe, fabric, root / name)
                    rates[name].append(_rate(trainer, source, given.steps))
            one, other = (statistics.median(rates[name]) for name in ("stored", "computed"))
            ratios = tuple(a / b for a, b in zip(rates["stored"], rates["computed"], strict=True))
            report(
                Row(
                    f"train a compressor from stored tokens, {words}",
                    f"{one:.0f} images/s",
                    f"{other:.0f} images/s",
                    "tokens computed at every step",
                    ratios,
                    "10",
                    one / other >= 10,
                    f"{encoder.where[1]}, batches of {given.batch_size}",
                )
            )


def _rate(trainer: CompressorTrainer, source: TokenSource, steps: int) -> float:
    """Images a second over some steps, the first one left out."""
    batches = iter(trainer.batches(0))
    trainer.train_step(next(batches))
    started = time.perf_counter()
    for _ in range(steps):
        trainer.train_step(next(batches))
    return steps * trainer.recipe.batch_size / (time.perf_counter() - started)


def _make_model(folder: Path) -> None:
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    CLIPVisionModel(CLIPVisionConfig(patch_size=32)).save_pretrained(folder)
    CLIPImageProcessor().save_pretrained(folder)


def _make_photographs(folder: Path, count: int) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        coarse.resize((500, 375), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg")


if __name__ == "__main__":
    main()
