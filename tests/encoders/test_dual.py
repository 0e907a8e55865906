"""One door to every dual encoder: names, devices, and embeddings equal to the plain calls."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.small_models import make_clip
from transformers import AutoTokenizer, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from encoderlab.encoders.checkpoint import resolve
from encoderlab.encoders.dual import load_dual
from encoderlab.errors import MissingError, UsageError

TEXTS = ["a large red circle", "파란 별", "a table " * 40]


def _images() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    sizes = [(32, 32), (50, 40), (90, 31)]
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in sizes]


def test_embeddings_are_those_of_the_plain_transformers_calls(clip_folder: Path) -> None:
    encoder = load_dual(str(clip_folder), "cpu", "float32")
    model = CLIPModel.from_pretrained(clip_folder).eval()
    processor = CLIPImageProcessorPil.from_pretrained(clip_folder)
    words = AutoTokenizer.from_pretrained(clip_folder)(
        TEXTS, padding=True, truncation=True, return_tensors="pt"
    )
    with torch.no_grad():
        pixels = processor(_images(), return_tensors="pt")["pixel_values"]
        image = model.get_image_features(pixel_values=pixels).pooler_output
        text = model.get_text_features(
            input_ids=words["input_ids"], attention_mask=words["attention_mask"]
        ).pooler_output
    normalise = torch.nn.functional.normalize
    np.testing.assert_allclose(encoder.embed_images(_images()), normalise(image), atol=1e-5)
    np.testing.assert_allclose(encoder.embed_texts(TEXTS), normalise(text), atol=1e-5)
    assert encoder.logit_scale == pytest.approx(model.logit_scale.exp().item())


def test_bf16_stays_close_and_comes_out_in_fp32(clip_folder: Path) -> None:
    whole = load_dual(str(clip_folder), "cpu", "float32").embed_images(_images())
    half = load_dual(str(clip_folder), "cpu", "bfloat16").embed_images(_images())
    assert half.dtype == np.float32
    assert (whole * half).sum(axis=1).min() > 0.999


def test_nothing_in_gives_nothing_out(clip_folder: Path) -> None:
    encoder = load_dual(str(clip_folder), "cpu", "float32")
    assert encoder.embed_images([]).shape == encoder.embed_texts([]).shape == (0, encoder.dim)


def test_equal_weights_have_equal_fingerprints(clip_folder: Path, other_clip_folder: Path) -> None:
    assert resolve(clip_folder).fingerprint == resolve(str(clip_folder)).fingerprint
    assert resolve(clip_folder).fingerprint != resolve(other_clip_folder).fingerprint


def test_the_users_own_alias_names_a_folder(clip_folder: Path, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "mine.yaml").write_text(f"encoders:\n  mine: {clip_folder}\n")
    monkeypatch.setenv("ENCODERLAB_ALIASES", str(tmp_path / "mine.yaml"))
    found = resolve("mine")
    assert (found.kind, found.family) == ("alias", "clip")


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("siglp", MissingError, "unknown model.*'siglip'"),
        *[
            (name, MissingError, "no such folder")
            for name in ("./none", "none/", "/none/a", "~/none", "outputs/none/b", "tests/none")
        ],
        ("google/siglip-base-patch16-224", MissingError, "hub cannot be reached"),
    ],
)
def test_a_name_that_is_nothing_is_met_with_the_mend(name: str, error, says: str) -> None:
    with pytest.raises(error, match=says):
        load_dual(name, "cpu")


def test_folders_and_files_that_are_no_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the folder is no checkpoint"):
        load_dual(str(tmp_path), "cpu")
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(UsageError, match="a file that is no checkpoint"):
        load_dual(str(tmp_path / "x.txt"), "cpu")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(UsageError, match=r"family without a text side.*bert"):
        load_dual(str(tmp_path), "cpu")
    (tmp_path / "bad.ckpt").write_bytes(b"no checkpoint at all")
    with pytest.raises(UsageError, match="checkpoint cannot be read"):
        load_dual(str(tmp_path / "bad.ckpt"), "cpu")


def test_a_model_that_was_never_trained_is_refused(tmp_path: Path) -> None:
    folder = make_clip(trained_steps=0).save_pretrained(tmp_path / "fresh")
    with pytest.raises(UsageError, match="has never been trained"):
        load_dual(str(folder), "cpu")
    assert load_dual(str(folder), "cpu", allow_untrained=True).dim == 16


@pytest.mark.parametrize(
    ("device", "dtype", "error", "says"),
    [
        ("cuda:9", "auto", MissingError, "GPU that was asked for is not there"),
        ("gpu", "auto", UsageError, "unknown device.*'gpu'"),
        ("cpu", "int8", UsageError, "unknown dtype"),
        ("cpu", "float16", UsageError, "float16 needs a GPU"),
    ],
)
def test_hardware_that_is_not_there(clip_folder: Path, device, dtype, error, says) -> None:
    with pytest.raises(error, match=says):
        load_dual(str(clip_folder), device, dtype)


@pytest.mark.parametrize("family", ["siglip", "siglip2"])
def test_a_siglip_is_a_dual_encoder_like_the_plain_calls(family, vision_folder, tmp_path) -> None:
    import shutil

    import transformers as hf
    from tests.small_checkpoints import save_tokenizer

    folder = tmp_path / family
    shutil.copytree(vision_folder(family), folder)
    save_tokenizer(folder, pad=True)
    encoder = load_dual(str(folder), "cpu", "float32")
    model = {"siglip": hf.SiglipModel, "siglip2": hf.Siglip2Model}[family].from_pretrained(folder)
    texts = ["w1 w2", "w3", "w4 " * 40]
    # Not AutoTokenizer: it puts its family's own rules in place of the file's.
    ids = hf.PreTrainedTokenizerFast.from_pretrained(folder)(
        texts, padding="max_length", truncation=True, max_length=12, return_tensors="pt"
    ).input_ids
    pixels = torch.stack([encoder.preprocess(image) for image in _images()])
    with torch.no_grad():
        text = model.get_text_features(input_ids=ids).pooler_output
        if family == "siglip":
            image = model.get_image_features(pixels).pooler_output
    normalise = torch.nn.functional.normalize
    np.testing.assert_allclose(encoder.embed_texts(texts), normalise(text), atol=1e-5)
    if family == "siglip":
        np.testing.assert_allclose(encoder.embed_images(_images()), normalise(image), atol=1e-5)
    assert encoder.embed_images(_images()).shape == (3, encoder.dim)
    assert encoder.logit_scale == pytest.approx(model.logit_scale.exp().item(), rel=1e-5)


def test_one_text_alone_is_not_taken_for_its_letters(clip_folder: Path) -> None:
    encoder = load_dual(str(clip_folder), "cpu", "float32")
    with pytest.raises(UsageError, match="one text alone: got 'a star'; expected a list"):
        encoder.embed_texts("a star")
