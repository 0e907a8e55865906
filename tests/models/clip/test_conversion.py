"""Our CLIP and transformers' CLIPModel give the same embeddings, both ways and over any shape."""

import dataclasses
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, CLIPConfig, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from encoderlab.errors import MissingError, UsageError
from encoderlab.models.clip import CLIP, Preprocess, Tokenizer, preset

CAPTIONS = ["a red circle left of a blue star", "파란 별 위의 빨간 원", "one bar chart, three bars"]


@st.composite
def shapes(draw: st.DrawFn) -> dict:
    heads_v, heads_t = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    patch = draw(st.sampled_from([4, 8]))
    act = draw(st.sampled_from(["gelu", "quick_gelu"]))
    return {
        "vision_config": {
            "hidden_size": 8 * heads_v,
            "num_attention_heads": heads_v,
            "num_hidden_layers": draw(st.integers(1, 3)),
            "intermediate_size": draw(st.sampled_from([16, 24])),
            "patch_size": patch,
            "image_size": patch * draw(st.integers(1, 4)),
            "hidden_act": act,
            "layer_norm_eps": draw(st.sampled_from([1e-5, 1e-6])),
        },
        "text_config": {
            "hidden_size": 8 * heads_t,
            "num_attention_heads": heads_t,
            "num_hidden_layers": draw(st.integers(1, 3)),
            "intermediate_size": 16,
            "vocab_size": 60,
            "max_position_embeddings": draw(st.integers(5, 16)),
            "hidden_act": act,
            "bos_token_id": 57,
            "eos_token_id": draw(st.sampled_from([2, 30])),
            "pad_token_id": 1,
        },
        "projection_dim": draw(st.sampled_from([4, 8])),
    }


def _sentences(config: CLIPConfig, rows: int, padded: bool) -> tuple[torch.Tensor, torch.Tensor]:
    length = config.text_config.max_position_embeddings
    # The end is the largest id only where the configuration relies on that.
    end_id = 59 if config.text_config.eos_token_id == 2 else 30
    ids = torch.randint(31, 58, (rows, length))
    mask = torch.ones_like(ids)
    for row in range(rows):
        end = random.randrange(2, length) if padded else length - 1
        ids[row, end] = end_id
        ids[row, end + 1 :] = 1
        mask[row, end + 1 :] = 0
    return ids, mask


@settings(max_examples=25, deadline=None)
@given(shape=shapes(), seed=st.integers(0, 100), padded=st.booleans())
def test_both_ways_give_the_same_embeddings(shape, seed, padded, tmp_path_factory):
    torch.manual_seed(seed)
    random.seed(seed)
    folder = tmp_path_factory.mktemp("clip")
    theirs = CLIPModel(CLIPConfig(**shape)).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    theirs.save_pretrained(folder / "theirs")
    ours = CLIP.from_pretrained(folder / "theirs")
    ours.save_pretrained(folder / "ours")
    again = CLIPModel.from_pretrained(folder / "ours").eval()
    size = shape["vision_config"]["image_size"]
    pixels = torch.randn(3, 3, size, size)
    ids, mask = _sentences(theirs.config, 3, padded)
    with torch.no_grad():
        image, text = ours(pixels, ids)
        for model in (theirs, again):
            their_image = model.get_image_features(pixel_values=pixels).pooler_output
            their_text = model.get_text_features(input_ids=ids, attention_mask=mask).pooler_output
            torch.testing.assert_close(image, their_image, atol=1e-4, rtol=0)
            torch.testing.assert_close(text, their_text, atol=1e-4, rtol=0)
    assert ours.logit_scale.item() == pytest.approx(theirs.logit_scale.item())


@pytest.fixture(scope="module")
def our_clip() -> CLIP:
    torch.manual_seed(0)
    tokenizer = Tokenizer.train_bpe(CAPTIONS, vocab_size=320, context_length=32)
    shape = preset("tiny")
    text = dataclasses.replace(
        shape.text,
        vocab_size=tokenizer.vocab_size,
        context_length=32,
        end_token_id=tokenizer.end_id,
        layers=1,
    )
    vision = dataclasses.replace(shape.vision, layers=1)
    config = dataclasses.replace(shape, text=text, vision=vision)
    return CLIP(config, tokenizer, Preprocess(96, "squash"), trained_steps=7).eval()


