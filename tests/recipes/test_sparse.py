"""Training on the patches with contrast: which are kept, and in which order images come back."""

import pytest
import torch

from encoderlab.models.clip.vision import blank_patches, drop_patches
from encoderlab.zoo import ZOO
from recipes.settings import CLIPS
from recipes.train import HALF, Preprocess, exported


@pytest.fixture(params=CLIPS)
def model(request):
    recipe = CLIPS[request.param]
    preprocess = Preprocess(96, "squash", *((HALF, HALF) if recipe.siglip else ()))
    return exported(recipe, preprocess, ZOO / request.param)


def drawn(count: int) -> torch.Tensor:
    """White images; number i has a black pixel in its first 40 * i patches."""
    pixels = torch.ones(count, 3, 96, 96)
    for number in range(count):
        for patch in range(40 * number):
            pixels[number, :, patch // 12 * 8, patch % 12 * 8] = -1
    return pixels


def test_patches_of_one_colour_are_blank():
    assert blank_patches(drawn(3), 8).sum(dim=1).tolist() == [144, 104, 64]


def test_blank_patches_are_left_out_first():
    patches = torch.arange(8.0).reshape(1, 8, 1)
    blank = torch.tensor([[True, True, False, True, False, True, False, False]])
    for _ in range(20):
        assert set(drop_patches(patches, 0.5, blank).flatten().tolist()) == {2.0, 4.0, 6.0, 7.0}
        assert {2.0, 4.0, 6.0, 7.0} < set(drop_patches(patches, 0.25, blank).flatten().tolist())


def test_images_keep_their_order_and_lose_nothing_where_all_patches_are_kept(model):
    pixels = drawn(3)
    with torch.no_grad():
        whole = model.eval().encode_image(pixels)
        model.train().kept = 144, 144
        assert torch.allclose(model.encode_image(pixels), whole, atol=1e-5)
        # Image 0 alone is below 30: the others take the second path and come first in it.
        model.kept = 30, 144
        mixed = model.encode_image(pixels.flip(0)).flip(0)
    assert torch.allclose(mixed[1:], whole[1:], atol=1e-5)
    assert not torch.allclose(mixed[0], whole[0], atol=1e-3)


def test_the_first_images_of_a_batch_keep_all_patches_where_some_are_whole(model):
    pixels = drawn(4)
    with torch.no_grad():
        whole = model.eval().encode_image(pixels)
        model.train().kept, model.whole = (30, 60), 0.5
        mixed = model.encode_image(pixels)
    near = torch.isclose(mixed, whole, atol=1e-5).all(dim=1)
    assert near.tolist() == [True, True, False, False]
