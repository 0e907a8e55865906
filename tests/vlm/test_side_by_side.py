"""Standardised tokens side by side: against numpy, from training images alone, rotated copies."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from encoderlab.encoders.vision import load_vision
from encoderlab.errors import UsageError
from encoderlab.feature_store.extract import extract_images
from encoderlab.vlm.model import VLM
from encoderlab.vlm.questions import synthetic_questions
from encoderlab.vlm.side_by_side import SideBySide, Standardised, with_rotated_copy
from encoderlab.vlm.trainer import VisionTokens

NAMES = ["tiny-clip", "tiny-dinov2"]
GRID = (12, 12)
QUESTIONS = synthetic_questions("train", range(20), ["en"])
TRAIN = 12


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def stored(store):
    """Of each encoder the kind, the tokens of all images, and what is stored of training images."""
    images = [question.image for question in QUESTIONS]
    found = []
    for name in NAMES:
        encoder = load_vision(name, "cpu", "float32")
        what = f"patches@{encoder.n_layers - 1}"
        tokens = extract_images(encoder, images, store, what=[what]).array(what)
        found.append((what, tokens, extract_images(encoder, images[:TRAIN], store, what=[what])))
    return found


def standardised(tokens: np.ndarray, train: np.ndarray) -> np.ndarray:
    rows = train.reshape(-1, train.shape[-1]).astype(np.float64)
    return (tokens - rows.mean(axis=0)) / rows.std(axis=0)


def parts_of(stored, to=GRID) -> tuple[Standardised, ...]:
    return tuple(Standardised.on(train, what, GRID, to) for what, _, train in stored)


def test_tokens_side_by_side_are_those_of_numpy(stored, store):
    both = SideBySide(parts_of(stored))
    model = VLM.build(NAMES, dtype="float32", device="cpu", side_by_side=both)
    given = VisionTokens(model, QUESTIONS, store).of(range(20)).numpy()
    want = np.concatenate([standardised(x, x[:TRAIN]) for _, x, _ in stored], axis=-1)
    np.testing.assert_allclose(given, want, rtol=0, atol=2e-4)
    assert both.width == want.shape[-1]
    np.testing.assert_allclose(given[:TRAIN].std(axis=(0, 1)), 1, atol=1e-4)
    # The statistics are those of the training images: over all images they would be 0 and 1.
    assert np.abs(given.mean(axis=(0, 1))).max() > 1e-3
    asked = model.vision_tokens([q.image.load() for q in QUESTIONS[:2]]).numpy()
    np.testing.assert_allclose(asked, want[:2], rtol=0, atol=1e-3)


def test_a_larger_grid_is_pooled_before_it_is_standardised(stored):
    tokens = stored[0][1]
    part, _ = parts_of(stored, (4, 6))
    means = tokens.reshape(20, 4, 3, 6, 2, -1).mean(axis=(2, 4)).reshape(20, 24, -1)
    want = standardised(means, means[:TRAIN])
    np.testing.assert_allclose(part(torch.from_numpy(tokens)).numpy(), want, atol=2e-4)


def test_a_rotated_copy_has_the_gram_matrix_of_the_standardised_tokens(stored):
    part, (_, tokens, _) = parts_of(stored)[1], stored[1]
    width = tokens.shape[-1]
    alone = part(torch.from_numpy(tokens[:2])).flatten(0, 1)
    for copied in (width, width + 8):
        made = with_rotated_copy(part, copied, seed=3)
        assert (made.width, made.grid) == (width + copied, GRID)
        both = made([torch.from_numpy(tokens[:2])]).flatten(0, 1)
        copy = both[:, width:]
        torch.testing.assert_close(both[:, :width], alone)
        torch.testing.assert_close(copy @ copy.T, alone @ alone.T, atol=0.02, rtol=1e-4)
    assert not torch.allclose(copy[:, :width], alone, atol=0.1)
    narrow = with_rotated_copy(part, 16, seed=3).rotation
    torch.testing.assert_close(narrow.T @ narrow, torch.eye(16))
    other = with_rotated_copy(part, width, seed=4).rotation
    assert not torch.allclose(other, with_rotated_copy(part, width, seed=3).rotation, atol=0.1)


class Table:
    """Stored tokens of a channel that is constant and far from 0, and one that varies."""

    tokens = torch.stack([torch.full((3, 4), 1e6), torch.arange(12.0).view(3, 4)], dim=-1)

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(self, rows, what):
        return self.tokens[list(rows)]


def test_a_constant_channel_is_zero():
    part = Standardised.on(Table(), "patches", (2, 2), (2, 2))
    given = part(Table.tokens)
    assert (given[..., 0] == 0).all()
    np.testing.assert_allclose(given[..., 1].std(correction=0), 1, atol=1e-6)


def test_a_vlm_that_reads_such_tokens_is_loaded_with_what_makes_them(stored, tmp_path):
    made = with_rotated_copy(parts_of(stored)[0], 8, seed=0)
    model = VLM.build(NAMES[0], dtype="float32", device="cpu", side_by_side=made)
    model.save(tmp_path / "model")
    with pytest.raises(UsageError) as refused:
        VLM.load(tmp_path / "model", "cpu")
    assert str(tmp_path) in str(refused.value)
    image = [QUESTIONS[0].image.load()]
    again = VLM.load(tmp_path / "model", "cpu", "float32", side_by_side=made)
    torch.testing.assert_close(again.vision_tokens(image), model.vision_tokens(image))
    assert again.vision_tokens(image).shape[-1] == made.width
