"""Preprocessing that keeps the aspect ratio of each image: the size rules of the image processors
that do so. Reads no file and loads no model.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from PIL import Image

from encoderlab.errors import UsageError
from encoderlab.models.clip.preprocess import Preprocess

NATIVE = "native"
Size = tuple[int, int]
WIDEST = 200  # sides to one another, as Qwen2-VL allows


@dataclass(frozen=True)
class Cells:
    """What the sides of an image are multiples of.

    Args:
        patch: side of a patch in pixels.
        merge: side, in patches, of the squares that the projector makes one token of.
    """

    patch: int
    merge: int = 1

    @property
    def side(self) -> int:
        """The least side of an image, in pixels."""
        return self.patch * self.merge


@dataclass(frozen=True, kw_only=True)
class NativePreprocess(Preprocess):
    """Resizes each image to a size of its own, by the rule of its image processor.

    What needs one size for all images refuses it in one sentence: it has no `shape`.

    Args:
        rule: height and width of an image to those that it is resized to.
        cells: black pixels at the bottom and on the right make both sides multiples of its side.
    """

    rule: Callable[[int, int], Size]
    cells: Cells

    def __post_init__(self) -> None:
        """Checks nothing: the sides are those of each image, `to_bytes` checks them."""

    @property
    def shape(self) -> Size:
        """Raises: images have no common height and width.

        Raises:
            UsageError: always.
        """
        self._refuse()

    def to_dict(self) -> dict[str, Any]:
        """Refuses: features of images of different grids are not stored.

        Raises:
            UsageError: always.
        """
        self._refuse()

    def to_bytes(self, image: Image.Image) -> np.ndarray:
        """The resized image as uint8 (h, w, 3)."""
        height, width = self.rule(image.height, image.width)
        plain = Preprocess(height, "squash", self.mean, self.std, self.resample, width=width)
        side = self.cells.side
        return np.pad(plain.to_bytes(image), ((0, -height % side), (0, -width % side), (0, 0)))

    @staticmethod
    def _refuse() -> NoReturn:
        raise UsageError(
            "this needs one grid of patches for all images, and each has its own",
            got=f"resolution={NATIVE!r}",
            want="no resolution, or (height, width)",
        )


def native(plain: Preprocess, kind: str, values: dict[str, Any], cells: Cells) -> NativePreprocess:
    """The preprocessing of an image processor at native resolution.

    Args:
        plain: gives standardisation and filter.
        kind: of `RULES`.
        values: the processor's settings.
        cells: of the tower.

    Returns:
        A preprocessing that gives the same pixels as transformers' image processor.

    Raises:
        UsageError: the processor merges other squares than the tower's projector.
    """
    if values.get("merge_size", cells.merge) != cells.merge:
        raise UsageError(
            "the checkpoint's preprocessing does not fit its tower",
            got=f"merge_size={values['merge_size']}",
            want=str(cells.merge),
        )
    rule = functools.partial(RULES[kind], values, cells)
    return NativePreprocess(**vars(plain), rule=rule, cells=cells)


def _smart_resize(values: dict[str, Any], cells: Cells, height: int, width: int) -> Size:
    """Qwen2-VL (Wang et al. 2024): near its own size, between two numbers of pixels."""
    size = values["size"]
    least = values.get("min_pixels") or size["shortest_edge"]
    most = values.get("max_pixels") or size["longest_edge"]
    return _between(height, width, cells.side, least, most)


def _glm4v(values: dict[str, Any], cells: Cells, height: int, width: int) -> Size:
    """GLM-4.1V: as Qwen2-VL, but a still image counts as often as a patch has frames."""
    frames, size, side = values["temporal_patch_size"], values["size"], cells.side
    if min(height, width) < side:
        scale = max(side / height, side / width)
        height, width = int(height * scale), int(width * scale)
    return _between(
        height, width, side, size["shortest_edge"] / frames, size["longest_edge"] / frames
    )


def _between(height: int, width: int, side: int, least: float, most: float) -> Size:
    if max(height, width) > WIDEST * min(height, width):
        raise UsageError(
            "the image is too narrow for its native resolution",
            got=f"{height} x {width} pixels",
            want=f"one side at most {WIDEST} times the other",
        )
    down, across = round(height / side) * side, round(width / side) * side
    if down * across > most:
        shrink = math.sqrt(height * width / most)
        down = max(side, math.floor(height / shrink / side) * side)
        across = max(side, math.floor(width / shrink / side) * side)
    elif down * across < least:
        grow = math.sqrt(least / (height * width))
        down = math.ceil(height * grow / side) * side
        across = math.ceil(width * grow / side) * side
    return down, across


def _siglip2(values: dict[str, Any], cells: Cells, height: int, width: int) -> Size:
    """SigLIP 2 NaFlex (Tschannen et al. 2025): the largest size with so many patches."""

    def at(scale: float) -> Size:
        down, across = (max(1, math.ceil(side * scale / cells.patch)) for side in (height, width))
        return down * cells.patch, across * cells.patch

    # transformers' own bisection, so that the sizes are the same to a pixel.
    low, high = 1e-6, 100.0
    while high - low >= 1e-5:
        middle = (low + high) / 2
        down, across = at(middle)
        if down * across <= values["max_num_patches"] * cells.patch**2:
            low = middle
        else:
            high = middle
    return at(low)


def _pixtral(values: dict[str, Any], cells: Cells, height: int, width: int) -> Size:
    """Pixtral (Agrawal et al. 2024): its own size, or the longest side reduced to a limit."""
    size = values["size"]
    limits = [size.get("longest_edge") or size[key] for key in ("height", "width")]
    ratio = max(height / limits[0], width / limits[1])
    if ratio > 1:
        height, width = math.floor(height / ratio), math.floor(width / ratio)
    down, across = ((side - 1) // cells.side + 1 for side in (height, width))
    return down * cells.side, across * cells.side


def _gemma4(values: dict[str, Any], cells: Cells, height: int, width: int) -> Size:
    """Gemma 4: the largest size with so many tokens."""
    most, side = values["max_soft_tokens"], cells.side
    scale = math.sqrt(most * side**2 / (height * width))
    down, across = math.floor(scale * height / side), math.floor(scale * width / side)
    if down == 0:
        down, across = 1, min(width // height, most)
    elif across == 0:
        down, across = min(height // width, most), 1
    return down * side, across * side


def _kimi(values: dict[str, Any], cells: Cells, height: int, width: int) -> Size:
    """MoonViT of Kimi K2.5: its own size, reduced to a number of patches and a longest side."""
    patch, longest = cells.patch, values["size"]["max_height"] * cells.patch
    patches = max(1, height // patch) * max(1, width // patch)
    scale = min(1.0, math.sqrt(values["max_patches"] / patches), longest / height, longest / width)
    down, across = (min(longest, max(1, int(side * scale))) for side in (height, width))
    return down, across


# The image processors whose pixels depend on the aspect ratio, by their name in transformers.
RULES: dict[str, Callable[[dict[str, Any], Cells, int, int], Size]] = {
    "Qwen2VL": _smart_resize,
    "VideoLlama3": _smart_resize,
    "Glm4v": _glm4v,
    "Siglip2": _siglip2,
    "Pixtral": _pixtral,
    "Gemma4": _gemma4,
    "Kimi_K25": _kimi,
}
