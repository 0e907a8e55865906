"""Towers for any aspect ratio against transformers' own call and its own image processor."""

import functools
import importlib
import json

import numpy as np
import pytest
import safetensors
import torch
import transformers as hf
from einops import rearrange
from PIL import Image
from tests.models.test_native_resolution import theirs
from tests.small_checkpoints import NATIVE, SQUARE, initialised, save_native
from transformers.vision_utils import get_vision_position_ids, get_vision_window_index

from encoderlab import read_samples
from encoderlab.compression.token_set import TokenSet
from encoderlab.encoders import check, loading
from encoderlab.encoders.text import load_text
from encoderlab.encoders.vision import load_vision
from encoderlab.errors import UsageError
from encoderlab.feature_store import extract_images
from encoderlab.inspection.analyzer import TokenSimilarityAnalyzer

FP32 = {"device": "cpu", "dtype": "float32"}
SIZES = ((40, 24), (17, 33), (64, 64))  # (width, height)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return functools.cache(lambda family: save_native(family, tmp_path_factory.mktemp(family)))


@pytest.fixture(scope="module")
def images():
    noise = np.random.default_rng(0)
    return [Image.fromarray(noise.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in SIZES]


def in_reading_order(tokens, grid, merge, window=None):
    """The tower's tokens of one image by the positions that transformers gives them."""
    places = get_vision_position_ids(grid, merge)
    if window is not None:
        index, _ = get_vision_window_index(grid, merge, *window)
        places = places.unflatten(0, (-1, merge**2))[index].flatten(0, 1)
    return tokens[(places[:, 0] * int(grid[0, 2]) + places[:, 1]).argsort()]


def image_of(patches, w):
    return rearrange(patches, "(h w) c p q -> c (h p) (w q)", w=w)


def qwen(model, batch):
    grid, vision = batch["image_grid_thw"], model.config.vision_config
    norm = {}
    if hasattr(model, "visual") and hasattr(model.visual, "post_layernorm"):  # GLM-4.1V
        model.visual.post_layernorm.register_forward_hook(lambda m, i, out: norm.update(out=out))
    out = model.get_image_features(batch["pixel_values"], grid)
    window = getattr(vision, "window_size", None) and (vision.window_size, vision.patch_size)
    m, p, (_, h, w) = vision.spatial_merge_size, vision.patch_size, grid[0].tolist()
    rows = batch["pixel_values"].reshape(h * w, 3, -1, p, p)[:, :, 0]
    return {
        "patches": in_reading_order(norm.get("out", out.last_hidden_state), grid, m, window),
        "projected": out.pooler_output[0],
        "pixels": image_of(in_reading_order(rows, grid, m), w),
    }


def siglip2(model, batch):
    out = model.get_image_features(**batch)
    h, w = batch["spatial_shapes"][0].tolist()
    rows = batch["pixel_values"][0, : h * w].reshape(h * w, 8, 8, 3)
    return {
        "patches": out.last_hidden_state[0, : h * w],
        "pooled": out.pooler_output[0],
        "pixels": image_of(rows.permute(0, 3, 1, 2), w),
    }


def pixtral(model, batch):
    pixels = batch["pixel_values"]
    tower = getattr(model, "vision_tower", model)
    found = {"patches": tower(pixels).last_hidden_state[0], "pixels": pixels[0]}
    if tower is not model:
        sizes = batch["image_sizes"]
        found["projected"] = model.get_image_features(pixels, image_sizes=sizes).pooler_output[0]
    return found


def gemma4(model, batch):
    left, places = {}, batch["image_position_ids"]
    last = model.vision_tower.encoder.layers[-1]
    hook = last.register_forward_hook(lambda m, i, out: left.update(out=out))
    out = model.get_image_features(batch["pixel_values"], places)
    hook.remove()
    real, w = places[0, :, 0] >= 0, int(places[0, :, 0].max()) + 1
    return {
        "patches": left["out"][0, real],
        "projected": out.pooler_output[0],
        "pixels": image_of(batch["pixel_values"][0, real].reshape(-1, 4, 4, 3).movedim(3, 1), w),
    }


def video_llama_3(model, batch):
    out = model.get_image_features(**batch)
    rows = batch["pixel_values"].reshape(-1, 3, 4, 4)
    return {
        "patches": out.last_hidden_state,
        "projected": out.pooler_output[0],
        "pixels": image_of(rows, int(batch["image_grid_thw"][0, 2])),
    }


def kimi(model, batch):
    out = model.get_image_features(batch["pixel_values"], batch["image_grid_thw"])
    return {
        "patches": out.last_hidden_state,
        "projected": out.pooler_output[0],
        "pixels": image_of(batch["pixel_values"], int(batch["image_grid_thw"][0, 2])),
    }


class KimiPixels:
    """Kimi K2.5's image processor, which needs torchvision, with its own rule and PIL."""

    @classmethod
    def from_pretrained(cls, folder):
        return cls()

    def __call__(self, images, return_tensors):
        (image,) = images
        (h, w), (down, across) = theirs("kimi_k25", "navit_resize")(
            image.height, image.width, 4, 2, 100, 12
        )
        padded = Image.new("RGB", (across, down))
        padded.paste(image.resize((w, h), Image.Resampling.BICUBIC))
        pixels = torch.from_numpy(np.array(padded)).permute(2, 0, 1) / 127.5 - 1
        rows = rearrange(pixels, "c (h p) (w q) -> (h w) c p q", p=4, q=4)
        return {"pixel_values": rows, "image_grid_thw": torch.tensor([[1, down // 4, across // 4]])}


# family -> (its PIL image processor and settings, the plain call for one image: what it gives in
# reading order)
QWEN_PIXELS = ("qwen2_vl", "Qwen2VL", {})
PIXTRAL_PIXELS = ("pixtral", "Pixtral", {})
PLAIN = {
    "qwen2_vl": (QWEN_PIXELS, qwen),
    "qwen2_5_vl": (QWEN_PIXELS, qwen),
    "qwen3_vl": (QWEN_PIXELS, qwen),
    "qwen3_5": (QWEN_PIXELS, qwen),
    "glm4v": (("glm4v", "Glm4v", {}), qwen),
    "siglip2": (("siglip2", "Siglip2", {}), siglip2),
    "pixtral": (PIXTRAL_PIXELS, pixtral),
    # Mistral 3's processor asks for sides that its merger divides.
    "mistral3": ((*PIXTRAL_PIXELS[:2], {"patch_size": {"height": 8, "width": 8}}), pixtral),
    "llava": (PIXTRAL_PIXELS, pixtral),
    "gemma4": (("gemma4", "Gemma4", {}), gemma4),
    "kimi_k25": (KimiPixels, kimi),
    "video_llama_3": (("video_llama_3", "VideoLlama3", {}), video_llama_3),
}
ALONE = {"siglip2": hf.Siglip2Model, "pixtral": hf.PixtralVisionModel}
LLM = (
    *("lm_head", "language_model.", "model.language_model.", "model.text_model."),
    *("model.layers.", "model.embed_tokens.", "model.norm."),
)
WHOLE = [*(family for family in NATIVE if family not in ALONE), *SQUARE]


def plain(family, folder, image):
    """What transformers gives for one image."""
    pixels, call = PLAIN[family]
    settings = {}
    if isinstance(pixels, tuple):
        module, name, settings = pixels
        place = f"transformers.models.{module}.image_processing_pil_{module}"
        pixels = getattr(importlib.import_module(place), f"{name}ImageProcessorPil")
    batch = pixels.from_pretrained(folder)([image], return_tensors="pt", **settings)
    with torch.no_grad():
        return call(whole(family, folder), batch)


@functools.cache
def whole(family, folder):
    if family == "kimi_k25":  # transformers 5.23 does not load what it saved
        return initialised(NATIVE[family][0]).eval().model
    if family in ALONE:
        return ALONE[family].from_pretrained(folder, dtype=torch.float32).eval()
    model = hf.AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    return model.eval().model


@pytest.mark.parametrize("family", NATIVE)
def test_every_image_keeps_its_aspect_ratio(family, folder, images):
    encoder = load_vision(folder(family), **FP32, resolution="native")
    ends = (0, encoder.n_layers)
    features = encoder.encode(images, layers=ends)
    assert len(set(features.grids)) == len(images)
    for i, image in enumerate(images):
        expected = plain(family, folder(family), image)
        pixels, n = expected["pixels"], len(expected["patches"])
        assert_close(encoder.pixel_values(image)[0], pixels)
        h, w = features.grids[i]
        assert (h, w) == tuple(side // encoder.patch_size for side in pixels.shape[1:])
        assert h * w == n and features.mask[i].tolist() == [
            j < n for j in range(len(features.mask[i]))
        ]
        assert_close(features.patches[i, :n], expected["patches"])
        assert_close(features.pooled[i], expected.get("pooled", expected["patches"].mean(dim=0)))
        assert (features.projected is None) == ("projected" not in expected)
        if features.projected is not None:
            real = features.projected_mask[i]
            assert_close(features.projected[i, real], expected["projected"])
            assert not features.projected[i, ~real].any()
            h, w = features.projected_grids[i]
            assert h * w == real.sum()
        alone = encoder.encode(image, layers=ends)
        assert alone.grid == features.grids[i]
        for one, all_ in (
            (alone.patches, features.patches),
            *((alone.layers[k], features.layers[k]) for k in ends),
        ):
            assert_close(all_[i, :n], one[0])
            assert not all_[i, n:].any()


def assert_close(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", NATIVE)
def test_on_one_grid_it_is_an_encoder_as_any_other(family, folder):
    found = check(load_vision(folder(family), **FP32, resolution=(24, 32)))
    assert found.kept, str(found)
    own = load_vision(folder(family), **FP32)
    assert own.grid == ((4, 4) if family == "siglip2" else (32, 32))


@pytest.mark.parametrize("family", NATIVE)
def test_a_painted_patch_is_found_at_its_place(family, folder):
    encoder = load_vision(folder(family), **FP32, resolution="native")
    p = encoder.patch_size
    h, w = 24 // p, 40 // p
    first, picture = (
        torch.zeros(3, 32, 16, dtype=torch.uint8),
        torch.zeros(3, 24, 40, dtype=torch.uint8),
    )
    black = encoder.encode_pixels([first, picture], layers=(0,))
    assert black.grids[1] == (h, w)
    for place in (0, 1, w, w + 3, h * w - 2):
        y, x = divmod(place, w)
        painted = picture.clone()
        painted[:, y * p : (y + 1) * p, x * p : (x + 1) * p] = 255
        moved = encoder.encode_pixels([first, painted], layers=(0,)).layers[0] != black.layers[0]
        assert moved.any(dim=-1).nonzero().tolist() == [[1, place]]


@pytest.mark.parametrize("family", WHOLE)
def test_only_the_part_that_is_used_is_read(family, folder, monkeypatch):
    read = []

    class Counted:
        def __init__(self, *given, **more):
            self.file = safetensors.safe_open(*given, **more)

        def __enter__(self):
            self.file.__enter__()
            return self

        def __exit__(self, *error):
            return self.file.__exit__(*error)

        def keys(self):
            return self.file.keys()

        def get_tensor(self, name):
            read.append(name)
            return self.file.get_tensor(name)

    monkeypatch.setattr(loading, "safe_open", Counted)
    load_vision(folder(family), **FP32)
    index = json.loads((folder(family) / "model.safetensors.index.json").read_text())
    names = index["weight_map"]
    assert len(set(names.values())) > 5
    of_llm = {name for name in names if name.startswith(LLM)}
    assert sorted(read) == sorted(set(names) - of_llm)
    if family == "kimi_k25":  # transformers 5.23 saves this small LLM under names of no LLM
        return
    read.clear()
    text = load_text(folder(family), **FP32)
    assert len(read) == len(text.model.state_dict()) and of_llm >= set(read)
    ids = torch.tensor([[1, 5, 7, 9]])
    with torch.no_grad():
        model = whole(family, folder(family))
        llm = model.text_model if hasattr(model, "text_model") else model.language_model
        expected = llm(input_ids=ids).last_hidden_state
    assert_close(text.encode("w2 w4 w6").pooled[0], expected[0].mean(dim=0))


@pytest.mark.parametrize("family", SQUARE)
def test_a_tower_of_one_square_is_read_out_of_its_whole_model(family, folder, images):
    encoder = load_vision(folder(family), **FP32)
    found = check(encoder)
    assert found.kept, str(found)
    model, seen = whole(family, folder(family)), encoder.encode(images, layers=(-1,))
    pixels = encoder.pixel_values(images)
    with torch.no_grad():
        out = model.get_image_features(pixels if family == "gemma3" else pixels[:, None])
    assert_close(seen.patches, out.last_hidden_state)
    projected = torch.cat([*out.pooler_output]).reshape(seen.projected.shape)
    assert_close(seen.projected, projected)
    assert seen.projected_grids == ((2, 2),) * 3 and bool(seen.projected_mask.all())
    assert_close(seen.pooled, (projected if family == "gemma3" else seen.patches).mean(dim=1))
    with pytest.raises(UsageError, match="one size"):
        load_vision(folder(family), **FP32, resolution="native")


@pytest.mark.parametrize("family", ["qwen2_5_vl", "gemma4", "pixtral"])
def test_the_untrained_tower_has_other_weights(family, folder, images):
    encoder = load_vision(f"untrained:{folder(family)}", **FP32, resolution="native")
    trained = load_vision(folder(family), **FP32, resolution="native")
    assert not torch.equal(encoder.encode(images).pooled, trained.encode(images).pooled)


def test_what_needs_one_grid_refuses_native_resolution(folder, tmp_path, images):
    encoder = load_vision(folder("qwen2_5_vl"), **FP32, resolution="native")
    images[0].save(tmp_path / "one.png")
    samples = read_samples(tmp_path)
    for needs in (
        lambda: encoder.grid,
        lambda: check(encoder),
        lambda: encoder.encode(images).grid,
        lambda: TokenSimilarityAnalyzer(encoder=encoder).analyze(images[0]),
        lambda: TokenSet.of(encoder, images[:1], 1),
        lambda: extract_images(encoder, samples, tmp_path / "store"),
        lambda: load_vision(folder("qwen2_5_vl"), **FP32, resolution="native", backend="auto"),
    ):
        with pytest.raises(UsageError, match="grid"):
            needs()


def test_the_projectors_tokens_are_stored_and_looked_at_on_their_own_grid(folder, tmp_path, images):
    encoder = load_vision(folder("qwen2_5_vl"), **FP32, resolution=(24, 32))
    (result,) = TokenSimilarityAnalyzer(encoder=encoder, stage="projected").analyze_batch(
        images[:1]
    )
    expected = encoder.encode(images[0]).projected[0]
    assert result.grid == (3, 4) and result.cls_similarity.shape == (3, 4)
    images[0].save(tmp_path / "one.png")
    samples = read_samples(tmp_path)
    stored = extract_images(encoder, samples, tmp_path / "store", what=("pooled", "projected"))
    assert_close(torch.from_numpy(stored.array("projected")[0]), expected)


@pytest.mark.parametrize(
    ("resolution", "said"),
    [((36, 32), "times 2.*40 x 32|times 2.*32 x 32"), ("natural", "unknown resolution")],
)
def test_a_resolution_that_cannot_be_is_refused(resolution, said, folder):
    with pytest.raises(UsageError, match=said):
        load_vision(folder("qwen2_5_vl"), **FP32, resolution=resolution)


def test_a_family_of_one_size_refuses_native_resolution(vision_folder):
    with pytest.raises(UsageError, match="gives all images one size"):
        load_vision(vision_folder("clip"), **FP32, resolution="native")
