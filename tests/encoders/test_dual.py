"""Dual encoders: names, devices, and embeddings equal to the plain calls."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.small_checkpoints import save_tokenizer
from tests.small_models import make_clip
from transformers import AutoTokenizer, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from encoderlab.core.progress import collect_warnings
from encoderlab.encoders.checkpoint import resolve
from encoderlab.encoders.dual import load_dual
from encoderlab.encoders.loading import require_finite
from encoderlab.encoders.text import load_text
from encoderlab.encoders.vision import load_vision
from encoderlab.errors import MissingError, UsageError

FP32 = ("cpu", "float32")
TEXTS = ["a large red circle", "파란 별", "a table " * 40]


def _images() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    sizes = [(32, 32), (50, 40), (90, 31)]
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in sizes]


def test_embeddings_are_those_of_the_plain_transformers_calls(clip_folder):
    encoder = load_dual(str(clip_folder), *FP32)
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


def test_bf16_stays_close_and_comes_out_in_fp32(clip_folder):
    whole = load_dual(str(clip_folder), *FP32).embed_images(_images())
    half = load_dual(str(clip_folder), "cpu", "bfloat16").embed_images(_images())
    assert half.dtype == np.float32
    assert (whole * half).sum(axis=1).min() > 0.999


def test_nothing_in_gives_nothing_out(clip_folder):
    encoder = load_dual(str(clip_folder), *FP32)
    assert encoder.embed_images([]).shape == encoder.embed_texts([]).shape == (0, encoder.dim)


def test_equal_weights_have_equal_fingerprints(clip_folder, other_clip_folder):
    assert resolve(clip_folder).fingerprint == resolve(str(clip_folder)).fingerprint
    assert resolve(clip_folder).fingerprint != resolve(other_clip_folder).fingerprint


def test_the_users_own_alias_names_a_folder(clip_folder, tmp_path, monkeypatch):
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
def test_a_name_that_is_nothing_is_met_with_the_mend(name, error, says):
    with pytest.raises(error, match=says):
        load_dual(name, "cpu")


def test_folders_and_files_that_are_no_model(tmp_path):
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


def test_a_model_that_was_never_trained_is_refused(tmp_path):
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
def test_hardware_that_is_not_there(clip_folder, device, dtype, error, says):
    with pytest.raises(error, match=says):
        load_dual(str(clip_folder), device, dtype)


@pytest.mark.parametrize("family", ["siglip", "siglip2"])
def test_a_siglip_is_a_dual_encoder_like_the_plain_calls(family, vision_folder, tmp_path):
    import transformers as hf

    folder = shutil.copytree(vision_folder(family), tmp_path / family)
    save_tokenizer(folder, pad=True)
    encoder = load_dual(str(folder), *FP32)
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


def test_one_text_alone_is_not_taken_for_its_letters(clip_folder):
    encoder = load_dual(str(clip_folder), *FP32)
    np.testing.assert_array_equal(encoder.embed_texts("a star"), encoder.embed_texts(["a star"]))


def _ids(folder: Path) -> dict[str, torch.Tensor]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return tokenizer(TEXTS, padding=True, truncation=True, max_length=24, return_tensors="pt")


def changed(folder: Path, to: Path, **text_config) -> Path:
    """A copy of a CLIP folder with other values in the text part of its config.json."""
    shutil.copytree(folder, to)
    record = json.loads((to / "config.json").read_text())
    record["text_config"] |= text_config
    (to / "config.json").write_text(json.dumps(record))
    return to


def test_weights_are_those_that_transformers_takes_beside_a_stale_index(clip_folder, tmp_path):
    folder = shutil.copytree(clip_folder, tmp_path / "clip")
    weights = load_file(folder / "model.safetensors")
    stale = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
    save_file(stale, folder / "old.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": dict.fromkeys(weights, "old.safetensors")})
    )
    expected = load_dual(str(clip_folder), *FP32).embed_texts(TEXTS)
    for _ in range(2):
        found = load_dual(str(folder), *FP32).embed_texts(TEXTS)
        np.testing.assert_array_equal(found, expected)
        (folder / "old.safetensors").unlink(missing_ok=True)  # then the index leads nowhere


def test_texts_that_would_all_be_equal_are_told_apart_by_the_tokenizers_end(
    clip_folder, tmp_path, capsys
):
    own = json.loads((clip_folder / "config.json").read_text())["text_config"]["eos_token_id"]
    folder = changed(clip_folder, tmp_path / "clip", eos_token_id=49407)
    with torch.no_grad():
        model = CLIPModel.from_pretrained(folder).eval()
        plain = model.get_text_features(**_ids(folder)).pooler_output
    assert torch.allclose(plain[0], plain[1])  # what transformers makes of it
    expected = load_dual(str(clip_folder), *FP32).embed_texts(TEXTS)
    capsys.readouterr()
    vectors = load_dual(str(folder), *FP32).embed_texts(TEXTS)
    np.testing.assert_array_equal(vectors, expected)
    assert f"eos_token_id=49407 of its config.json is not {own}" in capsys.readouterr().err
    pooled = load_text(str(folder), *FP32).encode(TEXTS).pooled
    assert f"eos_token_id=49407 of its config.json is not {own}" in capsys.readouterr().err
    pooled = torch.nn.functional.normalize(pooled, dim=-1)
    np.testing.assert_allclose(pooled, expected, atol=1e-5)


def test_the_largest_id_is_the_end_for_an_old_checkpoint(clip_folder, tmp_path):
    folder = changed(clip_folder, tmp_path / "clip", eos_token_id=2)
    plain, old = (load_dual(str(path), *FP32).embed_texts(TEXTS) for path in (clip_folder, folder))
    np.testing.assert_array_equal(old, plain)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("tensor", "loads"),
    [
        ("vision_model.post_layernorm.weight", load_text),
        ("text_model.final_layer_norm.weight", load_vision),
        ("logit_scale", None),
    ],
)
def test_weights_that_are_not_finite_are_named(tensor, loads, value, dtype, clip_folder, tmp_path):
    folder = shutil.copytree(clip_folder, tmp_path / "clip")
    weights = load_file(folder / "model.safetensors")
    weights[tensor].view(-1)[0] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    words = rf"clip has weights that are not finite.*{tensor} \(1 of {weights[tensor].numel()}\)"
    for load in {load_dual, load_vision, load_text} - {loads}:
        if tensor == "logit_scale" and load is not load_dual:
            continue
        with pytest.raises(UsageError, match=words):
            load(str(folder), "cpu", dtype)
    if loads is not None:
        loads(str(folder), "cpu", dtype)  # the other side is whole


def test_weights_that_a_narrow_format_cannot_hold_are_named(clip_folder):
    network = load_dual(str(clip_folder), *FP32).model
    with torch.no_grad():
        network.visual_projection.weight[0, 0] = 1e6
    checkpoint = resolve(str(clip_folder))
    require_finite(network, checkpoint)
    with pytest.raises(UsageError, match=r"visual_projection\.weight \(1 of.*large for float16"):
        require_finite(network.half(), checkpoint)


def test_the_width_of_the_space_is_the_top_levels(clip_folder, tmp_path):
    folder = shutil.copytree(clip_folder, tmp_path / "clip")
    record = json.loads((folder / "config.json").read_text())
    for part in ("text_config", "vision_config"):
        del record[part]["projection_dim"]
    (folder / "config.json").write_text(json.dumps(record))
    vision, text = load_vision(folder, *FP32), load_text(folder, *FP32)
    assert vision.pooled_width == text.pooled_width == record["projection_dim"] == 16
    dual = load_dual(str(folder), *FP32)
    pooled = torch.nn.functional.normalize(vision.encode(_images()).pooled, dim=-1)
    np.testing.assert_allclose(dual.embed_images(_images()), pooled, atol=1e-5)
    pooled = torch.nn.functional.normalize(text.encode(TEXTS).pooled, dim=-1)
    np.testing.assert_allclose(dual.embed_texts(TEXTS), pooled, atol=1e-5)


def test_an_old_files_second_tower_goes_first(clip_folder, tmp_path):
    """As in transformers, whose configuration takes `text_config_dict` before `text_config`."""
    folder = changed(clip_folder, tmp_path / "clip")
    record = json.loads((folder / "config.json").read_text())
    record["text_config_dict"] = record["text_config"]
    record["text_config"] = {**record["text_config"], "num_attention_heads": 1}
    (folder / "config.json").write_text(json.dumps(record))
    with torch.no_grad():
        model = CLIPModel.from_pretrained(folder).eval()
        plain = model.get_text_features(**_ids(folder)).pooler_output
    expected = torch.nn.functional.normalize(plain, dim=-1)
    found = load_dual(str(folder), *FP32).embed_texts(TEXTS)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_texts_longer_than_the_context_are_said_once(family, clip_folder, vision_folder, tmp_path):
    folder = clip_folder
    if family == "siglip":
        folder = shutil.copytree(vision_folder(family), tmp_path / family)
        save_tokenizer(folder, pad=True)
    encoder = load_dual(str(folder), *FP32)
    long = "w1 " * 300
    texts = [*(f"{long} w{i}" for i in range(3)), f"{long} w1", "w2", *(["w3"] * 600)]
    with collect_warnings() as warned:
        vectors = encoder.embed_texts(texts)
    length = encoder.tokenizer.context_length
    assert warned == [
        f"{encoder.name}: 4 of 605 texts are longer than the context of {length} tokens and are "
        "cut; 3 different texts become equal"
    ]
    assert len(np.unique(vectors[:4], axis=0)) == 1
    with collect_warnings() as warned:
        encoder.embed_texts(texts[4:])
    assert warned == []
