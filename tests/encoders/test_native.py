"""Towers for any aspect ratio against transformers' own call and its own image processor."""

import functools
import importlib

import numpy as np
import pytest
import safetensors
import torch
import transformers as hf
from einops import rearrange
from PIL import Image
from tests.small_checkpoints import NATIVE, save_native
from transformers.vision_utils import get_vision_position_ids, get_vision_window_index

from encoderlab.encoders import check, loading
from encoderlab.encoders.text import load_text
from encoderlab.encoders.vision import load_vision
from encoderlab.errors import UsageError

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
    grid = batch["image_grid_thw"]
    out = model.get_image_features(batch["pixel_values"], grid)
    vision = model.config.vision_config
    window = getattr(vision, "window_size", None) and (vision.window_size, vision.patch_size)
    m, p, (_, h, w) = vision.spatial_merge_size, vision.patch_size, grid[0].tolist()
    patches = in_reading_order(out.last_hidden_state, grid, m, window)
    pixels = in_reading_order(batch["pixel_values"].reshape(h * w, 3, -1, p, p)[:, :, 0], grid, m)
    return patches, out.pooler_output[0], (h, w), image_of(pixels, w)


# family -> (its PIL image processor, the plain call for one image: patches, projected tokens, grid
# and pixels, all in reading order)
QWEN_PIXELS = "qwen2_vl.image_processing_pil_qwen2_vl.Qwen2VLImageProcessorPil"
PLAIN = {
    "qwen2_vl": (QWEN_PIXELS, qwen),
    "qwen2_5_vl": (QWEN_PIXELS, qwen),
    "qwen3_vl": (QWEN_PIXELS, qwen),
    "qwen3_5": (QWEN_PIXELS, qwen),
}


def plain(family, folder, image):
    """What transformers gives for one image."""
    processor, call = PLAIN[family]
    module, _, name = processor.rpartition(".")
    processor = getattr(importlib.import_module(f"transformers.models.{module}"), name)
    batch = processor.from_pretrained(folder)([image], return_tensors="pt")
    model = whole(folder)
    with torch.no_grad():
        return call(model, batch)


@functools.cache
def whole(folder):
    model = hf.AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    return model.eval().model


@pytest.mark.parametrize("family", NATIVE)
def test_every_image_keeps_its_aspect_ratio(family, folder, images):
    encoder = load_vision(folder(family), **FP32, resolution="native")
    features = encoder.encode(images, layers=(0, -1))
    assert len(set(features.grids)) == len(images)
    for i, image in enumerate(images):
        patches, projected, grid, pixels = plain(family, folder(family), image)
        torch.testing.assert_close(encoder.pixel_values(image)[0], pixels, atol=1e-5, rtol=0)
        n, m = len(patches), len(projected)
        assert features.grids[i] == grid and n == grid[0] * grid[1]
        torch.testing.assert_close(features.patches[i, :n], patches, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(features.pooled[i], patches.mean(dim=0), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(features.projected[i, :m], projected, atol=1e-5, rtol=1e-5)
        for padded in (features.patches, features.layers[0], features.layers[encoder.n_layers]):
            assert not padded[i, n:].any()
        assert not features.projected[i, m:].any()
        assert features.mask[i].tolist() == [True] * n + [False] * (len(features.mask[i]) - n)
        assert features.projected_mask[i].sum() == m
        h, w = features.projected_grids[i]
        assert h * w == m
        alone = encoder.encode(image, layers=(0,))
        assert alone.grid == grid
        torch.testing.assert_close(alone.patches[0], features.patches[i, :n], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(alone.layers[0][0], features.layers[0][i, :n], atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", NATIVE)
def test_on_one_grid_it_is_an_encoder_as_any_other(family, folder):
    encoder = load_vision(folder(family), **FP32, resolution=(24, 32))
    found = check(encoder)
    assert found.kept, str(found)
    assert load_vision(folder(family), **FP32).preprocess.shape == (128, 128)
    with pytest.raises(UsageError, match="does not give its attention maps"):
        encoder.encode(Image.new("RGB", (9, 9)), attention=(1,))


@pytest.mark.parametrize("family", NATIVE)
def test_a_painted_patch_is_found_at_its_place(family, folder):
    encoder = load_vision(folder(family), **FP32, resolution="native")
    p = encoder.patch_size
    h, w = 24 // p, 40 // p
    picture = np.zeros((24, 40, 3), dtype=np.uint8)
    black = encoder.encode(picture, layers=(0,))
    assert black.grid == (h, w)
    for place in (0, 1, w, w + 3, h * w - 2):
        y, x = divmod(place, w)
        painted = picture.copy()
        painted[y * p : (y + 1) * p, x * p : (x + 1) * p] = 255
        moved = encoder.encode(painted, layers=(0,)).layers[0] != black.layers[0]
        assert moved[0].any(dim=-1).nonzero().flatten().tolist() == [place]


@pytest.mark.parametrize("family", NATIVE)
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
    encoder = load_vision(folder(family), **FP32)
    assert len(read) == len(set(read)) == len(encoder.tower.state_dict())
    seen_by_vision = set(read)
    read.clear()
    text = load_text(folder(family), **FP32)
    assert len(read) == len(text.model.state_dict()) and not seen_by_vision & set(read)
    ids = torch.tensor([[1, 5, 7, 9]])
    with torch.no_grad():
        expected = whole(folder(family)).language_model(input_ids=ids).last_hidden_state
    found = text.encode("w2 w4 w6").pooled[0]
    torch.testing.assert_close(found, expected[0].mean(dim=0), atol=1e-5, rtol=1e-5)


def test_what_needs_one_grid_refuses_native_resolution(folder, tmp_path, images):
    encoder = load_vision(folder("qwen2_5_vl"), **FP32, resolution="native")
    for needs in (
        lambda: encoder.grid,
        lambda: check(encoder),
        lambda: encoder.encode(images).grid,
        lambda: load_vision(folder("qwen2_5_vl"), **FP32, resolution="native", backend="auto"),
    ):
        with pytest.raises(UsageError, match="grid"):
            needs()


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
