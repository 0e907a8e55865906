"""Embedding and training against the libraries that people would use instead, same weights.

sentence-transformers and open_clip run in an environment of their own (`make bench` makes it, or
name its interpreter in ENCODERLAB_BENCH_OTHERS), in another process that works while ours waits and
the other way round. transformers runs here, in batches.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_embed_folder import make_checkpoint, make_photographs
from bench_train_step import SHAPES, step
from PIL import Image
from table import Row, report

from encoderlab.core.progress import configure
from encoderlab.encoders.dual import load_dual
from encoderlab.encoders.hardware import cpu_has_bf16
from encoderlab.feature_store.extract import embed_samples
from encoderlab.models.clip import CLIP
from encoderlab.training.optimiser import adamw

VARIABLE = "ENCODERLAB_BENCH_OTHERS"


class Others:
    """The other environment: orders out, answers in."""

    def __init__(self, interpreter: str) -> None:
        self.process = subprocess.Popen(
            [interpreter, str(Path(__file__).with_name("others_child.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, **order: Any) -> dict[str, Any]:
        """One order, one answer."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the other environment failed at {order['do']} {order['name']}")
        return json.loads(line)


@torch.inference_mode()
def by_transformers(folder: Path, files: list[str], batch_size: int, bf16: bool) -> np.ndarray:
    """CLIPModel in batches, its processor in the same thread."""
    from transformers import CLIPModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    model, processor = _loaded.get(folder) or (
        CLIPModel.from_pretrained(folder).eval(),
        CLIPImageProcessorPil.from_pretrained(folder),
    )
    _loaded[folder] = model, processor
    parts = []
    for start in range(0, len(files), batch_size):
        images = [Image.open(one).convert("RGB") for one in files[start : start + batch_size]]
        pixels = processor(images, return_tensors="pt")["pixel_values"]
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            parts.append(model.get_image_features(pixel_values=pixels).pooler_output.float())
    return torch.nn.functional.normalize(torch.cat(parts), dim=-1).numpy()


_loaded: dict[Path, Any] = {}


def embedding(others: Others | None, given: argparse.Namespace) -> None:
    """A folder of JPEGs, every way."""
    bf16 = cpu_has_bf16()
    with tempfile.TemporaryDirectory() as work:
        folder = make_checkpoint(Path(work) / "clip")
        (Path(work) / "photos").mkdir()
        samples = make_photographs(Path(work) / "photos", given.n)
        files = [str(sample.image) for sample in samples]
        encoder = load_dual(str(folder))
        ways = [("transformers, batches of 32, fp32", "transformers", False)]
        ways += [("transformers, batches of 32, bf16", "transformers", True)] if bf16 else []
        if others is not None:
            ways += [("sentence-transformers", "sentence-transformers", False)]
            ways += [("open_clip, fp32", "open_clip", False)]
            ways += [("open_clip, bf16", "open_clip", True)] if bf16 else []
            for name, do, half in ways:
                if do != "transformers":
                    others.ask(name=name, do=do, checkpoint=str(folder), bf16=half)
        for name, do, half in ways:
            ours, theirs = [], []
            for turn in range(given.rounds + 1):
                started = time.perf_counter()
                mine = embed_samples(encoder, samples, given.batch_size).vectors
                ours.append(time.perf_counter() - started)
                if do == "transformers":
                    started = time.perf_counter()
                    found = by_transformers(folder, files, given.batch_size, half)
                    theirs.append(time.perf_counter() - started)
                else:
                    assert others is not None
                    answer = others.ask(
                        name=name, do="embed", files=files, batch_size=given.batch_size, keep=16
                    )
                    theirs.append(answer["seconds"])
                    found = np.array(answer["vectors"])
                if not turn:  # the first turn warms both up
                    ours.clear()
                    theirs.clear()
            cosine = float((mine[: len(found)] * found).sum(axis=1).min())
            ratios = tuple(t / o for o, t in zip(ours, theirs, strict=True))
            report(
                Row(
                    f"embed {given.n} JPEGs, ViT-B/32",
                    f"{given.n / np.median(ours):.0f} images/s",
                    f"{given.n / np.median(theirs):.0f} images/s",
                    name,
                    ratios,
                    "1",
                    bool(np.median(ratios) >= 1),
                    f"smallest cosine of the two {cosine:.4f}",
                )
            )


def training(others: Others, given: argparse.Namespace) -> None:
    """One step of the tiny shape."""
    shape, batch, bf16 = SHAPES["tiny"], 64, cpu_has_bf16()
    vision, text = shape.vision, shape.text
    others.ask(
        name="training", do="training",
        shape={
            "vision": {
                "image_size": vision.image_size, "patch_size": vision.patch_size,
                "width": vision.width, "layers": vision.layers,
                "head_width": vision.width // vision.heads,
            },
            "text": {
                "context_length": text.context_length, "vocab_size": text.vocab_size,
                "width": text.width, "heads": text.heads, "layers": text.layers,
            },
            "embed_dim": shape.embed_dim, "batch": batch, "bf16": bf16,
        },
    )  # fmt: skip
    torch.manual_seed(0)
    model = CLIP(shape).train()
    optimiser = adamw(model, 1e-4, 0.1)
    pixels = torch.randn(batch, 3, vision.image_size, vision.image_size)
    tokens = torch.randint(1, text.vocab_size - 1, (batch, text.context_length))
    tokens[:, -1] = text.vocab_size - 1
    ours, theirs = [], []
    for turn in range(given.rounds + 1):
        started = time.perf_counter()
        for _ in range(given.steps):
            step(model, optimiser, pixels, tokens, bf16)
        mine = time.perf_counter() - started
        other = others.ask(name="training", do="steps", count=given.steps)["seconds"]
        if turn:
            ours.append(mine)
            theirs.append(other)
    ratios = tuple(t / o for o, t in zip(ours, theirs, strict=True))
    pairs = batch * given.steps
    report(
        Row(
            f"CLIP training step, tiny, batch {batch}",
            f"{pairs / np.median(ours):.0f} pairs/s",
            f"{pairs / np.median(theirs):.0f} pairs/s",
            "open_clip's model and loss",
            ratios,
            "1",
            bool(np.median(ratios) >= 1),
            "bf16" if bf16 else "fp32",
        )
    )


def main() -> None:
    """Prints the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=192, help="photographs")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8, help="training steps a turn")
    parser.add_argument("--others", default=os.environ.get(VARIABLE, ""))
    given = parser.parse_args()
    configure(quiet=True)
    others = Others(given.others) if given.others else None
    if others is None:
        print(f"without sentence-transformers and open_clip: {VARIABLE} names no interpreter")
    embedding(others, given)
    if others is not None:
        training(others, given)


if __name__ == "__main__":
    main()
