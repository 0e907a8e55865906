"""The card of an encoder without a text side: linear probes of it and of an untrained copy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from encoderlab.data.sample import Sample
from encoderlab.data.synthetic import KINDS, render_arrays
from encoderlab.data.synthetic.labelled import LABELLED_START, Labelled, main_shapes
from encoderlab.encoders.vision import VisionEncoder, load_vision, untrained
from encoderlab.metrics.linear_probe import linear_probe
from recipes.cards.facts import Facts
from recipes.real_data import SETS, read_set

TEST_IMAGES = 1000
LABELLED_SCENES = 9000
BATCH = 128

ABOUT = """
A small vision transformer for trying EncoderLab without a download: {millions:.2f} M parameters
(fp16, {megabytes:.1f} MB), images of {size} x {size} pixels, patches of {patch}. It loads in
transformers as a `{architecture}`. It was trained on images alone, without captions or labels: a
student sees half of the patches of one view and predicts the features that a teacher (a moving
average of the student) computes of another view, with a contrastive loss for whole images (MoCo v3)
and for patches (DenseCL). The architecture is DINOv2's; the recipe is not Meta's, which needs more
data than two cores process in an hour. For real data, use `dinov2` from the hub.
"""

MEASURED = """
Linear probe (logistic regression) on the frozen CLS vector. Neither its training images nor its
test images were used to train the encoder; 95 % intervals in brackets. For comparison: the same
probe on an untrained copy of the encoder, and the share of the most common class.

| task | training images | test images | accuracy | untrained copy | most common class |
|---|---|---|---|---|---|
{rows}

The main shape is the shape of the largest object in a scene: the only one, or the only large one.
"""


def about(config: dict[str, Any], facts: Facts) -> str:
    """The description of the model."""
    return ABOUT.format(
        architecture=config["architectures"][0],
        size=config["image_size"],
        patch=config["patch_size"],
        **vars(facts),
    )


def measured(folder: Path, real: Path | None) -> str:
    """Measures the model; returns the table."""
    trained = load_vision(folder, dtype="float32")
    fresh = untrained(trained)
    rows = []
    tasks = [data_type(10), data_type(300), main_shape()]
    if real is not None:
        tasks.append(clothes(real))
    for name, (pictures, labels), (test_pictures, test_labels) in tasks:
        ours, theirs = (
            linear_probe(
                pooled(encoder, pictures), labels, pooled(encoder, test_pictures), test_labels
            )
            for encoder in (trained, fresh)
        )
        rows.append(
            f"| {name} | {len(labels):,} | {len(test_labels):,} | {ours.as_percent()} | "
            f"{theirs.as_percent()} | {100 * (ours.chance or 0):.1f} % |"
        )
    return MEASURED.format(rows="\n".join(rows))


Task = tuple[str, Labelled, Labelled]


def data_type(per_type: int) -> Task:
    """Which of the five kinds a picture is, from `per_type` labelled ones of each."""
    first = LABELLED_START
    return (
        f"data type, {per_type} labelled of each",
        _kinds("train", range(first, first + per_type * len(KINDS))),
        _kinds("test", range(TEST_IMAGES)),
    )


def main_shape() -> Task:
    """The shape of the largest thing in a scene."""
    step = len(KINDS)
    first = LABELLED_START + step  # a multiple of the number of kinds is a scene
    return (
        "main shape of a scene",
        main_shapes("train", range(first, first + step * LABELLED_SCENES, step)),
        main_shapes("test", range(0, 2 * step * TEST_IMAGES, step)),
    )


def clothes(real: Path) -> Task:
    """Which of ten garments a photograph shows."""
    which = next(data for data in SETS if data.name == "clothing-small")

    def labelled(split: str) -> Labelled:
        samples: list[Sample] = read_set(which, real, split, ("en",))
        return [s.load(min_side=96) for s in samples], np.array([str(s.label) for s in samples])

    return "garment on a photograph (10 classes)", labelled("train"), labelled("test")


def pooled(encoder: VisionEncoder, pictures: Sequence[Image.Image]) -> np.ndarray:
    """The pooled vectors (n, d) of pictures."""
    parts = [
        encoder.encode(pictures[i : i + BATCH]).pooled.float().cpu().numpy()
        for i in range(0, len(pictures), BATCH)
    ]
    return np.concatenate(parts)


def _kinds(split: str, numbers: range) -> Labelled:
    rendered = render_arrays(numbers, split=split)
    return [Image.fromarray(pixels) for pixels in rendered.pixels], np.array(rendered.labels)
