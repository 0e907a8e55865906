"""Pixels of common images are PIL's resize and crop to the bit; those of strips are in bounds."""

import numpy as np
import pytest
from PIL import Image

from encoderlab.models.clip import preprocess as module
from encoderlab.models.clip.preprocess import Preprocess

BICUBIC = Image.Resampling.BICUBIC
PREPROCESSINGS = [
    Preprocess(64), Preprocess(56, resize_to=64), Preprocess(64, "squash"),
    Preprocess(56, "squash", resize_to=64), Preprocess(32, "squash", width=96),
]  # fmt: skip


def _smooth(width: int, height: int) -> Image.Image:
    x, y = np.linspace(0, 9, width)[None, :], np.linspace(0, 7, height)[:, None]
    waves = [np.sin(x + y), np.cos(x - 2 * y), np.sin(2 * x) * np.cos(y)]
    return Image.fromarray(np.uint8(127 + 100 * np.stack(waves, -1)))


def _by_hand(preprocess: Preprocess, image: Image.Image) -> np.ndarray:
    """Resize all of it, then cut the middle out."""
    height, width = preprocess.shape
    side = preprocess.resize_to or preprocess.size
    if preprocess.fit == "squash":
        target = (width, height) if preprocess.resize_to is None else (side, side)
    else:
        scale = side / min(image.size)
        target = tuple(side if s == min(image.size) else int(s * scale) for s in image.size)
    left, top = (target[0] - width) // 2, (target[1] - height) // 2
    box = (left, top, left + width, top + height)
    return np.asarray(image.resize(target, BICUBIC).crop(box))


@pytest.mark.parametrize("preprocess", PREPROCESSINGS)
@pytest.mark.parametrize("size", [(300, 200), (201, 300), (64, 64), (640, 64), (40, 400), (1, 1)])
def test_common_images_are_resized_and_then_cropped(preprocess, size):
    image = _smooth(*size)
    np.testing.assert_array_equal(preprocess.to_bytes(image), _by_hand(preprocess, image))


@pytest.mark.parametrize("preprocess", PREPROCESSINGS)
@pytest.mark.parametrize("size", [(300, 200), (201, 300), (5000, 17), (17, 5000), (3, 300)])
def test_cropping_first_differs_by_rounding_only(preprocess, size, monkeypatch):
    monkeypatch.setattr(module, "MOST_RESIZED", 0)
    image = _smooth(*size)
    found = preprocess.to_bytes(image).astype(int)
    assert np.abs(found - _by_hand(preprocess, image)).max() <= 2


@pytest.mark.parametrize("preprocess", [*PREPROCESSINGS, Preprocess(224), Preprocess(448)])
@pytest.mark.parametrize("size", [(1_000_000, 1), (1, 1_000_000), (12_000, 1), (1, 12_000)])
def test_a_strip_takes_little_memory(preprocess, size, monkeypatch):
    """PIL makes an image of every row, or column, at the new length between its two passes."""
    made = []
    original = Image.Image.resize

    def resize(image, target, *args, **more):
        made.append(target[0] * target[1])
        return original(image, target, *args, **more)

    monkeypatch.setattr(Image.Image, "resize", resize)
    assert preprocess.to_bytes(Image.new("RGB", size, "red")).reshape(-1, 3).tolist()[0] == [
        255,
        0,
        0,
    ]
    assert made and max(made) <= module.MOST_RESIZED
