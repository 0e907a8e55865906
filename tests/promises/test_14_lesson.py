"""Lesson 1: one query against four vectors by hand, cat, dog and submarine, and a query for three
given pictures. Held with the bundled models, in both languages."""

import re

import numpy as np
import pytest
import torch
from tests.lessons.notebooks import FOLDER, source_of

from encoderlab import load_dual
from encoderlab.encoders.text import load_text

LESSON = "1_multimodal_embeddings.py"
ANIMALS = ["a picture of a cat", "a picture of a dog", "a picture of a submarine"]


def cosines(vectors):
    rows = np.asarray(vectors, dtype=float)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return rows @ rows.T


def test_the_example_by_hand_is_right():
    pattern = r"\| \$\((.+)\)\$ \| \$.* = (-?\d+)\$ \| (\d) \| \$(.+)\$ \|"
    rows = re.findall(pattern, source_of(LESSON))
    assert len(rows) == 8 and rows[:4] == rows[4:], "four rows, in English and in Korean"
    query = np.array([1, 2, 2])
    for vector, dot, length, cosine in rows:
        vector = np.array([int(number) for number in vector.split(",")])
        assert query @ vector == int(dot) and np.linalg.norm(vector) == int(length)
        said = float(cosine.split("=")[1])
        assert said == pytest.approx(int(dot) / (3 * int(length)), abs=5e-3)


@pytest.mark.parametrize("name", ["tiny-clip", "tiny-llama", "tiny-qwen"])
def test_cat_is_nearer_to_dog_than_to_submarine(name):
    how = {"device": "cpu", "dtype": "float32"}
    if name == "tiny-clip":
        found = cosines(load_dual(name, **how).embed_texts(ANIMALS))
    else:
        found = cosines(load_text(name, **how).encode(ANIMALS).pooled)
    assert found[0, 1] > max(found[0, 2], found[1, 2]) + 0.03


def test_short_names_are_the_counterexample_that_the_lesson_shows():
    names = ["a ship", "a boat", "a chip"]
    found = cosines(load_dual("tiny-clip", device="cpu").embed_texts(names))
    assert found[0, 2] > found[0, 1]


@pytest.mark.slow
def test_a_query_reaches_the_three_given_pictures(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.syspath_prepend(FOLDER)
    import pictures
    from grader import Grader

    from encoderlab.data import open_image

    encoder = load_dual("tiny-clip", device="cpu", dtype="float32")
    gallery = [open_image(path) for path in sorted(pictures.picture_folder().iterdir())]
    given = {
        "encoder": encoder,
        "gallery_vectors": torch.from_numpy(encoder.embed_images(gallery)),
        "targets": pictures.THREE,
    }
    check = Grader(1).check
    verdict = check(8, "a bar chart with red bars", **given)
    assert verdict.state == "right", str(verdict)
    assert check(8, "a bar chart", **given).state == "wrong"