def test_transformers_reads_the_tokenizer_that_we_save(our_clip, tmp_path):
    our_clip.save_pretrained(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    rows = theirs(CAPTIONS, padding="max_length", truncation=True, return_tensors="pt")
    assert our_clip.tokenizer is not None
    assert torch.equal(rows.input_ids, our_clip.tokenizer(CAPTIONS))


@pytest.mark.parametrize("fit", ["crop", "squash"])
@pytest.mark.parametrize("size", [(131, 200), (200, 97), (96, 96), (40, 300)])
def test_pixels_are_those_of_the_hugging_face_processor(our_clip, tmp_path, fit, size):
    clip = CLIP(our_clip.config, our_clip.tokenizer, Preprocess(96, fit))  # type: ignore[arg-type]
    clip.save_pretrained(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    theirs = CLIPImageProcessorPil.from_pretrained(tmp_path)(image, return_tensors="pt")
    torch.testing.assert_close(clip.preprocess(image), theirs["pixel_values"][0], atol=1e-5, rtol=0)
    assert CLIP.from_pretrained(tmp_path).preprocess == clip.preprocess


def test_what_was_trained_and_the_sigmoid_bias_survive(our_clip, tmp_path):
    clip = CLIP(our_clip.config, our_clip.tokenizer, trained_steps=12)
    clip.add_logit_bias(-3.5)
    again = CLIP.from_pretrained(clip.save_pretrained(tmp_path))
    assert again.trained_steps == 12
    assert again.logit_bias is not None and again.logit_bias.item() == pytest.approx(-3.5)


def test_half_precision_halves_the_file_and_keeps_the_embedding(our_clip, tmp_path):
    whole = our_clip.save_pretrained(tmp_path / "whole")
    half = our_clip.save_pretrained(tmp_path / "half", half=True)
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (whole, half)]
    assert sizes[1] < 0.52 * sizes[0]
    pixels = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        cosine = torch.cosine_similarity(
            our_clip.encode_image(pixels), CLIP.from_pretrained(half).encode_image(pixels)
        )
    assert cosine.min() > 0.9999


def test_weights_split_over_several_files_are_read(our_clip, tmp_path):
    folder = our_clip.save_pretrained(tmp_path)
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, chosen in parts.items():
        save_file({name: weights[name] for name in chosen}, folder / file)
    (folder / "model.safetensors").unlink()
    where = {name: file for file, chosen in parts.items() for name in chosen}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    again = CLIP.from_pretrained(folder)
    assert torch.equal(again.text_projection.weight, our_clip.text_projection.weight)


def test_a_resnet_is_not_exported(tmp_path):
    with pytest.raises(UsageError, match="ResNet has no Hugging Face form"):
        CLIP(preset("tiny-resnet")).save_pretrained(tmp_path)


def _broken(folder: Path, how: str) -> None:
    if how == "another family":
        (folder / "config.json").write_text('{"model_type": "bert"}')
    elif how == "no json":
        (folder / "config.json").write_text("not json")
    elif how == "truncated":
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:5000])
    elif how == "wrong shape":
        record = json.loads((folder / "config.json").read_text())
        record["projection_dim"] = 64
        (folder / "config.json").write_text(json.dumps(record))
    elif how == "lacking":
        weights = load_file(folder / "model.safetensors")
        del weights["text_projection.weight"]
        save_file(weights, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("another family", "belongs to another family.*'bert'.*clip"),
        ("no json", "config.json cannot be read"),
        ("truncated", "weights cannot be read"),
        ("wrong shape", "does not have the shape"),
        ("lacking", "lacks a weight.*text_projection"),
    ],
)
def test_a_damaged_checkpoint_is_refused_in_words(our_clip, tmp_path, how, says):
    folder = our_clip.save_pretrained(tmp_path)
    _broken(folder, how)
    with pytest.raises(UsageError, match=says):
        CLIP.from_pretrained(folder)


def test_a_folder_that_is_no_checkpoint_and_a_name_that_is_nothing(tmp_path):
    with pytest.raises(MissingError, match="no checkpoint"):
        CLIP.from_pretrained(tmp_path)
    with pytest.raises(MissingError, match="no such folder"):
        CLIP.from_pretrained(tmp_path / "nothing")


def test_pickled_weights_are_not_opened(our_clip, tmp_path):
    folder = our_clip.save_pretrained(tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(MissingError, match="pickled weights are there"):
        CLIP.from_pretrained(folder)


@pytest.mark.parametrize(
    ("file", "keys", "value", "says"),
    [
        ("config.json", ("text_config", "num_hidden_layers"), 10**9, "more weights than the check"),
        ("config.json", ("vision_config", "hidden_size"), -24, "width of the image encoder is no"),
        ("config.json", ("vision_config", "image_size"), "32", "image_size of the image encoder"),
        ("config.json", ("text_config",), [1], "a value in the checkpoint's files makes no sense"),
        ("preprocessor_config.json", ("image_std",), [0, 1, 1], "standard deviation of pixels"),
        ("preprocessor_config.json", ("image_mean",), [3], "makes no sense"),
        ("preprocessor_config.json", ("resample",), "x", "unknown resampling filter"),
        ("tokenizer.json", ("model",), None, "tokenizer"),
        ("tokenizer.json", ("added_tokens",), 3, "tokenizer|makes no sense"),
    ],
)
def test_a_wrong_value_in_a_file_is_named(our_clip, tmp_path, file, keys, value, says):
    folder = our_clip.save_pretrained(tmp_path)
    record = json.loads((folder / file).read_text())
    inner = record
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    (folder / file).write_text(json.dumps(record))
    with pytest.raises(UsageError, match=says):
        CLIP.from_pretrained(folder)


@pytest.mark.parametrize("content", ["", "[]", "[" * 100_000])
@pytest.mark.parametrize(
    "file", ["config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"]
)
def test_a_file_of_nonsense_is_named(our_clip, tmp_path, file, content):
    folder = our_clip.save_pretrained(tmp_path)
    (folder / file).write_text(content)
    with pytest.raises(UsageError, match=f"{file} cannot be read"):
        CLIP.from_pretrained(folder)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd"])
def test_an_index_of_shards_cannot_leave_its_folder(our_clip, tmp_path, name):
    folder = our_clip.save_pretrained(tmp_path)
    (folder / "model.safetensors").unlink()  # it would go before the index
    index = {"weight_map": {"logit_scale": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UsageError, match="leaves the checkpoint's folder"):
        CLIP.from_pretrained(folder)
