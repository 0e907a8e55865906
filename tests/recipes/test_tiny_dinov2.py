"""Linear probes of the bundled DINOv2; the encoder contract of all bundled vision models."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Dinov2Model

from encoderlab.data.synthetic.labelled import largest_shape
from encoderlab.encoders import check
from encoderlab.encoders.checkpoint import ZOO, bundled_models
from encoderlab.encoders.vision import load_vision, untrained
from encoderlab.metrics.linear_probe import linear_probe
from recipes.cards.vision import clothes, data_type, main_shape, pooled
from recipes.self_supervised import train_self_supervised
from recipes.settings import SELF_SUPERVISED


@pytest.mark.parametrize("name", ["tiny-clip", "tiny-siglip", "tiny-dinov2"])
def test_every_bundled_vision_model_keeps_the_contract(name):
    assert check(load_vision(name, "cpu", "float32")).kept


def test_it_ships_small_and_with_a_card():
    assert "tiny-dinov2" in bundled_models()
    folder = ZOO / "tiny-dinov2"
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 6_000_000
    assert "untrained copy" in (folder / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def trained():
    return load_vision("tiny-dinov2", "cpu", "bfloat16")


def probe(encoder, task) -> float:
    """Accuracy of a linear layer on the encoder."""
    _, (pictures, labels), (test_pictures, test_labels) = task
    train, test = pooled(encoder, pictures), pooled(encoder, test_pictures)
    # 10 is the strength that the card's cross-validation chooses; the search is slow.
    return float(linear_probe(train, labels, test, test_labels, strengths=(10.0,)))


def probes(trained, task) -> tuple[float, float]:
    """Accuracy of the trained encoder and of an untrained copy of it."""
    return probe(trained, task), probe(untrained(trained), task)


@pytest.mark.slow
def test_ten_labelled_pictures_of_each_type_are_enough(trained):
    ours, theirs = probes(trained, data_type(10))
    assert ours >= 0.95 and ours >= theirs + 0.15


@pytest.mark.slow
def test_the_main_shape_of_a_scene_can_be_read(trained):
    # In bf16 with every third label, which is quick: the card measures in fp32 with all of them.
    name, (pictures, labels), test = main_shape()
    third = (name, (pictures[::3], labels[::3]), (test[0][::2], test[1][::2]))
    ours, theirs = probes(trained, third)
    assert ours >= 0.50 and ours >= theirs + 0.15


@pytest.mark.slow
def test_it_helps_on_real_photographs_too(trained, real_data):
    name, (pictures, labels), test = clothes(real_data)
    ours, theirs = probes(trained, (name, (pictures[::3], labels[::3]), test))
    assert ours > theirs


@pytest.mark.parametrize(
    "caption, shape",
    [
        ("a small red star above a large blue heart", "heart"),
        ("a small red star at the top left", "star"),
        ("a large red star and a large blue heart", None),
        ("a small red star and a small blue heart", None),
    ],
)
def test_the_main_shape_is_that_of_the_largest_thing(caption, shape):
    assert largest_shape(caption) == shape


@pytest.mark.slow
def test_a_small_run_trains_and_exports(tmp_path):
    recipe = dataclasses.replace(
        SELF_SUPERVISED["tiny-dinov2"], steps=2, batch_size=16, synthetic_images=20, more_scenes=8
    )
    folder = train_self_supervised("tiny-dinov2", recipe, None, tmp_path)
    model = Dinov2Model.from_pretrained(folder, dtype=torch.float32)
    encoder = load_vision(folder, "cpu", "float32")
    assert check(encoder).kept
    pixels = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    with torch.no_grad():
        expected = model(encoder.preprocess(image)[None]).pooler_output
    assert torch.allclose(encoder.encode([image]).pooled, expected, atol=1e-4)
