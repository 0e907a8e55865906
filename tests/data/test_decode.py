"""Every kind of image file becomes upright RGB, and every broken one a sentence."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from encoderlab.data.decode import ImageError, open_image, open_images, open_with_size
from encoderlab.errors import UsageError


def _gradient(width: int = 40, height: int = 30) -> Image.Image:
    across = np.linspace(0, 255, width)[None, :].repeat(height, 0)
    down = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    return Image.fromarray(np.stack([across, down, 255 - across], -1).astype(np.uint8))


def _bytes(image: Image.Image, kind: str, **options) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


MODES = {
    "JPEG": ("RGB", "L", "CMYK"),
    "PNG": ("RGB", "L", "P", "1", "RGBA", "LA"),
    "WEBP": ("RGB", "RGBA", "L"),
    "BMP": ("RGB", "L", "P", "1", "RGBA"),
    "TIFF": ("RGB", "L", "P", "1", "RGBA", "LA", "CMYK"),
    "GIF": ("RGB", "L", "P", "1", "RGBA"),
}


@pytest.mark.parametrize(("kind", "mode"), [(k, m) for k, modes in MODES.items() for m in modes])
def test_every_mode_of_every_format_becomes_rgb(kind, mode):
    image = open_image(_bytes(_gradient().convert(mode), kind))
    assert image.mode == "RGB"
    assert image.size == (40, 30)


def test_sixteen_bit_grey_is_scaled_and_not_clipped():
    values = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    image = open_image(_bytes(Image.fromarray(values), "PNG"))
    np.testing.assert_allclose(np.asarray(image)[..., 0], np.rint(values / 257), atol=1)


def test_transparency_lies_on_white():
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert open_image(_bytes(clear, "PNG")).getpixel((0, 0)) == (255, 255, 255)
    half = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    assert open_image(_bytes(half, "PNG")).getpixel((0, 0)) == (127, 127, 127)


def test_a_palette_with_a_transparent_entry_lies_on_white():
    image = Image.new("P", (4, 4), 0)
    image.putpalette([255, 0, 0, 0, 255, 0])
    assert open_image(_bytes(image, "PNG", transparency=0)).getpixel((1, 1)) == (255, 255, 255)


def test_a_wrong_ending_does_not_matter(tmp_path):
    path = tmp_path / "really_a_jpeg.png"
    path.write_bytes(_bytes(_gradient(), "JPEG"))
    assert open_image(path).size == (40, 30)


@given(width=st.integers(16, 400), height=st.integers(16, 400), side=st.integers(8, 120))
def test_a_smaller_decode_never_falls_below_the_side_asked_for(width, height, side):
    data = _bytes(Image.new("RGB", (width, height), "teal"), "JPEG")
    image = open_image(data, min_side=side)
    assert min(image.size) >= min(side, width, height)


def test_a_smaller_decode_is_the_same_picture():
    data = _bytes(_gradient(800, 600), "JPEG", quality=95)
    whole, small = open_image(data), open_image(data, min_side=100)
    assert small.size == (200, 150)
    difference = np.abs(
        np.asarray(whole.resize((50, 40)), float) - np.asarray(small.resize((50, 40)), float)
    )
    assert difference.mean() < 2


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file is empty"),
        (b"hello, this is text", "no image in a format we read"),
        (b"<svg xmlns='x'></svg>", "a drawing in SVG"),
        (b"%PDF-1.7", "it is a PDF"),
        (_bytes(_gradient(), "JPEG")[:400], "damaged or cut short"),
        (_bytes(_gradient(), "PNG")[:-40], "damaged or cut short"),
    ],
)
def test_a_file_that_is_no_image_is_refused(tmp_path, content, says):
    path = tmp_path / "picture.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=says) as error:
        open_image(path)
    assert error.value.path == str(path)


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(ImageError, match="there is no such file"):
        open_image(tmp_path / "none.jpg")
    with pytest.raises(ImageError, match="it is a folder"):
        open_image(tmp_path)


def test_too_many_pixels_are_refused_before_decoding():
    with pytest.raises(ImageError, match="40 x 30 pixels are over the limit of 1,000"):
        open_image(_bytes(_gradient(), "PNG"), max_pixels=1000)


def test_a_header_that_promises_a_bomb_is_refused():
    data = bytearray(_bytes(Image.new("L", (8, 8)), "BMP"))
    data[18:26] = (60_000).to_bytes(4, "little") * 2
    with pytest.raises(ImageError, match="over the limit"):
        open_image(bytes(data))


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (np.zeros((4, 4, 2), np.uint8), "another shape"),
        (np.zeros((0, 4, 3), np.uint8), "another shape"),
        (np.full((4, 4, 3), 2.0), "outside its range"),
        (np.full((4, 4, 3), np.nan), "outside its range"),
        (np.full((4, 4, 3), 300), "outside its range"),
        (3, "not an image"),
        (None, "not an image"),
    ],
)
def test_what_is_no_image_is_refused(image, says):
    with pytest.raises(UsageError, match=says):
        open_images(image)


def test_channels_stand_last_in_an_array_and_first_in_a_tensor():
    values = np.random.default_rng(0).integers(0, 256, (3, 5, 3)).astype(np.uint8)
    (of_array,), (of_tensor,) = open_images(values), open_images(torch.from_numpy(values))
    assert np.array_equal(np.asarray(of_array), values)
    assert np.array_equal(np.asarray(of_tensor), values.transpose(1, 2, 0))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("side", [None, 10, 100])
def test_the_size_is_that_of_the_whole_upright_image(orientation, side):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind, size in (("JPEG", (801, 800)), ("PNG", (801, 800)), ("JPEG", (8, 9))):
        data = _bytes(Image.new("RGB", size), kind, exif=exif)
        image, whole = open_with_size(data, min_side=side)
        assert whole == (size if orientation <= 4 else size[::-1])
        if kind == "JPEG" and side == 100 and size[0] > 100:
            assert min(image.size) == 100  # decoded at an eighth
        else:
            assert image.size == whole or (kind == "JPEG" and side == 10)


def test_a_format_without_a_signature_is_known_by_its_ending(tmp_path):
    data = _bytes(Image.new("RGB", (5, 4), "red"), "TGA")
    (tmp_path / "a.tga").write_bytes(data)
    assert open_image(tmp_path / "a.tga").getpixel((0, 0)) == (255, 0, 0)
    with pytest.raises(ImageError, match="no image in a format we read"):
        open_image(data)


def test_nothing_runs_ghostscript(tmp_path):
    data = _bytes(Image.new("RGB", (5, 4), "red"), "EPS")
    with pytest.raises(ImageError, match="no image in a format we read"):
        open_image(data, name="a.eps")
