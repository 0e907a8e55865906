"""Several encoders by name."""

from __future__ import annotations

import numpy as np
import pytest

from encoderlab.encoders.manager import LLMManager, VisionEncoderManager
from encoderlab.errors import UsageError

FP32 = {"device": "cpu", "dtype": "float32"}


def test_the_same_images_by_several_encoders(vision_folder, pictures, tmp_path):
    names = [str(vision_folder(family)) for family in ("clip", "dinov2")]
    manager = VisionEncoderManager(**FP32)
    path = tmp_path / "one.png"
    pictures[0].save(path)
    found = manager.extract_multi_encoder([path, *pictures[1:]], names, batch_size=3)
    assert [found[name].shape for name in names] == [(4, 24), (4, 32)]
    alone = manager.load(names[0]).encode(pictures).pooled.numpy()
    np.testing.assert_allclose(found[names[0]], alone, atol=1e-5)


def test_attention_comes_beside_the_features(vision_folder, pictures):
    manager = VisionEncoderManager(**FP32)
    seen = manager.extract_with_attention(pictures[:2], str(vision_folder("vit")), layers=(1, 3))
    assert {k: tuple(v.shape) for k, v in seen.attention.items()} == dict.fromkeys(
        (1, 3), (2, 2, 17, 17)
    )


def test_an_encoder_is_loaded_once_and_unloaded_by_name(vision_folder):
    manager = VisionEncoderManager(**FP32)
    name = str(vision_folder("vit"))
    assert manager.load(name) is manager.load(name)
    with pytest.raises(UsageError, match="no loaded encoder has that name: got 'other'"):
        manager.unload("other")
    manager.unload(name)
    assert not manager.loaded


def test_sentences_by_a_language_model(text_folder):
    manager = LLMManager(**FP32, max_length=16)
    name = str(text_folder("llama"))
    texts = [f"w{i} w{i + 1}" for i in range(5)]
    pooled = manager.extract_text_embeddings(texts, name, batch_size=2)
    np.testing.assert_allclose(pooled, manager.load(name).encode(texts).pooled, atol=1e-5)
    middle = manager.extract_text_embeddings(texts, name, layer=1)
    assert middle.shape == (5, 32) and not np.allclose(middle, pooled)
    assert manager.extract_text_embeddings([], name).shape == (0, 32)
    manager.unload()
    assert not manager.loaded
