"""Embedding a folder of JPEGs end to end, against the usual loop over transformers.

The loop: one image at a time, Hugging Face's processor, CLIPModel in fp32. Ours: `embed_samples`
as every command runs it. A ViT-B/32 with random weights (the speed is the same), the same
photographs on disk, both in this process, one after the other. Prints images/s of both, their
ratio, and the smallest cosine between the two embeddings of an image.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from table import Row, report
from transformers import CLIPConfig, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from encoderlab.data import Sample
from encoderlab.encoders.dual import load_dual
from encoderlab.feature_store.extract import embed_samples
from encoderlab.models.clip import Tokenizer


def make_checkpoint(folder: Path, vision: dict[str, Any] | None = None) -> Path:
    """A CLIPModel with random weights, its processor and a small vocabulary.

    Args:
        vision: the shape of the image tower; ViT-B/32 where nothing is said.
    """
    torch.manual_seed(0)
    tokenizer = Tokenizer.train_bpe(["a photo"], 300, 77)
    text = {
        "vocab_size": tokenizer.vocab_size,
        "eos_token_id": tokenizer.end_id,
        "bos_token_id": tokenizer.start_id,
        "pad_token_id": tokenizer.pad_id,
        "num_hidden_layers": 1,
    }
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
    CLIPImageProcessorPil().save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
    return folder


def make_photographs(folder: Path, count: int) -> list[Sample]:
    """JPEGs of 640 x 480 with detail at every scale, as photographs have."""
    rng = np.random.default_rng(0)
    samples = []
    for number in range(count):
        layers = [
            Image.fromarray(rng.integers(0, 256, (side * 3 // 4, side, 3), dtype=np.uint8)).resize(
                (640, 480), Image.Resampling.BICUBIC
            )
            for side in (8, 40, 200)
        ]
        image = Image.blend(Image.blend(layers[0], layers[1], 0.4), layers[2], 0.2)
        path = folder / f"{number:05d}.jpg"
        image.save(path, quality=90)
        samples.append(Sample(path.name, path))
    return samples


@torch.inference_mode()
def the_loop(folder: Path, samples: list[Sample]) -> np.ndarray:
    """One image at a time through transformers, fp32."""
    model = CLIPModel.from_pretrained(folder).eval()
    processor = CLIPImageProcessorPil.from_pretrained(folder)
    vectors = []
    for sample in samples:
        image = Image.open(sample.image).convert("RGB")
        pixels = processor(image, return_tensors="pt")["pixel_values"]
        vector = model.get_image_features(pixel_values=pixels).pooler_output
        vectors.append(torch.nn.functional.normalize(vector, dim=-1).numpy()[0])
    return np.stack(vectors)


def main() -> None:
    """Prints the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=768, help="photographs (default: 768)")
    parser.add_argument("--loop", type=int, default=96, help="how many of them the loop embeds")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeat", type=int, default=3, help="turns; the median ratio counts")
    parser.add_argument("--backend", default="torch", help="what runs our image tower")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folder = make_checkpoint(Path(work) / "clip")
        (Path(work) / "photos").mkdir()
        samples = make_photographs(Path(work) / "photos", given.n)
        encoder = load_dual(str(folder), backend=given.backend, batch_size=given.batch_size)
        embed_samples(encoder, samples[: 2 * given.batch_size], given.batch_size)  # warm up
        the_loop(folder, samples[:4])
        ratios = []
        for _ in range(given.repeat):
            started = time.perf_counter()
            slow = the_loop(folder, samples[: given.loop])
            loop_rate = given.loop / (time.perf_counter() - started)
            started = time.perf_counter()
            fast = embed_samples(encoder, samples, given.batch_size).vectors
            rate = given.n / (time.perf_counter() - started)
            ratios.append(rate / loop_rate)
            print(
                f"loop {loop_rate:.1f} images/s, encoderlab {rate:.1f} images/s, "
                f"ratio {ratios[-1]:.2f}",
                flush=True,
            )
    cosine = float((slow * fast[: given.loop]).sum(axis=1).min())
    report(
        Row(
            f"embed a folder of {given.n} JPEGs, ViT-B/32, backend {given.backend}",
            f"{rate:.0f} images/s",
            f"{loop_rate:.1f} images/s",
            "transformers, one at a time, fp32",
            tuple(ratios),
            "6 on a bf16 CPU, cosine 0.999",
            bool(np.median(ratios) >= 6 and cosine >= 0.999),
            f"smallest cosine {cosine:.5f}; {encoder.ran_in}",
        )
    )


if __name__ == "__main__":
    main()
