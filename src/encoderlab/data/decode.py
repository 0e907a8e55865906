"""Decodes an image file, an array or a tensor to an upright RGB image, or raises with the reason.

The format is found from the first bytes of a file; its ending counts only for formats without a
signature, such as TGA. Knows one image at a time; no data set.
"""

from __future__ import annotations

import functools
import io
import os
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError

from encoderlab.errors import UsageError

MAX_PIXELS = 64_000_000
# Formats of Pillow that run another program (Ghostscript) or that it cannot decode on its own.
NOT_DECODED = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})
HEIC = (".heic", ".heif", ".hif")
NEEDS_HEIC = 'it is HEIC, which needs an extra: pip install "encoderlab[heic]"'
IS_SVG = "it is a drawing in SVG, not an image of pixels"
# Endings of images that Pillow does not decode: camera raw, drawings, formats of its plug-ins.
OTHER_ENDINGS = (
    *HEIC, ".3fr", ".ai", ".arw", ".avif", ".cr2", ".cr3", ".dng", ".djvu", ".emf", ".eps", ".exr",
    ".hdr", ".jls", ".jp2", ".jxl", ".jxr", ".nef", ".orf", ".pct", ".pef", ".pict", ".raf", ".raw",
    ".rw2", ".srw", ".svg", ".svgz", ".wdp", ".webp", ".wmf", ".xcf",
)  # fmt: skip
SWAPPED_ORIENTATIONS = range(5, 9)  # EXIF orientations that swap width and height
# Grey images of more than eight bits: Pillow's own conversion clips them to 255.
DEEP_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")


class ImageError(UsageError):
    """An image that cannot be used.

    Args:
        path: of its file, or another name.
        reason: why, in one clause.
        hint: what to do.
    """

    def __init__(self, path: str, reason: str, hint: str | None = None) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"cannot use the image {path}: {reason}", hint=hint)


@functools.cache
def readable_endings() -> dict[str, str]:
    """Ending -> format, of the image files that Pillow and its installed plug-ins decode."""
    with suppress(ImportError):
        from pi_heif import register_heif_opener

        register_heif_opener()
    formats = dict(Image.registered_extensions())
    # JPEG's decoder reads MPO, which Pillow registers for writing only.
    formats |= {ending: "JPEG" for ending, kind in formats.items() if kind == "MPO"}
    return {e: f for e, f in formats.items() if f in Image.OPEN and f not in NOT_DECODED}


def is_image_name(name: str) -> bool:
    """Whether the ending of a file name is that of a format that `open_image` reads."""
    return os.path.splitext(name)[1].lower() in readable_endings()


def unreadable_ending(name: str) -> str | None:
    """Why a file whose name ends as an image's cannot be decoded; None for all other files."""
    ending = os.path.splitext(name)[1].lower()
    if ending in readable_endings() or ending not in OTHER_ENDINGS:
        return None
    if ending in HEIC:
        return NEEDS_HEIC
    return IS_SVG if ending in (".svg", ".svgz") else f"images in {ending} are not decoded"


@functools.cache
def _formats(ending: str) -> tuple[str, ...]:
    """The formats that a file may be in: all with a signature, and the one of its ending."""
    own = readable_endings().get(ending)
    return tuple(
        kind
        for kind, (_, has_signature) in Image.OPEN.items()
        if kind == own or (has_signature is not None and kind not in NOT_DECODED)
    )


def open_image(
    source: Path | str | bytes | Image.Image,
    *,
    min_side: int | None = None,
    max_pixels: int = MAX_PIXELS,
    name: str | None = None,
) -> Image.Image:
    """An image as upright RGB: transparency over white, 16-bit greys scaled, not clipped.

    Args:
        source: a path, the bytes of a file, or an image that is already decoded.
        min_side: lets a JPEG be decoded at 1/2, 1/4 or 1/8 scale, its short side at least this
            long: several times faster for large photographs.
        max_pixels: the largest width x height; checked before anything is decoded.
        name: of the bytes, in messages.

    Returns:
        The image, at full scale unless `min_side` is given.

    Raises:
        ImageError: missing, empty, truncated, no image, another format, or too many pixels.
    """
    return open_with_size(source, min_side=min_side, max_pixels=max_pixels, name=name)[0]


