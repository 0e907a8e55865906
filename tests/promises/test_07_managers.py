"""Managers take the name first, one image or several, and give vectors of length one."""

import inspect
from dataclasses import replace

import numpy as np
import pytest
import torch

from encoderlab.encoders.manager import LLMManager, VisionEncoderManager
from encoderlab.errors import UsageError

FP32 = {"device": "cpu", "dtype": "float32"}


@pytest.mark.parametrize(
    ("method", "given"),
    [
        (VisionEncoderManager.extract_embeddings, ["name", "images"]),
        (VisionEncoderManager.extract_with_attention, ["name", "images", "layers"]),
        (VisionEncoderManager.extract_multi_encoder, ["names", "images"]),
        (VisionEncoderManager.load, ["name", "with_attention"]),
        (LLMManager.extract_text_embeddings, ["name", "texts"]),
        (LLMManager.load, ["name"]),
    ],
)
def test_what_is_given_by_place_comes_in_this_order(method, given):
    _, *taken = inspect.signature(method).parameters.values()
    assert [one.name for one in taken if one.kind is one.POSITIONAL_OR_KEYWORD] == given
    assert all(one.default is True for one in taken if one.name == "normalize")
    assert all(one.default is False for one in taken if one.name == "with_attention")


def test_the_same_images_by_several_encoders(vision_folder, pictures, tmp_path):
    names = [str(vision_folder(family)) for family in ("clip", "dinov2")]
    manager = VisionEncoderManager(**FP32)
    path = tmp_path / "one.png"
    pictures[0].save(path)
    found = manager.extract_multi_encoder(
        names, [path, *pictures[1:]], normalize=False, batch_size=3
    )
    assert [found[name].shape for name in names] == [(4, 24), (4, 32)]
    alone = manager.load(names[0]).encode(pictures).pooled.numpy()
    np.testing.assert_allclose(found[names[0]], alone, atol=1e-5)


def test_vectors_have_length_one_unless_told_otherwise(vision_folder, pictures):
    manager = VisionEncoderManager(**FP32)
    name = str(vision_folder("clip"))
    raw = manager.extract_embeddings(name, pictures, normalize=False)
    unit = manager.extract_embeddings(name, pictures)
    np.testing.assert_allclose(unit, raw / np.linalg.norm(raw, axis=1, keepdims=True), rtol=1e-6)


def test_one_image_in_any_form_is_one_row(vision_folder, pictures, tmp_path):
    manager = VisionEncoderManager(**FP32)
    name = str(vision_folder("clip"))
    picture = pictures[0].convert("RGB")
    picture.save(tmp_path / "one.png")
    array = np.asarray(picture)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    forms = [picture, tmp_path / "one.png", str(tmp_path / "one.png"), array, array[None],
             array / 255, tensor, tensor[None], tensor.float() / 255, [picture]]  # fmt: skip
    rows = [manager.extract_embeddings(name, form) for form in forms]
    assert [row.shape for row in rows] == [(1, 24)] * len(forms)
    for row in rows[1:]:
        np.testing.assert_allclose(row, rows[0], atol=1e-5)


def test_arguments_in_the_old_order_are_refused(vision_folder, pictures):
    with pytest.raises(UsageError, match="the name of a model comes first: got 'list'"):
        VisionEncoderManager(**FP32).extract_embeddings(pictures, str(vision_folder("clip")))


def test_attention_is_refused_when_the_encoder_is_loaded(vision_folder, monkeypatch):
    manager = VisionEncoderManager(**FP32)
    name = str(vision_folder("vit"))
    encoder = manager.load(name, with_attention=True)
    see = encoder.run_tower
    monkeypatch.setattr(
        encoder, "run_tower", lambda pixels, **wanted: replace(see(pixels, **wanted), attention=())
    )
    with pytest.raises(UsageError, match="attention maps"):
        manager.load(name, with_attention=True)


def test_attention_comes_beside_the_features(vision_folder, pictures):
    manager = VisionEncoderManager(**FP32)
    seen = manager.extract_with_attention(str(vision_folder("vit")), pictures[:2], layers=(1, 3))
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
    pooled = manager.extract_text_embeddings(name, texts, normalize=False, batch_size=2)
    np.testing.assert_allclose(pooled, manager.load(name).encode(texts).pooled, atol=1e-5)
    middle = manager.extract_text_embeddings(name, texts, layer=1)
    assert middle.shape == (5, 32) and not np.allclose(middle, pooled)
    assert manager.extract_text_embeddings(name, []).shape == (0, 32)
    one = manager.extract_text_embeddings(name, texts[0])
    np.testing.assert_allclose(one, pooled[:1] / np.linalg.norm(pooled[0]), rtol=1e-5)
    manager.unload()
    assert not manager.loaded