def open_with_size(
    source: Path | str | bytes | Image.Image,
    *,
    min_side: int | None = None,
    max_pixels: int = MAX_PIXELS,
    name: str | None = None,
) -> tuple[Image.Image, tuple[int, int]]:
    """The image of `open_image`, and its (width, height) at full scale, for the same arguments."""
    if isinstance(source, Image.Image):
        _check_size("(in memory)", source, max_pixels)
        upright = ImageOps.exif_transpose(source)
        return _rgb(upright), upright.size
    if name is None:
        name = "(bytes)" if isinstance(source, bytes) else str(source)
    try:
        with warnings.catch_warnings():
            # `max_pixels` replaces Pillow's warning about large files.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            file = io.BytesIO(source) if isinstance(source, bytes) else source
            with Image.open(file, formats=_formats(Path(name).suffix.lower())) as image:
                _check_size(name, image, max_pixels)
                whole = image.size
                drafted = min_side is not None and _draft(image, min_side)
                image.load()
                turned = image.getexif().get(ExifTags.Base.Orientation) in SWAPPED_ORIENTATIONS
                upright = ImageOps.exif_transpose(image)
                if not drafted:
                    whole = upright.size
                elif turned:
                    whole = whole[1], whole[0]
                return _rgb(upright), whole
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(name, _why_unidentified(source)) from error
    except Exception as error:  # Pillow's decoders raise errors of every type on damaged data
        reasons = {
            FileNotFoundError: "there is no such file",
            IsADirectoryError: "it is a folder",
            PermissionError: "it may not be read (permission denied)",
            Image.DecompressionBombError: f"its pixels are over the limit of {max_pixels:,}",
        }
        damaged = f"it is damaged or cut short ({error})"
        raise ImageError(name, reasons.get(type(error), damaged)) from error


def open_images(images: Any) -> list[Image.Image]:
    """One image or several, as files, arrays or tensors, as upright RGB images.

    Args:
        images: an image, a path, an array or a tensor, or a sequence of those. An array is
            (h, w), (h, w, c) or a batch (n, h, w, c); a tensor is (h, w), (c, h, w) or a batch
            (n, c, h, w); c is 1, 3 or 4. Values are whole numbers from 0 to 255 or floats from 0
            to 1.

    Returns:
        One RGB image each, in order.

    Raises:
        UsageError: another type, shape or range of values.
        ImageError: a file that cannot be read.
    """
    if isinstance(images, Image.Image | Path | str | bytes):
        return [open_image(images)]
    if isinstance(images, Sequence):
        return [picture for image in images for picture in open_images(image)]
    channels_first = not isinstance(images, np.ndarray)
    try:
        values = np.asarray(images.detach().cpu() if channels_first else images)
    except (AttributeError, TypeError, ValueError, RuntimeError):
        raise UsageError(
            "not an image",
            got=type(images).__name__,
            want="a path, a PIL image, an array, a tensor, or a list of them",
        ) from None
    if values.ndim == 4:
        return [_from_values(picture, channels_first) for picture in values]
    return [_from_values(values, channels_first)]


def _from_values(values: np.ndarray, channels_first: bool) -> Image.Image:
    shape = values.shape
    if values.ndim == 3 and channels_first:
        values = np.moveaxis(values, 0, -1)
    if values.ndim == 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if (
        not (values.ndim == 2 or (values.ndim == 3 and values.shape[-1] in (3, 4)))
        or not values.size
    ):
        order = "(c, h, w)" if channels_first else "(h, w, c)"
        raise UsageError(
            "an image has another shape", got=shape, want=f"(h, w) or {order}, c being 1, 3 or 4"
        )
    is_float = np.issubdtype(values.dtype, np.floating)
    low, high, most = values.min(), values.max(), 1 if is_float else 255
    if not (low >= 0 and high <= most):  # NaN too
        raise UsageError(
            "an image has values outside its range",
            got=f"{low:g} to {high:g} in {values.dtype}",
            want="0 to 255 in whole numbers, or 0 to 1 in floats",
        )
    scaled = np.rint(values.astype(np.float32) * 255) if is_float else values
    return _rgb(Image.fromarray(scaled.astype(np.uint8)))


def _check_size(name: str, image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(
            name,
            f"its {width} x {height} pixels are over the limit of {max_pixels:,}",
            "make it smaller first",
        )


def _draft(image: ImageFile.ImageFile, min_side: int) -> bool:
    """Whether a JPEG is decoded smaller: set to the smallest scale that keeps `min_side`."""
    if image.format != "JPEG":
        return False
    whole = width, height = image.size
    scale = max((s for s in (1, 2, 4, 8) if min(whole) // s >= min_side), default=1)
    image.draft(None, (width // scale, height // scale))
    return image.size != whole


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode in DEEP_MODES:
        return _deep_grey(image).convert("RGB")
    if image.has_transparency_data:
        paper = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(paper, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _deep_grey(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.float64)
    low, high = values.min(), values.max()
    if image.mode != "F":
        low, high = 0.0, 65535.0 if high > 255 else 255.0
    elif low >= 0 and high <= 1:  # floats have no stated range: 0 to 1, or that of the values
        low, high = 0.0, 1.0
    scaled = (np.nan_to_num(values) - low) / max(high - low, 1e-12)
    return Image.fromarray(np.clip(np.rint(scaled * 255), 0, 255).astype(np.uint8))


def _why_unidentified(source: Path | str | bytes) -> str:
    head = source[:64] if isinstance(source, bytes) else Path(source).read_bytes()[:64]
    if not head:
        return "the file is empty"
    if head.lstrip().startswith((b"<svg", b"<?xml")):
        return IS_SVG
    if head[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc"):
        return NEEDS_HEIC
    if head.startswith(b"%PDF"):
        return "it is a PDF, not an image"
    if head.startswith((b"II*\0", b"MM\0*")):
        return "it is a TIFF whose kind of pixels cannot be decoded here"
    return "it is no image in a format we read"
